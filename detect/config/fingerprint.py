"""The only rule for "the same run": the configurations are equal except for UNFINGERPRINTED keys.

`resume=RUN`, a sweep that goes on, and the check of an existing run folder all use `changes`. Summaries keep the
`fingerprint`.
"""

import fnmatch
import hashlib
import json

from omegaconf import DictConfig

from detect.config.tree import Tree, leaves, plain

UNFINGERPRINTED = (
    "resume",
    "trust",
    "name",
    "study",
    "rates.*",
    "log",
    "log.*",
    "logs",
    "logs.*",
    "distribute.*",
    "logger",
    "logger.*",
    "validation_loss",
    "graph",
    "profile",
    "profile.*",
)
"""Globs of keys that change neither the data nor the result of a run."""

ADDED = {"*.postprocess.class_agnostic": False}
"""Globs of keys that runs of version 0.1 lack, and the value that does what these did: with it, a key is left out."""

ABSENT = "no such key"


def fingerprint(cfg: DictConfig) -> str:
    """Sixteen hex digits of the resolved configuration without UNFINGERPRINTED keys; the same run has the same digits.

    Raises ConfigError for an interpolation of a key that does not exist.
    """
    return _digest(_decisive(cfg))


def digest(cfg: DictConfig) -> str:
    """Sixteen hex digits of the whole resolved configuration, without Hydra's node. Raises as `fingerprint` does."""
    return _digest(plain(cfg))


def changes(then: DictConfig, now: DictConfig) -> dict[str, tuple[object, object]]:
    """The keys that make two fingerprints differ, with both values; ABSENT is that of a missing key. Raises as
    `fingerprint` does."""
    before, after = _decisive(then), _decisive(now)
    pairs = {key: (before.get(key, ABSENT), after.get(key, ABSENT)) for key in sorted(before.keys() | after.keys())}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _digest(tree: Tree) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _decisive(cfg: DictConfig) -> Tree:
    """The resolved configuration by dotted key, without UNFINGERPRINTED keys."""
    left_out = [(glob, None) for glob in UNFINGERPRINTED] + list(ADDED.items())
    return {
        key: value
        for key, value in leaves(plain(cfg))
        if not any(fnmatch.fnmatchcase(key, glob) and own in (None, value) for glob, own in left_out)
    }
