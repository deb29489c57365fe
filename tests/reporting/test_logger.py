"""metrics.jsonl, TensorBoard and the console, as a user finds them."""

import json
import math
import os
import pty
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detect.data.examples import Example
from detect.detector import Detector
from detect.errors import DataError
from detect.evaluation.coco import CocoEvaluator
from detect.files import strict_json, write_json
from detect.reporting.logger import RunLogger, read_metrics
from detect.reporting.meanings import MEANINGS, meaning
from detect.reporting.progress import ProgressLine, clock

FIGURES = {"loss/total": 2.345678, "images_per_second": 33.333, "data_wait_share": 0.123, "rate": 0.01}


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """Event accumulators of a small run that was killed at step 40 and resumed at 20."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path_factory.mktemp("run")
    with RunLogger(folder, 100, "detector", console=False) as logger:
        for step in (10, 20, 30, 40):
            logger.train(step, FIGURES | {"loss/total": step})
        logger.evaluation(40, {"val/AP": 0.5, "AR1": 0.25, "val/APs": None}, "table")
    with RunLogger(folder, 100, "detector", console=False) as logger:
        logger.resume_at(20)
        logger.train(30, {"loss/total": 300})
        logger.evaluation(30, {"val/AP": 0.6}, "table")
        logger.images("predictions", 30, [np.full((8, 12, 3), 200, np.uint8)] * 2)
        logger.images("confusion", 30, np.zeros((5, 7, 3), np.uint8))
        logger.text("config", "```\nseed: 1\n```")
        settings = {
            "schedule": {"rate": 0.1, "milestones": [1, 2]},
            "init": None,
            "classify": True,
            "seed": np.int64(3),
        }
        logger.hparams(settings, {"test/AP": 0.7, "test/APs": None})
        logger.pr_curves(30, scores())
        logger.histograms(30, Model())
    loaded = {}
    for kind in ("train", "eval"):
        loaded[kind] = EventAccumulator(str(folder / kind), {"tensors": 0, "images": 0})
        loaded[kind].Reload()
    return loaded


class Model:
    """Stands for a Keras model: something with named weights."""

    class Weight:
        name = "Conv2d_0/kernel:0"

        def numpy(self):
            return np.array([[0.0, 1.0], [2.0, np.nan]])

    weights = (Weight(),)


def scores():
    boxes = np.array([[0, 0, 40, 40], [50, 50, 90, 90]], np.float32)
    example = Example(Path("a.jpg"), 99, 99, boxes, np.array([1, 1]), np.zeros(2, bool), "a")
    evaluator = CocoEvaluator([example], ("cat", "dog"))
    evaluator.add("a", [[0, 0, 40, 40], [0, 60, 30, 99]], [0.75, 0.25], [1, 1])
    return evaluator.result()


def test_scalars_are_grouped_and_resuming_forgets_later_points(board):
    train = board["train"]
    assert [(p.step, p.value) for p in train.Scalars("loss/total")] == [(10, 10), (20, 20), (30, 300)]
    assert [p.step for p in train.Scalars("training/rate")] == [10, 20]
    assert [(p.step, round(p.value, 3)) for p in board["eval"].Scalars("val/AP")] == [(30, 0.6)]
    assert board["eval"].Scalars("scores/AR1") == []  # its only point was at step 40
    assert "val/APs" not in board["eval"].Tags()["scalars"]


def test_tensorboard_explains_the_figures(board):
    """As its page SCALARS reads them: through the metadata of the first point of a tag in a file."""
    assert board["train"].SummaryMetadata("loss/total").data_class == 1  # scalar: TensorBoard's fast server asks for it
    told = {tag: board["train"].SummaryMetadata(tag).summary_description for tag in ("loss/total", "training/rate")}
    assert told == {"loss/total": MEANINGS["loss/total"], "training/rate": "The learning rate."}
    assert board["eval"].SummaryMetadata("final/test/AP").summary_description == MEANINGS["*/AP"]
    assert meaning("val_AP/WBC") == MEANINGS["*_AP/*"]
    assert meaning("final/val_errors/missed") == MEANINGS["*_errors/missed"]
    assert meaning("mine/figure") == ""  # of a user's hook


def test_images_text_and_histograms_are_there(board):
    assert board["eval"].Tags()["images"] == ["predictions/0", "predictions/1", "confusion"]
    picture = board["eval"].Images("confusion")[0]
    assert (picture.height, picture.width, picture.step) == (5, 7, 30)
    assert b"seed: 1" in board["train"].Tensors("config")[0].tensor_proto.string_val[0]
    histogram = board["train"].Histograms("weights/Conv2d_0/kernel")[0].histogram_value
    assert (histogram.min, histogram.max, histogram.num, histogram.sum) == (0, 2, 3, 3)


def test_pr_curve_has_true_counts(board):
    from tensorboard.util.tensor_util import make_ndarray

    true, false, nothing, missed, precision, recall = make_ndarray(
        board["eval"].Tensors("precision_recall/cat/pr_curves")[0].tensor_proto
    )
    at = {level: round(100 * level) for level in (0.0, 0.25, 0.5, 0.75, 0.76)}
    assert [true[at[level]] for level in at] == [1, 1, 1, 1, 0]
    assert [false[at[level]] for level in at] == [1, 1, 0, 0, 0]
    assert [missed[at[level]] for level in at] == [1, 1, 1, 1, 2]
    assert [precision[at[level]] for level in at] == [0.5, 0.5, 1, 1, 1]
    assert [recall[at[level]] for level in at] == [0.5, 0.5, 0.5, 0.5, 0]
    assert not nothing.any()


def test_hparams_are_flat_scalars_with_final_figures(board):
    from tensorboard.plugins.hparams import plugin_data_pb2

    def content(tag):
        metadata = board["eval"].SummaryMetadata(tag)
        return plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)

    trial = content("_hparams_/session_start_info").session_start_info.group_name
    assert not trial.startswith("/") and trial.count("/") == 3  # STUDY/DATA/RUN/STAGE
    values = content("_hparams_/session_start_info").session_start_info.hparams
    assert sorted(values) == ["classify", "schedule.rate", "seed"]
    assert values["classify"].bool_value and values["seed"].number_value == 3
    assert content("_hparams_/session_end_info").session_end_info.status == 1  # success
    assert board["eval"].Scalars("final/test/AP")[0].value == pytest.approx(0.7)
    assert "final/test/APs" not in board["eval"].Tags()["scalars"]


def test_hparams_of_an_extended_run_replace_the_earlier_ones(tmp_path):
    """TensorBoard keeps the first settings that it reads of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    for steps in (10, 20):
        with RunLogger(tmp_path, steps, "detector", console=False) as logger:
            logger.evaluation(steps, {"val/AP": 0.5}, "")
            logger.hparams({"schedule.steps": steps}, {"test/AP": steps / 100})
    board = EventAccumulator(str(tmp_path / "eval"))
    board.Reload()
    content = board.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["schedule.steps"].number_value == 20
    assert [round(point.value, 3) for point in board.Scalars("final/test/AP")] == [0.2]
    assert [point.step for point in board.Scalars("val/AP")] == [10, 20]


def test_rows_are_strict_json_and_name_their_stage(tmp_path):
    with RunLogger(tmp_path, 10, "classify", console=False) as logger:
        logger.train(1, {"loss/total": float("nan"), "rate": np.float32(0.5), "memory_mb": float("inf")})
        logger.evaluation(2, {"val/AP": None}, "")
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    first, second = (json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in lines)
    assert first.pop("time") > 1.6e9 and second.pop("time")
    assert first == {
        "stage": "classify", "kind": "train", "step": 1, "loss/total": None, "rate": 0.5, "memory_mb": None
    }  # fmt: skip
    assert second == {"stage": "classify", "kind": "eval", "step": 2, "val/AP": None}


def test_resume_drops_later_rows_of_this_stage_only(tmp_path):
    for stage, steps in (("classify", (10, 50)), ("detector", (10, 20, 30))):
        with RunLogger(tmp_path, 50, stage, console=False) as logger:
            for step in steps:
                logger.train(step, {"loss/total": 1})
    with RunLogger(tmp_path, 50, "detector", console=False) as logger:
        logger.resume_at(20)
        logger.train(25, {"loss/total": 1})
    rows = [(row["stage"], row["step"]) for row in read_metrics(tmp_path / "metrics.jsonl")]
    assert rows == [("classify", 10), ("classify", 50), ("detector", 10), ("detector", 20), ("detector", 25)]


def test_kill_loses_no_row_and_half_a_row_does_no_harm(tmp_path):
    program = """
        import os, signal, sys
        from pathlib import Path
        from detect.reporting.logger import RunLogger
        logger = RunLogger(Path(sys.argv[1]), 10, "detector", console=False)
        logger._board = {"train": type("Deaf", (), {"scalars": lambda *a: None})()}
        for step in range(1, 4):
            logger.train(step, {"loss/total": step})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], check=False)
    assert run.returncode == -9
    path = tmp_path / "metrics.jsonl"
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]
    with path.open("a") as file:
        file.write('{"stage": "detec')
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]
    with RunLogger(tmp_path, 10, "detector", console=False) as logger:
        logger.train(4, {"loss/total": 4})
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3, 4]


def test_a_broken_row_in_the_middle_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2"):
        read_metrics(path)


def test_a_resumed_run_leaves_out_rows_that_are_damaged(tmp_path, caplog):
    """No weight depends on them."""
    path = tmp_path / "metrics.jsonl"
    row = '{{"stage": "line", "kind": "train", "step": {}}}\n'
    path.write_text(row.format(1) + 'nonsense\n{"x": 1}\n[]\n' + row.format(2) + row.format(9))
    with RunLogger(tmp_path, 9, "line", console=False) as logger:
        logger.resume_at(5)
    assert [found["step"] for found in read_metrics(path)] == [1, 2]
    assert "3 damaged rows are left out" in caplog.text


def test_strict_json_takes_what_numpy_and_python_offer(tmp_path):
    data = {"a": np.float32(0.5), "b": np.array([[1, 2]]), "c": float("-inf"), "d": Path("x"), 5: (1, {"e": np.nan})}
    expected = {"a": 0.5, "b": [[1, 2]], "c": None, "d": "x", "5": [1, {"e": None}]}
    assert json.loads(strict_json(data)) == expected
    write_json(tmp_path / "x.json", data)
    assert json.loads((tmp_path / "x.json").read_text()) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_piped_output_is_few_plain_lines(tmp_path, capsys):
    with RunLogger(tmp_path, 1000, "detector", every=3600) as logger:
        for step in range(10, 60, 10):
            logger.train(step, FIGURES)
        logger.evaluation(50, {"AP": 0.5}, "  AP\n0.500")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "detector  10/1000  loss 2.346  33.3 images/s  data wait 12%  ETA -:--:--"
    assert lines[1:5] == ["", "detector, step 50: AP", "0.500", ""]
    assert lines[5].startswith("detector  50/1000") and len(lines) == 6
    assert not any("\x1b" in line or "\r" in line for line in lines)


def test_console_can_be_silent(tmp_path, capsys):
    with RunLogger(tmp_path, 10, "detector", console=False) as logger:
        logger.train(1, FIGURES)
        logger.evaluation(1, {}, "table")
    assert capsys.readouterr().out == ""


def test_line_never_exceeds_80_columns_and_tells_the_time_left():
    line = ProgressLine("a stage whose name is far too long for one line of a terminal", 10_000_000, 30)
    line._figures = {"loss/total": 123456.789, "images_per_second": 12345.6, "data_wait_share": 1.0}
    line._first = (0, 100.0)
    text = line.render(5_000_000, 100.0 + 4 * 3600 + 65)
    assert len(text) <= 80
    assert (
        text.startswith("a stage whos")
        and "  5000000/10000000  loss 1.235e+05" in text
        and text.endswith("ETA 4:01:05")
    )
    assert clock(59.6) == "0:01:00" and clock(35999) == "9:59:59" and clock(100 * 3600) == "4 days"


def test_the_time_left_does_not_count_an_evaluation_before_the_first_step(monkeypatch, capsys):
    """A run that resumes at an evaluation begins with it."""
    now = iter([100.0, 700.0, 702.0])  # the first figures, the end of the evaluation, and two steps later
    monkeypatch.setattr("detect.reporting.progress.time", SimpleNamespace(monotonic=lambda: next(now)))
    line = ProgressLine("detector", 100, math.inf)
    line.update(50, {})
    line.say("the table")
    line.update(52, {})
    assert line._line.endswith("ETA 0:00:48")


@pytest.mark.parametrize("terminal", ["dumb", "unknown"])
def test_a_terminal_that_redraws_nothing_gets_lines(monkeypatch, capsys, terminal):
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    ProgressLine("detector", 10, 0).update(5, {})
    assert capsys.readouterr().out.startswith("detector  5/10")


def test_on_a_terminal_the_line_is_redrawn_and_the_table_stands_above_it(tmp_path):
    program = """
        import logging, sys
        from pathlib import Path
        from detect.reporting.logger import RunLogger
        from detect.runs.log import Console
        deaf = type("Deaf", (), {"scalars": lambda *a: None, "flush": lambda *a: None, "close": lambda *a: None})
        log = logging.getLogger("detect")
        log.addHandler(Console())
        with RunLogger(Path(sys.argv[1]), 100, "detector") as logger:
            logger._board = {"train": deaf(), "eval": deaf()}
            logger.train(10, {"loss/total": 3})
            log.warning("a line of the log")
            logger.evaluation(10, {"AP": 0.5}, "the table")
            logger.train(20, {"loss/total": 2})
    """
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    process = subprocess.Popen(command, stdout=theirs, env=environment)
    os.close(theirs)
    output = b""
    try:
        while part := os.read(ours, 4096):
            output += part
    except OSError:  # the other end is closed: Linux reports it so
        pass
    assert process.wait() == 0
    screen = render_terminal(output.decode())
    assert screen[:4] == ["a line of the log", "", "detector, step 10: the table", ""]
    assert len(screen) == 5 and screen[4].startswith("detector  20/100  loss 2  ETA 0:00:0")
    assert output.count(b"\x1b[?25l") == output.count(b"\x1b[?25h") == 1  # the cursor came back


def render_terminal(text):
    """What stands on the screen: just the sequences that a live line uses (return, erase line, cursor up)."""
    lines, row, column, place = [""], 0, 0, 0
    while place < len(text):
        if text[place] == "\x1b":
            end = next(i for i in range(place + 2, len(text)) if text[i].isalpha())
            code, kind = text[place + 2 : end], text[end]
            if kind == "K":
                lines[row] = ""
            elif kind == "A":
                row -= int(code or 1)
            place = end + 1
            continue
        if text[place] == "\r":
            column = 0
        elif text[place] == "\n":
            row, column = row + 1, 0
            if row == len(lines):
                lines.append("")
        else:
            lines[row] = lines[row][:column].ljust(column) + text[place] + lines[row][column + 1 :]
            column += 1
        place += 1
    while lines and not lines[-1].strip():
        lines.pop()
    return [line.rstrip() for line in lines]


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError])
def test_a_broken_off_evaluation_gives_the_terminal_its_cursor_back(monkeypatch, error):
    closed = []
    monkeypatch.setattr(ProgressLine, "close", lambda _: closed.append(True))
    detector = Detector(lambda _: (_ for _ in ()).throw(error), ("cat",), (8, 8), "x")
    split = [SimpleNamespace(id="a", path=np.zeros((8, 8, 3), np.uint8))]
    dataset = SimpleNamespace(with_classes=lambda _: SimpleNamespace(images=lambda _: split))
    monkeypatch.setattr("detect.detector.CocoEvaluator", lambda *_: None)
    with pytest.raises(error):
        detector.evaluate(dataset, "test")
    assert closed
