"""Where weights come from: names, run folders, published archives."""

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from detect.errors import WeightsError
from detect.weights import checkpoint
from detect.weights.sources import FromFile, NoWeights, Published, our_name

CONFIGS = Path(__file__).parents[2] / "configs" / "init"
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


@pytest.mark.parametrize(
    ("name", "scope", "expected"),
    [
        ("MobilenetV1/Conv2d_0/weights", "MobilenetV1", "Conv2d_0/kernel"),
        ("MobilenetV1/Conv2d_0/BatchNorm/gamma", "MobilenetV1", "Conv2d_0/BatchNorm/gamma"),
        ("InceptionV2/Conv2d_1a_7x7/pointwise_weights", "InceptionV2", "Conv2d_1a_7x7/pointwise_kernel"),
        ("Conv2d_0/kernel", "MobilenetV1", "Conv2d_0/kernel"),
        ("InceptionV2/Conv2d_0/weights", "MobilenetV1", "InceptionV2/Conv2d_0/kernel"),
    ],
)
def test_names(name, scope, expected):
    assert our_name(name, scope) == expected


def test_nothing():
    assert NoWeights().read("MobilenetV1") is None
    assert "random" in NoWeights().describe()


def test_a_slim_checkpoint(tmp_path):
    checkpoint.write(tmp_path / "net_1.0.ckpt", SLIM)
    for path in ("net_1.0.ckpt", "net_1.0.ckpt.index", "."):
        source = FromFile(str(tmp_path / path))
        assert set(source.read("MobilenetV1")) == OURS
        assert source.describe() == str(tmp_path / "net_1.0.ckpt")


def test_run_folders_give_the_best_detector_else_the_best_classifier(tmp_path):
    run = tmp_path / "run"
    for i, place in enumerate(("classify/best", "detector/best")):
        checkpoint.write(run / place, {"Conv2d_0/kernel": np.full(2, i, np.float32)})
        assert FromFile(str(run)).describe() == str(run / place)
        assert FromFile(str(run)).read("MobilenetV1")["Conv2d_0/kernel"].tolist() == [i, i]
    checkpoint.write(run / "classify" / "other", SLIM)
    assert FromFile(str(run / "classify")).describe() == str(run / "classify" / "best")
    assert FromFile(str(run / "classify" / "other")).describe() == str(run / "classify" / "other")


def test_places_without_weights_are_named(tmp_path):
    with pytest.raises(WeightsError, match=rf"init.path=.*: the folder {tmp_path}/nowhere does not exist"):
        FromFile(str(tmp_path / "nowhere" / "net.ckpt")).read("MobilenetV1")
    with pytest.raises(WeightsError, match=rf"{tmp_path} is a folder with no \*.index"):
        FromFile(str(tmp_path)).read("MobilenetV1")


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
        "depth_multiplier": 1.0,
        "address": archive.as_uri(),
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "file": "net.ckpt",
    }
    return Published({"net_1.0": entry}, cache=str(tmp_path / "cache")), archive


def test_a_published_checkpoint_is_fetched_once_and_read(published):
    source, archive = published
    assert set(source.read("MobilenetV1")) == OURS
    assert source.describe() == "published checkpoint net_1.0"
    archive.unlink()
    assert set(source.read("MobilenetV1")) == OURS


def test_offline_says_what_can_be_done(published):
    source, archive = published
    archive.unlink()
    with pytest.raises(WeightsError) as caught:
        source.read("MobilenetV1")
    message = str(caught.value)
    assert archive.as_uri() in message and f"the cache folder {archive.parents[1]}/cache/weights" in message
    assert "init=PATH" in message and "init=none" in message


@pytest.mark.parametrize(("scope", "multiplier"), [("MobilenetV1", 0.5), ("InceptionV3", 1.0)])
def test_backbones_that_nobody_published(published, scope, multiplier):
    source, _ = published
    source.depth_multiplier = multiplier
    with pytest.raises(WeightsError) as caught:
        source.read(scope)
    message = str(caught.value)
    assert message.startswith(f"no published weights are listed for {scope} with depth_multiplier={multiplier}, only ")
    assert "init=PATH" in message and "init=none" in message


def test_the_shipped_address_is_complete():
    archives = yaml.safe_load((CONFIGS / "imagenet.yaml").read_text())["archives"]
    for name, entry in archives.items():
        assert set(entry) == {"slim_scope", "depth_multiplier", "address", "sha256", "file"}
        assert entry["address"].endswith(f"/{name}.tgz") and entry["file"].startswith(name)
        assert len(bytes.fromhex(entry["sha256"])) == 32
