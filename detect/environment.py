"""The machine as this process sees it, the environment variables that TensorFlow and albumentations read when they are
imported, and those of a process that this one starts. What the user has set stays."""

import contextlib
import gc
import importlib.abc
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

UNUSED_BY_TENSORFLOW = ("pandas", "scipy")
"""What TensorFlow imports where it is installed, for functions that nothing here calls: 72 MB, and half a second."""
_options = threading.RLock()  # of TensorFlow, for all threads


def for_library() -> None:
    """Sets what makes training fast, and which messages TensorFlow shows."""
    # It is off by default on AMD processors with AVX2, where it makes training about 1.3 times as fast.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else it asks the network for a newer version
    gpu = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()
    # 2 shows errors, for example of a missing CUDA library. Without a GPU, the only one is that CUDA finds none.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if gpu else "3")


def of_child(**further: str) -> dict[str, str]:
    """The environment variables of a Python process that is started with `-P`: it imports from where this one does."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))} | further


def usable_cores() -> int:
    """The cores that this process may use: on a shared machine, those of its job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def onednn_with_avx2() -> bool:
    """Whether TensorFlow uses oneDNN on a processor with AVX2 and without AVX-512: some kernels are slow there."""
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "1":
        return False
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return " avx2" in described and " avx512f" not in described


@contextlib.contextmanager
def fusing(images: int) -> Iterator[None]:
    """Lets TensorFlow join a convolution with its batch norm, unless that is slower.

    The joint kernel of oneDNN takes ten times as long for a batch of one with AVX2. The figures are the same.
    """
    import tensorflow as tf

    if images > 1 or not onednn_with_avx2() or tf.config.list_physical_devices("GPU"):
        yield
        return
    with _options:
        before = tf.config.optimizer.get_experimental_options().get("remapping", True)
        tf.config.optimizer.set_experimental_options({"remapping": False})
        try:
            yield
        finally:
            tf.config.optimizer.set_experimental_options({"remapping": before})


def for_program() -> None:
    """Sets all of it for a process that runs nothing else: also what TensorFlow imports, and the garbage collector.

    Python looks for unreachable cycles of objects less often. A graph has so many objects, which all stay, that the
    search took a fifth of the time until the first step.
    """
    for_library()
    gc.set_threshold(50_000, 10, 10)
    # Else TensorFlow imports Keras 3, which nothing here uses: 1.5 s of CPU time, and 86 MB.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    if not any(isinstance(finder, _Without) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Without())


class _Without(importlib.abc.MetaPathFinder):
    """Hides UNUSED_BY_TENSORFLOW while TensorFlow is imported, which goes on without them. Later imports find them."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        spec = getattr(sys.modules.get("tensorflow"), "__spec__", None)
        if name.partition(".")[0] in UNUSED_BY_TENSORFLOW and getattr(spec, "_initializing", False):
            raise ModuleNotFoundError(f"{name} is not imported by TensorFlow here", name=name)


def free_cycles() -> None:
    """Frees the cycles of objects that became unreachable since the last call, such as those of a figure.

    Memory grew by some percent until Python's own search found them. The first call frees nothing. What lives at a call
    is not searched again, so a call takes milliseconds; `gc.unfreeze` ends that.
    """
    if gc.get_freeze_count():
        gc.collect()
    gc.freeze()
