"""Sweeps that no program can run, and paths that are none: one message, at once."""

import itertools
from pathlib import Path

import pytest
from hydra.core.override_parser.types import Override

from detect.cli import overrides
from detect.config import compose as composing
from detect.config.compose import compose, config_folder
from detect.config.grammar import MOST_VALUES, jobs, parse
from detect.errors import ConfigError

GROUPS = {"backbone": ["a", "b"]}


@pytest.mark.parametrize(
    "line",
    [
        *("seed=range(0,1000000000)", "seed=range(0,1e18)", "seed=range(3,3)", "seed=range(1,2,0)"),
        *("seed=glob(*)", "backbone=glob(x*)"),
    ],
)
def test_a_sweep_of_no_values_or_of_too_many_is_refused_before_all_are_made(line, monkeypatch):
    made = itertools.count()
    values = Override.sweep_string_iterator
    monkeypatch.setattr(Override, "sweep_string_iterator", lambda self: (v for v in values(self) if next(made) + 1))
    with pytest.raises(ConfigError, match=line.partition("=")[0]):
        list(jobs(parse([line]), GROUPS, multirun=True))
    assert next(made) <= MOST_VALUES + 1


def test_sweeps_of_some_values():
    asked = parse(["seed=range(0,3)", "backbone=glob(*)"])
    cells = [[str(o.input_line) for o in job] for job in jobs(asked, GROUPS, multirun=True)]
    assert len(cells) == 6 and cells[-1] == ["seed=2", "backbone=b"]


@pytest.mark.parametrize("name", ["~nobody_of_that_name", "a\0b", "a" * 3000])
def test_what_is_no_name_of_a_folder(name):
    with pytest.raises(ConfigError, match="--config-dir"):
        config_folder(name)
    with pytest.raises(ConfigError, match=r"--config-name|read"):
        overrides.prepare(overrides.read(["--config-name", f"x{name}" * 2000, "seed=1"], "train"))
    for key in ("init", "resume"):
        with pytest.raises(ConfigError, match=key):
            compose([f"{key}={name}", "dataset=digits"])


def test_a_folder_with_too_many_files_is_not_searched(tmp_path, monkeypatch):
    monkeypatch.setattr(composing, "MOST_FILES", 3)
    for k in range(4):
        Path(tmp_path, f"{k}.txt").write_text("")
    with pytest.raises(ConfigError, match="more than 3 files"):
        config_folder(tmp_path)


@pytest.mark.parametrize("line", ["backbone=null", "hydra/job_logging=0", "dataset=[]", "schedule=1"])
def test_a_group_without_an_option(line):
    with pytest.raises(ConfigError):
        compose(["dataset=digits", line] if not line.startswith("dataset") else [line])
