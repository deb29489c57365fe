"""`detect doctor`: installed and locked versions, devices, and missing packages with the commands that install them.
With `run=RUN`, it says why the detector of a run finds nothing."""

import importlib.metadata
import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from detect.config import trust
from detect.errors import DISTRIBUTION, printable, to_install
from detect.files import expanded
from detect.runs import provenance

if TYPE_CHECKING:
    from omegaconf import DictConfig

LOCK = "requirements.lock"
NOT_SHOWN = {"dev", "docs", "gpu"}  # what only work on `detect` itself needs, and what the line of the GPU tells

NEEDED = {
    "tensorflow": "tensorflow",
    "tf_keras": "tf_keras",
    "official": "tf-models-official",
    "orbit": "tf-models-official",
    "tf_slim": "tf-models-official",
    "absl": "absl-py",
    "albumentations": "albumentations",
    "cv2": "opencv-python-headless",
    "hydra": "hydra-core",
    "tensorboard": "tensorboard",
    "ai_edge_litert": "ai-edge-litert",
    "faster_coco_eval": "faster-coco-eval",
    "mlxtend": "mlxtend",
    "packaging": "packaging",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
    "PIL": "pillow",
    "rich": "rich",
    "numpy": "numpy",
    "flatbuffers": "flatbuffers",
    "google_crc32c": "google-crc32c",
    "google.protobuf": "protobuf",
    "h5py": "h5py",
    "omegaconf": "omegaconf",
    "manimgx_fonts": "manimgx-fonts",
    "manimgx_fonts_cjk": "manimgx-fonts-cjk",
    "psutil": "psutil",
    "pydantic": "pydantic",
    "pydantic_core": "pydantic",
    "yaml": "pyyaml",
    "scipy": "scipy",
    **({"array_record": "array-record"} if sys.platform == "linux" else {}),
}
"""Each module that the program imports -> the distribution that installs it."""


def main(cfg: "DictConfig") -> None:
    """Prints the tables. The exit code is 1 if something is missing, or if a number says why a run finds nothing."""
    if cfg.run is not None:
        return examine(expanded(cfg.run))
    lock = locked_versions()
    print("\n".join([*package_table(lock), "", *extra_table(), "", *machine_table(cfg.devices)]))
    problems = missing(lock) + (device_problems() if cfg.devices else [])
    if problems:
        print("\n".join(["", "Missing:", *(f"  {problem}" for problem in problems)]))
        raise SystemExit(1)
    print("\nNothing is missing.")


def examine(folder: Path) -> None:
    """Prints what a run's numbers say, in the order in which they should be read."""
    from detect.studies.diagnosis import diagnose

    found = diagnose(folder)
    for row in found.findings:
        mark = {True: "right", False: "WRONG", None: "?"}[row.right]
        told = f"{row.found}; wanted: {row.wanted}" if row.right is False else row.found
        print(textwrap.fill(f"{row.row}. {row.question:<36}{mark:<7}{printable(told)}", 80, subsequent_indent=" " * 46))
    print("\n" + textwrap.fill(found.verdict(), 80))
    if found.ap50 is not None and not found.detects and found.first_wrong is not None:
        raise SystemExit(1)


def locked_versions() -> dict[str, str]:
    """Versions in the lock file, which is in the checkout or in the wheel; {} without a lock file."""
    from packaging.requirements import Requirement

    places = (provenance.CHECKOUT, Path(sys.prefix, "share", "detect"))
    file = next((folder / LOCK for folder in places if (folder / LOCK).is_file()), None)
    locked = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file else []:
        if line[:1].isalnum():
            wanted = Requirement(line.rstrip(" \\"))
            if wanted.marker is None or wanted.marker.evaluate():
                locked[_plain_name(wanted.name)] = str(wanted.specifier).removeprefix("==")
    return locked


def package_table(lock: dict[str, str]) -> list[str]:
    """One line for each package: installed version, locked version, and a remark if they differ."""
    lines = [f"{'package':<24}{'installed':<14}locked"]
    lines.append(f"{'python':<24}{provenance.versions()['python']:<14}3.11 .. 3.13")
    for name in ["detect", *sorted(set(NEEDED.values()))]:
        found, wanted = provenance.version(name), lock.get(_plain_name(name), "-")
        remark = (
            ("missing" if name != "detect" else "not installed")
            if found is None
            else "differs"
            if wanted not in ("-", found)
            else ""
        )
        brings = ", ".join(m for m, d in NEEDED.items() if d == name and m in ("official", "orbit"))
        lines.append(f"{name:<24}{found or '-':<14}{wanted:<14}{remark or (brings and f'({brings})')}".rstrip())
    return lines


def extra_table() -> list[str]:
    """One line for each optional part: its packages with their versions, or the command that installs it."""
    from packaging.requirements import Requirement

    lines = [f"{'optional part':<24}packages"]
    try:
        about = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return [*lines, f"{'':<24}not known: detect is not installed"]
    wanted = [Requirement(line) for line in about.get_all("Requires-Dist") or ()]
    for extra in set(about.get_all("Provides-Extra") or ()) - NOT_SHOWN:
        markers = [(r.name, r.marker) for r in wanted if r.marker and not r.marker.evaluate({"extra": ""})]
        names = [name for name, marker in markers if marker.evaluate({"extra": extra})]
        found = {name: provenance.version(name) for name in names}
        lacks = [name for name, version in found.items() if version is None]
        have = ", ".join(f"{name} {version}" for name, version in found.items())
        told = to_install(extra).partition(",")[0] if lacks else have
        lines.append(textwrap.fill(f"{extra:<24}{told}", 80, subsequent_indent=" " * 24))
    return [lines[0], *sorted(lines[1:])]


def machine_table(devices: bool) -> list[str]:
    """Processor, memory, oneDNN, cache folder and GPUs. devices: lists GPUs with TensorFlow, which is imported."""
    host = provenance.host()
    onednn = "on" if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "1" else "off (TF_ENABLE_ONEDNN_OPTS=1 turns it on)"
    lines = [
        f"{'processor':<24}{host['cpu']}",
        f"{'cores':<24}{host['cores']}",
        f"{'memory':<24}{host['memory_gb']} GB",
        f"{'oneDNN':<24}{onednn}",
        f"{'cache':<24}{cache_line()}",
    ]
    names = gpu_names() if devices else host["gpus"]
    growth = ", memory growth on" if os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH") == "true" else ""
    lines += [f"{'GPU':<24}{name}{growth}" for name in names] or [f"{'GPU':<24}none"]
    return [*lines, f"{'precision':<24}{suiting_precision(devices)}"]


def suiting_precision(devices: bool) -> str:
    """The values of `precision` that the machine computes fast. devices: asks TensorFlow for those of GPUs."""
    if not devices or not gpu_names():
        return "float32 (16 bits are many times slower on processors)"
    import tensorflow as tf

    found = [tf.config.experimental.get_device_details(d) for d in tf.config.list_physical_devices("GPU")]
    capability = min(details.get("compute_capability", (0, 0)) for details in found)
    fast = ["float32", *(["float16"] if capability >= (7, 0) else []), *(["bfloat16"] if capability >= (8, 0) else [])]
    return f"{', '.join(fast)} (compute capability {'.'.join(map(str, capability))})"


def cache_line() -> str:
    """The folder for downloads and generated data, and its size."""
    from detect.files import cache_folder

    folder = cache_folder()
    if not folder.is_dir():
        return f"{folder} (empty)"
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return f"{folder} ({size / 1e6:.0f} MB)"


def gpu_names() -> list[str]:
    """GPUs that TensorFlow can use: "/physical_device:GPU:0 (NVIDIA T4)"."""
    if not trust.found("tensorflow"):
        return []
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    return [f"{d.name} ({tf.config.experimental.get_device_details(d).get('device_name', '?')})" for d in devices]


def device_problems() -> list[str]:
    """A problem if the driver lists a GPU that TensorFlow can't use."""
    if not provenance.gpu_models() or gpu_names():
        return []
    return [f"TensorFlow does not see the GPU: {to_install('gpu')} (CUDA), and check the driver with nvidia-smi"]


def missing(lock: dict[str, str]) -> list[str]:
    """Missing or conflicting packages, each with the command that corrects it."""
    problems = []
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        problems.append(f"Python {provenance.versions()['python']}: 3.11 to 3.13 are supported")
    for module, name in NEEDED.items():
        if not trust.found(module):
            pinned = lock.get(_plain_name(name))
            problems.append(f"{module}: pip install '{name}{f'=={pinned}' if pinned else ''}'")
    if provenance.version("opencv-python") and provenance.version("opencv-python-headless"):
        problems.append(
            "two versions of opencv are installed: pip uninstall opencv-python, then reinstall opencv-python-headless"
        )
    return problems


def _plain_name(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
