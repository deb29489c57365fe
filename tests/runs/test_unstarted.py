"""What a start that fails leaves behind: nothing that was not there."""

import tempfile
from pathlib import Path
from unittest.mock import Mock

import pytest

from detect.cli import main as cli
from detect.errors import ConfigError, DataError
from detect.runs import unstarted
from detect.runs.folder import RunFolder


@pytest.mark.parametrize("deep", ["run", "a/b/run"])
def test_a_new_folder_goes_with_the_folders_around_it(tmp_path, deep):
    folder = tmp_path / deep
    kept = unstarted.ancestor(folder)
    assert kept == tmp_path
    for name in (".hydra", "wandb", "detector", "quantized"):
        (folder / name).mkdir(parents=True)
    files = set(unstarted.AT_START) - {".hydra", "wandb"}
    for name in (*files, "train.log", ".hydra/config.yaml", "wandb/debug.log", "detector/transfer.json"):
        (folder / name).write_text("x")
    unstarted.remove(folder, kept)
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_before_the_first_step_goes_with_a_failed_start():
    """Steps were timed, services have begun, and the weights of `init` were read."""
    run = RunFolder(Path("run"))
    assert {run.shared_budget.name, run.loggers.name, run.data.name} <= set(unstarted.AT_START)


@pytest.mark.parametrize("more", ["detector/metrics.jsonl", "detector/last", "notes.txt", "summary.json"])
def test_a_folder_with_results_or_a_users_file_stays(tmp_path, more):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("x")
    (folder / more).mkdir(parents=True)
    unstarted.remove(folder, tmp_path)
    assert (folder / "config.yaml").exists() and (folder / more).exists()


def test_what_was_there_before_stays(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").write_text("")
    unstarted.remove(tmp_path / "run", unstarted.ancestor(tmp_path / "run"))
    assert (tmp_path / "run" / "lock").exists()
    (tmp_path / "runs" / "new").mkdir(parents=True)
    (tmp_path / "runs" / "other").mkdir()
    unstarted.remove(tmp_path / "runs" / "new", tmp_path)
    assert (tmp_path / "runs" / "other").exists() and not (tmp_path / "runs" / "new").exists()


def test_a_folder_in_which_another_process_trains_stays(tmp_path):
    """Two starts at the same time: both saw no folder, and the one that comes second fails."""
    folder = tmp_path / "run"
    kept = unstarted.ancestor(folder)
    with RunFolder(folder).claim():
        (folder / "config.yaml").write_text("x")
        unstarted.remove(folder, kept)
        assert (folder / "config.yaml").exists()
    unstarted.remove(folder, kept)
    assert not folder.exists()


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"hydra\.run\.dir=.*file.* is not a folder"):
        unstarted.refuse_unwritable(tmp_path / "file" / "x", "hydra.run.dir")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", Mock(side_effect=PermissionError(13, "no permission")))
    with pytest.raises(ConfigError, match="can't be written"):
        unstarted.refuse_unwritable(tmp_path / "x", "hydra.run.dir")
    assert cli.run("train", lambda cfg: None, ["dataset=digits", f"hydra.run.dir={tmp_path}/y"]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code"),
    [(DataError("x.jpg: truncated"), 2), (ConfigError("hooks.0: no"), 2), (ValueError("a bug"), None)],
)
def test_the_command_line_leaves_nothing_of_a_failed_start(tmp_path, monkeypatch, error, code):
    monkeypatch.chdir(tmp_path)

    def fail(cfg):
        assert any(tmp_path.rglob("*")), "Hydra has made the folder"
        raise error

    if code is None:
        with pytest.raises(ValueError, match="a bug"):
            cli.run("train", fail, ["dataset=digits"])
    else:
        with pytest.raises(SystemExit) as ended:
            cli.run("train", fail, ["dataset=digits"])
        assert ended.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_began_keeps_its_folder_and_its_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def fail(cfg):
        (tmp_path / "run" / "detector" / "last").mkdir(parents=True)
        raise DataError("x.jpg: truncated")

    with pytest.raises(SystemExit):
        cli.run("train", fail, ["dataset=digits", "hydra.run.dir=run"])
    assert (tmp_path / "run" / "failed.txt").read_text() == "x.jpg: truncated\n"
