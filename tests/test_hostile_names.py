"""Names and paths with control characters, markup and formulas go through every writer; none leaves one of them raw."""

import csv
import json
import logging
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from detect.advice import rules
from detect.cli import main as cli
from detect.data.dataset import ClassificationDataset, DetectionDataset
from detect.data.examples import Example
from detect.data.statistics import coverage, statistics
from detect.errors import DataError, WeightsError, printable, printable_lines
from detect.evaluation.classification import score_classification
from detect.evaluation.coco import CocoEvaluator
from detect.evaluation.suspected_labels import Suspect
from detect.export import writer
from detect.files import csv_cell, csv_text, write_csv
from detect.quantization import sensitivity_report
from detect.reporting import fonts, pictures, suspects
from detect.reporting.figures import short
from detect.reporting.progress import ProgressLine
from detect.studies import csv_file
from detect.studies.blocks import Figure, Listing, Table, markdown
from detect.studies.html import page
from detect.weights.ledger import Ledger
from detect.weights.names import our_arrays

NAMES = (
    "a\nb",
    "red\x1b[31mtext",
    "bell\x07\x00",
    "a\r\tb",
    "turned\u202eround",
    "line\u2028end",
    "half\udc80",
    "<script>alert(1)</script>",
    "a|b",
    "`code` *bold*",
    "back\\slash|",
    '=HYPERLINK("x")',
    "+1+1",
    "@SUM(A1)",
    "-2+3",
    "\t=1",
    "%s %d {x} ${y}",
    "[red]x[/red]",
    "../up",
    "猫 🐈",
)
LEGAL = "\n"


def harmful(text: str) -> list[str]:
    """The characters of a text that a console or a table must not have."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs") and c not in LEGAL]


def dataset():
    boxes = [[k, 2 * k, k + 9, 2 * k + 12] for k in range(len(NAMES))]
    example = Example(Path("x\x1b.png"), 90, 80, boxes, range(1, len(NAMES) + 1), [False] * len(NAMES), "x\x1b")
    return DetectionDataset("set\x1b\n", NAMES, {"train": (example,), "val": (), "test": ()}, ("a note\x1b",))


def test_tables_of_the_console():
    data = dataset()
    example = data.splits["train"][0]
    evaluator = CocoEvaluator([example], NAMES)
    evaluator.add("x\x1b", example.boxes, np.ones(len(NAMES)), example.classes)
    crops = ClassificationDataset("crops", NAMES, {})
    wrong = (np.arange(len(NAMES)) + 1) % len(NAMES)
    tables = [
        *data.describe()[1:],
        *crops.describe()[1:],
        *statistics(data).lines(),
        *coverage(example.boxes, example.classes, NAMES, np.array([[0, 0, 9, 12.0]])).lines(),
        *score_classification(np.arange(len(NAMES)), wrong, NAMES).table().split("\n"),
        *evaluator.result().table().split("\n"),
    ]
    assert not any(harmful(line) or "\n" in line for line in tables)
    assert any("red\\x1b[31mtext" in line for line in tables) and any("a\\nb" in line for line in tables)


def test_log_and_progress_line(capsys):
    log, seen = logging.getLogger("detect"), []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(handler.format(record))
    cli.prepare_environment()
    log.addHandler(handler)
    level = log.level
    log.setLevel("INFO")
    try:
        for name in NAMES:
            log.info("%s: %s", Path("d", name), name)
            log.warning(name)
        log.info("two\nlines, %d%%", 5)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    ProgressLine("stage", 1, 0.0).say("\n".join(NAMES))
    assert not any(map(harmful, seen)) and seen[-1] == "two\nlines, 5%" and seen[0].startswith("d/a\\nb: ")
    assert not harmful(capsys.readouterr().out)


def test_messages_of_errors(capsys):
    for name in NAMES:
        cli.tell("train", DataError(f"class {name}: no such class"))
    assert not harmful(capsys.readouterr().err)


@pytest.mark.parametrize("name", NAMES)
def test_cells_of_csv_come_back_and_are_no_formulas(tmp_path, name):
    cell = csv_cell(name)
    assert not harmful(cell) and "\n" not in cell and not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert csv_text(cell) == printable(name)
    write_csv(tmp_path / "a.csv", [name], [[name]])
    assert list(csv.reader((tmp_path / "a.csv").open(encoding="utf-8", newline=""))) == [[cell], [cell]]


def test_numbers_of_csv_stay_numbers():
    assert [csv_cell(value) for value in (-1, -0.5, "-0.5", "+3e-4", "-", "1_0", None, "n/a", "=1")] == [
        -1, -0.5, "-0.5", "+3e-4", "'-", "1_0", None, "n/a", "'=1",
    ]  # fmt: skip


def test_csv_of_studies_and_of_layers(tmp_path):
    csv_file.write_csv(tmp_path / "s.csv", [{"arm": name, f"{name} AP": 0.5} for name in NAMES])
    text = (tmp_path / "s.csv").read_text(encoding="utf-8")
    assert not harmful(text) and len(text.splitlines()) == len(NAMES) + 1
    rows = csv_file.read_csv(tmp_path / "s.csv")
    assert [row["arm"] for row in rows] == [printable(name) for name in NAMES]
    assert rows[1][f"{printable(NAMES[1])} AP"] == "0.5"
    columns = [f for f in sensitivity_report.LayerDamage.__dataclass_fields__ if f != "channel_ranges"]
    layers = [SimpleNamespace(**dict.fromkeys(columns, 1.0) | {"name": name}) for name in NAMES]
    sensitivity_report.write_csv(tmp_path / "l.csv", layers)
    assert not harmful((tmp_path / "l.csv").read_text(encoding="utf-8"))


def test_suspected_labels_and_labels_beside_an_export(tmp_path):
    example = dataset().splits["train"][0]
    example = replace(example, path=tmp_path / "one\x1b\n" / "=x.png")
    other = replace(example, path=tmp_path / "two" / "y.png", id="y")
    data = DetectionDataset("set", NAMES, {"test": (example, other)})
    found = [Suspect(0, example.boxes[k], "another class", k + 1, k, 0.5, 1) for k in range(len(NAMES))]
    suspects.write(tmp_path, data, "test", found)
    text = (tmp_path / suspects.CSV).read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert not harmful(text) and [csv_text(row["label"]) for row in rows] == [printable(name) for name in NAMES]
    assert rows[0]["file"] == "one\\x1b\\n/=x.png" and not any(row["found"].startswith(("=", "+", "@")) for row in rows)
    content = json.loads((tmp_path / suspects.JSON).read_text())
    assert [row["name"] for row in content["categories"]] == list(NAMES)  # json has its own escapes
    writer.write_beside(OmegaConf.create({"run": str(tmp_path)}), tmp_path, NAMES, {})
    labels = (tmp_path / "labels.txt").read_text(encoding="utf-8")
    assert not harmful(labels) and labels.split("\n") == [*map(printable, NAMES), ""]


def blocks():
    cells = tuple((name, "0.5") for name in NAMES)
    return [Table(("arm", "AP"), cells), Listing("**Where**", NAMES, code=False), Listing("**How**", NAMES)]


def test_markdown():
    text = markdown(blocks())
    lines = text.splitlines()
    table = lines[2 : 2 + len(NAMES)]
    assert not harmful(text) and all(line.endswith(" | 0.5 |") for line in table)
    assert table[7] == "| \\<script>alert(1)\\</script> | 0.5 |" and table[8] == "| a\\|b | 0.5 |"
    assert table[9] == "| \\`code\\` \\*bold\\* | 0.5 |" and table[10] == "| back\\\\slash\\| | 0.5 |"
    assert "- \\<script>alert(1)\\</script>" in lines and "    <script>alert(1)</script>" in lines


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.data = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.data.append(data)


def test_html():
    text = page("<script>\x1b", [*blocks(), *(Figure(name, b"x") for name in NAMES)])
    found = Tags(text)
    assert not harmful(text) and "script" not in found.tags
    assert {printable(name) for name in NAMES} <= set(found.data)


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from detect.reporting.logger import RunLogger

    example = dataset().splits["train"][0]
    evaluator = CocoEvaluator([example], NAMES)
    with RunLogger(tmp_path, 1, "detector", console=False) as logger:
        logger.evaluation(1, {f"val_AP/{name}": 0.5 for name in NAMES}, "table")
        logger.pr_curves(1, evaluator.result())
        logger.images("pictures\x1b", 1, np.zeros((4, 4, 3), np.uint8))
        logger.hparams({"name": "a\x1b"}, {"test/AP\x1b": 0.1})
        logger.text("config\x1b", "\x1b[31m")
    for kind in ("train", "eval"):
        board = EventAccumulator(str(tmp_path / kind))
        board.Reload()
        tags = [tag for listed in board.Tags().values() if isinstance(listed, list) for tag in listed]
        assert tags and not any(harmful(tag) or "\n" in tag for tag in tags)
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["val_AP/a\nb"] == 0.5  # json has its own escapes


def test_comments_of_an_experiment_file():
    text = rules.experiment_text(
        ["Proposed for a\nmodel: evil", *NAMES], {"backbone": "x"}, {"schedule": {"rate": 0.1}}
    )
    assert not harmful(text) and set(yaml.safe_load(text)) == {"defaults", "schedule"}


def test_figures_draw_them(monkeypatch):
    figures, render = [], pictures.render
    monkeypatch.setattr(pictures, "render", lambda figure: figures.append(figure) or render(figure))
    pictures.confusion_figure(np.eye(len(NAMES) + 1, dtype=int), ("background", *NAMES))
    drawn = [label.get_text() for label in figures[0].axes[0].get_yticklabels()]
    assert drawn == ["background", *map(short, NAMES)] and not any(harmful(text) or "\n" in text for text in drawn)


def test_pictures_draw_them(monkeypatch):
    drawn, paint = [], pictures.paint_label
    monkeypatch.setattr(pictures, "paint_label", lambda image, *rest: drawn.append(rest[0]) or paint(image, *rest))
    empty, (example,) = np.zeros((400, 600, 3), np.uint8), dataset().splits["train"]
    for name, box in zip(NAMES, example.boxes, strict=True):
        boxes, kinds = box[np.newaxis], np.array([1])
        assert (pictures.draw_boxes(empty, boxes, kinds, names=[name]) != empty).any()
        shown = "".join(piece for piece, _ in fonts.pieces(drawn[-1]))
        assert drawn[-1] == name and shown and not harmful(shown) and "\n" not in shown


def test_text_of_several_lines_keeps_them():
    assert printable_lines("a\x1b\nb\r\n") == "a\\x1b\nb\\r\n"


@pytest.mark.parametrize("name", NAMES)
def test_names_of_arrays(name, tmp_path):
    """From a file of weights to the message, the lines of the console and the ledger's json."""
    arrays = {f"{name}/weights": np.ones(3, np.float32)}
    if printable(name) != name:
        with pytest.raises(WeightsError, match="legal are names of variables") as caught:
            our_arrays(arrays, "MobilenetV1")
        assert not harmful(str(caught.value)) and "\n" not in str(caught.value)
    else:
        assert list(our_arrays(arrays, "MobilenetV1")) == [f"{name}/kernel"]
    ledger = Ledger(name, unexpected={f"{name}/kernel": (3,)})
    assert not any(harmful(line) or "\n" in line for line in ledger.lines())
    ledger.save(tmp_path / "transfer.json")
    assert list(json.loads((tmp_path / "transfer.json").read_text())["unexpected"]) == [f"{name}/kernel"]


@pytest.mark.parametrize("kind", ["h5", "checkpoint", "graph"])
def test_names_of_arrays_in_files(kind, tmp_path):
    import h5py
    import tensorflow as tf

    from detect.weights import checkpoint, frozen_graph, keras_file

    evil = "red\x1b[31m\n"
    value = np.ones((1, 1, 3, 2), np.float32)
    if kind == "h5":
        with h5py.File(tmp_path / "x.h5", "w") as h5:
            h5.attrs["layer_names"] = [evil]
            h5.create_group(evil).attrs["weight_names"] = [f"{evil}/kernel:0"]
            h5[evil][f"{evil}/kernel:0"] = value

    def read():
        if kind == "h5":
            return keras_file.read(tmp_path / "x.h5", SimpleNamespace(keras_layers=dict))
        if kind == "checkpoint":
            checkpoint.write(tmp_path / "net.ckpt", {f"{evil}/weights": value})
            return our_arrays(checkpoint.read(tmp_path / "net.ckpt"), "MobilenetV1")
        graph = tf.compat.v1.GraphDef()
        node = graph.node.add(name=f"{evil}/weights", op="Const")
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        (tmp_path / "x.pb").write_bytes(graph.SerializeToString())
        return our_arrays(frozen_graph.read(tmp_path / "x.pb"), "MobilenetV1")

    with pytest.raises(WeightsError, match=r"red\\x1b\[31m\\n"):
        read()


def test_names_of_classes_of_a_strange_model(tmp_path, caplog):
    """What `predict` does with the classes of a model: pictures, json and console, and no file is named by them."""
    from detect.cli.predict import Job, write
    from detect.detector import Detector
    from detect.evaluation.coco_json import categories_of

    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((40, 60, 3), np.uint8))
    count = len(NAMES)

    def find(images):
        boxes = np.tile(np.array([[1, 1, 30, 30]], np.float32), (count, 1))
        return [(boxes, np.full(count, 0.9, np.float32), np.arange(1, count + 1, dtype=np.int32)) for _ in images]

    detector = Detector(find, NAMES, (32, 32), "evil\x1b")
    out = tmp_path / "out"
    out.mkdir()
    categories = categories_of(detector.classes, detector.category_ids)
    with caplog.at_level("INFO", "detect"):
        write(detector, Job((tmp_path / "x.png",), ("x.png",), (1,), (out / "x.png",), categories, out), 0.5)
    assert not any(map(harmful, caplog.messages))
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["detections.json", "x.png", "x.png"]
    rows = json.loads((out / "detections.json").read_text())
    assert len(rows) == count and {row["category_id"] for row in rows} == set(range(1, count + 1))
