from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pianoai import windows
from pianoai.baseline import passages
from pianoai.collection import Collection
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import notes_to_roll
from pianoai.windows import RollConfig, SplitConfig, WindowConfig, Windows, changes, cut, divide, held


def test_cut_predicts_every_frame_but_the_first_exactly_once_without_overlap() -> None:
    config = WindowConfig(length=2, segment=4, hop=4)
    found = list(cut([(100, 10), (200, 5), (300, 6)], config))
    # 10 frames: 9 to predict, in 4 + 4 + 1; 5 frames: one window; 6 frames: 4 + 1.
    assert found == [(100, 5), (104, 5), (108, 2), (200, 5), (300, 5), (304, 2)]
    predicted = [at for start, length in found for at in range(start + 1, start + length)]
    assert sorted(predicted) == [*range(101, 110), *range(201, 205), *range(301, 306)]


def test_cut_overlaps_when_the_hop_is_shorter() -> None:
    assert list(cut([(0, 8)], WindowConfig(length=2, segment=4, hop=2))) == [(0, 5), (2, 5), (4, 4)]


def test_frames_are_the_rolls_of_the_pieces(music: Windows, collection: Collection) -> None:
    rolls = [notes_to_roll(collection.notes_of(at), 4) for at in range(len(collection))]
    np.testing.assert_array_equal(np.concatenate(rolls), music.frames)
    assert isinstance(music.frames, np.memmap)
    # Whole pieces in valid and test; each stands in one split only.
    sizes = [len(roll) for roll in rolls]
    begins = (np.cumsum(sizes) - sizes).tolist()
    for split in ("valid", "test"):
        assert [begins.index(start) for start in music.starts[split]]
    belongs = np.zeros(len(music.frames), int)
    for split in ("valid", "test"):
        for start, length in zip(music.starts[split], music.lengths[split], strict=True):
            belongs[start : start + length] += 1
    for start, length in zip(music.starts["train"], music.lengths["train"], strict=True):
        assert not belongs[start : start + length].any()
    predicted = sum(int(lengths.sum()) - len(lengths) for lengths in music.lengths.values())
    assert predicted == len(music.frames) - len(collection)


def test_groups_stay_together() -> None:
    groups = [f"g{at // 3}" for at in range(60)]
    parts = divide(pd.DataFrame({"group": groups, "follows": groups}), SplitConfig(0.2, 0.1, 3))
    assert sorted(at for rows in parts.values() for at in rows) == list(range(60))
    sides = [{groups[at] for at in rows} for rows in parts.values()]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    assert [len(side) for side in sides] == [14, 4, 2]


def test_a_group_that_follows_another_is_moved_and_no_other_is() -> None:
    groups = [f"g{at // 3}" for at in range(60)]
    before = divide(pd.DataFrame({"group": groups, "follows": groups}), SplitConfig(0.2, 0.1, 3))
    tested = {groups[at] for at in before["test"]}
    trained = groups[before["train"][0]]
    follows = [trained if group in tested else group for group in groups]
    after = divide(pd.DataFrame({"group": groups, "follows": follows}), SplitConfig(0.2, 0.1, 3))
    assert after == {"train": sorted(before["train"] + before["test"]), "valid": before["valid"], "test": []}


def test_what_is_held_at_the_beginning_of_a_window() -> None:
    roll = np.zeros((5, 88), np.uint8)
    roll[:, 3] = [70, 1, 90, 1, 0]
    roll[:, 9] = [0, 50, 1, 1, 1]
    roll[:, 20] = [0, 0, 0, 33, 0]
    expected = {0: {}, 1: {3: 70}, 2: {9: 50}, 3: {3: 90, 9: 50}, 4: {9: 50}}
    for at, found in expected.items():
        assert {int(column): int(held(roll, at)[column]) for column in np.flatnonzero(held(roll, at))} == found


def test_two_groups_are_too_few() -> None:
    with pytest.raises(InputError, match="2 groups of pieces are too few"):
        divide(pd.DataFrame({"group": ["a", "b"], "follows": ["a", "b"]}), SplitConfig(0.1, 0.1, 0))


def test_changes() -> None:
    # struck, held, restruck, held, silent, silent
    roll = np.zeros((6, 88), np.uint8)
    roll[:4, 10] = [60, 1, 60, 1]
    assert changes(roll).tolist() == [False, True, False, True, False]


def test_excerpts_are_evenly_spread_and_run_to_the_end(music: Windows) -> None:
    begins = []
    for start, length in zip(music.starts["train"], music.lengths["train"], strict=True):
        begins += [(start + offset, start + length) for offset in range(0, length - 20 + 1, 7)]
    found = music.excerpts("train", 20, 7, 3)
    wanted = [begins[0], begins[round((len(begins) - 1) / 2)], begins[-1]]
    assert [len(roll) for roll in found] == [end - start for start, end in wanted]
    for roll, (start, end) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(roll, music.frames[start:end])
    assert len(music.excerpts("train", 20, 7, 10**6)) == len(begins)
    assert music.excerpts("valid", 10**6, 7, 3) == []


def test_missing_windows_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"frames.npy: not found; run the stage `window` first"):
        windows.read(tmp_path)


def test_writing_twice_gives_the_same_bytes(collection: Collection, tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        summary = windows.write(
            collection, tmp_path / name, RollConfig(2), WindowConfig(8, 32, 32), SplitConfig(0.2, 0.2, 5)
        )
        written.append([(tmp_path / name / file).read_bytes() for file in ("frames.npy", "windows.npz")])
    assert written[0] == written[1]
    assert set(summary) == {"train", "valid", "test"}


def test_the_baseline_counts_every_transition_once(music: Windows, collection: Collection) -> None:
    belongs = [len(notes_to_roll(collection.notes_of(at), 4)) for at in range(len(collection))]
    spans = passages(music)
    assert sum(end - start for start, end in spans) == sum(belongs) - sum(
        int(music.lengths[split].sum()) for split in ("valid", "test")
    )
    assert len(spans) == 6
    overlapping = replace(
        music,
        starts=music.starts | {"train": np.array([100, 132, 300])},
        lengths=music.lengths | {"train": np.array([65, 65, 20])},
    )
    assert passages(overlapping) == [(100, 197), (300, 320)]
