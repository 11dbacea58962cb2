"""The collection of pieces on disk: what `download` writes and the later stages read."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import NOTE, TICKS_PER_BEAT, Notes
from pianoai.sources import Piece, Refused

NOTES, PIECES, SKIPPED = "notes.npz", "pieces.csv", "skipped.csv"
COLUMNS = ["name", "group", "first", "notes", "ticks", "left_out", "checksum"]


@dataclass(frozen=True)
class Collection:
    """All pieces: their notes end to end, and a table with one row a piece.

    `pieces` has the columns name, group (never on two sides of a split), first (index of the first note),
    notes (how many), ticks (how long), left_out (notes that were), checksum (of what it was read from).
    """

    notes: Notes
    pieces: pd.DataFrame

    def __len__(self) -> int:
        return len(self.pieces)

    def notes_of(self, piece: int) -> Notes:
        """The notes of the piece with this number, a view."""
        first = int(self.pieces["first"].iloc[piece])
        return self.notes[first : first + int(self.pieces["notes"].iloc[piece])]


def write(pieces: Iterable[Piece | Refused], directory: Path, max_skipped: float) -> None:
    """Write notes.npz, pieces.csv and skipped.csv, and print a line that sums them up.

    Raises InputError when a larger share than `max_skipped` of the pieces was refused, or all of them, after
    skipped.csv is written, and when two pieces have the same name.
    """
    kept: list[Piece] = []
    refused: list[Refused] = []
    for piece in pieces:
        if isinstance(piece, Piece):
            kept.append(piece)
        else:
            refused.append(piece)
    directory.mkdir(parents=True, exist_ok=True)
    reasons = pd.DataFrame([(piece.name, piece.reason) for piece in refused], columns=["name", "reason"])
    reasons.to_csv(directory / SKIPPED, index=False, lineterminator="\n")
    if not kept:
        raise InputError(f"{directory / SKIPPED}: no piece could be read, {len(refused)} were refused")
    share = len(refused) / (len(kept) + len(refused))
    if share > max_skipped:
        raise InputError(
            f"{directory / SKIPPED}: {len(refused)} pieces, {share:.1%} of all, were refused;"
            f" mend them or raise data.max_skipped ({max_skipped:g})"
        )
    table = tabulate(kept)
    np.savez(directory / NOTES, notes=np.concatenate([piece.notes for piece in kept]))
    table.to_csv(directory / PIECES, index=False, lineterminator="\n")
    print(
        f"{len(kept):,} pieces in {table['group'].nunique():,} groups, {table['notes'].sum():,} notes,"
        f" {table['ticks'].sum() // TICKS_PER_BEAT:,} beats;"
        f" {len(refused):,} pieces refused, {table['left_out'].sum():,} notes left out"
    )


def tabulate(pieces: list[Piece]) -> pd.DataFrame:
    """The table of a Collection; raises InputError when a name is there twice."""
    names = pd.Series([piece.name for piece in pieces])
    if names.duplicated().any():
        raise InputError(f"two pieces are called {names[names.duplicated()].iloc[0]!r}; rename one")
    counts = [len(piece.notes) for piece in pieces]
    rows = zip(
        names,
        merge_groups(pieces),
        np.cumsum([0, *counts[:-1]]).tolist(),
        counts,
        [int((piece.notes["start"] + piece.notes["duration"]).max()) for piece in pieces],
        [piece.left_out for piece in pieces],
        [piece.checksum for piece in pieces],
        strict=True,
    )
    return pd.DataFrame(rows, columns=COLUMNS)


def merge_groups(pieces: list[Piece]) -> list[str]:
    """The group of each piece, once groups that hold the same music have become one.

    A merged group has the name of the first of its groups in alphabetical order.
    """
    leader = {piece.group: piece.group for piece in pieces}

    def lead(group: str) -> str:
        while leader[group] != group:
            group = leader[group]
        return group

    first_with: dict[str, str] = {}
    for piece in pieces:
        ours = lead(piece.group)
        theirs = lead(first_with.setdefault(content(piece.notes), piece.group))
        leader[max(ours, theirs)] = min(ours, theirs)
    return [lead(piece.group) for piece in pieces]


def content(notes: Notes) -> str:
    """A hash of what the music is: equal for pieces that differ in key, loudness and leading silence only."""
    time = notes["start"].astype(np.int64) - notes["start"].min()
    pitch = notes["pitch"].astype(np.int64) - notes["pitch"].min()
    rows = np.stack([time, pitch, notes["duration"]], axis=1)
    rows = rows[np.lexsort(rows.T[::-1])]
    return hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()


def read(directory: Path) -> Collection:
    """What `write` wrote; raises InputError when a file is missing, or the two do not belong together."""
    paths = directory / NOTES, directory / PIECES
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: not found; run the stage download first")
    with np.load(paths[0]) as archive:
        notes: Notes = archive["notes"]
    text = {"name": str, "group": str, "checksum": str}
    pieces = pd.read_csv(paths[1], dtype=text, keep_default_na=False)
    if list(pieces.columns) != COLUMNS or notes.dtype != NOTE or pieces["notes"].sum() != len(notes):
        raise InputError(f"{paths[1]}: does not belong to {paths[0]}; run the stage download again")
    return Collection(notes, pieces)
