"""metrics.csv as pandas reads it: columns when they are first seen, and after a resumed run."""

import pandas
import pytest

from detect.loggers.csv_file import Csv
from detect.loggers.interface import Loggers
from detect.reporting.logger import RunLogger


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "detector"


def logged(folder, resume_at, write):
    with RunLogger(folder, 9, "detector", console=False, services=Loggers({"csv": Csv()})) as logger:
        logger.resume_at(resume_at)
        write(logger)
    return pandas.read_csv(folder / "metrics.csv")


def test_columns_appear_when_they_are_first_seen(folder):
    def write(logger):
        logger.train(1, {"loss/total": 2.5})
        logger.train(2, {"loss/total": 1.5})
        logger.evaluation(2, {"val/AP": 0.25, "val/APs": None, 'val_AP/a,"b"': 0.5}, "")
        logger.train(3, {"loss/total": -1.25})

    table = logged(folder, 0, write)
    assert list(table.columns) == ["kind", "step", "time", "loss/total", "val/AP", "val/APs", 'val_AP/a,"b"']
    assert table["kind"].tolist() == ["train", "train", "eval", "train"] and table["step"].tolist() == [1, 2, 2, 3]
    assert table["loss/total"].dropna().tolist() == [2.5, 1.5, -1.25]
    assert table["val/AP"].dropna().tolist() == [0.25] and table["val/APs"].isna().all()


def test_a_resumed_stage_writes_its_undone_rows_once(folder):
    logged(folder, 0, lambda logger: [logger.train(step, {"loss/total": step / 4}) for step in (1, 2, 3)])
    with (folder / "metrics.csv").open("a") as file:
        file.write("train,4,17")  # a process that was killed while it wrote

    def again(logger):
        logger.train(3, {"loss/total": 0.75, "rate": 0.5})

    table = logged(folder, 2, again)
    assert table["step"].tolist() == [1, 2, 3] and table["loss/total"].tolist() == [0.25, 0.5, 0.75]
    assert table["rate"].isna().tolist() == [True, True, False]


def test_a_class_that_a_spreadsheet_would_take_for_a_formula(folder):
    logged(folder, 0, lambda logger: logger.evaluation(1, {"=1+1": 0.5}, ""))
    assert "'=1+1" in (folder / "metrics.csv").read_text().splitlines()[0]
