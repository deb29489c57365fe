"""detect advise: its rules by hand, and the experiment that it writes, trained as it is."""

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from detect.advice import choice, rules
from detect.advice.choice import STAGE_1_STEPS, Proposal, intervals
from detect.cli import advise
from detect.cli.overrides import prepare, read
from detect.config.compose import compose
from detect.config.trust import trusting
from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.data.statistics import Coverage, in_frame
from detect.errors import ConfigError
from detect.geometry.anchors import GridAnchors
from detect.geometry.frame import Frame
from tests import program


def dataset(boxes, width=640, height=480, classes=None, images=10):
    """`images` pictures with the same boxes each."""
    labels = classes or [1] * len(boxes)
    train = [Example(Path(f"{i}"), width, height, boxes, labels, [False] * len(boxes), f"{i}") for i in range(images)]
    return DetectionDataset("made", ("cat", "dog"), {"train": train})


def test_the_frame_follows_the_boxes_and_the_images_shape():
    # Sides of 40 in images of 554: 16 px each in a frame of 222, which is 192 x 256 in multiples of 32.
    assert rules.frame_size(dataset([[0, 0, 40, 40]])) == (192, 256)
    assert rules.frame_size(dataset([[0, 0, 20, 20]])) == (384, 512)
    assert rules.frame_size(dataset([[0, 0, 400, 400]])) == (160, 224)  # at least 192, as a square would be
    assert rules.frame_size(dataset([[0, 0, 2, 2]], width=100, height=100)) == (192, 192)


def test_the_frame_and_the_anchors_follow_each_class():
    # The cat is in each picture 19 times, with 40 px; the dog once, with 20 px, as in the second line above.
    boxes, classes = [[0, 0, 40, 40]] * 19 + [[0, 0, 20, 20]], [1] * 19 + [2]
    assert rules.frame_size(dataset(boxes, classes=classes, images=20)) == (384, 512)
    assert rules.frame_size(dataset(boxes, classes=classes, images=19)) == (192, 256)  # 19 dogs are too few to decide
    assert rules.frame_size(dataset([[0, 0, 20, 20]], classes=[2], images=3)) == (384, 512)  # if there is nothing else


@pytest.mark.parametrize(
    ("cats", "dogs", "worst"),
    [
        ((0, 1000), (2, 20), "dog"),  # 0.2% of all boxes
        ((0, 1000), (1, 20), None),
        ((0, 1000), (19, 19), None),  # too few to decide
        ((60, 1000), (2, 20), "dog"),
        ((60, 1000), (0, 20), "cat"),
        ((1, 3), (0, 0), "cat"),
        ((0, 0), (0, 0), None),
    ],
)
def test_anchors_are_judged_by_the_class_that_they_miss_most(cats, dogs, worst):
    missed, boxes = cats[0] + dogs[0], cats[1] + dogs[1]
    assert rules.worst_class(Coverage(boxes, missed, {"cat": cats, "dog": dogs}, {}, ())) == worst


@pytest.mark.parametrize(("missed", "kept"), [(9, {"anchors": {"layout": 1}}), (10, {})])
def test_a_finer_map_is_tried_with_the_users_own_values(monkeypatch, missed, kept):
    """Stock anchors miss all boxes, and fitted ones 9 or 10 of 10: then the anchors of a finer map are fitted in the
    user's own frame. They miss as many, so that the first fit stays if it is better than the stock anchors."""
    tried = []

    def compose_it(cfg, proposed):
        tried.append(dict(proposed.values["detector"]))
        neck = {"maps": None, "channels": None}
        return OmegaConf.create({"backbone": {}, "detector": {"neck": neck}})

    missing = Coverage(10, 10, {"cat": (10, 10)}, {}, ())
    monkeypatch.setattr(choice, "composed", compose_it)
    fitted = Coverage(10, missed, {"cat": (missed, 10)}, {}, ())
    monkeypatch.setattr(rules, "covered", lambda dataset, detector: missing)
    monkeypatch.setattr(rules, "fitted_anchors", lambda dataset, detector: ({"layout": len(tried)}, fitted))
    backbone = SimpleNamespace(fpn_maps=("fine", "coarse"), ssd_extras=(512, 256, 128))
    monkeypatch.setattr("detect.training.build.instantiate", lambda node: backbone)
    monkeypatch.setattr("detect.training.build.detector", lambda cfg, classes: None)
    made = Proposal({}, {"detector": {"size": [96, 128], "resize": "keep_aspect"}})
    detector = SimpleNamespace(maps={"coarse": None})
    choice.fit_anchors(OmegaConf.create({"init": {}}), dataset([[0, 0, 4, 4]]), made, detector)
    neck = {"maps": ["fine", "coarse"], "channels": [512, 256]}
    assert tried[-1] == {"size": [96, 128], "resize": "keep_aspect", "neck": neck}
    assert made.values["detector"] == {"size": [96, 128], "resize": "keep_aspect", **kept}
    assert made.unmatched == (missing, fitted)


def test_parts_of_ones_own_have_no_finer_map(monkeypatch):
    missing = Coverage(10, 10, {"cat": (10, 10)}, {}, ())
    monkeypatch.setattr(rules, "covered", lambda dataset, detector: missing)
    monkeypatch.setattr(rules, "fitted_anchors", lambda dataset, detector: ({}, missing))
    for neck, backbone in (({"maps": None, "channels": None}, {}), ({"channels": None}, {"fpn_maps": ("fine",)})):
        cfg = OmegaConf.create({"backbone": {}, "detector": {"neck": neck}})
        OmegaConf.set_struct(cfg, True)
        monkeypatch.setattr(choice, "composed", lambda *_, cfg=cfg: cfg)
        monkeypatch.setattr("detect.training.build.instantiate", lambda node, own=backbone: SimpleNamespace(**own))
        made = Proposal({}, {"detector": {}})
        choice.fit_anchors(OmegaConf.create({"init": {}}), dataset([[0, 0, 4, 4]]), made, SimpleNamespace(maps={}))
        assert made.values["detector"] == {} and made.unmatched == (missing, missing)


@pytest.mark.parametrize(
    ("init", "choices"),
    [({"scope": "detector"}, {}), ({}, {"detector/anchors": "ssd300"}), ({}, {"detector/neck": "fpn"})],
)
def test_anchors_of_given_heads_and_of_a_chosen_part_stay(monkeypatch, init, choices):
    """Other anchors need heads of other shapes, which weights with heads do not fit."""
    missing = Coverage(10, 10, {"cat": (10, 10)}, {}, ())
    monkeypatch.setattr(choice, "composed", lambda cfg, proposed: None)
    monkeypatch.setattr(rules, "covered", lambda dataset, detector: missing)
    monkeypatch.setattr(rules, "fitted_anchors", lambda dataset, detector: pytest.fail("fitted"))
    made = Proposal(choices, {"detector": {"size": [96, 128]}})
    choice.fit_anchors(OmegaConf.create({"init": init}), dataset([[0, 0, 4, 4]]), made, None)
    assert made.values["detector"] == {"size": [96, 128]} and made.unmatched == (missing, missing)


@pytest.mark.parametrize(
    ("words", "backbones"),
    [
        ((), advise.NETWORKS),
        (("detector.size=[320,320]",), advise.NETWORKS),
        (("backbone=mobilenet_v2",), ("mobilenet_v2",)),
        (("backbone.depth_multiplier=.5",), ("mobilenet_v1",)),
        (("detector=ssdlite",), ("mobilenet_v1",)),
        (("detector/neck=fpn",), ("mobilenet_v1",)),
    ],
)
def test_a_frame_fixes_no_network(monkeypatch, words, backbones):
    chosen = {
        "detector": "ssd",
        "backbone": "mobilenet_v1",
        "dataset": "auto",
        "init": "imagenet",
        "detector/neck": "fpn",
    }
    chosen |= dict(word.split("=") for word in words if word.startswith("backbone="))
    monkeypatch.setattr(advise.job, "choices", lambda: chosen)
    monkeypatch.setattr(advise.job, "task_overrides", lambda: ["dataset.root=x", *words])
    assert [option["backbone"] for option in advise.options()] == list(backbones)


def test_values_that_are_given_are_kept(monkeypatch):
    words = ["dataset.root=x", "++detector.size=[320,320]", "detector/neck=fpn", "backbone.depth_multiplier=.5"]
    monkeypatch.setattr(advise.job, "task_overrides", lambda: words)
    assert advise.given() == {"detector": {"size": [320, 320]}, "backbone": {"depth_multiplier": 0.5}}


def test_a_catalogue_of_ones_own_is_kept(monkeypatch):
    chosen = {"detector": "ssd", "backbone": "vgg16", "dataset": "auto", "init": "catalogue", "init/archives": "mine"}
    monkeypatch.setattr(advise.job, "choices", lambda: chosen)
    monkeypatch.setattr(
        advise.job, "task_overrides", lambda: ["init=catalogue", "init/archives=mine", "backbone=vgg16"]
    )
    assert advise.options() == [chosen]


def test_minutes_are_a_number():
    with pytest.raises(ConfigError, match=r"^minutes=null is not legal: expected a number above 0"):
        prepare(read(["dataset=digits", "minutes=null"], "advise"))


@pytest.mark.parametrize(
    ("words", "group", "key", "value"),
    [
        (["dataset=voc", "dataset.root=photos"], "dataset", "root", "photos"),
        (["dataset=join", "dataset.roots=[a,b/c]"], "dataset", "roots", ["a", "b/c"]),
        (["dataset=digits", "init=path", "init.path=a.npz"], "init", "path", "a.npz"),
    ],
)
def test_places_are_absolute_in_a_proposal(tmp_path, monkeypatch, words, group, key, value):
    monkeypatch.chdir(tmp_path)
    cfg = compose(words, "advise")
    found = choice.propose(cfg, dataset([[0, 0, 40, 40]]), None, {}, {}).values[group][key]
    assert found == ([str(tmp_path / each) for each in value] if isinstance(value, list) else str(tmp_path / value))


def test_only_yaml_files_of_ones_own_folder_are_read(tmp_path):
    own = tmp_path / "own"
    (own / "backbone").mkdir(parents=True)
    (own / "backbone" / "tiny.yaml").write_text("_target_: tests.tiny_backbone.Tiny\n")
    (own / "weights.npz").write_bytes(b"much")
    (own / "gone.yaml").symlink_to(tmp_path / "nowhere")
    (own / "gone").symlink_to(tmp_path / "nowhere")
    choice._copy_configurations(own, tmp_path / "copy")
    assert [path.name for path in (tmp_path / "copy").rglob("*") if path.is_file()] == ["tiny.yaml"]


def test_steps_are_forty_epochs_within_bounds():
    assert rules.steps(82, 8) == 800
    assert rules.steps(205, 8) == 1000  # 1025, in fifties
    assert rules.steps(1_000_000, 8) == 20_000


def test_rare_classes_are_named():
    boxes = [[0, 0, 20, 20]] * 7
    assert rules.imbalance(dataset(boxes, classes=[1] * 6 + [2])) == ["rare: dog has 10 boxes, cat 60"]
    assert rules.imbalance(dataset(boxes, classes=[1] * 5 + [2] * 2)) == []


def test_what_training_leaves_out_decides_nothing():
    boxes = [[0, 0, 40, 40], [0, 0, 4, 4]]
    train = [Example(Path(f"{i}"), 640, 480, boxes, [1, 2], [False, True], f"{i}") for i in range(30)]
    crowded = DetectionDataset("made", ("cat", "dog"), {"train": train})
    assert rules.frame_size(crowded) == (192, 256) and rules.imbalance(crowded) == ["rare: dog has 0 boxes, cat 30"]
    boxes, classes = in_frame(crowded.splits["train"], Frame((240, 320)))
    assert boxes.tolist() == [[0, 0, 20, 20]] * 30 and set(classes) == {1}
    nothing = DetectionDataset("made", ("cat", "dog"), {"train": [replace(train[0], crowd=[True, True])]})
    assert [len(values) for values in in_frame(nothing.splits["train"], Frame((240, 320)))] == [0, 0]


@pytest.mark.parametrize(
    ("minutes", "stage_1", "steps"),
    [(14, True, 1000), (9, True, 500), (5, True, 100), (4.4, False, 400), (0.01, False, 50)],
)
def test_a_proposal_is_shortened_to_its_minutes(minutes, stage_1, steps):
    """Stage 1 takes 4 minutes, and a thousand steps of the detector ten."""
    made = Proposal({}, {"classify": {"enabled": True}, "schedule": intervals(1000)})
    made.seconds = {"classify": 4 * 60 / STAGE_1_STEPS, "detector": 10 * 60 / 1000}
    made.shorten(minutes)
    assert (made.values["classify"]["enabled"], made.values["schedule"]["steps"]) == (stage_1, steps)
    assert made.minutes <= max(minutes, 0.5) + 1e-9


def test_the_base_of_faster_rcnn_puts_the_middle_of_the_scales_on_the_boxes():
    boxes = np.array([[0, 0, 64, 64]] * 10, np.float32)
    values, generator = GridAnchors([0.25, 0.5, 1.0, 2.0]).fitted(boxes, [(15, 20)], (480, 640))
    assert values == {"base": pytest.approx(64 / np.sqrt(0.5), abs=0.1)} and generator.base == values["base"]


def test_the_experiment_file_is_yaml_with_its_head():
    text = rules.experiment_text(["Why."], {"backbone": "vgg16"}, {"detector": {"size": [96, 96]}})
    assert text.splitlines()[:2] == ["# @package _global_", "# Why."]
    assert yaml.safe_load(text) == {
        "defaults": [{"override /backbone": "vgg16"}, "_self_"],
        "detector": {"size": [96, 96]},
    }


def test_an_experiment_of_the_user_is_not_replaced(tmp_path):
    text = rules.experiment_text([f"Proposed {rules.BY} for digits."], {}, {"seed": 1})
    file = rules.write_experiment(tmp_path, "mine", text)
    assert rules.write_experiment(tmp_path, "mine", text) == file
    file.write_text(text.replace("seed: 1", "seed: 2"))
    with pytest.raises(ConfigError, match=r"mine\.yaml was changed by hand since it was made by detect advise"):
        rules.place(tmp_path, "mine")
    file.write_text("# @package _global_\nseed: 3\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml is there already, and was not made by detect advise"):
        rules.place(tmp_path, "mine")
    with pytest.raises(ConfigError, match="name=demo: an experiment of this program has this name"):
        rules.place(tmp_path, "demo")


@pytest.mark.parametrize("name", [300, True, None, [1], "a,b"])
def test_a_name_is_text(tmp_path, name):
    with pytest.raises(ConfigError, match=r"^name=.*legal is text, such as my_"):
        rules.place(tmp_path, name)


@pytest.fixture(scope="module")
def advised(tmp_path_factory):
    """What `detect advise` prints of the digits, and the experiment that it writes."""
    folder = tmp_path_factory.mktemp("advice")
    words = [
        "dataset=digits",
        "dataset.images={train: 24, val: 4, test: 4}",
        "init=none",
        "backbone.depth_multiplier=0.25",
    ]
    done = detect("advise", *words, "name=mine", "minutes=0.05", "timed_steps=2", f"output={folder}")
    return folder, done.stdout, yaml.safe_load((folder / "experiment" / "mine.yaml").read_text())


def detect(*words, code=0):
    done = program.run(*words, COLUMNS="80")
    assert done.returncode == code, done.stderr
    return done


def test_it_says_what_it_found_and_proposes(advised):
    _, printed, experiment = advised
    for text in (
        "24 ",
        "boxes per image",
        "network   ssd on mobilenet_v1",
        "anchors   stock ones miss",
        "minutes of train",
    ):
        assert text in printed
    assert max(map(len, printed.replace(str(advised[0]), "").splitlines())) <= 80
    assert experiment["backbone"] == {"depth_multiplier": 0.25}
    assert (experiment["schedule"]["steps"], experiment["schedule"]["rate"]) == (50, 0.003)
    assert experiment["dataset"]["images"]["train"] == 24
    assert {"override /init": "none"} in experiment["defaults"]


@pytest.mark.slow
def test_the_proposal_trains_as_it_is(advised, tmp_path):
    folder = advised[0]
    detect("train", "--config-dir", str(folder), "experiment=mine", "debug=step", f"hydra.run.dir={tmp_path}")
    assert (tmp_path / "summary.json").exists()


def test_weights_of_another_network_are_refused_and_minutes_checked(tmp_path):
    with pytest.raises(ConfigError, match="minutes=0 is not legal"):
        prepare(read(["dataset=digits", "minutes=0"], "advise"))
    with pytest.raises(ConfigError, match="timed_steps=0 is not legal"):
        prepare(read(["dataset=digits", "timed_steps=0"], "advise"))
    other = tmp_path / "other.h5"
    other.write_bytes(b"no weights")
    small = ["dataset=digits", "backbone=vgg16", "backbone.depth_multiplier=0.25", "decode=false"]
    assert "other.h5" in detect("advise", f"init={other}", *small, code=2).stderr


def test_parts_of_ones_own_are_advised(tmp_path):
    """The experiment is written beside them, and the command that is printed finds both."""
    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone" / "tiny.yaml").write_text("_target_: tests.tiny_backbone.Tiny\n")
    words = ["--config-dir", str(tmp_path), "backbone=tiny", "trust=[tests]", "dataset=digits"]
    small = ["dataset.images={train: 24, val: 4, test: 4}", "init=none", "minutes=.05", "timed_steps=2"]
    done = detect("advise", *words, *small)
    command = shlex.split(done.stdout.strip().splitlines()[-1])
    assert command == ["detect", "train", "--config-dir", str(tmp_path), "experiment=advised", "trust=[tests]"]
    with trusting(("tests",)):
        cfg = compose(["experiment=advised", "trust=[tests]"], config_dir=tmp_path)
    assert cfg.backbone._target_ == "tests.tiny_backbone.Tiny"
    done = detect("advise", *words, *small, "output=elsewhere", code=2)
    assert "the experiment goes there; leave output" in done.stderr
    done = detect("advise", "dataset=digits", "backbone._target_=tests.tiny_backbone.Tiny", "trust=[tests]", code=2)
    assert "put the part into DIR/GROUP/NAME.yaml" in done.stderr
