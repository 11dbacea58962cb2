"""Random numbers without a state: a seed and a place give the same ones everywhere.

They are what SHAKE-128 (FIPS 202) makes of the seed and the place. Numbers of any frame can thus be had without those
of the frames before it, and NumPy's generators need not be in the zip.
"""

import hashlib

import numpy as np

from pianoai.runtime.roll import Floats


def uniform(count: int, seed: int, *place: int) -> Floats:
    """``(count,)`` float32, at least 0 and below 1: multiples of 2**-24."""
    whole = np.frombuffer(_bytes(4 * count, seed, *place), "<u4")
    return (whole >> 8).astype(np.float32) * np.float32(2**-24)


def another_seed(seed: int, *place: int) -> int:
    """A seed of 32 bits."""
    return int.from_bytes(_bytes(4, seed, *place), "little")


def _bytes(count: int, *place: int) -> bytes:
    return hashlib.shake_128("/".join(map(str, place)).encode()).digest(count)
