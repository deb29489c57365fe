"""`NODE._target_=mine.Net` replaces a packaged class or function by one of the user's own.

The new one takes other arguments. Arguments of the old one that the new one also takes keep their values; the others
are removed from the node. Arguments given for the new one are added to the node. Both changes are written as overrides
that Hydra itself reads.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType

from detect.config import trust
from detect.config.grammar import parse
from detect.config.signatures import static_signature
from detect.config.tree import RESERVED, Tree, below, nodes, targets

SUFFIX = "._target_"


def retargeted(asked: Iterable[Override]) -> dict[str, Override]:
    """The nodes that get another target, and the override that sets it."""
    return {o.key_or_group.removesuffix(SUFFIX): o for o in asked if o.key_or_group.endswith(SUFFIX)}


def fitted(asked: Sequence[Override], base: Tree) -> list[Override]:
    """The overrides, and those that the new targets among them imply.

    base: the configuration before them. If a sweep varies the target itself, no argument is removed.
    """
    news = retargeted(asked)
    if not news:
        return list(asked)
    known = dict(nodes(base))
    given = {o.key_or_group for o in asked}
    found = [
        parse([f"++{o.input_line}"])[0]
        if o.type is OverrideType.CHANGE and below(o.key_or_group, news) and o.key_or_group not in known
        else o
        for o in asked
    ]
    for node, override in news.items():
        if not override.is_sweep_override() and isinstance(known.get(node), Mapping):
            for key in (f"{node}.{name}" for name in _surplus(known[node], str(override.value()))):
                if not any(g == key or below(g, [key]) for g in given):
                    emptied = known[key] in (None, "???")  # Hydra treats these as absent and can't delete them
                    found += parse([*([f"{key}=0"] if emptied else []), f"~{key}"])
    return found


def extensible(key: str, base: Tree) -> bool:
    """Whether `+key=...` may add an argument: the key lies in a node whose target is not of this package, and the
    signature of that target is known. For another key, the libraries of targets are not looked at."""
    found = (str(node["_target_"]) for name, node in targets(base).items() if below(key, [name]))
    return any(_tells(target) for target in found if not target.startswith("detect."))


def _tells(target: str) -> bool:
    return trust.refusal(target) is None and static_signature(target) is not None


def _surplus(node: Mapping[str, Any], target: str) -> list[str]:
    """Arguments in a node that a target does not take; none if its signature is not known."""
    signature = None if trust.refusal(target) else trust.signature(target)
    if signature is None or any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return []
    return [name for name in node if name not in signature.parameters and name not in RESERVED]
