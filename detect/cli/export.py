"""Exports a trained detector: `detect export run=RUN`."""

from omegaconf import DictConfig

from detect.export.options import destination


def main(cfg: DictConfig) -> None:
    """Writes the model and the measurements of it."""
    folder = destination(cfg)
    from detect.export.writer import write  # imports TensorFlow

    write(cfg, folder)
