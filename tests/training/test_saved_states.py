"""Two states are kept; a damaged one gives way to the one before it, with a message."""

import itertools
import json
import logging
import os
import re

import numpy as np
import pytest
import tensorflow as tf

from detect.errors import WeightsError
from detect.training.saved_states import SavedStates, finish_interrupted, steps


def truncated(path):
    path.write_bytes(path.read_bytes()[:-5])


INDEX, DATA, DIGESTS = "ckpt-2.index", "ckpt-2.data-00000-of-00001", "ckpt-2.json"


def state(folder):
    value = tf.Variable(np.zeros(100, np.float32))
    return value, SavedStates(folder, {"value": value})


@pytest.fixture
def saved(tmp_path):
    """A folder with the states of steps 1 and 2; the values are the step."""
    value, states = state(tmp_path / "last")
    for step in (1, 2):
        value.assign(tf.fill([100], float(step)))
        states.save(step)
    return tmp_path / "last"


def restored(folder):
    value, states = state(folder)
    return states.restore(), float(value[0])


def test_the_newest_of_two_is_restored(saved):
    assert restored(saved) == (2, 2.0)
    _, states = state(saved)
    states.save(3)
    assert steps(saved) == [2, 3]
    assert tf.train.latest_checkpoint(str(saved)).endswith("ckpt-3")
    assert {path.name.partition(".")[0] for path in saved.iterdir()} == {"checkpoint", "ckpt-2", "ckpt-3"}


def test_nothing_saved(tmp_path):
    assert restored(tmp_path / "none") == (None, 0.0)


@pytest.mark.parametrize("name", [INDEX, DATA, DIGESTS])
def test_any_damaged_byte_leads_to_the_state_before(saved, name, caplog):
    whole = (saved / name).read_bytes()
    for place in sorted({*range(0, len(whole), 37), len(whole) - 1}):
        (saved / name).write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
        files = {path: path.read_bytes() for path in saved.iterdir()}
        with caplog.at_level(logging.WARNING):
            assert restored(saved) == (1, 1.0), place
        assert "ckpt-2" in caplog.text and "the state before it is used" in caplog.text
        assert steps(saved) == [1], "the damaged state is gone"
        for path, content in files.items():
            path.write_bytes(content)


@pytest.mark.parametrize("name", [INDEX, DATA, DIGESTS])
@pytest.mark.parametrize("damage", [truncated, lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_a_cut_empty_or_missing_file_leads_to_the_state_before(saved, name, damage):
    damage(saved / name)
    assert restored(saved) == (1, 1.0)


def test_tensorflows_own_list_is_not_needed(saved):
    (saved / "checkpoint").unlink()
    assert restored(saved) == (2, 2.0)
    assert tf.train.latest_checkpoint(str(saved)).endswith("ckpt-2"), "the list is written again"


def test_no_whole_state_is_one_message(saved):
    for path in saved.glob("*.index"):
        path.write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="every saved state is damaged") as error:
        restored(saved)
    assert str(saved) in str(error.value) and len(list(saved.glob("*.index"))) == 2, "nothing is removed"


def test_states_of_an_older_version_have_no_digests(saved):
    for path in saved.glob("*.json"):
        path.unlink()
    data = saved / DATA
    data.write_bytes(data.read_bytes()[:-9] + b"123456789")
    assert restored(saved) == (1, 1.0)


def test_what_a_killed_save_leaves_is_removed(saved):
    _, states = state(saved)
    (saved / "ckpt-3_temp").mkdir()
    (saved / "ckpt-3_temp" / "part-00000-of-00001.data").write_bytes(b"x")
    (saved / "ckpt-3.data-00000-of-00001.tempstate77").write_bytes(b"x")
    (saved / "ckpt-3.index").write_bytes(b"x")
    assert states.restore() == 2
    assert {path.name.partition(".")[0] for path in saved.iterdir()} == {"checkpoint", "ckpt-1", "ckpt-2"}


def test_a_save_that_fails_leaves_the_others(saved, monkeypatch):
    _, states = state(saved)
    assert states.restore() == 2
    monkeypatch.setattr("detect.training.saved_states.sync", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        states.save(3)
    assert restored(saved) == (2, 2.0) and steps(saved) == [1, 2]


@pytest.mark.parametrize("name", ["sync", "write_json"])
def test_a_second_save_at_a_step_that_fails_leaves_the_first(saved, monkeypatch, name):
    """The loop saves before an evaluation and after it, for example on a disk that is full by then."""
    files = {path: path.read_bytes() for path in saved.iterdir()}
    _, states = state(saved)
    monkeypatch.setattr(f"detect.training.saved_states.{name}", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        states.save(2)
    assert {path: path.read_bytes() for path in saved.iterdir()} == files and restored(saved) == (2, 2.0)


def test_a_second_save_at_a_step_replaces_the_first(saved):
    value, states = state(saved)
    value.assign(tf.fill([100], 9.0))
    states.save(2)
    assert restored(saved) == (2, 9.0) and steps(saved) == [1, 2]


@pytest.mark.parametrize("renamed", [0, 1, 2])
@pytest.mark.parametrize("saves", [[2], [2, 2], [2, 2, 4]])
def test_a_save_that_is_killed_between_its_renames_is_finished(tmp_path, monkeypatch, saves, renamed):
    """The values are the number of the save. The first states of a stage have no state before them."""
    value, states = state(tmp_path / "last")
    real, renames = os.replace, itertools.count()

    def replace(source, target):
        if re.match(r"ckpt-\d", target.name) and next(renames) == 3 * (len(saves) - 1) + renamed:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr("detect.training.saved_states.os.replace", replace)
    with pytest.raises(KeyboardInterrupt):
        for number, step in enumerate(saves, 1):
            value.assign(tf.fill([100], float(number)))
            states.save(step)
    monkeypatch.undo()
    finish_interrupted(tmp_path / "last")
    assert steps(tmp_path / "last") == sorted(set(saves)), "a stage that begins again looks here"
    assert restored(tmp_path / "last") == (saves[-1], float(len(saves)))
    assert not list((tmp_path / "last").glob("*new*"))


def test_a_damaged_or_foreign_list_of_renames_is_left_out(saved):
    for text in ("", "[]", '{"../x.index": "0"}', '{"ckpt-new.index": "0"}'):
        (saved / "ckpt-new.json").write_text(text)
        assert restored(saved) == (2, 2.0), text


def test_a_state_of_another_network_is_one_message(saved):
    states = SavedStates(saved, {"value": tf.Variable(np.zeros(100, np.float32)), "more": tf.Variable(1.0)})
    with pytest.raises(WeightsError, match="does not fit"):
        states.restore()


def test_digests_name_both_files(saved):
    assert set(json.loads((saved / DIGESTS).read_text())) == {INDEX, DATA}
