"""The catalogue of published archives, and the one that ships."""

import io
import re
import shlex
import tarfile

import pytest
import yaml

from detect.config.check import CONFIG_DIR
from detect.errors import ConfigError, WeightsError
from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
from detect.modeling.backbones.mobilenet_v2 import MobileNetV2
from detect.modeling.backbones.mobilenet_v3 import MobileNetV3
from detect.weights.catalogue import Entry, obtain

SHIPPED = yaml.safe_load((CONFIG_DIR / "init" / "archives" / "public.yaml").read_text())
VALUES = {
    "slim_scope": "MobilenetV1", "backbone": {"depth_multiplier": 0.5}, "detector": False,
    "use": "backbone=mobilenet_v1", "address": "http://x/net.tgz", "sha256": None, "file": "net.ckpt",
}  # fmt: skip


class Backbone:
    def __init__(self, slim_scope, **arguments):
        self.slim_scope = slim_scope
        self.__dict__ |= arguments


def test_an_entry_suits_the_backbone_that_it_was_trained_with():
    entry = Entry.of("net", VALUES)
    assert entry.suits(Backbone("MobilenetV1", depth_multiplier=0.5))
    assert not entry.suits(Backbone("MobilenetV1", depth_multiplier=1.0))
    assert not entry.suits(Backbone("MobilenetV2", depth_multiplier=0.5))
    assert entry.suits(Backbone("MobilenetV1"))  # whose only choice it is


@pytest.mark.parametrize("change", [{"sha": 1}, {"sha256": ...}])
def test_entries_are_complete(change):
    values = {key: value for key, value in (VALUES | change).items() if value is not ...}
    with pytest.raises(ConfigError, match=r"catalogue: net must have address, .*; wrong are sha"):
        Entry.of("net", values)


@pytest.mark.parametrize(
    "change",
    [{"name": name} for name in ("../net", "/net", "a/b", "..", "", "a\0b", "a\nb", "a b", "-rf", "n" * 200)]
    + [{"address": f"https://127.0.0.1:1/{end}"} for end in ("..", "a\0b", "net.tgz?x=/", "%2e%2e", "a\x1b")],
)
def test_names_that_are_no_plain_names_of_files(tmp_path, change):
    values = VALUES | {"sha256": "0" * 64} | change
    entry = Entry.of(values.pop("name", "net"), values)
    with pytest.raises(WeightsError, match="legal are names of letters, digits"):
        obtain(entry, tmp_path / "cache")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("start", ["http", "ftp", "HTTP"])
def test_an_address_that_anybody_can_change_needs_a_hash(tmp_path, start):
    entry = Entry.of("net", VALUES | {"address": f"{start}://127.0.0.1:1/net.tgz"})
    with pytest.raises(WeightsError, match=r"is not safe without a hash(.|\n)*Legal are https"):
        obtain(entry, tmp_path)


@pytest.mark.parametrize(
    ("change", "legal"),
    [
        ({"address": 3}, "text"), ({"sha256": 3}, "a hash or null"), ({"backbone": []}, "a mapping"),
        ({"detector": "yes"}, "true or false"), ({"file": None}, "text"),
    ],
)  # fmt: skip
def test_values_of_other_types(change, legal):
    with pytest.raises(ConfigError, match=f"catalogue: {next(iter(change))} of net is .*; legal is {legal}"):
        Entry.of("net", VALUES | change)
    with pytest.raises(ConfigError, match="catalogue: net is 3; legal is a mapping"):
        Entry.of("net", 3)


def packed(archive, **files):
    archive.parent.mkdir(exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for number, content in files.items():
            member = tarfile.TarInfo(f"model.ckpt-{number.lstrip('_')}.index")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.as_uri()


def test_another_file_of_one_archive_and_another_archive_of_one_name(tmp_path):
    first = packed(tmp_path / "a" / "model.tar.gz", _100=b"a100", _500=b"a500")
    second = packed(tmp_path / "b" / "model.tar.gz", _100=b"b100")
    cases = (
        (first, "model.ckpt-100", b"a100"),
        (first, "model.ckpt-500", b"a500"),
        (second, "model.ckpt-100", b"b100"),
    )
    for address, file, content in cases * 2:
        folder = obtain(Entry.of("net", VALUES | {"address": address, "file": file}), tmp_path / "cache")
        assert [path.read_bytes() for path in folder.iterdir()] == [content]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_entries(name):
    entry = Entry.of(name, SHIPPED[name])
    assert entry.address.rpartition("/")[2] in (f"{name}.tgz", f"{name}.tar.gz")
    assert re.match(r"https://(download\.tensorflow\.org|storage\.googleapis\.com)/", entry.address)
    assert entry.sha256 is None or len(bytes.fromhex(entry.sha256)) == 32


@pytest.mark.parametrize("name", SHIPPED)
def test_the_overrides_of_an_entry_build_its_backbone(name):
    from hydra.utils import instantiate

    from detect.cli.fetch import command
    from detect.cli.overrides import first_job, prepare, read

    entry = Entry.of(name, SHIPPED[name])
    words = shlex.split(command(entry))
    assert words[:2] == ["detect", "train"]
    prepared = prepare(read(words[2:], "train"))
    cfg = first_job(prepared)
    assert cfg.init.name == name and cfg.init.scope == ("detector" if entry.detector else "backbone")
    assert cfg.classify.enabled is not entry.detector
    assert entry.suits(instantiate(cfg.backbone))


@pytest.mark.parametrize("backbone", [MobileNetV1, MobileNetV2, MobileNetV3])
def test_no_published_classifier_suits_a_reduced_tail(backbone):
    """Its shapes differ: what was fetched would be refused."""
    entries = [entry for name, values in SHIPPED.items() if not (entry := Entry.of(name, values)).detector]
    assert any(entry.suits(backbone()) for entry in entries)
    assert not any(entry.suits(backbone(reduced_tail=True)) for entry in entries)
