"""A place in a piece as a short text, from which another request goes on.

A token holds the last frames of the piece, not the arrays that the model made of them: hearing those frames again
rebuilds the arrays. For the Transformer that takes 0.5 to 3 KB of text instead of 131 KB in half precision, its
probabilities then differ from the unbroken run's by 4e-7 instead of 4e-4, and since frames are all there
is in it, a forged token can say no more than a prompt can.

The bytes, in URL-safe base64: a header (see HEADER), the frames packed by zlib, and the first 8 bytes of the SHA-256 of
both. That is a checksum against damage, not a secret: anybody can make a token.
"""

import base64
import binascii
import hashlib
import math
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from pianoai.runtime.errors import InputError
from pianoai.runtime.midi import MICROSECONDS
from pianoai.runtime.roll import LOUDEST, PITCHES, Roll, velocities
from pianoai.runtime.sampling import LARGEST_SEED

VERSION = 2
HEADER = struct.Struct("<B8sQQd")  # version, checksum of the model, seed, frames drawn with it, tempo
CHECK = 8  # bytes of the checksum
MOST_DRAWN = 2**48
MOST_TEXT = 64 * 1024


class OtherModelError(InputError):
    """A whole token, made with another model."""


@dataclass(frozen=True)
class Token:
    """Where a piece stands."""

    frames: Roll  # (n, 88), n >= 1: what the model must hear, the last frame included
    seed: int
    drawn: int  # frames that the seed's random numbers have been used for
    tempo: float  # quarter notes a minute


def ending(frames: Roll, most: int) -> Roll:
    """The last frames of a piece ``(n, 88)``, at most so many.

    Where earlier frames are cut off, notes held in the first one left are written as struck, so that their velocity is
    not lost.
    """
    kept = frames[-most:].copy()
    if len(frames) > most:
        kept[0] = velocities(frames)[-most]
    return kept


def write(token: Token, model: str) -> str:
    """A token as text; `model` is the SHA-256 of the model's file, in hexadecimal."""
    header = HEADER.pack(VERSION, bytes.fromhex(model)[:8], token.seed, token.drawn, token.tempo)
    data = header + zlib.compress(token.frames.tobytes())
    return base64.urlsafe_b64encode(data + hashlib.sha256(data).digest()[:CHECK]).decode("ascii")


def read(text: object, model: str, reach: int) -> Token:
    """The token in a text. Raises InputError for one that is damaged, OtherModelError for another model's."""
    damaged = InputError("state is damaged")
    if not isinstance(text, str) or len(text) > MOST_TEXT:
        raise InputError(f"state must be a text of at most {MOST_TEXT} characters")
    try:
        data = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise damaged from None
    data, check = data[:-CHECK], data[-CHECK:]
    if len(data) <= HEADER.size or hashlib.sha256(data).digest()[:CHECK] != check:
        raise damaged
    version, checksum, seed, drawn, tempo = HEADER.unpack_from(data)
    if (version, checksum) != (VERSION, bytes.fromhex(model)[:8]):
        raise OtherModelError("state comes from another model")
    most = (reach + 1) * PITCHES
    unpacker = zlib.decompressobj()
    try:
        frames = np.frombuffer(unpacker.decompress(data[HEADER.size :], most + 1), np.uint8)
    except zlib.error:
        raise damaged from None
    # The checksum is no secret, so nothing of the content is taken on trust.
    whole = unpacker.eof and not unpacker.unused_data and 0 < frames.size <= most and frames.size % PITCHES == 0
    slowest, fastest = MICROSECONDS / 0xFFFFFF, float(MICROSECONDS)
    fits = seed <= LARGEST_SEED and drawn <= MOST_DRAWN and math.isfinite(tempo) and slowest <= tempo <= fastest
    if not whole or not fits or frames.max() > LOUDEST:
        raise damaged
    return Token(frames.reshape(-1, PITCHES), seed, drawn, tempo)
