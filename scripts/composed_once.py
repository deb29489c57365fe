"""Composes the files of a choice of groups once, for programs that compose thousands of configurations.

Hydra reads the files first and sets the values afterwards. A Composer of this kind keeps what was read, and lets Hydra
set the values in a copy (pickle copies in a sixth of the time of copy.deepcopy). tests/config/test_compose.py compares
the result with Hydra's own.
"""

import os
import pickle

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from omegaconf import DictConfig, OmegaConf

from detect.config import check
from detect.config.composer import Composer
from detect.config.grammar import parse

FILES = ("hydra/", "hydra.searchpath")
"""Overrides of Hydra that decide which files are read."""
MOST_KEPT = 300
PACKAGED = check.CONFIG_DIR

compose = Composer._composed
_kept: dict[tuple[str, tuple[str, ...]], bytes] = {}


def composed_once(composer: Composer, lines: tuple[str, ...]) -> DictConfig:
    """As `Composer._composed`. Files of the user, and of a test, may change: only the packaged ones are kept."""
    parsed = parse(lines)
    chosen = tuple(str(o.input_line) for o in parsed if composer._chooses(o) or o.key_or_group.startswith(FILES))
    if composer.folders != [PACKAGED] or any(line.startswith("hydra.searchpath") for line in chosen):
        return compose(composer, lines)
    key = composer.config_name, chosen
    if key not in _kept:
        if len(_kept) == MOST_KEPT:
            _kept.clear()
        _kept[key] = pickle.dumps(compose(composer, chosen))
    cfg: DictConfig = pickle.loads(_kept[key])
    OmegaConf.set_struct(cfg, True)
    ConfigLoaderImpl._apply_overrides_to_config([o for o in parsed if str(o.input_line) not in chosen], cfg)
    hydra = cfg.hydra
    hydra.overrides.task = [str(o.input_line) for o in parsed if not o.is_hydra_override()]
    hydra.overrides.hydra = [str(o.input_line) for o in parsed if o.is_hydra_override()]
    hydra.runtime.cwd = os.getcwd()
    named = dict(hydra.job.config.override_dirname)
    hydra.job.override_dirname = get_overrides_dirname([o for o in parsed if not o.is_hydra_override()], **named)
    return cfg
