"""The collection of pieces on disk: what `download` writes and the later stages read."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pianoai import resemblance
from pianoai.growing import growing
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import NOTE, TICKS_PER_BEAT, Notes
from pianoai.sources import Piece, Refused

NOTES, PIECES, SKIPPED = "notes.npy", "pieces.csv", "skipped.csv"
COLUMNS = ["name", "group", "follows", "first", "notes", "ticks", "left_out", "checksum"]


@dataclass(frozen=True)
class Collection:
    """All pieces: their notes end to end, and a table with one row a piece.

    `pieces` has the columns name, group (never on two sides of a split), follows (the group on whose side it is kept
    as well, since a piece there is nearly the same music: its own where there is none), first (index of the first
    note), notes (how many), ticks (how long), left_out (notes that were), checksum (of what it was read from).
    """

    notes: Notes  # memory-mapped
    pieces: pd.DataFrame

    def __len__(self) -> int:
        return len(self.pieces)

    def notes_of(self, piece: int) -> Notes:
        """The notes of the piece with this number, a view."""
        first = int(self.pieces["first"].iloc[piece])
        return self.notes[first : first + int(self.pieces["notes"].iloc[piece])]


def write(pieces: Iterable[Piece | Refused], directory: Path, max_skipped: float) -> None:
    """Write notes.npy, pieces.csv and skipped.csv, and print a line that sums them up.

    The notes of a piece are written as it comes, so memory grows by some two kilobytes a piece. Raises InputError
    when a larger share than `max_skipped` of the pieces was refused, or all of them, after skipped.csv is written, and
    when two pieces have the same name.
    """
    directory.mkdir(parents=True, exist_ok=True)
    kept: list[tuple[Any, ...]] = []  # rows of the table
    contents: list[str] = []
    sketches: list[resemblance.Hashes] = []
    refused: list[tuple[str, str]] = []
    with growing(directory / NOTES, NOTE) as notes:
        for piece in pieces:
            if isinstance(piece, Refused):
                refused.append((piece.name, piece.reason))
                continue
            ticks = int((piece.notes["start"] + piece.notes["duration"]).max())
            row = (notes.length, len(piece.notes), ticks, piece.left_out, piece.checksum)
            kept.append((piece.name, piece.group, "", *row))
            contents.append(content(piece.notes))
            sketches.append(resemblance.sketch(piece.notes))
            notes.append(piece.notes)
        reasons = pd.DataFrame(refused, columns=["name", "reason"])
        reasons.to_csv(directory / SKIPPED, index=False, lineterminator="\n")
        if not kept:
            raise InputError(f"{directory / SKIPPED}: no piece could be read, {len(refused)} were refused")
        share = len(refused) / (len(kept) + len(refused))
        if share > max_skipped:
            raise InputError(
                f"{directory / SKIPPED}: {len(refused)} pieces, {share:.1%} of all, were refused;"
                f" mend them or raise data.max_skipped ({max_skipped:g})"
            )
        table = pd.DataFrame(kept, columns=COLUMNS)
        if table["name"].duplicated().any():
            raise InputError(f"two pieces are called {table['name'][table['name'].duplicated()].iloc[0]!r}; rename one")
    equal = same(contents)
    table["group"] = merge(table["group"].tolist(), equal)
    table["follows"] = merge(table["group"].tolist(), resemblance.pairs(sketches))
    table.to_csv(directory / PIECES, index=False, lineterminator="\n")
    print(
        f"{len(kept):,} pieces in {table['group'].nunique():,} groups, {table['notes'].sum():,} notes,"
        f" {table['ticks'].sum() // TICKS_PER_BEAT:,} beats;"
        f" {len(refused):,} pieces refused, {table['left_out'].sum():,} notes left out"
    )
    moved = int((table["follows"] != table["group"]).sum())
    print(
        f"{len(equal):,} pieces equal another one; {moved:,} are nearly the same as one of another group, and follow it"
    )


def same(contents: list[str]) -> list[tuple[int, int]]:
    """Which pieces are equal to one before them, by number, and to which."""
    first: dict[str, int] = {}
    places = [first.setdefault(each, number) for number, each in enumerate(contents)]
    return [(place, number) for number, place in enumerate(places) if place != number]


def merge(groups: list[str], pairs: list[tuple[int, int]]) -> list[str]:
    """The group of each piece, once the groups of the pieces in each pair have become one.

    A merged group has the name of the first of its groups in alphabetical order.
    """
    leader = {group: group for group in groups}

    def lead(group: str) -> str:
        while leader[group] != group:
            group = leader[group]
        return group

    for one, other in pairs:
        ours, theirs = lead(groups[one]), lead(groups[other])
        leader[max(ours, theirs)] = min(ours, theirs)
    return [lead(group) for group in groups]


def content(notes: Notes) -> str:
    """A hash of what the music is: equal for pieces that differ in key, loudness and leading silence only."""
    rows = np.empty((len(notes), 3), "<i8")
    rows[:, 0] = notes["start"] - notes["start"].min()
    rows[:, 1] = notes["pitch"] - notes["pitch"].min()
    rows[:, 2] = notes["duration"]
    return hashlib.sha256(rows.data).hexdigest()


def read(directory: Path) -> Collection:
    """What `write` wrote; raises InputError when a file is missing, or the two do not belong together."""
    paths = directory / NOTES, directory / PIECES
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: not found; run the stage download first")
    try:
        notes: Notes = np.load(paths[0], mmap_mode="r")
    except ValueError:
        raise InputError(f"{paths[0]}: damaged; run the stage download again") from None
    text = {"name": str, "group": str, "follows": str, "checksum": str}
    pieces = pd.read_csv(paths[1], dtype=text, keep_default_na=False)
    if list(pieces.columns) != COLUMNS or notes.dtype != NOTE or pieces["notes"].sum() != len(notes):
        raise InputError(f"{paths[1]}: does not belong to {paths[0]}; run the stage download again")
    return Collection(notes, pieces)
