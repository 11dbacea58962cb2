import hashlib
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from music21 import chord, converter, dynamics, instrument, meter, note, stream, tie
from music21 import corpus as music21_corpus

from pianoai.runtime.errors import InputError
from pianoai.sources import Piece, Refused, corpus, keyboard, pieces, scores
from tests.test_folder import config as folder_config

ROOT = Path(music21_corpus.getWork("bach/bwv66.6")).parents[1]


def played(score: stream.Score, one_player: bool = False) -> tuple[list[tuple[int, int, int, int]], int]:
    rows, left_out = scores.score_rows(score, one_player)
    return keyboard(rows)[0].tolist(), left_out


def bars(*contents: list[Any], length: float = 4.0) -> stream.Part:
    """A part: for each bar what it holds, and where."""
    part = stream.Part()
    for number, content in enumerate(contents):
        bar = stream.Measure(number=number + 1)
        if not number:
            bar.insert(0, meter.TimeSignature(f"{int(length)}/4"))
        for offset, element in content:
            bar.insert(offset, element)
        part.insert(number * length, bar)
    return part


def struck(pitch: str, length: float | Fraction, tied: str | None = None) -> note.Note:
    made = note.Note(pitch, quarterLength=length)
    made.tie = tie.Tie(tied) if tied else None
    return made


def test_the_choice_of_scores() -> None:
    found = corpus.choose(Path(path) for path in music21_corpus.getCorePaths())
    assert Counter(map(corpus.kind, found)) == {"chorale": 408, "quartet": 51, "keyboard": 12}
    assert found["bach/bwv277"].name == "bwv277.mxl"  # bwv277.krn is there too
    assert found["chopin/mazurka06-2"].suffix == ".krn"
    for name in ("bach/bwv248.23-2", "weber/concertino_clarinet", "corelli/opus3no1/1grave"):
        assert name not in found


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("bach/bwv112.5-sc", "bach/bwv112.5"),
        ("bach/bwv112.5", "bach/bwv112.5"),
        ("bach/bwv248.35-3c", "bach/bwv248.35"),
        ("bach/bwv846", "bach/bwv846"),
        ("beethoven/opus59no1/movement2", "beethoven/opus59no1"),
        ("beethoven/opus132", "beethoven/opus132"),
        ("mozart/k545/movement1_exposition", "mozart/k545"),
        ("chopin/mazurka06-2", "chopin/mazurka06-2"),
    ],
)
def test_groups(name: str, group: str) -> None:
    assert corpus.group(name) == group


def test_ties_chords_voices_and_grace_notes() -> None:
    bar = [
        (0.0, struck("C4", 1.5)),
        (Fraction(4, 3), chord.Chord([struck("E4", 1, "start"), struck("G4", 1)])),
        (3.0, struck("A4", 1, "start")),
        (2.0, note.Note("D4").getGrace()),
    ]
    low = stream.Voice([note.Rest(quarterLength=0.5), struck("C3", Fraction(1, 32))])
    part = bars(bar, [(0.0, struck("A4", 0.5, "stop")), (1.0, struck("E4", 1, "stop"))])
    part.getElementsByClass(stream.Measure)[0].insert(2.0, low)
    notes, left_out = played(stream.Score([part]))
    assert notes == [
        (0, 36, 60, 64),
        (32, 24, 64, 64),  # its tie leads nowhere: the next E4 comes two beats and a half later
        (32, 24, 67, 64),
        (60, 1, 48, 64),  # 3/4 of a tick
        (72, 36, 69, 64),  # over the bar line
        (120, 24, 64, 64),
    ]
    assert left_out == 1


def test_a_part_that_is_out_of_step_is_put_back() -> None:
    right = bars([(0.0, struck("C5", 4))], [(0.0, struck("D5", 4))], [(0.0, struck("E5", 4))])
    early = stream.Part()  # its second bar is a beat short, so its third comes a beat too soon
    for at, length, pitch in ((0.0, 4, "C3"), (4.0, 3, "D3"), (7.0, 4, "E3")):
        bar = stream.Measure([struck(pitch, length)])
        early.insert(at, bar)
    score = stream.Score([right, early])
    score.insert(0, bars(*[[(0.0, struck(pitch, 4))] for pitch in ("C2", "D2", "E2")]))
    notes, _ = played(score)
    assert [(start, pitch) for start, _, pitch, _ in notes] == [
        (0, 36), (0, 48), (0, 72), (96, 38), (96, 50), (96, 74), (192, 40), (192, 52), (192, 76),
    ]  # fmt: skip


def test_of_two_lengths_the_one_that_the_time_signature_says() -> None:
    whole = bars([(0.0, struck("C5", 3))], [(0.0, struck("D5", 3))], length=3.0)
    for short in (2.0, 3.5):
        other = stream.Part([stream.Measure([struck("C3", short)]), stream.Measure([struck("D3", 3)])])
        assert [start for start, *_ in played(stream.Score([whole, other]))[0]] == [0, 0, 72, 72]


def test_parts_with_different_numbers_of_bars_are_an_error() -> None:
    one = bars([(0.0, struck("C5", 4))])
    two = bars([(0.0, struck("C5", 4))], [(0.0, struck("D5", 4))])
    with pytest.raises(InputError, match=r"its parts have \[1, 2\] bars"):
        scores.score_rows(stream.Score([one, two]), one_player=False)


def test_a_transposing_instrument_sounds_as_it_does() -> None:
    part = bars([(0.0, struck("C5", 4))])
    part.insert(0, instrument.Clarinet())  # in B flat
    part.atSoundingPitch = False
    score = stream.Score([part])
    score.atSoundingPitch = False
    assert played(score)[0] == [(0, 96, 70, 64)]


def test_what_dynamic_marks_do() -> None:
    written = [
        (Fraction(at), text) for at, text in ((4, "sf"), (1, "p"), (6, "fp"), (9, "ff"), (8, "xyz"), (10, "sfz"))
    ]
    marks = scores.loudness(written)
    # music21 says p is 0.35 of 127, f 0.7, ff 0.85.
    wanted = {0: 64, 1: 44, 3: 44, 4: 82, 5: 44, 6: 89, 7: 44, 8: 44, 9: 108, 10: 127, 11: 108}
    assert {at: scores.velocity(marks, Fraction(at)) for at in wanted} == wanted


def test_one_player_reads_the_marks_of_both_staves() -> None:
    upper, lower = bars([(0.0, struck("C5", 2)), (2.0, struck("D5", 2))]), bars([(2.0, struck("C3", 2))])
    upper.getElementsByClass(stream.Measure)[0].insert(2.0, dynamics.Dynamic("ff"))
    score = stream.Score([upper, lower])
    assert [loud for *_, loud in played(score, one_player=True)[0]] == [64, 108, 108]
    assert [(pitch, loud) for _, _, pitch, loud in played(score)[0]] == [(72, 64), (48, 64), (74, 108)]


def test_a_chorale_from_the_package() -> None:
    piece = corpus.read_score("bach/bwv66.6", ROOT / "bach/bwv66.6.mxl")
    assert isinstance(piece, Piece)
    # The upbeat: E held, under C sharp and B, over A and G sharp, and another B from the tenor.
    upbeat = [(0, 12, 57, 64), (0, 24, 64, 64), (0, 12, 73, 64), (12, 12, 56, 64), (12, 12, 59, 64), (12, 12, 71, 64)]
    assert piece.notes[:6].tolist() == upbeat
    assert piece.checksum == hashlib.sha256((ROOT / "bach/bwv66.6.mxl").read_bytes()).hexdigest()
    # music21's own way to join ties and to merge parts.
    flat = converter.parseFile(ROOT / "bach/bwv66.6.mxl", forceSource=True, storePickle=False).stripTies().flatten()
    wanted = {(int(n.offset * 24), int(n.quarterLength * 24), n.pitch.midi) for n in flat.notes}
    longest = {(start, pitch): length for start, length, pitch in sorted(wanted)}
    assert {(n["start"], n["pitch"]): n["duration"] for n in piece.notes} == longest


def test_one_movement_in_two_formats() -> None:
    # In the one format music21 lets the first violin run a beat ahead from bar 22 on; in the other it does not.
    name = "beethoven/opus18no1/movement3"
    both = [corpus.read_score(name, ROOT / f"{name}{ending}") for ending in (".mxl", ".krn")]
    onsets = [{(n["start"], n["pitch"]) for n in piece.notes} for piece in both if isinstance(piece, Piece)]
    assert len(onsets[0] & onsets[1]) == 1076
    assert len(onsets[0] | onsets[1]) == 1079  # slips of the pen


def test_a_score_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "torn.xml").write_text("<score-partwise><part>")
    refused = corpus.read_score("bach/torn", tmp_path / "torn.xml")
    assert isinstance(refused, Refused)
    assert refused.name == "bach/torn"
    assert "\n" not in refused.reason
    assert str(tmp_path) not in refused.reason


def test_the_source_reads_in_order_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    files = ["schoenberg/opus19/movement6.mxl", "bach/bwv846.mxl", "demos/two-parts.xml", "bach/bwv66.6.mxl"]
    monkeypatch.setattr(music21_corpus, "getCorePaths", lambda: [ROOT / file for file in files])
    read = list(pieces(replace(folder_config(Path("data/folder")), source="corpus")))
    assert [piece.name for piece in read] == ["bach/bwv66.6", "bach/bwv846", "schoenberg/opus19/movement6"]
    # The first prelude of the Well-Tempered Clavier: C, E, G, C, E, the first two held.
    assert isinstance(read[1], Piece)
    assert read[1].notes[:5]["pitch"].tolist() == [60, 64, 67, 72, 76]
    assert read[1].notes[:2].tolist() == [(0, 48, 60, 64), (6, 42, 64, 64)]
