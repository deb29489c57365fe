"""The rules of a schedule beyond its annotations: warm-up, drops of the rate, and the arguments of its optimiser."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from detect.config.legal_values import number, refusals
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
ARGUMENTS: dict[str, object] = {
    **dict.fromkeys(("momentum", "rho", "beta_1", "beta_2"), Annotated[float, number(0, 0.999999)]),
    "epsilon": Annotated[float, number(0, above=True)],
    **dict.fromkeys(("nesterov", "amsgrad", "centered"), bool),
}
"""The legal values of arguments of Keras' optimisers, which take nearly any value. 0.99999999 is 1 in float32."""


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
    """Messages for a warm-up that never ends, for drops out of order, for a layer without a name, and for arguments of
    the optimiser that are not legal or that the schedule supplies. values: by key.

    path: the key of the schedule, for the messages.
    """
    optimizer = values.get("optimizer")
    given = optimizer if isinstance(optimizer, Mapping) else getattr(optimizer, "keywords", {})
    target = given.get("_target_") or getattr(getattr(optimizer, "func", None), "__module__", "")
    for name, value in given.items():
        if name in SUPPLIED:
            yield f"{path}.optimizer.{name} is not legal: give {path}.{SUPPLIED[name]} in its place"
        elif name == COMPILES:
            yield f"{path}.optimizer.{name} is not legal: give {COMPILES} in its place"
        elif name in ARGUMENTS and str(target).startswith("tf_keras."):
            yield from refusals(f"{path}.optimizer.{name}", value, ARGUMENTS[name])
    layer = values.get("freeze_until")
    if layer is not None and not (isinstance(layer, str) and layer):
        yield f"{path}.freeze_until={layer} is not legal: expected the name of a layer, or null"
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
