"""The training of a pipeline.config: steps, optimiser, learning rate, quantisation, weights to start from."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from detect.migration.data import no_path, with_slashes
from detect.migration.message import Message
from detect.migration.translation import Translation

STEPS = 200_000
"""Of a file without num_steps, which would train without end."""
LEAST_EVERY = 500
"""Steps between evaluations, and between checkpoints; a twentieth of the training if that is more."""
MOST_DROPS = 200
"""The most steps of a decay that are written out."""
OPTIMIZERS = {"rms_prop_optimizer": "rmsprop", "momentum_optimizer": "sgd", "adam_optimizer": "adamw"}


def schedule(train: Message, weight_decay: float, averaged: bool, into: Translation) -> None:
    """Sets the schedule.

    weight_decay: the L2 factor of all kernels. averaged: whether the API scores and exports the average of the weights;
    otherwise it only keeps it.
    """
    train.ignore("sync_replicas", "replicas_to_aggregate", "startup_delay_steps", "keep_checkpoint_every_n_hours")
    train.ignore("batch_queue_capacity", "num_batch_queue_threads", "prefetch_queue_capacity", "summarize_gradients")
    train.ignore("unpad_groundtruth_tensors", "retain_original_images", "max_number_of_boxes")  # a reader's counts
    if train.flag("merge_multiple_label_boxes", False):
        into.left_out.append(
            "train_config.merge_multiple_label_boxes: a box of several classes stays one for each class"
        )
    steps = train.whole("num_steps", 0)
    if steps < 1:
        steps = STEPS
        into.differ(f"schedule.steps: {STEPS}; without num_steps the API trains until it is stopped")
    values = into.values.setdefault("schedule", {})
    values |= {"steps": steps, "batch_size": train.whole("batch_size", 32)}
    every = max(steps // 20, min(steps, LEAST_EVERY))
    values |= {"evaluate_every": every, "checkpoint_every": every}
    clip = train.number("gradient_clipping_by_norm", 0.0)
    values |= {"clip_norm": clip or None, "weight_decay": weight_decay}
    if weight_decay:
        into.differ("weight decay: decoupled from the gradient; the API adds an L2 loss")
    optimizer(train.message("optimizer"), values, into)
    decay = _average(train.message("optimizer"))
    values["ema_decay"] = decay if averaged else 0.0
    if train.number("bias_grad_multiplier", 0.0) not in (0.0, 1.0):
        into.left_out.append("train_config.bias_grad_multiplier: gradients of biases are not multiplied")
    if train.flag("use_bfloat16", False):
        into.put("precision", "bfloat16")


def _average(message: Message) -> float:
    if not message.given or not message.flag("use_moving_average", True):
        message.ignore("moving_average_decay")
        return 0.0
    return message.number("moving_average_decay", 0.9999)


def optimizer(message: Message, values: dict[str, Any], into: Translation) -> None:
    """Sets the optimiser and the learning rate."""
    found = message.one(tuple(OPTIMIZERS), beside=("use_moving_average", "moving_average_decay"))
    if found is None:
        raise message.error("", "train_config.optimizer is missing")
    kind, given = found
    into.choices["schedule/optimizer"] = OPTIMIZERS[kind]
    if kind == "adam_optimizer":
        values["optimizer"] = {"epsilon": given.number("epsilon", 1e-8)}
    elif kind == "momentum_optimizer":
        values["optimizer"] = {"momentum": given.number("momentum_optimizer_value", 0.9)}
    else:
        values["optimizer"] = {
            "rho": given.number("decay", 0.9),
            "momentum": given.number("momentum_optimizer_value", 0.9),
            "epsilon": given.number("epsilon", 1.0),
        }
        into.differ("RMSProp: the mean square of the gradients starts at 0; the API's starts at 1")
    rate(given.message("learning_rate"), values, into)


def rate(message: Message, values: dict[str, Any], into: Translation) -> None:
    """Sets the learning rate, its warm-up and its decay."""
    names = ("constant", "exponential_decay", "manual_step", "cosine_decay")
    found = message.one([f"{name}_learning_rate" for name in names])
    if found is None:
        raise message.error("", "learning_rate is missing")
    kind, given = found
    values["warmup"] = 0
    if kind == "constant_learning_rate":
        values |= {"rate": given.number("learning_rate", 0.002), "decay": "constant"}
    elif kind == "cosine_decay_learning_rate":
        _cosine(given, values, into)
    elif kind == "manual_step_learning_rate":
        _manual(given, values, into)
    else:
        _exponential(given, values, into)
    if not values["rate"] > 0:
        raise given.error("", "the learning rate must be above 0")


def _cosine(given: Message, values: dict[str, Any], into: Translation) -> None:
    total, hold = given.whole("total_steps", 4_000_000), given.whole("hold_base_rate_steps", 0)
    values |= {"rate": given.number("learning_rate_base", 0.002), "decay": "cosine"}
    _warmup(given.whole("warmup_steps", 10_000), given.number("warmup_learning_rate", 0.0002), values, into)
    if total != values["steps"]:
        into.differ(f"the cosine: it ends at 0 at step {values['steps']}; the API's at step {total} (total_steps)")
    if hold:
        into.differ(f"the cosine: it begins after the warm-up; the API holds the rate for {hold} steps before")


def _warmup(steps: int, first: float, values: dict[str, Any], into: Translation) -> None:
    if steps >= values["steps"]:
        into.differ(f"the warm-up: {values['steps'] // 10} steps, as {steps} would not end within the training")
        steps = values["steps"] // 10
    values["warmup"] = max(steps, 0)
    if steps > 0 and first > 0:
        into.differ(f"the warm-up: it rises from 0; the API's from {first:g}")


def _manual(given: Message, values: dict[str, Any], into: Translation) -> None:
    values["rate"] = given.number("initial_learning_rate", 0.002)
    drops = [(each.whole("step", 0), each.number("learning_rate", 0.002)) for each in given.messages("schedule")]
    if not all(above > 0 for _, above in drops):
        raise given.error("schedule", "learning rates must be above 0")
    if drops and drops[0][0] == 0:
        values["rate"] = drops.pop(0)[1]
    if given.flag("warmup", False) and drops:
        _warmup(drops[0][0], values["rate"], values, into)
        values["rate"] = drops.pop(0)[1]
    drops = [drop for drop in drops if drop[0] < values["steps"]]
    rates = [values["rate"], *(rate for _, rate in drops)]
    if top := rates.index(max(rates)):
        _warmup(drops[top - 1][0], values["rate"], values, into)
        into.differ(f"the rise of the rate to {rates[top]:g}: in a line; the API's in jumps")
        values["rate"], drops, rates = rates[top], drops[top:], rates[top:]
    factors = [after / before for before, after in itertools.pairwise(rates)]
    _steps([step for step, _ in drops], factors, values, into)


def _exponential(given: Message, values: dict[str, Any], into: Translation) -> None:
    values["rate"] = given.number("initial_learning_rate", 0.002)
    every, factor = given.whole("decay_steps", 4_000_000), given.number("decay_factor", 0.95)
    if every < 1 or not 0 < factor <= 1:
        raise given.error("decay_steps", "expected decay_steps from 1 and a decay_factor above 0, at most 1")
    if given.whole("burnin_steps", 0):
        first = given.number("burnin_learning_rate", 0.0) or values["rate"]
        _warmup(given.whole("burnin_steps", 0), first, values, into)
        into.differ("the burn-in: the rate rises in a line; the API's stays at burnin_learning_rate")
        into.differ(
            "the decay of the rate: counted from the first step; newer releases count from the end of the burn-in"
        )
    given.ignore("burnin_learning_rate")
    if given.number("min_learning_rate", 0.0):
        into.differ("the learning rate has no lower limit (min_learning_rate)")
    steps, staircase = values["steps"], given.flag("staircase", True)
    drops: Sequence[int] = range(every, steps, every)
    if not staircase or len(drops) > MOST_DROPS:
        parts = min(MOST_DROPS, steps)
        before = len(drops) if staircase else "smooth"
        into.differ(f"the decay of the rate: in {parts} steps, not {before}, to the same end")
        drops, factor = [steps * k // parts for k in range(1, parts)], factor ** (steps / every / parts)
    _steps(list(drops), [factor] * len(drops), values, into)


def _steps(drops: list[int], factors: list[float], values: dict[str, Any], into: Translation) -> None:
    if not drops or all(factor == 1 for factor in factors):
        values["decay"] = "constant"
        return
    if sorted(set(drops)) != drops:
        into.differ("the drops of the rate: in the order of their steps")
        drops = sorted(set(drops))
    values |= {"decay": "step", "step_at": [step / values["steps"] for step in drops]}
    values["step_factor"] = min(math.prod(factors) ** (1 / len(factors)), 1.0)
    if any(abs(factor - values["step_factor"]) > 1e-3 * factor for factor in factors):
        shown = ", ".join(f"{factor:g}" for factor in factors)
        into.differ(f"the drops of the rate: by {values['step_factor']:.4g} each; the API's by {shown}")


def quantisation(graph: Message, into: Translation) -> None:
    """Sets fake-quant training, with rounding from the step `delay`."""
    given = graph.message("quantization")
    if not given.given:
        return
    delay, values = given.whole("delay", 500_000), into.values["schedule"]
    bits = [given.whole(name, 8) for name in ("weight_bits", "activation_bits")]
    if not all(4 <= each <= 8 for each in bits):
        raise given.missing("weight_bits", f"quantisation to {bits[0]} and {bits[1]} bits")
    if delay >= values["steps"]:
        given.ignore("symmetric")
        into.differ(f"quantisation: none, as its delay of {delay} steps is not below the {values['steps']} steps")
        return
    into.choices |= {
        "quantize": "contrib_2017",
        "schedule@quantize.schedule": "default",
        "schedule/optimizer@quantize.schedule.optimizer": into.choices["schedule/optimizer"],
    }
    into.values["quantize"] = {
        "float_stage": False,
        "calibrate": 0,
        "schedule": dict(values),
        "spec": {
            "weight_bits": bits[0],
            "activation_bits": bits[1],
            "symmetric": given.flag("symmetric", False),
            "delay": max(delay, 0),
            "freeze_bn": None,
            "freeze_ranges": None,
        },
    }
    into.differ("quantised kernels: symmetric about 0, as TFLite's int8 kernels are; the API's have a zero point")


def weights(train: Message, into: Translation) -> None:
    """Sets the weights to start from."""
    path = with_slashes(train.text("fine_tune_checkpoint"))
    kind = train.text("fine_tune_checkpoint_type") or (
        "detection" if train.flag("from_detection_checkpoint", False) else "classification"
    )
    train.ignore("from_detection_checkpoint", "fine_tune_checkpoint_version")
    train.ignore("run_fine_tune_checkpoint_dummy_computation", "load_all_optimizer_checkpoint_vars")
    train.ignore("load_all_moving_average_checkpoint_vars", "include_global_step")
    everything = train.flag("load_all_detection_checkpoint_vars", False) or kind == "full"
    if not path:
        into.choices["init"] = "none"
        return
    if kind not in ("classification", "detection", "full", "fine_tune"):
        raise train.missing("fine_tune_checkpoint_type", f"weights of the type {kind}")
    scope = "backbone" if kind == "classification" else "detector"
    if why := no_path(path):
        into.choices["init"] = "none"
        into.differ(f"init: random weights, as fine_tune_checkpoint is {why}; give init=FILE init.scope={scope}")
        return
    into.choices["init"] = "path"
    into.values["init"] = {"path": path, "scope": scope}
    if kind != "classification" and not everything:
        into.differ("the heads: they start from the checkpoint, too; the API's type 'detection' leaves them random")
