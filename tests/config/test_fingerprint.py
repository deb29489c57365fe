"""The one rule for "the same run"."""

import pytest
from omegaconf import OmegaConf

from detect.config.fingerprint import UNFINGERPRINTED, changes, digest, fingerprint


def test_fingerprint_is_of_what_matters():
    first = OmegaConf.create(
        {"seed": 0, "resume": None, "name": "a", "schedule": {"steps": 3, "rate": "${base}"}, "base": 1}
    )
    same = OmegaConf.create(
        {"base": 1, "schedule": {"rate": 1, "steps": 3}, "name": "b", "resume": "runs/x", "seed": 0}
    )
    other = OmegaConf.merge(first, {"schedule": {"steps": 4}})
    assert fingerprint(first) == fingerprint(same) != fingerprint(other)
    assert len(fingerprint(first)) == 16


def test_changes_have_both_values():
    then = OmegaConf.create({"seed": 0, "name": "a", "old": 1, "schedule": {"steps": 3}})
    now = OmegaConf.create({"seed": 1, "name": "b", "new": 2, "schedule": {"steps": 3}})
    assert changes(then, now) == {"new": ("no such key", 2), "old": (1, "no such key"), "seed": (0, 1)}
    assert changes(then, then) == {}


@pytest.mark.parametrize("glob", UNFINGERPRINTED)
def test_what_may_change_changes_no_fingerprint_but_the_digest(glob):
    key = glob.replace("*", "x")
    first, second = (OmegaConf.from_dotlist([f"{key}={value}", "seed=0"]) for value in ("a", "b"))
    assert changes(first, second) == {} and fingerprint(first) == fingerprint(second)
    assert digest(first) != digest(second)


SCHEDULE = {"_target_": "detect.training.schedule.Schedule", "steps": 3}


@pytest.mark.parametrize(
    ("added", "same"),
    [
        ({"schedule": {"evaluate_batch": None, "step_at": [0.6, 0.85]}}, True),  # the constructor's defaults
        ({"schedule": {"evaluate_batch": 4}}, False),
        ({"schedule": {"no_such_argument": None}}, False),
        ({"jit_compile": False, "minutes": None, "precision": "float32"}, True),
        ({"jit_compile": True}, False),
        ({"epochs": 3}, False),
        ({"distribute": {"kind": "mirrored", "devices": 2, "sync_batch_norm": True}}, True),
        ({"distribute": {"sync_batch_norm": False}}, False),
        ({"mixing": {"_target_": "a.B", "mosaic": {"p": 0.0}, "mixup": {"p": 0.0}, "until": 0.9}}, True),
        ({"mixing": {"_target_": "a.B", "mosaic": {"p": 0.0}, "mixup": {"p": 0.5}, "until": 0.9}}, False),
        ({"other": {"_target_": "detect.training.schedule.Schedule", "accumulate": 1}}, False),  # a part that is new
    ],
)
def test_a_key_that_an_older_run_lacks_is_no_change_if_it_does_the_same(added, same):
    then = OmegaConf.create({"seed": 0, "schedule": SCHEDULE})
    now = OmegaConf.merge(then, added)
    assert (changes(then, now) == {}) == same
    assert changes(now, then) != {}, "a run that has the key must keep it"
