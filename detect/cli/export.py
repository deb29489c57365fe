"""Exports a trained detector: `detect export run=RUN`."""

from omegaconf import DictConfig

from detect.cli.main import verb
from detect.export.options import destination


@verb("export")
def main(cfg: DictConfig) -> None:
    """Writes the model and the measurements of it."""
    folder = destination(cfg)
    from detect.export.writer import write  # imports TensorFlow

    write(cfg, folder)


if __name__ == "__main__":
    main()
