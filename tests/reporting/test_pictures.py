"""Pictures: labels stay inside, the input is left alone, sheets and figures have the size and content they claim."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detect.evaluation.coco import Scores
from detect.reporting import figures, pictures, text
from detect.reporting.figures import series_of, smooth
from detect.reporting.text import PALETTE, color_of, fit_text, label_place, paint_label, text_size
from detect.studies.curves import Band
from detect.studies.statistics import Estimate
from tests.full_disk import largest_file

NAMES = ("cat", "dog")


def blank(height=120, width=160):
    return np.full((height, width, 3), 90, np.uint8)


def test_boxes_are_painted_in_the_colour_of_their_class_on_a_copy():
    image = blank()
    drawn = pictures.draw_boxes(image, np.array([[60.0, 20, 110, 150]]), np.array([2]), names=NAMES)
    assert (image == 90).all() and drawn.dtype == np.uint8 and drawn.shape == image.shape
    assert tuple(drawn[110, 85]) == color_of(2) == PALETTE[1]  # bottom edge, y = 110
    assert tuple(drawn[85, 20]) == color_of(2)  # left edge, x = 20
    assert (drawn[85, 85] == 90).all()


def test_padding_is_skipped_and_unknown_names_become_numbers():
    boxes = np.array([[10, 10, 50, 50], [-1, -1, -1, -1]])
    assert (pictures.draw_boxes(blank(), boxes, np.array([-1, -1]), names=NAMES) == 90).all()
    numbered = pictures.draw_boxes(blank(), boxes[:1], np.array([7]))
    named = pictures.draw_boxes(blank(), boxes[:1], np.array([7]), names=("",) * 6 + ("7",))
    np.testing.assert_array_equal(numbered, named)


def test_boxes_far_outside_and_read_only_images_do_no_harm():
    image = blank()
    image.setflags(write=False)
    boxes = np.array([[-500.0, -500, 900, 900], [-90, -90, -50, -50], [60, 60, 60, 60]])
    drawn = pictures.draw_boxes(image, boxes, np.array([1, 2, 1]), np.array([0.9, 0.2, 1.0]), NAMES)
    assert drawn.shape == image.shape


def test_a_box_of_any_size_is_drawn():
    largest = np.finfo(np.float32).max
    box = np.array([[2, 2, largest, largest]], np.float32)
    drawn = pictures.draw_boxes(blank(), box, np.array([1]), np.array([0.9]), NAMES)
    assert tuple(drawn[50, 2]) == pictures.color_of(1) and tuple(drawn[50, -1]) == (90, 90, 90)


def test_no_boxes_at_all():
    assert (pictures.draw_boxes(blank(), np.zeros((0, 4)), np.zeros(0, int), np.zeros(0), NAMES) == 90).all()


@given(st.tuples(*[st.floats(-300, 500)] * 4), st.integers(4, 30), st.integers(4, 200))
def test_a_label_that_fits_stays_inside_the_picture(box, height, width):
    top, left = label_place((120, 200), (height, width), np.array(box), [])
    assert 0 <= top <= 120 - height and 0 <= left <= 200 - width


def test_a_label_moves_away_from_one_that_is_there():
    box, taken = np.array([50.0, 50, 100, 150]), []
    first = label_place((200, 200), (12, 40), box, taken)
    second = label_place((200, 200), (12, 40), box, taken)
    assert first == (38, 50) and second != first and len(taken) == 2


def test_text_is_legible_on_every_colour_and_cut_where_it_is_too_long():
    for kind in range(1, 40):
        picture = blank(40, 120)
        paint_label(picture, "Größe 0.5", 4, 4, 14, color_of(kind), opacity=1)
        patch = picture[4:18, 4:60].reshape(-1, 3).astype(float) @ (0.299, 0.587, 0.114)
        assert patch.max() - patch.min() > 90
    short = fit_text("a name without an end " * 9, 12, 100)
    assert short.endswith("..") and text_size(short, 12)[1] <= 100
    assert fit_text("cat", 12, 100) == "cat"


def test_colours_of_many_classes_differ_and_background_is_grey():
    assert len({color_of(kind) for kind in range(1, 81)}) == 80
    assert color_of(0) == color_of(-1) == (150, 150, 150)


def test_a_very_narrow_image_has_panels_of_bounded_height():
    """A strip of 32x8000 pixels would be 120,000 pixels high."""
    image, nothing = np.zeros((8000, 32, 3), np.uint8), np.zeros((0, 4))
    row = pictures.side_by_side(image, (nothing, np.zeros(0, int)), (nothing, np.zeros(0), np.zeros(0, int)), NAMES)
    assert row.shape[1] == 2 * 480 + 6 and 1440 < row.shape[0] < 1480


def test_side_by_side_scales_boxes_with_the_image():
    image = blank(100, 200)
    truth = (np.array([[20.0, 40, 80, 160]]), np.array([1]))
    predictions = (np.array([[20.0, 40, 80, 160]]), np.array([2]), np.array([0.9]))
    row = pictures.side_by_side(image, truth, predictions, NAMES, width=400)
    assert row.shape[1] == 2 * 400 + 6
    top = row.shape[0] - 200  # what is above is the heading
    assert 10 < top < 40
    assert tuple(row[top + 160, 200]) == color_of(1)  # bottom edge at y = 80 of 100, twice as large
    assert tuple(row[top + 160, 406 + 200]) == color_of(2)


def test_contact_sheet_keeps_shapes_and_order():
    red, blue = np.full((100, 200, 3), (255, 0, 0), np.uint8), np.full((200, 200, 3), (0, 0, 255), np.uint8)
    sheet = pictures.contact_sheet([red, blue, red], columns=2)
    assert sheet.shape == (8 + 2 * 208, 8 + 2 * 208, 3)
    assert tuple(sheet[108, 108]) == (255, 0, 0) and tuple(sheet[108, 316]) == (0, 0, 255)
    assert tuple(sheet[20, 108]) == pictures.PAPER  # a flat picture is centred in its cell
    assert tuple(sheet[316, 316]) == pictures.PAPER  # the last cell is empty
    wide = pictures.contact_sheet([np.zeros((30, 4000, 3), np.uint8)] * 8, columns=4, width=1000)
    assert wide.shape[1] <= 1000
    with pytest.raises(ValueError, match="at least one picture"):
        pictures.contact_sheet([])


def test_captions_stand_under_their_pictures():
    images = [np.full((100, 200, 3), (255, 0, 0), np.uint8)] * 3
    plain = pictures.contact_sheet(images, columns=2)
    sheet = pictures.contact_sheet(images, columns=2, captions=["a.jpg", "a name that is far too long " * 9, ""])
    line = (sheet.shape[0] - plain.shape[0]) // 2
    assert 12 < line < 30 and sheet.shape[1] == plain.shape[1]
    first, second, third = sheet[108 : 108 + line, 8:208], sheet[108 : 108 + line, 216:], sheet[-8 - line : -8, 8:208]
    assert first.min() < 100 and second.min() < 100 and (third == pictures.PAPER).all()
    assert tuple(sheet[108 - 1, 108]) == (255, 0, 0) and tuple(sheet[-8 - line - 1, 108]) == (255, 0, 0)
    with pytest.raises(ValueError):
        pictures.contact_sheet(images, captions=["one"])


def test_first_batch_has_the_captions_of_its_examples(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from detect.reporting import scores
    from detect.training.evaluations import FirstBatch

    seen = []
    monkeypatch.setattr(
        scores.draw, "contact_sheet", lambda images, columns, captions: seen.append(captions) or images[0]
    )
    image = np.zeros((3, 8, 8, 3), np.uint8)
    batch = {"image": image, "label": np.array([1, 0, -1]), "index": np.array([5, 2, -1])}
    fit = SimpleNamespace(
        trainer=SimpleNamespace(stream=SimpleNamespace(batch=lambda step: batch)),
        logger=SimpleNamespace(images=lambda *_: None),
        folder=SimpleNamespace(first_batch=tmp_path / "first_batch.png"),
    )
    FirstBatch(lambda index: f"class of {index}").begin(fit)
    assert seen == [["class of 5", "class of 2", ""]] and (tmp_path / "first_batch.png").exists()


def test_saved_pictures_come_back_in_rgb(tmp_path):
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 0] = 200
    pictures.save(tmp_path / "new" / "x.png", image)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "new" / "x.png"))[..., ::-1], image)


@pytest.mark.parametrize("side", [20, 200])  # the first one is written when the file is closed
def test_of_a_picture_that_cannot_be_finished_nothing_stays(tmp_path, side):
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    with pytest.raises(OSError, match="File too large"), largest_file(1000):
        pictures.save(tmp_path / "x.png", noise)
    assert not (tmp_path / "x.png").exists()
    pictures.save(tmp_path / "x.png", noise)
    whole = (tmp_path / "x.png").read_bytes()
    with pytest.raises(OSError, match="File too large"), largest_file(1000):
        pictures.save(tmp_path / "x.png", noise)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [whole], "the earlier picture stays"


def scores(classes, boxes):
    figures = {"AP": 0.5, "AP50": 0.7, "AP75": 0.4, "AR100": 0.6}
    per_class = {
        name: (figures if count else dict.fromkeys(figures)) | {"boxes": count}
        for name, count in zip(classes, boxes, strict=True)
    }
    precision = np.linspace(1, 0, 101)[None, :, None] * np.ones((10, 1, len(classes)))
    precision[:, :, np.array(boxes) == 0] = -1
    return Scores(tuple(classes), {"AP": 0.5}, per_class, precision, 3, 30)


def is_picture(image):
    return image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and len(np.unique(image)) > 20


def test_pr_figure_with_few_many_and_no_classes_to_score():
    assert is_picture(pictures.pr_figure(scores(("cat", "dog"), (3, 0))))
    assert is_picture(pictures.pr_figure(scores([f"c{n}" for n in range(30)], range(30))))
    assert is_picture(pictures.pr_figure(scores(("cat",), (0,))))


@pytest.mark.parametrize("count", [1, 4, 31])
def test_confusion_figure_of_any_size(count):
    matrix = np.diag(np.arange(count))
    assert is_picture(pictures.confusion_figure(matrix + 0, ["background", *(f"class {n}" for n in range(1, count))]))


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows(stage="detector"):
    for step in range(1, 60):
        yield {"stage": stage, "kind": "train", "step": step, "time": 0, "loss/total": 9 / step, "rate": 0.1}
    for step in (20, 40):
        yield {"stage": stage, "kind": "eval", "step": step, "time": 0, "val/AP": step / 50, "val/APs": None,
               "val_AP/cat": 0.5}  # fmt: skip


def test_results_figure_is_drawn_and_saved(tmp_path):
    path = write_rows(tmp_path / "metrics.jsonl", rows())
    picture = pictures.results_figure(path, tmp_path / "results.png")
    assert is_picture(picture)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "results.png"))[..., ::-1], picture)


def test_results_figure_of_a_run_that_recorded_next_to_nothing(tmp_path):
    row = {"stage": "s", "kind": "train", "step": 1, "time": 0, "loss/total": None, "rate": 0.0}
    assert pictures.results_figure(write_rows(tmp_path / "m.jsonl", [row])).ndim == 3
    assert pictures.results_figure(write_rows(tmp_path / "m.jsonl", [])).ndim == 3


def test_study_figure_draws_every_run(tmp_path):
    paths = {f"arm {n % 2} ({n})": write_rows(tmp_path / f"{n}.jsonl", rows()) for n in range(4)}
    assert is_picture(pictures.study_figure(paths))


def test_series_leave_out_nulls_and_smoothing_keeps_the_middle():
    series = series_of([{"step": 1, "kind": "train", "a": 1.0, "b": None}, {"step": 2, "kind": "train", "a": 3.0}])
    assert list(series) == ["a"] and series["a"][1].tolist() == [1, 3]
    steps, values = smooth(np.arange(100.0), np.arange(100.0))
    assert len(steps) == len(values) == 97
    np.testing.assert_allclose(values, steps + 0.5)


def test_no_global_matplotlib_state_and_no_tensorflow():
    import subprocess
    import sys

    modules = "detect.reporting.pictures, detect.reporting.logger"
    code = f"import sys, {modules}; print({{'tensorflow', 'matplotlib.pyplot'}} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.parametrize(("high", "top"), [(0.3, 0.33), (3.0, 0.44), (np.nan, 0.22)])
def test_the_scale_of_a_study_shows_the_intervals(monkeypatch, high, top):
    """An interval wider than twice the highest mean, as two seeds may have it, does not make the curves flat."""
    steps = np.array([50, 100])
    drawn = []
    monkeypatch.setattr(figures, "render", drawn.append)
    band = Band(steps, steps / 2, np.array([0.1, 0.2]), np.array([0.0, 0.1]), np.array([0.1, high]), 3)
    figures.bands_figure({"cells, all images": {"crops": band}}, {})
    assert [axis.get_ylim() for axis in drawn[0].axes] == [(0, pytest.approx(top))] * 2


def test_a_loss_that_explodes_does_not_flatten_the_others(monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "render", drawn.append)
    steps = np.array([10, 20])
    band = Band(steps, steps / 2, *[np.array([0.1, 0.2])] * 3, 3)
    losses = {"a": 1.0, "b": 3.0, "c": 900.0, "d": 2.0}
    figures.bands_figure(
        {title: {"crops": band} for title in losses},
        {title: {"loss": {"crops": (steps, np.full(2, loss))}} for title, loss in losses.items()},
    )
    tops = [axis.get_ylim()[1] for axis in drawn[0].axes if axis.get_title("left") == "loss"]
    assert tops == pytest.approx([3.3, 3.3, 990, 3.3])


def test_the_budgets_of_an_arm_are_one_line_and_equal_costs_stand_side_by_side(monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "render", drawn.append)
    arms = {
        "A": [(1e12, Estimate(0.2, None, 1)), (3e12, Estimate(0.4, 0.1, 3))],
        "B": [(3e12, Estimate(0.5, 0.2, 2))],
    }
    figures.compute_figure({"cells": arms, "boards": {"A": arms["A"]}}, "test")
    first, second = drawn[0].axes
    lines = [line.lines[0].get_xydata() for line in first.containers]
    np.testing.assert_allclose(lines[0], [[1 - 0.012, 0.2], [3 - 0.012, 0.4]])
    np.testing.assert_allclose(lines[1], [[3 + 0.012, 0.5]])
    assert first.get_xlim() == (0, pytest.approx(3.24)) and first.get_ylim() == (0, pytest.approx(0.625))
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["A, n = 1, 3", "B, n = 2"]
    assert second.get_ylabel() == "AP on test" and len(second.containers) == 1


def test_of_a_large_batch_the_first_images_are_shown(tmp_path):
    """A sheet of 1500 images is longer than a JPEG can be, and ended the training at its first step."""
    from types import SimpleNamespace

    from detect.reporting import scores

    shown = []
    logger = SimpleNamespace(images=lambda tag, step, sheet: shown.append(sheet.shape))
    image = np.zeros((1500, 16, 16, 3), np.uint8)
    batch = {"image": image, "boxes": np.zeros((1500, 1, 4), np.float32), "classes": np.zeros((1500, 1), np.int32)}
    scores.show_batch(logger, tmp_path / "batch.png", batch, [str(k) for k in range(1500)], ["cat"])
    ((height, _, _),) = shown
    assert height < 65_500 / 10 and (tmp_path / "batch.png").exists()


def test_a_picture_that_is_longer_than_a_jpeg_can_be_is_made_smaller(tmp_path):
    from detect.reporting.tensorboard import EventWriter

    writer = EventWriter(tmp_path)
    writer.image("long", 0, np.zeros((70_000, 8, 3), np.uint8))
    writer.close()
    assert next(tmp_path.iterdir()).stat().st_size > 100


def test_a_label_ends_with_its_score_however_long_the_name_is(monkeypatch):
    painted, sizes = [], []
    monkeypatch.setattr(pictures, "paint_label", lambda image, text, *_: painted.append(text))
    size = text.text_size
    monkeypatch.setattr(text, "text_size", lambda *given: sizes.append(given) or size(*given))
    name = "a very long name of a class " * 8
    pictures.draw_boxes(blank(64, 96), np.array([[5, 5, 50, 60]]), np.array([1]), np.array([0.87]), [name])
    (label,) = painted
    assert label.startswith("a") and label.endswith(".. .87") and size(label, 11)[1] <= 96
    assert len(sizes) < 20  # it was drawn once for each letter that is left out


def test_all_curves_have_a_name_and_what_is_left_out_is_counted():
    _, axis = figures.new_figure(1, 1, 4, 3)
    line = (np.array([1.0, 2.0]), np.array([0.1, 0.2]))
    figures.draw_curves(axis, "AP per class", {"AP/_unknown": line, "AP/cat": line})
    assert [entry.get_text() for entry in axis.get_legend().get_texts()] == ["_unknown", "cat"]
    figures.draw_curves(axis, "AP per class", {f"AP/{k}": line for k in range(12)})
    assert axis.get_title() == "AP per class (10 of 12)"
