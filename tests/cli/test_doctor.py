"""The doctor's tables, and what it says when something is missing."""

import ast
import importlib.util
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from detect.cli import doctor
from detect.config import trust
from detect.errors import to_install
from detect.runs import provenance
from tests.test_layers import imported, modules


def test_lock_holds_what_is_needed():
    lock = doctor.locked_versions()
    for name in doctor.NEEDED.values():
        assert doctor._plain_name(name) in lock, f"{name} is not locked"
    assert lock["albumentations"] == "2.0.8"


def test_every_required_package_is_looked_for():
    project = tomllib.loads((provenance.CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(line) for line in project["dependencies"]]
    names = {wish.name for wish in wanted if wish.marker is None or wish.marker.evaluate()} - {"setuptools"}
    assert names == set(doctor.NEEDED.values())
    assert not trust.found("no_such_package.protobuf")


OPTIONAL = {"mlflow", "onnx", "onnxruntime", "openvino", "submitit", "tf2onnx", "wandb"}


def test_every_module_that_the_program_imports_is_looked_for():
    names = {name.split(".")[0] for source in modules().values() for _, name in imported(ast.parse(source))}
    known = {module.split(".")[0] for module in doctor.NEEDED}
    assert names - known - OPTIONAL - sys.stdlib_module_names == {"detect"}


def test_no_lock_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "CHECKOUT", tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert doctor.locked_versions() == {}
    assert any(line.split() == ["albumentations", "2.0.8", "-"] for line in doctor.package_table({}))


def test_lock_of_an_installed_wheel(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "CHECKOUT", tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    folder = tmp_path / "venv" / "share" / "detect"
    folder.mkdir(parents=True)
    (folder / "requirements.lock").write_text(
        "# comment\nrich==1.0 \\\n    --hash=sha256:00\nnumpy==1.0 ; python_full_version < '3'\nnumpy==2.0\n"
    )
    assert doctor.locked_versions() == {"rich": "1.0", "numpy": "2.0"}
    (line,) = [line for line in doctor.package_table(doctor.locked_versions()) if line.startswith("rich")]
    assert line.split()[2:] == ["1.0", "differs"]


def test_nothing_missing(capsys):
    doctor.main(SimpleNamespace(devices=False, run=None))
    text = capsys.readouterr().out
    assert text.endswith("\nNothing is missing.\n")
    assert max(map(len, text.splitlines())) <= 80
    for word in ("tensorflow ", "processor", "cores", "memory", "oneDNN", "cache", "GPU"):
        assert word in text


def test_each_optional_part_is_there_or_has_its_command(monkeypatch):
    lines = doctor.extra_table()
    parts = {line.split()[0]: line for line in lines[1:] if not line.startswith(" ")}
    assert {"onnx", "openvino", "mlflow", "wandb", "sweep", "ray"} <= set(parts) and "dev" not in parts
    assert max(map(len, "\n".join(lines).splitlines())) <= 80
    find = provenance.version
    monkeypatch.setattr(
        provenance, "version", lambda name: "1.0" if name in ("onnx", "tf2onnx", "onnxruntime") else find(name)
    )
    (line,) = (line for line in doctor.extra_table() if line.startswith("onnx "))
    assert line.split(maxsplit=1)[1] == "onnx 1.0, onnxruntime 1.0, tf2onnx 1.0"
    monkeypatch.setattr(provenance, "version", lambda name: None if name == "onnx" else find(name))
    (line,) = (line for line in doctor.extra_table() if line.startswith("onnx "))
    assert line.split(maxsplit=1)[1] == "pip install -e '.[onnx]'"


def test_missing_package_names_the_remedy_and_the_exit_code_is_1(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mlxtend" else find(name))
    with pytest.raises(SystemExit) as ended:
        doctor.main(SimpleNamespace(devices=False, run=None))
    assert ended.value.code == 1
    assert "mlxtend: pip install 'mlxtend==" in capsys.readouterr().out


def test_gpu_that_tensorflow_does_not_see(monkeypatch):
    monkeypatch.setattr(provenance, "gpu_models", lambda: ["NVIDIA T4"])
    monkeypatch.setattr(doctor, "gpu_names", lambda: [])
    assert doctor.device_problems() == [
        f"TensorFlow does not see the GPU: {to_install('gpu')} (CUDA), and check the driver with nvidia-smi"
    ]


def test_opencv_twice(monkeypatch):
    monkeypatch.setattr(provenance, "version", lambda name: "4.9")
    assert any("pip uninstall opencv-python" in problem for problem in doctor.missing({}))


def test_command_leaves_nothing_behind(tmp_path):
    command = [sys.executable, "-m", "detect.cli", "doctor", "devices=false"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=_environment())
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def _environment():
    import os

    return os.environ | {"PYTHONPATH": str(provenance.CHECKOUT)}
