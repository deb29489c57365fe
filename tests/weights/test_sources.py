"""Where weights come from: names, run folders, published archives."""

import hashlib
import tarfile

import numpy as np
import pytest

from detect.errors import WeightsError
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
    assert message.startswith(f"no published weights are listed for {scope} with depth_multiplier={multiplier} and ")
    assert ("only net_1.0 (backbone=mobilenet_v1)." in message) == (scope == "MobilenetV1")
    assert "zoo" not in message and "init=PATH" in message and "init=none" in message


def test_archives_by_name(published):
    source, _ = published
    source.name, source.scope = "zoo", "detector"
    assert set(source.read(Backbone())) == OURS
    assert source.describe() == "published weights zoo"
    backbone = Backbone()
    backbone.slim_scope = "MobilenetV2"
    with pytest.raises(WeightsError, match="zoo is of MobilenetV1, not of MobilenetV2: use detector=ssd backbone=mob"):
        source.read(backbone)
    source.name = "net_1.0"
    with pytest.raises(WeightsError, match=r"net_1\.0 is a classifier, it has no detector's heads"):
        source.read(Backbone())
    source.name = "net"
    with pytest.raises(WeightsError, match=r"init\.name=net: the catalogue holds zoo, net_1\.0"):
        source.read(Backbone())
