"""How music compares with other music: distributions of features, tonal and rhythmic character, a Fréchet distance.

Passages are rolls (frames, 88). A roll has no metre: a bar is four beats here, counted from a passage's beginning, and
what is left at its end belongs to no bar and, if shorter than a beat, to no beat. MusPy 0.5.0 (2022, its last release)
has some of these measures, but counts a bar and a beat after the last, and takes three notes for polyphony, not two.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import HELD, LOWEST_PITCH, PITCHES, TICKS_PER_BEAT, Roll, roll_to_notes

BAR = 4  # beats
MOST_SOUNDING = 12  # notes of a frame that are told apart
MOST_STRUCK = 24  # notes of a beat that are told apart
REGISTERS = 4  # equal parts of the keyboard

Counts = NDArray[np.intp]
Numbers = NDArray[np.float64]


def compare(rolls: list[Roll], real: list[Roll], frames_per_beat: int) -> dict[str, Any]:
    """How near passages are to real ones, see the functions of these names.

    overlaps, divergences: by feature (see `histograms`), overlap and divergence: their means; frechet: of bars.

    Raises InputError when no note is struck in the real ones, or they have fewer than two bars.
    """
    found, wanted = histograms(rolls, frames_per_beat), histograms(real, frames_per_beat)
    if not wanted["pitch_class"].any():
        raise InputError("evaluate: no note is struck in the passages after the prompts; give more music")
    overlaps = {name: overlap(found[name], wanted[name]) for name in wanted}
    divergences = {name: divergence(found[name], wanted[name]) for name in wanted}
    return {
        "overlap": float(np.mean([*overlaps.values()])),
        "overlaps": overlaps,
        "divergence": float(np.mean([*divergences.values()])),
        "divergences": divergences,
        "frechet": frechet(bar_features(rolls, frames_per_beat), bar_features(real, frames_per_beat)),
    }


def character(rolls: list[Roll], frames_per_beat: int) -> dict[str, float]:
    """What passages are like, each the mean over passages: see the functions of these names."""
    tonal = [scale_consistency(roll) for roll in rolls if (roll > HELD).any()]
    return {
        "scale_consistency": float(np.mean(tonal)) if tonal else 0.0,
        "empty_beats": float(np.mean([empty_beats(roll, frames_per_beat) for roll in rolls])),
        "polyphonic_rate": float(np.mean([polyphonic_rate(roll) for roll in rolls])),
        "grooving": float(np.mean([grooving(roll, frames_per_beat) for roll in rolls])),
        "self_similarity": float(np.mean([self_similarity(roll, frames_per_beat) for roll in rolls])),
    }


def histograms(rolls: list[Roll], frames_per_beat: int) -> dict[str, Counts]:
    """How often each value of six features occurs, in all passages together.

    Four are Yang and Lerch's (2020); how many notes sound at a time, and are struck in a beat, are added.

    pitch_class (12): of notes struck, from C. pitch_range (88): semitones between the highest and the lowest note that
    sound in a bar, of bars that are not silent. polyphony (13): notes that sound in a frame. note_length: frames that a
    note struck in the passage lasts in it. inter_onset: frames from one frame in which a note is struck to the next.
    onset_density (25): notes struck in a beat. What is greater than the last value counts as it; of lengths and
    intervals that is a bar.
    """
    bar = BAR * frames_per_beat
    beginnings = [np.nonzero(roll > HELD) for roll in rolls]
    return {
        "pitch_class": counted([(pitch + LOWEST_PITCH) % 12 for _, pitch in beginnings], 11),
        "pitch_range": counted([ranges(roll, bar) for roll in rolls], PITCHES - 1),
        "polyphony": counted([(roll > 0).sum(axis=1) for roll in rolls], MOST_SOUNDING),
        "note_length": counted([lengths(roll, frames_per_beat) for roll in rolls], bar),
        "inter_onset": counted([intervals(roll) for roll in rolls], bar),
        "onset_density": counted([struck(roll, frames_per_beat) for roll in rolls], MOST_STRUCK),
    }


def counted(values: Iterable[NDArray[np.integer]], most: int) -> Counts:
    """How often each of 0 … `most` occurs, (most + 1,)."""
    return np.bincount(np.minimum(np.concatenate([*values]), most), minlength=most + 1)


def cut(roll: Roll, frames: int) -> Roll:
    """The parts of a roll of so many frames each, (parts, frames, 88), without what is left at its end."""
    parts = len(roll) // frames
    return roll[: parts * frames].reshape(parts, frames, PITCHES)


def struck(roll: Roll, frames: int) -> Counts:
    """Notes struck in each part of so many frames: (parts,)."""
    found: Counts = (cut(roll, frames) > HELD).sum(axis=(1, 2))
    return found


def ranges(roll: Roll, frames: int) -> Counts:
    """Semitones from the lowest to the highest note of each part of so many frames that is not silent."""
    bars = np.array((cut(roll, frames) > 0).any(axis=1))
    sounds = bars[bars.any(axis=1)]
    found: Counts = PITCHES - 1 - sounds[:, ::-1].argmax(axis=1) - sounds.argmax(axis=1)
    return found


def intervals(roll: Roll) -> Counts:
    """Frames from each frame in which a note is struck to the next such frame."""
    moments = np.flatnonzero((roll > HELD).any(axis=1))
    return moments[1:] - moments[:-1]


def lengths(roll: Roll, frames_per_beat: int) -> Counts:
    """Frames from the beginning of each note struck in a roll to its end, or the roll's."""
    ticks = TICKS_PER_BEAT // frames_per_beat
    notes = roll_to_notes(roll, frames_per_beat)
    began = roll[notes["start"] // ticks, notes["pitch"] - LOWEST_PITCH] > HELD
    found: Counts = notes["duration"][began] // ticks
    return found


def overlap(found: Counts, wanted: Counts) -> float:
    """The area under both of two distributions: the sum over values of the smaller share, 0 to 1.

    Yang and Lerch (2020) take it, like the divergence, of distances between passages of one set and between sets,
    smoothed by a Gaussian kernel. Here it is of the features themselves, which are whole numbers and need no kernel,
    as in Ren et al. (2020, PopMAG), but of all passages together and not one by one.
    """
    shares = [counts / max(counts.sum(), 1) for counts in (found, wanted)]
    return float(np.minimum(*shares).sum())


def divergence(found: Counts, wanted: Counts) -> float:
    """Nats by which a distribution diverges from the wanted one (Kullback and Leibler 1951).

    The sum over values of w log(w / f), w and f being shares of the wanted and of the found. One is added to every
    count (Laplace's rule of succession), since a value that was never found would make it infinite.
    """
    f, w = ((counts + 1) / (counts.sum() + len(counts)) for counts in (found, wanted))
    return float((w * np.log(w / f)).sum())


def scale_consistency(roll: Roll) -> float:
    """The largest share of the notes struck that one scale holds (Mogren 2016; Dong et al. 2018 for a known scale).

    Of all major and natural minor scales; a minor one has the notes of its relative major, so there are twelve.
    """
    counts = counted([(np.nonzero(roll > HELD)[1] + LOWEST_PITCH) % 12], 11)
    major = [0, 2, 4, 5, 7, 9, 11]
    return float(max(np.roll(counts, -root)[major].sum() for root in range(12)) / counts.sum())


def empty_beats(roll: Roll, frames_per_beat: int) -> float:
    """Share of beats in which nothing sounds (the empty-bar rate of Dong et al. 2018, of beats)."""
    return float((~cut(roll, frames_per_beat).any(axis=(1, 2))).mean())


def polyphonic_rate(roll: Roll) -> float:
    """Share of frames in which two notes or more sound (as Dong et al. 2018 say; pypianoroll wants three)."""
    return float(((roll > 0).sum(axis=1) >= 2).mean())


def grooving(roll: Roll, frames_per_beat: int) -> float:
    """Mean over all pairs of bars of the share of frames in which both or neither have a note struck.

    The grooving pattern similarity of Wu and Yang (2020): 1 - (1/Q) sum of XOR(g, g') over the Q frames of a bar.
    """
    strikes = (cut(roll, BAR * frames_per_beat) > HELD).any(axis=2).astype(float)
    alike = strikes @ strikes.T + (1 - strikes) @ (1 - strikes).T
    return float(alike[np.triu_indices(len(strikes), 1)].mean() / strikes.shape[1])


def self_similarity(roll: Roll, frames_per_beat: int) -> float:
    """Mean over all pairs of bars of the cosine of their chroma: 1 if they have the same pitch classes in equal shares.

    The chroma of a bar are its sounding cells by pitch class (12); a silent bar resembles none. These are the entries
    of the self-similarity matrix (Foote 1999) from which Wu and Yang (2020) go on to a fitness scape plot, which looks
    for repeats longer than our passages have.
    """
    chroma = np.array([pitch_classes(bar) for bar in cut(roll, BAR * frames_per_beat)], float)
    chroma /= np.maximum(np.linalg.norm(chroma, axis=1, keepdims=True), 1e-9)
    return float((chroma @ chroma.T)[np.triu_indices(len(chroma), 1)].mean())


def pitch_classes(roll: Roll) -> Counts:
    """Sounding cells by pitch class, from C: (12,)."""
    return counted([(np.nonzero(roll)[1] + LOWEST_PITCH) % 12], 11)


def bar_features(rolls: list[Roll], frames_per_beat: int) -> Numbers:
    """What `frechet` compares: 22 numbers of every bar of every passage, (bars, 22).

    Notes that sound, per frame: of each pitch class from C (12), in each quarter of the keyboard from the lowest (4);
    notes struck in each beat (4); the standard deviation over frames of how many notes sound; the share of frames in
    which a note is struck.
    """
    bars = np.concatenate([cut(roll, BAR * frames_per_beat) for roll in rolls])
    sounds, strikes = bars > 0, bars > HELD
    return np.hstack(
        [
            np.array([pitch_classes(bar) for bar in bars]).reshape(-1, 12) / bars.shape[1],
            sounds.reshape(len(bars), -1, REGISTERS, PITCHES // REGISTERS).sum(axis=(1, 3)) / bars.shape[1],
            strikes.reshape(len(bars), BAR, -1).sum(axis=2),
            sounds.sum(axis=2).std(axis=1, keepdims=True),
            strikes.any(axis=2).mean(axis=1, keepdims=True),
        ]
    )


def frechet(found: Numbers, wanted: Numbers) -> float:
    """The squared Fréchet distance of two sets of features (any, features), each taken for a normal distribution.

    |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) of means m and covariances C (Dowson and Landau 1982; of images Heusel et
    al. 2017), each feature divided by its standard deviation in the wanted set, if it has one. C C' has the eigenvalues
    of the symmetric C^(1/2) C' C^(1/2), and the trace of its root is the sum of their roots. Raises InputError when
    there are fewer than two of either.
    """
    if min(len(found), len(wanted)) < 2:
        raise InputError("evaluate.frames: the passages have fewer than two bars; make it larger")
    spread = wanted.std(axis=0)
    found, wanted = (features / np.where(spread > 0, spread, 1) for features in (found, wanted))
    one, other = (np.cov(features.T) for features in (found, wanted))
    values, vectors = np.linalg.eigh(one)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    common = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other @ root), 0)).sum()
    apart = found.mean(axis=0) - wanted.mean(axis=0)
    return float(apart @ apart + np.trace(one) + np.trace(other) - 2 * common)
