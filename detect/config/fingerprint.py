"""The only rule for "the same run": the configurations are equal except for UNFINGERPRINTED keys.

`resume=RUN`, a sweep that goes on, and the check of an existing run folder all use `changes`. Summaries keep the
`fingerprint`.
"""

import fnmatch
import hashlib
import json

from omegaconf import DictConfig

from detect.config.signatures import static_signature
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
    "distribute.kind",
    "distribute.devices",
    "logger",
    "logger.*",
    "validation_loss",
    "histograms",
    "decode",
    "graph",
    "profile",
    "profile.*",
)
"""Globs of keys that change neither the data nor the result of a run."""

SINCE = {
    **dict.fromkeys(("minutes", "epochs", "repeat_threshold", "limit.steps")),
    "jit_compile": False,
    "precision": "float32",
    "distribute.sync_batch_norm": True,
}
"""Keys of the run level that older runs lack, and the value that does what these runs did."""

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
    `fingerprint` does.

    A key that an older run lacks is no change if its value does what the older run did: the default of the constructor,
    that of SINCE, or images that are not mixed.
    """
    before, after = _decisive(then), _decisive(now)
    pairs = {key: (before.get(key, ABSENT), after.get(key, ABSENT)) for key in sorted(before.keys() | after.keys())}
    return {
        key: pair
        for key, pair in pairs.items()
        if pair[0] != pair[1] and not (pair[0] is ABSENT and _as_before(key, before, after))
    }


def _as_before(key: str, before: Tree, after: Tree) -> bool:
    """Whether a key that only `after` has does what a run without it did."""
    if key in SINCE:
        return bool(after[key] == SINCE[key])
    if key.startswith("mixing."):
        return not any(after[other] for other in after if fnmatch.fnmatchcase(other, "mixing.*.p"))
    node, _, argument = key.rpartition(".")
    target = f"{node}._target_"
    signature = static_signature(str(after[target])) if target in after else None
    if signature is None or before.get(target) != after[target] or argument not in signature.parameters:
        return False
    default = signature.parameters[argument].default
    return bool((list(default) if isinstance(default, tuple) else default) == after[key])


def _digest(tree: Tree) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _decisive(cfg: DictConfig) -> Tree:
    """The resolved configuration by dotted key, without UNFINGERPRINTED keys."""
    return {k: v for k, v in leaves(plain(cfg)) if not any(fnmatch.fnmatchcase(k, g) for g in UNFINGERPRINTED)}
