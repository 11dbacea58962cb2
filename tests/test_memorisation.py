import numpy as np

from pianoai.metrics.memorisation import known_passages, memorised
from pianoai.runtime.roll import HELD, Roll
from tests.test_music import melody, roll


def share(generated: Roll, *training: Roll) -> float:
    """At a frame a beat, so that a passage has four frames."""
    return memorised([generated], known_passages(training, 1), 1)


def test_passages_count_in_any_transposition_and_loudness_and_from_any_frame() -> None:
    known = melody(60, 62, 64, 65, 67, 69)  # steps 2 2 1, 2 1 2 and 1 2 2
    louder = np.where(melody(50, 52, 54, 55, 57, 57, 57) > 0, 120, 0).astype(np.uint8)  # 2 2 1, 2 1 2, 1 2 0, 2 0 0
    assert share(louder, known) == 2 / 4
    assert share(melody(57, 55, 54, 52), known) == 0  # backwards
    assert share(known, melody(50, 52, 54, 55), melody(52, 53, 55, 57)) == 2 / 3
    assert share(known, melody(60, 62, 64)) == 0


def test_every_note_must_be_the_same() -> None:
    chords = roll(4, (0, 2, 48), (0, 1, 60), (1, 1, 62), (2, 2, 50), (2, 2, 65))
    assert share(chords, roll(4, (0, 2, 50), (0, 1, 62), (1, 1, 64), (2, 2, 52), (2, 2, 67))) == 1
    assert share(chords, roll(4, (0, 2, 50), (0, 1, 62), (1, 1, 64), (2, 2, 53), (2, 2, 67))) == 0
    struck_again = chords.copy()
    struck_again[1, 48 - 21] = 70
    assert share(struck_again, chords) == 0
    higher_note_more = chords.copy()
    higher_note_more[3, 80 - 21] = 70
    assert share(higher_note_more, chords) == 0


def test_what_is_nobodys_does_not_count() -> None:
    chord = roll(4, *((0, 4, pitch) for pitch in (60, 64, 67, 72)))
    assert known_passages([chord, roll(4)], 1) == set()
    three = melody(60, 62, 64, 64)
    three[3, 64 - 21] = HELD
    assert known_passages([three], 1) == set()
    two_chords = roll(4, *((0, 2, pitch) for pitch in (60, 64)), *((2, 2, pitch) for pitch in (62, 65)))
    assert len(known_passages([two_chords], 1)) == 1
    assert share(melody(60, 62, 64, 65, 70), melody(60, 62, 64, 65)) == 1 / 2
    assert share(roll(4), two_chords) == 0
    assert share(melody(60, 62), two_chords) == 0
