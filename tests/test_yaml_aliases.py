"""A few lines of YAML with aliases stand for billions of values: every reader refuses them at once."""

import time

import pytest
import yaml

from detect import files
from detect.config.compose import compose
from detect.config.tree import read_yaml
from detect.data.formats.yolo import read_yolo
from detect.errors import ConfigError, DataError
from detect.files import unswollen
from detect.studies.records import FinishedRun


def bomb(levels: int, name: str = "train") -> str:
    """9 ** levels values, under the last key."""
    lines = ["names: [cat]", "a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join([*lines, f"{name}: *a{levels - 1}", ""])


@pytest.fixture(autouse=True)
def quick():
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < 20, "it was not refused, but expanded"


def test_how_many_values_are_too_many(monkeypatch):
    assert unswollen(bomb(4)) == bomb(4)  # 4 lists of 9 ** n and fewer
    with pytest.raises(yaml.YAMLError, match="aliases add more than 100,000 values"):
        unswollen(bomb(6))
    monkeypatch.setattr(files, "MOST_VALUES", 1000)
    many = "\n".join(["a: &a 1", "b: *a", *(f"k{n}: '&*'" for n in range(1000))])  # long, not swollen
    assert unswollen(f"{many}\n") and unswollen("a: &a 1\nb: *a\n")
    with pytest.raises(yaml.YAMLError, match="aliases"):
        unswollen("a: &a [*a]\n")
    assert unswollen("a: [&*\n"), "the parser tells what is wrong"


def test_a_configuration(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(bomb(12))
    with pytest.raises(ConfigError, match=r"config\.yaml: the file is damaged .*aliases"):
        read_yaml(file)
    with pytest.raises(ConfigError, match=r"config\.yaml: the file is damaged .*aliases"):
        compose(["dataset=digits"], config_dir=tmp_path)


def test_the_overrides_of_a_run(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text(bomb(12))
    with pytest.raises(DataError, match=r"overrides\.yaml: not readable: .*aliases"):
        _ = FinishedRun(tmp_path, {}).overrides


@pytest.mark.parametrize("key", ["train", "path", "names", "nc"])
def test_a_data_yaml(tmp_path, key):
    (tmp_path / "data.yaml").write_text(bomb(12, key).replace("names: [cat]\n" if key == "names" else "\0", ""))
    with pytest.raises(DataError, match=r"data\.yaml: malformed yaml .*aliases"):
        read_yolo(tmp_path)
