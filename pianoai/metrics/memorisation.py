"""How much of some music stands note for note in other music."""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from pianoai.runtime.roll import HELD, Roll

BEATS = 4  # of a passage
NOTES = 4  # struck in a passage, at least, for it to count
MOMENTS = 2  # frames of a passage in which notes are struck, at least: one standing chord is nobody's


def known_passages(rolls: Iterable[Roll], frames_per_beat: int) -> set[bytes]:
    """The passages of rolls (frames, 88), as `passages` spells them."""
    return {passage for roll in rolls for passage in passages(roll, BEATS * frames_per_beat)}


def memorised(rolls: Iterable[Roll], known: set[bytes], frames_per_beat: int) -> float:
    """Share of the passages of rolls (frames, 88) that stand among known ones; 0 if there are none."""
    found = [passage in known for roll in rolls for passage in passages(roll, BEATS * frames_per_beat)]
    return sum(found) / max(len(found), 1)


def passages(roll: Roll, frames: int) -> Iterator[bytes]:
    """A digest of every passage of so many frames, one beginning at each frame of a roll (any, 88).

    Two are equal when in all frames the same notes are silent, held and struck, however loud and in whatever
    transposition: what is digested are the cells from the lowest note to the highest. Passages in which fewer than
    NOTES notes are struck, or all in fewer than MOMENTS frames, are left out.
    """
    if len(roll) < frames:
        return
    cells = np.minimum(roll, HELD + 1)
    strikes = (cells > HELD).sum(axis=1)
    notes = sliding_window_view(strikes, frames).sum(axis=1)
    moments = sliding_window_view(strikes > 0, frames).sum(axis=1)
    windows = sliding_window_view(cells, frames, axis=0)  # (beginnings, 88, frames)
    for at in np.flatnonzero((notes >= NOTES) & (moments >= MOMENTS)):
        used = np.flatnonzero(cells[at : at + frames].any(axis=0))
        yield hashlib.blake2b(windows[at, used[0] : used[-1] + 1].tobytes(), digest_size=16).digest()
