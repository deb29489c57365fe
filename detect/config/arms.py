"""The arms of a two-stage ablation (configs/arm): their contradictions, and a line that describes them."""

from collections.abc import Iterator, Mapping
from typing import Any


def problems(tree: Mapping[str, Any]) -> Iterator[str]:
    """Messages for the keys that contradict the arm of a configuration; none for a configuration without an arm."""
    arm = tree.get("arm")
    if not isinstance(arm, Mapping) or arm.get("name") is None:
        return
    named, classify, quantize = f"arm={arm['name']}", tree["classify"], tree["quantize"]
    if arm["crops"] is not None and classify["enabled"] != arm["crops"]:
        given = str(classify["enabled"]).lower()
        does = "begins with stage 1" if arm["crops"] else "has no stage 1"
        yield f"classify.enabled={given}: {named} {does}; leave classify.enabled to the arm, or choose another arm"
    if arm["extra"] and classify["schedule"]["patience"] is not None:
        yield (
            f"classify.schedule.patience={classify['schedule']['patience']}: {named} adds as many steps as stage 1 "
            "costs, and this cost is not known beforehand if stage 1 may stop early; legal is null"
        )
    if arm["extra"] and tree.get("minutes") is not None:
        yield (
            f"minutes={tree['minutes']}: {named} adds as many steps as stage 1 costs, and minutes shares them out "
            "already; legal is null, with schedule.steps"
        )
    if arm["extra"] and quantize["enabled"] and not quantize["float_stage"]:
        yield f"quantize.float_stage=false: {named} adds steps to the float detector; legal is true"
    if arm["start"] == "generic" and str(tree["init"].get("_target_")).endswith(".NoWeights"):
        yield f"init=none: {named} starts from the weights of init; legal are all other options, and a file or folder"
    if arm["start"] == "random" and tree["init"].get("scope") == "detector":
        yield f"init.scope=detector: {named} starts from random values; legal is backbone"


def description(arm: Mapping[str, Any], generic: str) -> str:
    """One line for the log. generic: the name of the weights of `init`."""
    start = "random weights" if arm["start"] == "random" else generic
    stages = "a classifier of the crops, then the detector" if arm["crops"] else "the detector"
    extra = ", with extra steps worth a classifier of the crops" if arm["extra"] else ""
    return f"arm {arm['name']}: {stages}, from {start}{extra}"
