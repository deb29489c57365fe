"""Runs a verb in this process, without its command line."""

import importlib

import hydra
from omegaconf import DictConfig

from detect.config.check import CONFIG_DIR


def composed(verb: str, *overrides: str) -> DictConfig:
    """The configuration of a verb, without a check of its values."""
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return hydra.compose(verb, list(overrides))


def call(verb: str, *overrides: str) -> object:
    """Runs a verb on a composed configuration; returns what it returns."""
    return importlib.import_module(f"detect.cli.{verb}").main(composed(verb, *overrides))
