"""What loggers are told of a run, in which order, and that their failure ends no training."""

import numpy as np
import pytest
from omegaconf import OmegaConf

from detect.errors import ConfigError
from detect.loggers.interface import Described, Logger, Loggers, SentRows
from detect.loggers.mlflow import MLflow, _key
from detect.loggers.wandb import WandB
from detect.reporting.logger import RunLogger, read_metrics
from detect.runs.start import loggers
from detect.runs.workers import Worker


class Notes(Logger):
    """Notes what it is told."""

    def __init__(self):
        self.told = []

    def begin(self, run):
        self.told.append(("begin", run.name))

    def begin_stage(self, stage, folder, kept, undone):
        self.told.append(("stage", stage, [row["step"] for row in kept], [row["step"] for row in undone]))

    def row(self, row):
        self.told.append((row["kind"], row["step"], row.get("loss/total"), row.get("val/AP")))

    def picture(self, stage, tag, step, image):
        self.told.append((tag, step, image.shape))

    def end(self, state):
        self.told.append(state)


class Broken(Logger):
    """Its service is lost at the second row."""

    def __init__(self):
        self.rows = 0

    def row(self, row):
        self.rows += 1
        if self.rows == 2:
            raise ConnectionError("no route to \x1b[31mhost\nsecond line")


def described(folder):
    return Described(folder, folder / "loggers.json", "demo")


def test_rows_pictures_and_the_end(tmp_path):
    notes = Notes()
    services = Loggers({"notes": notes})
    with services.running(described(tmp_path)), RunLogger(tmp_path, 9, "d", console=False, services=services) as logger:
        logger.resume_at(0)
        logger.train(1, {"loss/total": 2.0})
        logger.evaluation(1, {"val/AP": 0.5}, "")
        logger.images("two", 1, [np.zeros((4, 6, 3), np.uint8)] * 2)
        logger.resume_at(0)
    assert notes.told == [
        ("begin", "demo"), ("stage", "d", [], []), ("train", 1, 2.0, None), ("eval", 1, None, 0.5),
        ("two/0", 1, (4, 6, 3)), ("two/1", 1, (4, 6, 3)), ("stage", "d", [], [1, 1]), "finished",
    ]  # fmt: skip


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")])
def test_how_a_run_ended(tmp_path, error, state):
    notes = Notes()
    with pytest.raises(error), Loggers({"notes": notes}).running(described(tmp_path)):
        raise error
    assert notes.told[-1] == state


def test_results_that_a_kill_has_prevented_are_told_on_resume(tmp_path):
    """The summary is written, and the process is killed before or while it tells the loggers."""
    run, figures = described(tmp_path), ("", {"val/AP": 0.5}, [])
    notes = Notes()
    notes.results = lambda *what: notes.told.append(what)
    with Loggers({"notes": notes}).running(run):
        assert not run.ended
    assert run.ended
    run.end(False)  # as it is until then
    notes.told.clear()
    Loggers({"notes": notes}).catch_up(run, lambda: figures)
    assert notes.told == [("begin", "demo"), figures, "finished"] and run.ended
    with pytest.raises(KeyboardInterrupt), Loggers({"notes": notes}).running(run):
        raise KeyboardInterrupt  # an extended run
    assert not run.ended
    Loggers({}).catch_up(described(tmp_path / "none"), lambda: figures)
    assert not (tmp_path / "none").exists()


def test_results_of_a_stage_are_told_once(tmp_path):
    """Each resume comes upon the finished stages. A service that begins later knows none of them."""
    run, notes = described(tmp_path), Notes()
    notes.results = lambda *what: notes.told.append(what)
    run.remember("notes", "a1")
    for service in ("a1", "a1", "b2"):
        run.remember("notes", service)
        services = Loggers({"notes": notes})
        with services.running(run):
            services.results("classify", {"val/top1": 0.5}, [])
            services.results("", {"val/AP": 0.5}, [])
    told = [what[0] for what in notes.told if isinstance(what, tuple) and len(what) == 3]
    assert told == ["classify", "", "", "classify", ""]
    with services.running(run):
        services.begin_stage("classify", tmp_path, [], [])
        services.results("classify", {"val/top1": 0.75}, [])
    assert notes.told[-2] == ("classify", {"val/top1": 0.75}, []), "a stage that is trained again"


def test_a_lost_service_costs_one_warning_and_no_row(tmp_path, caplog):
    broken, notes = Broken(), Notes()
    services = Loggers({"lost": broken, "notes": notes})
    with services.running(described(tmp_path)), RunLogger(tmp_path, 9, "d", console=False, services=services) as logger:
        for step in (1, 2, 3, 4):
            logger.train(step, {"loss/total": 1.0})
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]
    assert sum(entry[0] == "train" for entry in notes.told) == 4 and broken.rows == 2
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "logger.lost" in warning and "no route to \\x1b[31mhost" in warning and "second line" not in warning


def test_a_service_gets_rows_once():
    rows = [{"kind": kind, "step": step} for step in (1, 2, 3) for kind in ("train", "eval")]
    known, new = SentRows(rows[:2], rows[2:5], False), SentRows(rows[:2], rows[2:5], True)
    assert known.missed == [] and new.missed == rows[:2]
    assert [known.wants(row) for row in rows[2:]] == [False, False, False, True]
    assert all(new.wants(row) for row in rows[2:])
    assert [known.wants_picture("confusion", step) for step in (0, 1, 2, 3)] == [False, False, False, True]
    assert new.wants_picture("confusion", 0) and SentRows((), (), False).wants_picture("confusion", 0)


def test_a_service_gets_the_pictures_of_final_scores_that_a_stop_has_prevented():
    """The last evaluation has the same step, and the service has its row."""
    known = SentRows([{"kind": "eval", "step": 9}], (), False)
    assert known.wants_picture("final/test_errors", 9) and not known.wants_picture("confusion", 9)


def test_ids_are_kept_and_damaged_ones_are_not_used(tmp_path):
    run = described(tmp_path)
    assert run.remembered("wandb") is None
    run.remember("wandb", "a1")
    run.remember("mlflow", "b2")
    assert (run.remembered("wandb"), run.remembered("mlflow")) == ("a1", "b2")
    for text in ("{", "[]", '{"wandb": 3}', '{"wandb": "../../x"}'):
        run.ids.write_text(text)
        assert run.remembered("wandb") is None


def test_a_missing_package_is_said_at_once(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for logger, name in ((MLflow(), "mlflow"), (WandB(mode="offline"), "wandb")):
        with pytest.raises(ConfigError, match=rf"logger={name}.*pip install -e '\.\[{name}\]'"):
            logger.check()


def test_a_logger_of_ones_own_names_its_package_alone():
    class Own(Logger):
        package = "no_such_package"

    with pytest.raises(ConfigError, match="install it with `pip install no_such_package`, or leave logger=no_such"):
        Own().check()


def test_an_account_is_needed_unless_offline(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    keys = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(keys))
    with pytest.raises(ConfigError, match=r"logger=wandb: no account.*wandb login.*logger.wandb.mode=offline"):
        WandB().check()
    WandB(mode="offline").check()
    keys.write_text("machine api.wandb.ai\n  login user\n  password abc\n")
    keys.chmod(0o600)
    WandB().check()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080")
    with pytest.raises(ConfigError, match="no account"):
        WandB().check()
    monkeypatch.setenv("WANDB_MODE", "offline")
    WandB().check()


def test_only_worker_0_has_loggers_and_an_entry_must_be_one():
    cfg = OmegaConf.create({"logger": {"csv": {"_target_": "detect.loggers.csv_file.Csv"}, "off": None}})
    assert len(loggers(cfg)._each) == 1
    assert not loggers(cfg, Worker(1, 2))._each and not loggers(OmegaConf.create({}))._each
    for node in (3, {"a": 1}, {"_target_": "detect.training.schedule.Schedule"}):
        with pytest.raises(ConfigError, match=r"logger\.mine"):
            loggers(OmegaConf.create({"logger": {"mine": node}}))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("loss/total", "loss/total"),
        ("val_AP/red, ripe", "val_AP/red_2c_ ripe"),
        ("val_AP/..", "val_AP/_2e__2e_"),
        ("val_AP/猫", "val_AP/猫"),
    ],
)
def test_names_that_mlflow_takes(name, key):
    assert _key(name) == key


def test_names_of_classes_are_one_part_of_a_path_each_and_stay_apart():
    """A store in a folder makes a file of each key: `animal` can't be a file and a folder."""
    names = ["animal", "animal/dog", "猫" * 90, "x" * 200, "x" * 199 + "y"]
    keys = [_key(f"detector/val_AP/{name}") for name in names]
    assert len(set(keys)) == len(keys) and all(key.count("/") == 2 for key in keys)
    assert all(len(part.encode()) <= 255 for key in keys for part in key.split("/"))
    assert all(len(key) <= 250 for key in keys)
