"""Legal values, nearest names, missing values and arguments of `_target_`s, without Hydra's composition."""

import sys

import pytest
from omegaconf import OmegaConf

from detect.config import check as config
from detect.config.check import check, target_problems
from detect.config.compose import compose
from detect.config.legal_values import Legal, number, one_of, whole
from detect.config.trust import trusting
from detect.errors import ConfigError


def problems(**tree) -> str:
    with pytest.raises(ConfigError) as caught:
        check(OmegaConf.create(tree))
    return str(caught.value)


@pytest.mark.parametrize(
    ("legal", "good", "bad"),
    [
        (whole(1, 4096), [1, 4096], [0, 4097, 2.0, True, "2", None, []]),
        (whole(1, null=True), [None, 1], [0]),
        (number(0, above=True), [1e-9, 5], [0, -1, float("nan"), float("inf"), "fast", False]),
        (number(0, 1), [0, 1, 0.5], [-0.1, 1.1]),
        (Legal(bool), [True, False], [1, 0, "yes", None]),
        (Legal(str, null=True), ["a", None], [1]),
        (one_of("cosine", "step"), ["step"], ["steps", None, 1]),
    ],
)
def test_legal(legal, good, bad):
    assert [value for value in good if not legal.admits(value)] == []
    assert [value for value in bad if legal.admits(value)] == []


@pytest.mark.parametrize(
    ("legal", "text"),
    [
        (whole(1), "a whole number from 1"),
        (whole(0, 2**31 - 1), "a whole number from 0 to 2147483647"),
        (number(0, above=True, null=True), "a number above 0 or null"),
        (number(0, 0.9), "a number from 0 to 0.9"),
        (Legal(bool), "true or false"),
        (one_of("a", "b"), "one of a, b"),
    ],
)
def test_legal_in_words(legal, text):
    assert str(legal) == text


def test_out_of_range_names_key_value_and_range():
    assert problems(limit={"fraction": 0}) == "limit.fraction=0 is not legal: expected a number above 0 to 1 or null"
    assert problems(rates={"detector": {"random": -1.0}}) == (
        "rates.detector.random=-1.0 is not legal: expected a number above 0 to 100 or null"
    )
    assert problems(seed=None) == "seed=null is not legal: expected a whole number from 0 to 2147483647"


def test_all_problems_in_one_message():
    matcher = {"_target_": "detect.modeling.matcher.ArgMaxMatcher", "force_match": "often"}
    assert problems(seed=-1, matcher=matcher).splitlines() == [
        "seed=-1 is not legal: expected a whole number from 0 to 2147483647",
        "matcher.force_match=often is not legal: expected true or false",
    ]


def test_missing_value_names_the_remedy():
    assert (
        problems(dataset={"root": "???"})
        == "dataset.root is missing: give dataset.root=DIR, or train on the embedded data set: dataset=digits"
    )
    assert problems(run="???", images="???").splitlines() == [
        "images is missing: give images=PATH",
        "run is missing: give run=RUN",
    ]
    assert problems(config="???", to="???").splitlines() == [
        "config is missing: give config=FILE",
        "to is missing: expected one of voc, coco, yolo, tfrecord, arrayrecord",
    ]


def test_switches_of_stage_1_and_of_an_arm():
    check(OmegaConf.create({"arm": {"crops": None}}))
    assert problems(classify={"balanced": "no"}, arm={"crops": "no"}).splitlines() == [
        "classify.balanced=no is not legal: expected true or false",
        "arm.crops=no is not legal: expected true or false or null",
    ]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"delay": "abc"}, "delay=abc: must be a step, 0 or more, a share of the steps below 1"),
        ({"freeze_bn": 1.5}, "freeze_bn=1.5: must be a step, 0 or more, a share of the steps below 1, or null"),
        ({"decay": 1}, "decay=1.0: legal are numbers from 0 to below 1"),
    ],
)
def test_a_specification_of_quantisation_is_refused_before_the_data(values, told):
    node = {"_target_": "detect.quantization.spec.Spec", "_convert_": "all"}
    assert problems(quantize={"spec": node | values}) == f"quantize.spec.{told}"


def test_results_below_the_pictures_of_stage_1(tmp_path):
    cfg = OmegaConf.create({"dataset": {}, "classify": {"enabled": True, "dataset": {"root": str(tmp_path)}}})
    with pytest.raises(ConfigError, match=r"below classify\.dataset\.root="):
        config.refuse_inside_data(cfg, tmp_path / "runs", "folder")
    cfg.classify.dataset = {"roots": ["other", str(tmp_path)]}
    with pytest.raises(ConfigError, match=r"below classify\.dataset\.root="):
        config.refuse_inside_data(cfg, tmp_path / "runs", "folder")
    cfg.classify.enabled = False
    config.refuse_inside_data(cfg, tmp_path / "runs", "folder")


def test_an_empty_run_and_devices_that_are_no_switch():
    assert problems(run="", devices="maybe").splitlines() == [
        "devices=maybe is not legal: expected true or false",
        "run= is not legal: expected the folder of a run",
    ]


def test_minutes_of_a_proposal_are_not_null():
    check(OmegaConf.create({"minutes": None}))
    for value in ("x", None, 0):
        assert problems(minutes=value, propose="rate").endswith(" is not legal: expected a number above 0")


def test_a_whole_detector_leaves_stage_1_out():
    init = {"scope": "detector"}
    check(OmegaConf.create({"init": init, "classify": {"enabled": False}}))
    assert problems(init=init, classify={"enabled": True}).startswith("init.scope=detector is not legal with classify.")


def test_missing_value_of_a_stage_that_is_off():
    check(OmegaConf.create({"classify": {"enabled": False, "dataset": {"root": "???"}}}))
    assert "classify.dataset.root is missing" in problems(classify={"enabled": True, "dataset": {"root": "???"}})


def test_bad_interpolation_names_the_key():
    assert "Interpolation key 'datasett.classes' not found" in problems(names="${datasett.classes}")
    assert problems(names="${datasett.classes}").startswith("names: ")


def test_unknown_argument_of_a_target_is_refused():
    before = "tensorflow" in sys.modules
    node = {"_target_": "detect.data.formats.voc.read_voc", "_convert_": "all", "root": "x", "val_fractoin": 0.1}
    (message,) = target_problems("dataset", node)
    assert message == (
        "unknown key dataset.val_fractoin: detect.data.formats.voc.read_voc has no argument val_fractoin; "
        "did you mean val_fraction?"
    )
    assert ("tensorflow" in sys.modules) is before


def test_needed_argument_of_a_target():
    assert target_problems("dataset", {"_target_": "detect.data.formats.voc.read_voc"}) == [
        "dataset.root is missing: detect.data.formats.voc.read_voc needs it"
    ]
    assert target_problems("dataset", {"_target_": "detect.data.formats.voc.read_voc", "_partial_": True}) == []


@pytest.mark.parametrize("target", ["detect.data.formats.voc.read_vok", "detect.datta.read", "albumentations.Nothing"])
def test_target_that_does_not_exist(target):
    assert target_problems("x", {"_target_": target}) == [f"x._target_={target}: there is no such function or class"]


def test_target_that_is_no_dotted_name():
    assert "expected a dotted name" in target_problems("x", {"_target_": "voc"})[0]


def test_an_optimiser_of_keras_takes_only_its_named_arguments():
    (told,) = target_problems("o", {"_target_": "tf_keras.optimizers.SGD", "momentumm": 0.9})
    assert told == "unknown key o.momentumm: tf_keras.optimizers.SGD has no argument momentumm; did you mean momentum?"


def test_foreign_targets_with_open_arguments_are_left_alone():
    assert target_problems("o", {"_target_": "argparse.ArgumentParser.set_defaults", "x": 0.9}) == []


def test_class_count_is_derived():
    (message,) = target_problems(
        "dataset", {"_target_": "detect.data.formats.voc.read_voc", "root": "x", "num_classes": 5}
    )
    assert message == f"dataset.num_classes: {config.COUNT_IS_DERIVED}"


def test_transform_is_compared_with_albumentations():
    flip = {"_target_": "albumentations.HorizontalFlip"}
    assert problems(augment={"transforms": {"flip": flip | {"pp": 0.5}}}) == (
        "unknown key augment.transforms.flip.pp: albumentations.HorizontalFlip has no argument pp; did you mean p?"
    )
    assert problems(augment={"transforms": {"flip": flip | {"p": 3}}}) == (
        "augment.transforms.flip.p=3 is not legal: Input should be less than or equal to 1"
    )
    check(OmegaConf.create({"augment": {"transforms": {"flip": flip | {"p": 0.5}}}}))
    nested = {"_target_": "albumentations.OneOf", "transforms": [flip | {"pp": 0.5}]}
    assert "augment.transforms.one.transforms.0.pp" in problems(augment={"transforms": {"one": nested}})


def test_devices_that_would_stay_unused_are_refused():
    with pytest.raises(ConfigError, match=r"distribute\.devices=4 has no effect .*\.kind=none: .*=mirrored"):
        compose(["dataset=digits", "distribute.devices=4"])
    assert compose(["dataset=digits", "distribute.devices=4", "distribute.kind=mirrored"]).distribute.devices == 4


def test_a_precision_that_no_stage_computes_in_is_refused():
    alone = ["dataset=digits", "quantize=int8", "quantize.float_stage=false", "classify.enabled=false", "init=none"]
    with pytest.raises(ConfigError, match=r"precision=bfloat16 has no effect without stage 1 .*expected float32"):
        compose([*alone, "precision=bfloat16"])
    for words in (alone, [*alone, "precision=bfloat16", "quantize.float_stage=true"]):
        assert compose(words).quantize.enabled


def test_open_nodes():
    assert config.is_open("augment.transforms.blur")
    assert config.is_open("classify.augment.transforms.blur.p")
    assert not config.is_open("augment.transforms")
    assert not config.is_open("augment.min_size")


ILLEGAL = [
    ("detect.modeling.backbones.mobilenet_v1.MobileNetV1", "depth_multiplier", 0, "a number above 0 to 16"),
    ("detect.modeling.backbones.mobilenet_v2.MobileNetV2", "scale_last", "yes", "true or false"),
    ("detect.modeling.backbones.mobilenet_v3.MobileNetV3", "variant", "tiny", "one of large, small"),
    ("detect.modeling.backbones.inception_v2.InceptionV2", "activation", "elu", "one of relu, relu6"),
    ("detect.modeling.backbones.inception_v3.InceptionV3", "padding", "full", "one of same, valid"),
    ("detect.modeling.backbones.vgg16.VGG16", "input_scaling", "byte", "one of signed, unit, mean, none"),
    ("detect.modeling.heads.ConvPredictor", "kernel", 2, "one of 1, 3"),
    ("detect.modeling.nms.NonMaxSuppression", "iou", 1.5, "a number from 0 to 1"),
    ("detect.modeling.sampler.BalancedSampler", "size", 0, "a whole number from 1 to 100000"),
    ("detect.modeling.rpn.ProposalGenerator", "candidates", 0, "a whole number from 1 or null"),
    ("detect.modeling.roi.RoiCrop", "method", "pool", "one of align, crop_and_resize"),
    ("detect.modeling.roi.RoiCrop", "samples", 9, "a whole number from 1 to 8 or null"),
    ("detect.modeling.classifier.Classifier", "label_smoothing", 1, "a number from 0 to 0.999"),
    ("detect.modeling.ssd.SSD", "resize", "crop", "one of stretch, keep_aspect, zoo"),
    ("detect.modeling.faster_rcnn.FasterRCNN", "border_anchors", "clip", "one of drop, keep"),
    ("detect.training.schedule.Schedule", "rate", -1.0, "a number above 0 to 100"),
    ("detect.training.schedule.Schedule", "decay", "line", "one of cosine, step, constant"),
    ("detect.training.schedule.Schedule", "ema_decay", 1, "a number from 0 to 0.999999 or null"),
    ("detect.training.schedule.Schedule", "batch_size", 4097, "a whole number from 1 to 4096"),
    ("detect.weights.sources.FromFile", "scope", "head", "one of backbone, detector"),
    ("detect.data.formats.voc.read_voc", "val_fraction", 0.95, "a number from 0 to 0.9"),
    ("detect.quantization.spec.Spec", "weight_bits", 3, "a whole number from 4 to 8"),
    ("detect.modeling.sampler.HardExampleMiner", "candidates", 0, "a whole number from 1"),
    ("detect.modeling.sampler.HardExampleMiner", "nms_iou", 1.5, "a number from 0 to 1 or null"),
    ("detect.modeling.sampler.HardExampleMiner", "negatives_per_positive", -1, "a number from 0"),
    ("detect.modeling.sampler.HardExampleMiner", "min_negatives", -1, "a whole number from 0"),
    ("detect.geometry.anchors.SSDAnchors", "interpolated_scale_ratio", -1, "a number from 0 or null"),
    ("detect.geometry.anchors.GridAnchors", "base", 0, "a number above 0"),
    ("detect.geometry.anchors.GridAnchors", "stride", 0, "a number above 0 or null"),
]


@pytest.mark.parametrize(("target", "argument", "value", "legal"), ILLEGAL)
def test_the_targets_own_annotation_says_what_is_legal(target, argument, value, legal):
    before = "tensorflow" in sys.modules
    found = config._illegal_arguments("a.b", {"_target_": target, argument: value})
    assert found == [f"a.b.{argument}={value} is not legal: expected {legal}"]
    assert ("tensorflow" in sys.modules) is before


def test_a_factor_of_a_box_coder_is_above_0():
    for coder in ("BoxCoder", "DistanceCoder"):
        node = {"_target_": f"detect.geometry.box_coder.{coder}", "scales": [10, 10, 0, 5]}
        (message,) = config._illegal_arguments("coder", node)
        assert message == "coder.scales.2=0 is not legal: expected a number above 0"


def test_items_of_a_list_are_named():
    node = {"_target_": "detect.modeling.ssd.SSD", "size": [300, 64]}
    assert config._illegal_arguments("detector", node) == [
        "detector.size.1=64 is not legal: expected a whole number from 96 to 4096"
    ]


def test_a_default_is_legal_and_so_is_what_is_missing_yet():
    node = {"_target_": "detect.data.formats.voc.read_voc", "classes": None, "val_fraction": "???"}
    assert config._illegal_arguments("dataset", node) == []


def test_names_of_run_level_keys_are_free_inside_a_target(tmp_path, monkeypatch):
    (tmp_path / "mine_of_check.py").write_text("def net(variant, padding=0, weights=None, enabled=3): ...")
    monkeypatch.syspath_prepend(tmp_path)
    node = {"_target_": "mine_of_check.net", "variant": "tiny", "padding": 7, "weights": "w.h5", "enabled": "half"}
    with trusting(["mine_of_check"]):
        check(OmegaConf.create({"backbone": node}))
    assert "classify.enabled=half is not legal" in problems(classify={"enabled": "half"})


def test_a_module_that_is_not_there():
    assert target_problems("backbone", {"_target_": "no_such_library.Net"}) == [
        "backbone._target_=no_such_library.Net: there is no module no_such_library; is it on PYTHONPATH?"
    ]
