"""Weights that a run can't start from are refused before its images are decoded."""

from types import SimpleNamespace

import hydra
import numpy as np
import pytest
import tf_keras
from omegaconf import OmegaConf

from detect import train
from detect.config import trust
from detect.config.check import CONFIG_DIR
from detect.data import remembered
from detect.errors import ConfigError, WeightsError
from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
from detect.modeling.interface import Detector
from detect.runs import start
from detect.runs.folder import RunFolder
from detect.training import build, contracts, early_check
from detect.training.initial_weights import refuse_unfit
from detect.training.trainer import Trainer
from detect.weights import checkpoint
from detect.weights.sources import FromFile


class Mixing(MobileNetV1):
    """A backbone with a layer of the user's own after the map of SSD."""

    def __call__(self, image):
        ends = super().__call__(image)
        mixed = tf_keras.layers.EinsumDense("bhwc,cd->bhwd", (None, None, 32), name="mixed")
        return ends | {"Conv2d_13_pointwise": mixed(ends["Conv2d_13_pointwise"])}


class Read(Exception):
    """The data set is read."""


@pytest.fixture
def undecoded(monkeypatch):
    """Decoding an image is an error that no run expects."""
    monkeypatch.setattr(remembered, "examine", lambda path: pytest.fail(f"{path} is decoded"))
    monkeypatch.setattr(early_check, "MANY", 4)


@pytest.fixture
def unread(monkeypatch):
    """Reading the data set raises Read."""

    def read(*_):
        raise Read

    monkeypatch.setattr(start, "dataset_of", read)


def compose(*overrides):
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        small = ["detector.size=[96,96]", "classify.classifier.size=[96,96]", "dataset.images={train:2,val:1,test:1}"]
        return hydra.compose("train", ["dataset=digits", "init=path", "deterministic=false", *small, *overrides])


@pytest.mark.parametrize("name, message", [("text.h5", "looks like a text file"), ("none.ckpt", "no such checkpoint")])
def test_a_file_that_has_no_weights_is_refused_before_the_data_are_read(tmp_path, unread, name, message):
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(WeightsError, match=message):
        train.main(compose(f"init.path={tmp_path}/{name}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage_1", ["true", "false"])
def test_weights_of_another_backbone_are_refused_before_an_image_is_decoded(tmp_path, undecoded, stage_1):
    checkpoint.write(tmp_path / "net.ckpt", {"MobilenetV2/Conv/weights": np.ones((3, 3, 3, 32), np.float32)})
    with pytest.raises(WeightsError, match=r"net\.ckpt belongs to another network, it looks like MobilenetV2"):
        train.main(compose(f"init.path={tmp_path}/net.ckpt", f"classify.enabled={stage_1}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_source_of_ones_own_may_not_bring_heads_for_stage_1():
    classifier, weights = SimpleNamespace(detects=False), SimpleNamespace(scope="detector")
    with pytest.raises(ConfigError, match=r"init\.scope=detector also loads a detector's heads"):
        refuse_unfit(classifier, weights, OmegaConf.create())


def test_a_network_is_not_built_once_more_for_few_images(tmp_path, monkeypatch):
    checkpoint.write(tmp_path / "net.ckpt", {"MobilenetV2/Conv/weights": np.ones((3, 3, 3, 32), np.float32)})
    monkeypatch.setattr(build, "classifier", lambda *_: pytest.fail("it is built"))
    check = early_check.weights_check(compose(f"init.path={tmp_path}/net.ckpt"), RunFolder(tmp_path / "run"))
    assert check(SimpleNamespace(splits={"train": range(early_check.MANY - 2), "val": range(1)})) is None


def test_weights_of_few_images_are_checked_before_steps_are_timed(tmp_path):
    checkpoint.write(tmp_path / "net.ckpt", {"MobilenetV2/Conv/weights": np.ones((3, 3, 3, 32), np.float32)})
    cfg = compose(f"init.path={tmp_path}/net.ckpt", "minutes=20")
    check = early_check.weights_check(cfg, RunFolder(tmp_path / "run"))
    with pytest.raises(WeightsError, match="it looks like MobilenetV2"):
        check(SimpleNamespace(splits={"train": range(2), "val": range(1)}, num_classes=3))


@pytest.mark.parametrize("overrides", [[], ["arm.start=random", "arm.name=random", "classify.enabled=false"]])
def test_weights_that_are_not_read_are_not_checked(tmp_path, unread, overrides):
    if not overrides:
        (tmp_path / "run" / "classify").mkdir(parents=True)  # the run has its weights
    with pytest.raises(Read):
        train.main(compose(f"init.path={tmp_path}/gone.ckpt", *overrides), tmp_path / "run")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["schedule.freeze_until=Conv2d_99"], r"^schedule\.freeze_until=Conv2d_99 is no layer"),
        (
            ["quantize=int8", "quantize.schedule.freeze_until=Conv2d_99"],
            r"quantize\.schedule\.freeze_until=Conv2d_99 is no layer",
        ),
        (
            [
                "quantize=int8",
                "quantize.float_stage=false",
                "classify.enabled=false",
                "quantize.spec.ranges=calibrated",
            ],
            r"quantize\.spec\.ranges=calibrated: the network has random weights",
        ),
        (
            ["classify.enabled=true", "backbone._target_=tests.training.test_early_check.Mixing"],
            r"the cost of the layer mixed \(EinsumDense\) is not known",
        ),
    ],
)
def test_what_a_later_stage_can_not_do_is_refused_before_the_first_step(tmp_path, monkeypatch, overrides, message):
    monkeypatch.setattr(Trainer, "train", lambda *_: pytest.fail("a step is trained"))
    small = ["init=none", "backbone.depth_multiplier=.25", "threads=null"]
    with trust.trusting(("tests",)), pytest.raises(ConfigError, match=message):
        train.main(compose(*small, *overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_gone_is_described_as_it_was_given(tmp_path):
    """A run that goes on does not need it."""
    assert FromFile(str(tmp_path / "gone.h5")).describe() == str(tmp_path / "gone.h5")


class Bare:
    """A part without any member, and a backbone that has end points alone."""

    def __init__(self, **given):
        self.__dict__.update(given)

    def __call__(self, image):
        return MobileNetV1(0.25)(image)


@pytest.mark.parametrize(
    ("overrides", "lacking"),
    [
        (["~backbone", "+backbone._target_={bare}"], "ssd_maps"),
        (["~backbone", "+backbone._target_={bare}", "detector/neck=fpn"], "fpn_maps"),
        (["~backbone", "+backbone._target_={bare}", "detector=faster_rcnn"], "roi_crop"),
        (["~detector.localization_loss", "+detector.localization_loss._target_={bare}"], "takes"),
        (
            ["~detector.postprocess", "+detector.postprocess={{_target_: {bare}, iou: .6, score: 0, total: 9}}"],
            "method and no per_class and no class_agnostic",
        ),
    ],
)
def test_a_part_that_lacks_what_its_contract_promises_is_named(overrides, lacking):
    words = [word.format(bare="tests.training.test_early_check.Bare") for word in overrides]
    message = rf"^tests\.training\.test_early_check\.Bare has no {lacking}; docs/extend"
    with trust.trusting(("tests",)), pytest.raises(ConfigError, match=message):
        build.detector(compose(*words), 3)


def test_an_error_of_another_kind_in_a_part_stays_what_it_is():
    cfg = compose("~backbone", "+backbone._target_=tests.training.test_early_check.Bare")
    with trust.trusting(("tests",)), pytest.raises(AttributeError, match="no attribute 'iou_of'"), contracts.promised():
        build.instantiate(cfg.backbone).iou_of  # noqa: B018


def test_a_backbone_without_names_for_its_weights_is_refused():
    """Its first stage would train to its end, and the second one could not read it."""
    with pytest.raises(ConfigError, match=r"test_early_check\.Bare has no slim_scope and no logits; docs/extend"):
        contracts.refuse_nameless(Bare(), classifies=True)
    contracts.refuse_nameless(Bare(slim_scope="Net"), classifies=False)


class Silent(Detector):
    def __init__(self, **supplied):
        self.model = None

    def detect(self, image): ...

    def parts(self): ...


class Bodiless(Silent):
    def losses(self, batch, training=True): ...


def test_a_detector_that_lacks_members_is_told():
    here = "tests.training.test_early_check"
    for kind, lacking in (("Silent", "abstract class Silent .*losses"), ("Bodiless", "Bodiless has no resize and no ")):
        cfg = OmegaConf.create({"backbone": {"_target_": f"{here}.Bare"}, "detector": {"_target_": f"{here}.{kind}"}})
        with trust.trusting(("tests",)), pytest.raises(ConfigError, match=f"{lacking}.*docs/extend"):
            build.detector(cfg, 3)
