"""Notes -> frames, splits by piece, and windows as views into one memory-mapped array."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit

from pianoai.growing import growing
from pianoai.params import bounded
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import HELD, LOUDEST, PITCHES, SOFTEST, TICKS_PER_BEAT, Roll, notes_to_roll

if TYPE_CHECKING:
    import pandas as pd

    from pianoai.collection import Collection

SPLITS = ("train", "valid", "test")
FRAMES = "frames.npy"


@dataclass(frozen=True)
class RollConfig:
    """The section `roll` of params.yaml."""

    frames_per_beat: int = bounded(least=1, most=TICKS_PER_BEAT)

    def __post_init__(self) -> None:
        if TICKS_PER_BEAT % self.frames_per_beat:
            raise InputError(f"frames_per_beat must divide {TICKS_PER_BEAT}: {self.frames_per_beat}")


@dataclass(frozen=True)
class WindowConfig:
    """The section `window` of params.yaml."""

    length: int = bounded(least=2, most=4096)
    segment: int = bounded(least=2)
    hop: int = bounded(least=1)

    def __post_init__(self) -> None:
        if self.segment <= self.length:
            raise InputError(f"segment must be longer than window.length: {self.segment} <= {self.length}")
        if self.hop > self.segment:
            raise InputError(f"hop must not skip frames: {self.hop} > window.segment {self.segment}")


@dataclass(frozen=True)
class SplitConfig:
    """The section `split` of params.yaml."""

    valid: float = bounded(least=0.01, most=0.5)
    test: float = bounded(least=0.01, most=0.5)
    seed: int = bounded(least=0, most=2**32 - 1)


@dataclass(frozen=True)
class Windows:
    """The rolls of all pieces end to end, and which frames of them belong to which split.

    `starts` and `lengths` are in frames. A train window is at most `segment + 1` frames of one piece:
    a segment, and the frame after it. A valid or test window is a whole piece.

    `held` (windows, 88) are the velocities of the notes that began before a window of `starts` and are held in
    its first frame, 0 for all others.
    """

    frames: Roll  # (all frames, 88), memory-mapped
    starts: dict[str, NDArray[np.int64]]
    lengths: dict[str, NDArray[np.int64]]
    held: dict[str, Roll]
    frames_per_beat: int
    length: int  # frames that a model sees before the one it predicts
    segment: int
    checksum: str  # sha256 of frames and splits

    def rolls(self, split: str) -> Iterator[Roll]:
        """The windows of a split, as views."""
        for start, length in zip(self.starts[split], self.lengths[split], strict=True):
            yield self.frames[start : start + length]

    def velocities(self) -> tuple[int, int]:
        """The lowest and the highest velocity of the training split; all there are where it has no notes."""
        counts = np.zeros(LOUDEST + 1, np.int64)
        for roll in self.rolls("train"):
            counts += np.bincount(np.ravel(roll), minlength=len(counts))
        found = np.flatnonzero(counts[SOFTEST:]) + SOFTEST
        return (int(found[0]), int(found[-1])) if len(found) else (SOFTEST, LOUDEST)

    def excerpts(self, split: str, length: int, step: int, most: int) -> list[Roll]:
        """At most `most` excerpts evenly spread over the windows of a split; each runs to its window's end.

        They begin `step` frames apart or more, and are at least `length` frames long.
        """
        places = [
            roll[offset:] for roll in self.rolls(split) for offset in range(0, len(roll) - length + 1, max(1, step))
        ]
        picks = np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int)
        return [np.asarray(places[at]) for at in picks]


def write(
    collection: "Collection",
    directory: Path,
    roll: RollConfig,
    window: WindowConfig,
    split: SplitConfig,
) -> dict[str, dict[str, float]]:
    """Write `frames.npy` and `windows.npz` to `directory`; returns what metrics/data.json says.

    Raises InputError when a split would be empty.
    """
    per_beat = roll.frames_per_beat
    side = {at: name for name, members in divide(collection.pieces, split).items() for at in members}
    shares = {name: Share() for name in SPLITS}
    checksum = hashlib.sha256()
    with growing(directory / FRAMES, np.uint8, (PITCHES,)) as frames:
        for at in range(len(collection)):
            piece = notes_to_roll(collection.notes_of(at), per_beat)
            share = shares[side[at]]
            share.count(piece)
            spans = [(0, len(piece))] if len(piece) > 1 else []
            for start, length in cut(spans, window) if side[at] == "train" else spans:
                share.spans.append((frames.length + start, length))
                share.held.append(held(piece, start))
            checksum.update(piece.data)
            frames.append(piece)
        for name, share in shares.items():
            if not share.spans:
                moved = int((collection.pieces["follows"] != collection.pieces["group"]).sum())
                raise InputError(
                    f"the {name} split has no music; give more pieces or change split.{name}"
                    f" ({moved} pieces follow others that they are like)"
                )
    arrays: dict[str, NDArray[Any]] = {}
    for name, share in shares.items():
        arrays[f"{name}_starts"], arrays[f"{name}_lengths"] = np.array(share.spans, np.int64).T
        arrays[f"{name}_held"] = np.stack(share.held)
    for key in sorted(arrays):
        checksum.update(arrays[key].tobytes())
    np.savez(
        directory / "windows.npz",
        allow_pickle=False,
        **arrays,
        frames_per_beat=np.int64(per_beat),
        length=np.int64(window.length),
        segment=np.int64(window.segment),
        checksum=np.array(checksum.hexdigest()),
    )
    return {name: share.describe() for name, share in shares.items()}


def held(roll: Roll, at: int) -> Roll:
    """The velocities of the notes of a piece that are held in a frame, 0 for all others: ``(88,)``."""
    found = np.zeros(PITCHES, np.uint8)
    columns = np.flatnonzero(roll[at] == HELD)
    struck = roll[:at, columns] > HELD  # all of them were, earlier in the piece
    found[columns] = roll[at - 1 - struck[::-1].argmax(axis=0), columns] if len(columns) else 0
    return found


@dataclass
class Share:
    """What a split has: its windows (start, length), what is held at their beginnings, and how much music."""

    spans: list[tuple[int, int]] = field(default_factory=list)
    held: list[Roll] = field(default_factory=list)
    pieces: int = 0
    frames: int = 0
    sounding: int = 0
    silent: int = 0
    struck: int = 0
    changed: int = 0

    def count(self, roll: Roll) -> None:
        """Add a piece."""
        self.pieces += 1
        self.frames += len(roll)
        self.sounding += int(np.count_nonzero(roll))
        self.silent += int(np.count_nonzero(~some(roll)))
        self.struck += int(np.count_nonzero(roll > HELD))
        self.changed += int(np.count_nonzero(changes(roll)))

    def describe(self) -> dict[str, float]:
        """Counts and shares: how much music, how dense, how often it changes."""
        return {
            "pieces": self.pieces,
            "windows": len(self.spans),
            "frames": self.frames,
            "notes_per_frame": round(self.sounding / self.frames, 4),
            "onsets_per_frame": round(self.struck / self.frames, 4),
            "silent_share": round(self.silent / self.frames, 4),
            "changed_share": round(self.changed / max(self.frames - self.pieces, 1), 4),
        }


def cut(pieces: list[tuple[int, int]], window: WindowConfig) -> Iterator[tuple[int, int]]:
    """Cut pieces (start, length) into windows of at most `segment + 1` frames, `hop` apart.

    Every frame but a piece's first is predicted in at least one of them.
    """
    for start, length in pieces:
        for offset in range(0, length - 1, window.hop):
            yield start + offset, min(window.segment + 1, length - offset)
            if offset + window.segment + 1 >= length:
                break


def divide(pieces: "pd.DataFrame", config: SplitConfig) -> dict[str, list[int]]:
    """Row numbers of the pieces in each split; a group never stands in two of them, nor does what follows another.

    The shares are shares of groups. A group that follows another one is dealt out as well and then moved, so that
    finding one more likeness moves no other group. Raises InputError when there are too few groups.
    """
    groups = pieces["group"].to_numpy()
    rest = np.arange(len(pieces))
    parts: dict[str, list[int]] = {}
    try:
        for name, share in (
            ("test", config.test),
            ("valid", config.valid / (1 - config.test)),
        ):
            splitter = GroupShuffleSplit(1, test_size=share, random_state=config.seed)
            kept, taken = next(splitter.split(rest, groups=groups[rest]))
            parts[name] = sorted(rest[taken].tolist())
            rest = rest[kept]
    except ValueError:
        raise InputError(
            f"split: {len(set(groups))} groups of pieces are too few for train, valid and test; "
            "give at least 3 different pieces"
        ) from None
    side = {groups[at]: name for name, rows in parts.items() for at in rows}
    found: dict[str, list[int]] = {name: [] for name in SPLITS}
    for at, group in enumerate(pieces["follows"]):
        found[side.get(group, "train")].append(at)
    return found


def changes(roll: Roll) -> NDArray[np.bool_]:
    """Whether each frame but the first differs from the one before it: (frames - 1,).

    It differs when any note begins, is struck again or ends.
    """
    return some((roll[1:] > HELD) | ((roll[1:] == 0) & (roll[:-1] != 0)))


def some(cells: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether any cell of each frame is set, of bytes ``(frames, 88)``; eight are looked at together."""
    found: NDArray[np.bool_] = np.any(np.ascontiguousarray(cells).view(np.uint64), axis=1)
    return found


def read(directory: Path) -> Windows:
    """The windows that `write` wrote; the frames stay on disk. Raises InputError if they are not there."""
    try:
        frames = np.load(directory / FRAMES, mmap_mode="r")
        with np.load(directory / "windows.npz") as stored:
            values = dict(stored)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: not found; run the stage `window` first") from None
    return Windows(
        frames,
        {name: values[f"{name}_starts"] for name in SPLITS},
        {name: values[f"{name}_lengths"] for name in SPLITS},
        {name: values[f"{name}_held"] for name in SPLITS},
        int(values["frames_per_beat"]),
        int(values["length"]),
        int(values["segment"]),
        str(values["checksum"]),
    )
