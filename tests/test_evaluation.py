"""Which passages of the validation split are continued, and what is said of the continuations."""

import numpy as np
import pytest

from pianoai.evaluation import EvaluateConfig, choose_prompts, musical
from pianoai.metrics import music
from pianoai.params import build
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import Roll
from pianoai.windows import Windows


def windows(train: list[Roll], valid: list[Roll]) -> Windows:
    """Pieces as windows, a frame a beat."""
    lengths = np.array([len(roll) for roll in (*train, *valid)])
    starts, at = np.cumsum(lengths) - lengths, len(train)
    return Windows(
        frames=np.concatenate([*train, *valid]),
        starts={"train": starts[:at], "valid": starts[at:]},
        lengths={"train": lengths[:at], "valid": lengths[at:]},
        held={},
        frames_per_beat=1,
        length=4,
        segment=64,
        checksum="",
    )


def piece(frames: int, seed: int) -> Roll:
    """One note struck in each frame."""
    found = np.zeros((frames, 88), np.uint8)
    found[np.arange(frames), np.random.default_rng(seed).integers(88, size=frames)] = 70
    return found


def config(frames: int, rollouts: int = 64) -> EvaluateConfig:
    values = {"noise_samples": 1, "rollouts": rollouts, "prompt": 6, "temperature": 1.0, "seed": 1}
    return build("evaluate", EvaluateConfig, values | {"frames": frames}, "params.yaml")


def test_prompts_and_what_follows_them() -> None:
    one, other = piece(40, 1), piece(33, 2)
    prompts, real = choose_prompts(windows([piece(9, 0)], [one, other]), config(20))
    # Every 6 frames, as long as 6 + 20 are left: at 0, 6 and 12 of 40, and at 0 and 6 of 33.
    assert [len(roll) for roll in real] == [20] * 5
    np.testing.assert_array_equal(prompts[1], one[6:12])
    np.testing.assert_array_equal(real[1], one[12:32])
    np.testing.assert_array_equal(real[0], one[6:26])
    np.testing.assert_array_equal(real[4], other[12:32])
    assert len(choose_prompts(windows([piece(9, 0)], [one, other]), config(20, rollouts=3))[0]) == 3


def test_fewer_frames_are_compared_where_pieces_are_short() -> None:
    # 6 + 20 frames fit nowhere; 6 + 10 at 0 and 6 of 22 frames and at 0 of 18.
    prompts, real = choose_prompts(windows([piece(9, 0)], [piece(22, 1), piece(18, 2)]), config(20))
    assert [len(roll) for roll in real] == [16, 10, 12]
    assert [len(roll) for roll in prompts] == [6, 6, 6]
    # Of 20 and 18 they fit at 0 alone, and half of 10 is not two bars.
    with pytest.raises(InputError, match=r"no 3 passages of 6 frames with two bars \(8 frames\) to follow"):
        choose_prompts(windows([piece(9, 0)], [piece(20, 1), piece(18, 2)]), config(20))


def test_the_block_of_music() -> None:
    known, new = piece(24, 1), piece(23, 2)
    data = windows([known], [new, known])
    settings = config(16)  # 6 + 16 at 0 of each is too little, 6 + 8 will do
    _, real = choose_prompts(data, settings)
    assert [len(roll) for roll in real] == [16, 11, 16, 12]
    # All are cut to the shortest, 11 frames: 8 passages of four beats each.
    generated = [np.concatenate([known[3:14], piece(19, 3)]), piece(30, 4), piece(30, 5), piece(30, 6)]
    found = musical(generated, real, data, settings)
    assert found["passages"] == 4
    assert found["frames"] == 11
    assert found["memorised"] == 8 / 32
    assert found["real"]["memorised"] == 16 / 32
    cut = [roll[:11] for roll in generated], [roll[:11] for roll in real]
    for name, value in music.compare(*cut, 1).items():
        assert found[name] == value
    for name, value in music.compare(cut[1][::2], cut[1][1::2], 1).items():
        assert found["real"][name] == value
    assert found["grooving"] == music.character(cut[0], 1)["grooving"]
    assert found["real"]["scale_consistency"] == music.character(cut[1], 1)["scale_consistency"]
