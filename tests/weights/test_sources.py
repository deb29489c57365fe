"""Where weights come from: names, run folders, published archives."""

import hashlib
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from omegaconf import OmegaConf

from detect.errors import WeightsError
from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
from detect.runs.folder import RunFolder
from detect.training.initial_weights import initialise, warn_of_other_settings
from detect.weights import checkpoint
from detect.weights.sources import FromFile, NoWeights, Published

SLIM = {
    "MobilenetV1/Conv2d_0/weights": np.ones((3, 3, 3, 8), np.float32),
    "MobilenetV1/Conv2d_1_depthwise/depthwise_weights": np.ones((3, 3, 8, 1), np.float32),
    "MobilenetV1/Conv2d_1_depthwise/BatchNorm/moving_mean": np.ones(8, np.float32),
    "MobilenetV1/Logits/Conv2d_1c_1x1/biases": np.ones(5, np.float32),
    "global_step": np.array(3, np.int64),
}
OURS = {
    "Conv2d_0/kernel",
    "Conv2d_1_depthwise/depthwise_kernel",
    "Conv2d_1_depthwise/BatchNorm/moving_mean",
    "Logits/Conv2d_1c_1x1/bias",
}


class Backbone:
    """What a source asks of a backbone."""

    slim_scope = "MobilenetV1"
    depth_multiplier = 1.0

    def keras_layers(self):
        return {}


def test_nothing():
    assert NoWeights().read(Backbone()) is None
    assert "random" in NoWeights().describe()


def test_a_slim_checkpoint(tmp_path):
    checkpoint.write(tmp_path / "net_1.0.ckpt", SLIM)
    for path in ("net_1.0.ckpt", "net_1.0.ckpt.index", "."):
        source = FromFile(str(tmp_path / path))
        assert set(source.read(Backbone())) == OURS
        assert source.describe() == str(tmp_path / "net_1.0.ckpt")


def test_run_folders_give_the_best_detector_else_the_best_classifier(tmp_path):
    run = tmp_path / "run"
    for i, place in enumerate(("classify/best", "detector/best")):
        checkpoint.write(run / place, {"Conv2d_0/kernel": np.full(2, i, np.float32)})
        assert FromFile(str(run)).describe() == str(run / place)
        assert FromFile(str(run)).read(Backbone())["Conv2d_0/kernel"].tolist() == [i, i]
    checkpoint.write(run / "classify" / "other", SLIM)
    assert FromFile(str(run / "classify")).describe() == str(run / "classify" / "best")
    assert FromFile(str(run / "classify" / "other")).describe() == str(run / "classify" / "other")


def test_places_without_weights_are_named(tmp_path):
    with pytest.raises(WeightsError, match=rf"init.path=.*: the folder {tmp_path}/nowhere does not exist"):
        FromFile(str(tmp_path / "nowhere" / "net.ckpt")).read(Backbone())
    with pytest.raises(WeightsError, match=rf"{tmp_path} is a folder with no \*.index"):
        FromFile(str(tmp_path)).read(Backbone())


@pytest.fixture
def published(tmp_path):
    """A published archive at a file:// address: (source, archive)."""
    checkpoint.write(tmp_path / "net.ckpt", SLIM)
    archive = tmp_path / "web" / "net_1.0.tgz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        for file in sorted(tmp_path.glob("net.ckpt.*")):
            tar.add(file, f"./{file.name}")
    entry = {
        "slim_scope": "MobilenetV1",
        "backbone": {"depth_multiplier": 1.0},
        "detector": False,
        "use": "backbone=mobilenet_v1",
        "address": archive.as_uri(),
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "file": "net.ckpt",
    }
    zoo = entry | {"detector": True, "use": "detector=ssd backbone=mobilenet_v1", "sha256": None}
    return Published({"zoo": zoo, "net_1.0": entry}, cache=str(tmp_path / "cache")), archive


def test_a_published_checkpoint_is_fetched_once_and_read(published):
    source, archive = published
    assert set(source.read(Backbone())) == OURS
    assert source.describe() == "published weights net_1.0"
    assert source.read(Backbone()).use == "backbone=mobilenet_v1"
    archive.unlink()
    assert set(source.read(Backbone())) == OURS


def test_offline_says_what_can_be_done(published):
    source, archive = published
    archive.unlink()
    with pytest.raises(WeightsError) as caught:
        source.read(Backbone())
    message = str(caught.value)
    assert archive.as_uri() in message and f"the cache folder {archive.parents[1]}/cache/weights" in message
    assert "init=PATH" in message and "init=none" in message


@pytest.mark.parametrize(("scope", "multiplier"), [("MobilenetV1", 0.5), ("InceptionV3", 1.0)])
def test_backbones_that_nobody_published(published, scope, multiplier):
    source, _ = published
    backbone = Backbone()
    backbone.slim_scope, backbone.depth_multiplier = scope, multiplier
    with pytest.raises(WeightsError) as caught:
        source.read(backbone)
    message = str(caught.value)
    assert f"{scope} with depth_multiplier={multiplier}" in message
    assert ("net_1.0 (backbone=mobilenet_v1)." in message) == (scope == "MobilenetV1")
    assert "zoo" not in message and "init=PATH" in message and "init=none" in message


def test_archives_by_name(published):
    source, _ = published
    source.name, source.scope = "zoo", "detector"
    assert set(source.read(Backbone())) == OURS
    assert source.describe() == "published weights zoo"
    backbone = Backbone()
    backbone.slim_scope = "MobilenetV2"
    with pytest.raises(WeightsError, match="zoo is for MobilenetV1, not for MobilenetV2: use detector=ssd backbone"):
        source.read(backbone)
    source.name = "net_1.0"
    with pytest.raises(WeightsError, match=r"init\.name=net_1\.0 is a classifier .*init\.scope=backbone"):
        source.read(Backbone())
    source.name = "net"
    with pytest.raises(WeightsError, match=r"init\.name=net .*legal are zoo, net_1\.0"):
        source.read(Backbone())


def slim_name(name):
    """Our name of a Faster R-CNN's variable as the Object Detection API has it."""
    name = (
        name.replace("depthwise_kernel", "depthwise_weights").replace("/kernel", "/weights").replace("/bias", "/biases")
    )
    if name.startswith("FirstStageBoxPredictor/Conv/"):
        return name.removeprefix("FirstStageBoxPredictor/")
    second = name.startswith(("Conv2d_12_", "Conv2d_13_"))
    return (
        name if "BoxPredictor" in name else f"{'Second' if second else 'First'}StageFeatureExtractor/MobilenetV1/{name}"
    )


def test_a_faster_rcnn_of_the_api(tmp_path):
    import hydra

    from detect.config.check import CONFIG_DIR
    from detect.training import build
    from detect.weights.transfer import named, transfer

    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = hydra.compose(
            "train",
            [
                "detector=faster_rcnn",
                "detector.size=[128,128]",
                "detector.anchors.base=64",
                "backbone.depth_multiplier=.25",
            ],
        )
    backbone = build.instantiate(cfg.backbone)
    theirs, ours, others = (build.detector(cfg, classes) for classes in (3, 3, 5))
    checkpoint.write(tmp_path / "model.ckpt", {slim_name(n): v + 1.5 for n, v in named(theirs.model.variables).items()})
    arrays = FromFile(str(tmp_path)).read(backbone)

    def load(detector, scope):
        layers = detector.backbone_layers
        return transfer(detector.model, arrays, source="model.ckpt", layers=layers, scope=scope)

    assert len(load(ours, "detector").loaded) == len(ours.model.variables)
    for mine, their in zip(ours.model.variables, theirs.model.variables, strict=True):
        np.testing.assert_array_equal(mine, their + 1.5)
    assert set(load(others, "detector").skipped) == {
        f"SecondStageBoxPredictor/{part}/{kind}"
        for part in ("BoxEncodingPredictor", "ClassPredictor")
        for kind in ("kernel", "bias")
    }
    ledger = load(ours, "backbone")
    assert all("BoxPredictor" in name for name in ledger.skipped) and len(ledger.loaded) == 27 * 5


def test_a_detector_run_of_ours_whole_and_its_backbone_alone(small_run):
    from detect.training import build
    from detect.weights.transfer import transfer

    cfg = RunFolder(small_run[0]).saved_config()
    detector, source = build.detector(cfg, 10), FromFile(str(small_run[0]), scope="detector")
    arrays, layers = source.read(build.instantiate(cfg.backbone)), detector.backbone_layers
    whole = transfer(detector.model, arrays, source="run", layers=layers, scope="detector")
    assert len(whole.loaded) == len(detector.model.variables) and not whole.skipped
    ledger = transfer(detector.model, arrays, source="run", layers=layers)
    assert len(ledger.loaded) == 27 * 5
    assert {name.rpartition("/")[0] for name in ledger.skipped}.isdisjoint(layers)


def test_settings_that_change_the_meaning_of_loaded_weights_are_named(small_run, caplog):
    from detect.training import build

    cfg = RunFolder(small_run[0]).saved_config()
    other = OmegaConf.merge(
        cfg,
        {"backbone": {"input_scaling": "unit"}, "detector": {"anchors": {"min_scale": 0.15}, "localization_weight": 2}},
    )
    told = {}
    for scope in ("backbone", "detector"):
        source = FromFile(str(small_run[0]), scope=scope)
        settings = source.read(build.instantiate(cfg.backbone)).settings
        for name, now in (("same", cfg), ("other", other)):
            caplog.clear()
            warn_of_other_settings(now, settings, source)
            told[scope, name] = [message.partition("has ")[2].partition("=")[0] for message in caplog.messages]
    assert told == {
        ("backbone", "same"): [],
        ("backbone", "other"): ["backbone.input_scaling"],
        ("detector", "same"): [],
        ("detector", "other"): ["backbone.input_scaling", "detector.anchors.min_scale"],
    }


@pytest.mark.parametrize(("release", "wanted"), [(1, "sum"), (2, "smoothed")])
def test_a_pyramid_of_the_api_tells_what_it_carries_down(tmp_path, caplog, release, wanted):
    kernel = np.ones((3, 3, 3, 8), np.float32)
    if release == 1:
        scope = "FeatureExtractor/MobilenetV1"
        names = (f"{scope}/MobilenetV1/Conv2d_0/weights", f"{scope}/fpn/smoothing_2/weights")
        checkpoint.write(tmp_path / "x", dict.fromkeys(names, kernel))
    else:
        names = ("conv1/kernel", "ssd/FeatureMaps/top_down/smoothing_2_conv/kernel")
        parts = {f"part_{i}": tf.Variable(kernel, name=name) for i, name in enumerate(names)}
        tf.train.Checkpoint(**parts).write(str(tmp_path / "x"))
    source = FromFile(str(tmp_path / "x"), scope="detector")
    arrays = source.read(MobileNetV1())
    assert set(arrays) == {"Conv2d_0/kernel", "fpn/smoothing_2/kernel"}
    for carry in ("sum", "smoothed"):
        warn_of_other_settings(OmegaConf.create({"detector": {"neck": {"carry": carry}}}), arrays.settings, source)
    (message,) = caplog.messages
    assert f"its network has detector.neck.carry={wanted}, and this one has " in message


def test_arguments_of_the_backbone_in_the_catalogue_are_compared(published, caplog):
    source, _ = published
    source.name = "zoo"
    settings = source.read(Backbone()).settings
    caplog.clear()
    for multiplier in (1, 0.5):
        warn_of_other_settings(OmegaConf.create({"backbone": {"depth_multiplier": multiplier}}), settings, source)
    (message,) = caplog.messages
    assert "published weights zoo: its network has backbone.depth_multiplier=1.0, and this one has 0.5" in message


@pytest.mark.parametrize("part", [{"rpn_head": {"activation": "relu"}}, {"head": {"centerness": "regression"}}])
def test_parts_that_change_no_shape_are_compared(caplog, part):
    cfg = OmegaConf.create({"detector": part})
    ((name, values),) = part.items()
    ((key, _),) = values.items()
    warn_of_other_settings(cfg, {f"detector.{name}.{key}": "another"}, FromFile("x", scope="detector"))
    assert [f"detector.{name}.{key}=another" in message for message in caplog.messages] == [True]


@pytest.mark.parametrize(("average", "value"), [(False, 1.0), (True, 2.0)])
def test_a_stage_starts_from_averages_or_tells_them(tmp_path, caplog, average, value):
    kernel = np.ones((1, 1, 3, 2), np.float32)
    names = {
        "MobilenetV1/Conv2d_0/weights": kernel,
        "MobilenetV1/Conv2d_0/weights/ExponentialMovingAverage": 2 * kernel,
    }
    checkpoint.write(tmp_path / "x", names)
    image = tf_keras.Input((4, 4, 3))
    model = tf_keras.Model(image, tf_keras.layers.Conv2D(2, 1, use_bias=False, name="Conv2d_0")(image))
    network = SimpleNamespace(model=model, detects=False, backbone_layers={"Conv2d_0"})
    cfg = OmegaConf.create({"backbone": {"_target_": "detect.modeling.backbones.mobilenet_v1.MobileNetV1"}})
    with caplog.at_level("INFO", "detect"):
        source = FromFile(str(tmp_path / "x"), average=average)
        assert initialise(network, source, cfg, RunFolder(tmp_path / "run").stage("classify"))
    assert [a.max() for a in model.get_weights()] == [value]
    assert any("1 averages of weights are not used" in line for line in caplog.messages) is not average


def test_only_checkpoints_by_names_have_averages(tmp_path):
    tf.train.Checkpoint(part=tf.Variable(1.0, name="conv1/kernel")).write(str(tmp_path / "x"))
    with pytest.raises(WeightsError, match=r"init\.average=true: .*x is no checkpoint by variable names"):
        FromFile(str(tmp_path / "x"), average=True).read(MobileNetV1())
