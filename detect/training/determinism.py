"""Repeatable bits: what `deterministic=true` can hold on the devices of this machine."""

import contextlib
import logging
from collections.abc import Iterator

import tensorflow as tf
from omegaconf import DictConfig, OmegaConf
from tensorflow.python.framework import config as settings

from detect.errors import ConfigError, one_line

log = logging.getLogger("detect")


def demand(cfg: DictConfig) -> None:
    """Makes all operations of this process deterministic, if the configuration wants it and the devices can do it.
    Otherwise this is off, also after a run that wanted it.

    On a GPU, TensorFlow refuses some gradients then. For a run with such parts it is off, and a warning names them.
    """
    found = undetermined(cfg) if cfg.deterministic and tf.config.list_physical_devices("GPU") else []
    if found:
        names = ", ".join(found)
        log.warning("deterministic=true is left out: on a GPU, TensorFlow has no deterministic gradient for %s", names)
    if cfg.deterministic and not found:
        tf.config.experimental.enable_op_determinism()
    else:
        settings.disable_op_determinism()  # TensorFlow has no public name for it


def undetermined(cfg: DictConfig) -> list[str]:
    """The parts of a run whose gradients TensorFlow 2.20 refuses to compute on a GPU in a fixed order.

    These are CropAndResizeGradImage, ResizeNearestNeighborGrad, FusedBatchNormGradV3 of frozen batch norm, and the
    gradients of FakeQuantWithMinMaxVars.
    """
    found = ["detector.roi"] * ("roi" in cfg.detector)
    found += ["detector.neck"] * str(OmegaConf.select(cfg, "detector.neck._target_")).endswith(".FPN")
    keys = ["schedule", *["classify.schedule"] * bool(cfg.classify.enabled)]
    found += [f"{key}.batch_norm" for key in keys if OmegaConf.select(cfg, key).batch_norm == "frozen"]
    return found + ["quantize"] * bool(cfg.quantize.enabled)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Raises ConfigError, which names the key, for an operation that is not deterministic on this device."""
    try:
        yield
    except tf.errors.UnimplementedError as error:
        if "determinis" not in error.message.lower():
            raise
        raise ConfigError(f"deterministic=true: {one_line(error)}; give deterministic=false") from error
