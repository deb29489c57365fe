"""The rules between the keys of a schedule: the length of the warm-up, and the places where the rate drops."""

from collections.abc import Iterator, Mapping
from typing import Any

from detect.config.tree import Tree, targets

SCHEDULE = "detect.training.schedule.Schedule"
SUPPLIED = {
    "learning_rate": "rate",
    "weight_decay": "weight_decay",
    **dict.fromkeys(("clipnorm", "global_clipnorm", "clipvalue"), "clip_norm"),
    **dict.fromkeys(("use_ema", "ema_momentum", "ema_overwrite_frequency"), "ema_decay"),
}
"""Arguments of an optimiser that the schedule supplies, and its key for each."""
COMPILES = "jit_compile"


def default_warmup(steps: int) -> int:
    """The steps of warm-up of a schedule with `warmup=null`: 50 of 1000, 20 of 200 to 400, a tenth of fewer."""
    return min(50, max(20, steps // 20), steps // 10)


def problems(tree: Tree) -> Iterator[str]:
    """Messages for the schedules of a configuration whose keys contradict each other."""
    for path, node in targets(tree).items():
        if node["_target_"] == SCHEDULE:
            yield from contradictions(path, node)


def profile_problems(tree: Tree) -> Iterator[str]:
    """Messages for a `profile` that is not the first and the last of some steps of the detector's stage."""
    asked, steps = tree.get("profile"), (tree.get("schedule") or {}).get("steps")
    if asked is None or not isinstance(steps, int):
        return
    whole = isinstance(asked, list) and all(type(step) is int for step in asked)
    if not whole or len(asked) != 2 or not 1 <= asked[0] <= asked[1] <= steps:
        legal = f"[FROM,TO], two steps from 1 to schedule.steps={steps}, or null"
        yield f"profile={asked} is not legal: expected {legal}"


def contradictions(path: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Messages for a warm-up that never ends, for drops out of order, and for arguments of the optimiser that the
    schedule supplies. values: by key; each is legal by itself.

    path: the key of the schedule, for the messages.
    """
    optimizer = values.get("optimizer")
    given = optimizer if isinstance(optimizer, Mapping) else getattr(optimizer, "keywords", {})
    for name in given:
        if name in SUPPLIED:
            yield f"{path}.optimizer.{name} is not legal: give {path}.{SUPPLIED[name]} in its place"
        elif name == COMPILES:
            yield f"{path}.optimizer.{name} is not legal: give {COMPILES} in its place"
    steps, warmup, drops = values.get("steps"), values.get("warmup"), values.get("step_at")
    if isinstance(steps, int) and isinstance(warmup, int) and warmup and warmup >= steps:
        legal = f"a whole number below {path}.steps={steps}, or null"
        yield f"{path}.warmup={warmup} is not legal: the rate would never be reached; expected {legal}"
    if drops is None:
        return
    numbers = list(drops) if isinstance(drops, (list, tuple)) else []
    rising = all(isinstance(at, (int, float)) for at in numbers) and numbers == sorted(set(numbers))
    if not numbers or not rising:
        yield f"{path}.step_at={drops} is not legal: expected at least one share from 0 to 1, each above the one before"
