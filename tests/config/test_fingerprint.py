"""The one rule for "the same run"."""

import re

import pytest
from omegaconf import OmegaConf

from detect.config.fingerprint import UNFINGERPRINTED, differences, digest, fingerprint


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


def test_differences_name_both_values():
    then = OmegaConf.create({"seed": 0, "name": "a", "old": 1, "schedule": {"steps": 3}})
    now = OmegaConf.create({"seed": 1, "name": "b", "new": 2, "schedule": {"steps": 3}})
    new, old, seed = differences(then, now)
    assert re.search(r"new: .*no such key.* 2$", new)
    assert re.search(r"old: .* 1, .*no such key$", old)
    assert re.search(r"seed: .* 0, .* 1$", seed)
    assert differences(then, then) == []


@pytest.mark.parametrize("glob", UNFINGERPRINTED)
def test_what_may_change_changes_no_fingerprint_but_the_digest(glob):
    key = glob.replace("*", "x")
    first, second = (OmegaConf.from_dotlist([f"{key}={value}", "seed=0"]) for value in ("a", "b"))
    assert differences(first, second) == [] and fingerprint(first) == fingerprint(second)
    assert digest(first) != digest(second)
