"""State tokens: what they keep, and what is refused."""

import base64
import hashlib
import struct
import zlib

import numpy as np
import pytest

from pianoai.runtime import model as runtime
from pianoai.runtime import token
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import Floats, Roll
from pianoai.runtime.token import Token
from pianoai.windows import Windows
from tests.test_export import archive_of, checkpoint_of
from tests.test_models import CONFIGS

MODEL = "0123456789abcdef" * 4


def forged(header: bytes, content: bytes) -> str:
    """A token with a true checksum, made by hand."""
    data = header + content
    return base64.urlsafe_b64encode(data + hashlib.sha256(data).digest()[:8]).decode()


def header(seed: int = 1, drawn: int = 2, tempo: float = 90.0, version: int = 2) -> bytes:
    return struct.pack("<B8sQQd", version, bytes.fromhex(MODEL)[:8], seed, drawn, tempo)


def packed(frames: int, value: int = 0) -> bytes:
    return zlib.compress(bytes([value]) * (88 * frames))


def test_a_token_says_what_was_put_into_it() -> None:
    frames = np.arange(2 * 88, dtype=np.uint8).reshape(2, 88) % 128
    found = token.read(token.write(Token(frames, 2**63 - 1, 77, 66.5), MODEL), MODEL, 8)
    assert (found.frames == frames).all()
    assert (found.seed, found.drawn, found.tempo) == (2**63 - 1, 77, 66.5)
    by_hand = token.read(forged(header(), packed(9, 64)), MODEL, 8)
    assert by_hand.frames.tolist() == [[64] * 88] * 9
    assert (by_hand.seed, by_hand.drawn, by_hand.tempo) == (1, 2, 90)


def test_the_ending_keeps_the_velocity_of_notes_that_began_before_it() -> None:
    piece: Roll = np.zeros((8, 88), np.uint8)
    piece[:, 0] = [90, 1, 1, 1, 1, 1, 1, 1]
    piece[:, 1] = [0, 0, 50, 1, 0, 0, 30, 1]
    piece[:, 2] = 1
    ending = token.ending(piece, 6)
    assert ending[:, 0].tolist() == [90, 1, 1, 1, 1, 1]
    assert ending[:, 1].tolist() == [50, 1, 0, 0, 30, 1]
    assert ending[:, 2].tolist() == [64, 1, 1, 1, 1, 1]
    assert piece[2, 0] == 1  # the argument is left as it was
    assert (token.ending(piece[:6], 6) == piece[:6]).all()


def test_every_damaged_letter_is_noticed() -> None:
    text = token.write(Token(np.eye(3, 88, dtype=np.uint8), 5, 6, 120.0), MODEL)
    for at in range(len(text)):
        for letter in ("A", "Z", "=", "é", ""):
            if text[at] == letter or text[at] == "=":
                continue
            with pytest.raises(InputError, match="damaged"):
                token.read(text[:at] + letter + text[at + 1 :], MODEL, 8)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AAAA",
        forged(header(), b""),
        forged(header(), b"no zlib"),
        forged(header(), packed(0)),
        forged(header(), packed(10)),  # eight frames can be heard
        forged(header(), zlib.compress(b"\1" * 87)),
        forged(header(), packed(2, 128)),
        forged(header(), packed(2) + b"more"),
        forged(header(), packed(2)[:-2]),
        forged(header(), zlib.compress(bytes(30_000_000))),
        forged(header(seed=2**63), packed(2)),
        forged(header(drawn=2**48 + 1), packed(2)),
        *(forged(header(tempo=tempo), packed(2)) for tempo in (float("nan"), float("inf"), 0.0, 3.5, 6.1e7)),
    ],
)
def test_a_forged_token_is_held_to_the_same_ranges(text: str) -> None:
    with pytest.raises(InputError, match="damaged"):
        token.read(text, MODEL, 8)


@pytest.mark.parametrize("value", [None, 7, [], {}, "A" * 65_537])
def test_what_is_no_short_text_is_no_token(value: object) -> None:
    with pytest.raises(InputError, match="text of at most"):
        token.read(value, MODEL, 8)


def test_a_token_of_another_model_or_version_is_told_apart() -> None:
    text = token.write(Token(np.zeros((1, 88), np.uint8), 0, 0, 120.0), MODEL)
    with pytest.raises(token.OtherModelError, match="another model"):
        token.read(text, "f" * 64, 8)
    with pytest.raises(token.OtherModelError):
        token.read(forged(header(version=1), packed(1)), MODEL, 8)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("at", [7, 90])
def test_every_family_goes_on_as_if_unbroken(music: Windows, name: str, at: int) -> None:
    model = runtime.load(archive_of(checkpoint_of(name, music), music))
    middle, temperature = np.full(model.metadata.noise, 0.5, np.float32), np.array(1.0, np.float32)
    piece = np.asarray(next(music.rolls("train")))[: at + 20]
    text = token.write(Token(token.ending(piece[:at], model.metadata.reach + 1), 0, 0, 120.0), MODEL)
    heard = token.read(text, MODEL, model.metadata.reach).frames

    def said_after(before: Roll) -> list[Floats]:
        state, said = model.read(before, model.start()), []
        for frame in piece[at - 1 :].astype(np.float32):
            _, probabilities, state = model.step(frame, state, middle, temperature)
            said.append(probabilities)
        return said

    np.testing.assert_allclose(said_after(heard[:-1]), said_after(piece[: at - 1]), atol=2e-6)
