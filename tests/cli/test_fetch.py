"""`detect fetch`: the list, a file from a catalogue of one's own, and its use as init=NAME."""

import hashlib
import tarfile

import numpy as np
import pytest
import yaml

from detect.cli.fetch import facts, listing
from detect.cli.overrides import first_job, prepare, read
from detect.errors import ConfigError
from detect.weights import checkpoint
from detect.weights.catalogue import Entry
from tests import program


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A configuration folder with a catalogue of one archive, at a file:// address: (folder, archive)."""
    folder = tmp_path_factory.mktemp("own")
    checkpoint.write(folder / "net.ckpt", {"MobilenetV1/Conv2d_0/weights": np.ones((3, 3, 3, 8), np.float32)})
    with tarfile.open(folder / "net.tgz", "w:gz") as tar:
        for file in sorted(folder.glob("net.ckpt.*")):
            tar.add(file, f"net/{file.name}")
    entry = {
        "slim_scope": "MobilenetV1", "backbone": {"depth_multiplier": 0.25}, "detector": False,
        "use": "backbone=mobilenet_v1 backbone.depth_multiplier=0.25", "address": (folder / "net.tgz").as_uri(),
        "sha256": hashlib.sha256((folder / "net.tgz").read_bytes()).hexdigest(), "file": "net.ckpt",
    }  # fmt: skip
    (folder / "configs" / "init" / "archives").mkdir(parents=True)
    (folder / "configs" / "init" / "archives" / "mine.yaml").write_text(yaml.safe_dump({"my_net": entry}))
    return folder / "configs", folder / "net.tgz"


def detect(*arguments):
    return program.run(*arguments)


def test_a_name_of_ones_own_catalogue_is_fetched(own, tmp_path):
    done = detect("fetch", "my_net", "--config-dir", str(own[0]), f"cache={tmp_path}")
    assert done.returncode == 0, done.stderr
    (folder,) = (path for path in (tmp_path / "weights").iterdir() if path.is_dir())
    lines = done.stdout.splitlines()
    command = "detect train dataset.root=DIR backbone=mobilenet_v1 backbone.depth_multiplier=0.25 init=my_net"
    assert str(folder) in lines and any("net.ckpt.index" in line for line in lines)
    assert lines[-1].strip() == f"{command} init.cache={tmp_path}"
    assert list(checkpoint.read(folder)) == ["MobilenetV1/Conv2d_0/weights"]


def test_a_name_as_a_key_chooses_its_catalogue(own):
    words = ["--config-dir", str(own[0]), "name=my_net"]
    assert prepare(read(words, "fetch")).overrides == ("name=my_net", "init/archives@archives=mine")
    assert prepare(read(["name=null"], "fetch")).overrides == ("name=null",)


def test_the_list_fits_a_terminal():
    done = detect("fetch")
    assert done.returncode == 0 and max(map(len, done.stdout.splitlines())) <= 80
    assert "  ssdlite_mobilenet_v2_coco_2018_05_09" in done.stdout.splitlines()


def test_the_list_has_every_name_once():
    values = {"slim_scope": "V", "backbone": {}, "use": "u", "address": "a", "sha256": None, "file": "f"}
    entries = {name: Entry.of(name, values | {"detector": name == "b"}) for name in "ab"}
    unknown = "      size not stated, licence not stated, hash kept at the first fetch"
    heads = "ImageNet classifiers:", "Detectors (init.scope=detector for the heads):"
    assert listing(entries)[:8] == [heads[0], "  a", "      u", unknown, heads[1], "  b", "      u", unknown]
    told = {"size": 94_321_559, "licence": "Apache-2.0", "sha256": "0123456789abcdef" * 4}
    assert (
        facts(Entry.of("a", values | told | {"detector": False})) == "94.3 MB, Apache-2.0, sha256 0123456789abcdef..."
    )


def test_an_unknown_name_is_refused_with_the_nearest():
    done = detect("fetch", "ssd_mobilenet_v1_coco")
    assert done.returncode == 2 and done.stdout == ""
    assert "unknown name=ssd_mobilenet_v1_coco; did you mean ssd_mobilenet_v1_coco_2018_01_28?" in done.stderr


def composed(*arguments):
    return first_job(prepare(read(["dataset=digits", *arguments], "train")))


def test_init_takes_a_name(own):
    cfg = composed("init=mobilenet_v1_0.5_224")
    assert (
        cfg.init.name == "mobilenet_v1_0.5_224" and cfg.init.archives[cfg.init.name].file == "mobilenet_v1_0.5_224.ckpt"
    )
    cfg = composed("--config-dir", str(own[0]), "init=my_net")
    assert list(cfg.init.archives) == ["my_net"] and cfg.init.scope == "backbone"


def test_a_file_or_folder_of_a_catalogue_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vgg_16_2016_08_28").mkdir()
    assert composed("init=vgg_16_2016_08_28").init.path == str(tmp_path / "vgg_16_2016_08_28")


def test_a_whole_detector_leaves_stage_1_out():
    assert composed("init=vgg_16_2016_08_28").classify.enabled
    assert not composed("init=ssd_mobilenet_v1_coco_2018_01_28", "init.scope=detector").classify.enabled
    with pytest.raises(ConfigError, match=r"init\.scope=detector is not legal with classify\.enabled=true"):
        composed("init=vgg_16_2016_08_28", "init.scope=detector", "classify.enabled=true")
