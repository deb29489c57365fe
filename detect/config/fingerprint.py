"""The only rule for "the same run": the configurations are equal except for UNFINGERPRINTED keys.

`resume=RUN`, a sweep that goes on, and the check of an existing run folder all use `differences`. Summaries keep the
`fingerprint`.
"""

import fnmatch
import hashlib
import json

from omegaconf import DictConfig

from detect.config.tree import Tree, leaves, plain

UNFINGERPRINTED = ("resume", "trust", "name", "study", "rates.*", "log", "log.*", "logs", "logs.*")
"""Globs of keys that change neither the data nor the result of a run."""

ABSENT = "no such key"


def fingerprint(cfg: DictConfig) -> str:
    """Sixteen hex digits of the resolved configuration without UNFINGERPRINTED keys; the same run has the same digits.

    Raises ConfigError for an interpolation of a key that does not exist.
    """
    return _digest(_decisive(cfg))


def digest(cfg: DictConfig) -> str:
    """Sixteen hex digits of the whole resolved configuration, without Hydra's node. Raises as `fingerprint` does."""
    return _digest(plain(cfg))


def differences(then: DictConfig, now: DictConfig) -> list[str]:
    """A line for each key that makes two fingerprints differ, with both values. Raises as `fingerprint` does."""
    before, after = _decisive(then), _decisive(now)
    return [
        f"  {key}: the run has {before.get(key, ABSENT)}, this command has {after.get(key, ABSENT)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, ABSENT) != after.get(key, ABSENT)
    ]


def _digest(tree: Tree) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _decisive(cfg: DictConfig) -> Tree:
    """The resolved configuration by dotted key, without UNFINGERPRINTED keys."""
    return {k: v for k, v in leaves(plain(cfg)) if not any(fnmatch.fnmatchcase(k, g) for g in UNFINGERPRINTED)}
