"""The one rule for "the same run": equal configurations but for UNFINGERPRINTED keys.

`resume=RUN`, a sweep that goes on and a run folder that is taken already all ask `differences`; summaries keep the
`fingerprint`.
"""

import fnmatch
import hashlib
import json

from omegaconf import DictConfig

from detect.config.tree import Tree, leaves, plain

UNFINGERPRINTED = ("resume", "name", "study", "rates.*", "log", "log.*", "logs", "logs.*")
"""Globs of keys that change neither the data nor the result of a run."""

ABSENT = "no such key"


def fingerprint(cfg: DictConfig) -> str:
    """Sixteen hex digits of the resolved configuration without UNFINGERPRINTED keys: equal digits, equal runs.

    Raises ConfigError for an interpolation that leads nowhere.
    """
    return _digest(_decisive(cfg))


def digest(cfg: DictConfig) -> str:
    """Sixteen hex digits of the whole resolved configuration, Hydra's node left out. Raises ConfigError alike."""
    return _digest(plain(cfg))


def differences(then: DictConfig, now: DictConfig) -> list[str]:
    """A line for each key that makes two fingerprints differ, with both values. Raises ConfigError alike."""
    before, after = _decisive(then), _decisive(now)
    return [
        f"  {key}: the run has {before.get(key, ABSENT)}, asked is {after.get(key, ABSENT)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, ABSENT) != after.get(key, ABSENT)
    ]


def _digest(tree: Tree) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _decisive(cfg: DictConfig) -> Tree:
    """The resolved configuration by dotted key, without UNFINGERPRINTED keys."""
    return {k: v for k, v in leaves(plain(cfg)) if not any(fnmatch.fnmatchcase(k, g) for g in UNFINGERPRINTED)}
