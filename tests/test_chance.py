"""Random numbers of a seed and a place."""

import hashlib

import numpy as np
import pytest

from pianoai.runtime.chance import another_seed, uniform


def test_shake_128_is_the_standard_one() -> None:
    # The first bytes that FIPS 202's examples give for the empty message.
    assert hashlib.shake_128(b"").hexdigest(8) == "7f9c2ba4e88f827d"


def test_numbers_are_the_upper_24_bits_of_what_the_place_is_hashed_to() -> None:
    bits = hashlib.shake_128(b"5/0/12").digest(12)
    words = [bits[at] + bits[at + 1] * 2**8 + bits[at + 2] * 2**16 + bits[at + 3] * 2**24 for at in (0, 4, 8)]
    found = uniform(3, 5, 0, 12)
    assert found.dtype == np.float32
    assert found.tolist() == [word // 256 / 2**24 for word in words]
    assert uniform(200, 5, 0, 12)[:3].tolist() == found.tolist()


def test_numbers_are_uniform_and_never_one() -> None:
    found = np.concatenate([uniform(1000, 1, at) for at in range(200)]).astype(np.float64)
    assert found.min() >= 0
    assert found.max() < 1
    assert np.float32(2**24 - 1) * np.float32(2**-24) < 1  # the largest there can be
    # Five standard errors of mean, variance and the correlation of neighbours.
    error = 5 / np.sqrt(len(found))
    assert found.mean() == pytest.approx(0.5, abs=error * np.sqrt(1 / 12))
    assert found.var() == pytest.approx(1 / 12, abs=error * np.sqrt(1 / 180))
    assert np.corrcoef(found[1:], found[:-1])[0, 1] == pytest.approx(0, abs=error)


def test_places_are_told_apart() -> None:
    places = [(1,), (1, 0), (0, 1), (1, 23), (12, 3), (123,)]
    assert len({tuple(uniform(4, *place).tolist()) for place in places}) == len(places)
    seeds = {another_seed(7, at) for at in range(100)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**32 for seed in seeds)
