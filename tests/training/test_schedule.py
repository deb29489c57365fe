"""The learning rate of every step against curves computed by hand, and the schedules that are refused."""

import dataclasses
import functools
import json
import math
import subprocess
import sys
from types import SimpleNamespace

import hydra
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.config import trust
from detect.config.compose import compose
from detect.config.schedules import default_warmup
from detect.errors import ConfigError
from detect.runs.summary import hyper_parameters
from detect.training import build
from detect.training.distribution import Replicas
from detect.training.schedule import Schedule

RATE = 0.003


def test_what_a_schedule_does_not_take_over_from_a_network_is_told(monkeypatch, caplog):
    """Layers that come frozen are trained, and regularisers of layers have no effect."""
    monkeypatch.setattr(build, "replicas", lambda run: Replicas())
    x, layers = tf_keras.Input((4,)), tf_keras.layers
    plain, frozen = layers.Dense(2, name="plain"), layers.Dense(2, name="frozen", trainable=False)
    network = SimpleNamespace(model=tf_keras.Model(x, frozen(plain(x))), input_sources={})
    build.prepare(None, network, schedule(steps=100), "classify")
    assert "classify: frozen come frozen and are trained all the same; classify.schedule.freeze_until" in caplog.text
    assert frozen.trainable and "regularisers" not in caplog.text
    caplog.clear()
    network.model = tf_keras.Model(x, layers.Dense(2, kernel_regularizer="l2")(x))
    build.prepare(None, network, schedule(steps=100), "detector")
    assert "detector: regularisers of layers have no effect (1 of them); schedule.weight_decay has" in caplog.text
    assert "come frozen" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "told"), [({}, True), ({"batch_size": 2}, False), ({"batch_norm": "frozen"}, False)]
)
def test_a_batch_norm_that_sees_one_value_is_told(monkeypatch, caplog, settings, told):
    """Of one image, a map of one cell has one value in each channel: without its mean, it is 0."""
    monkeypatch.setattr(build, "replicas", lambda run: Replicas())
    x, layers = tf_keras.Input((2, 1, 4)), tf_keras.layers
    wide, small = layers.BatchNormalization(name="wide"), layers.BatchNormalization(name="small")
    model = tf_keras.Model(x, small(layers.AveragePooling2D((2, 1))(wide(x))))
    network = SimpleNamespace(model=model, input_sources={})
    build.prepare(None, network, schedule(steps=100, **{"batch_size": 1} | settings), "detector")
    assert ("batch norm of one value gives its beta, whatever the image (small); schedule." in caplog.text) is told


def schedule(**settings) -> Schedule:
    return Schedule(**{"batch_size": 8, "optimizer": tf_keras.optimizers.SGD, "rate": RATE} | settings)


OPTIMIZERS = sorted(name for name in trust.KERAS if ".schedules." not in name)


@pytest.mark.parametrize("target", OPTIMIZERS)
def test_every_legal_optimiser_takes_a_step(target):
    """Arguments of AdamW, the default, that the other one does not take are removed."""
    cfg = compose(["dataset=digits", f"schedule.optimizer._target_={target}"])
    optimizer = trust.instantiate(cfg.schedule).build_optimizer()
    variable = tf.Variable([1.0, 2.0])
    optimizer.build([variable])
    for _ in range(60):  # the rate rises from 0
        optimizer.apply_gradients([(tf.constant([1.0, 1.0]), variable)])
    assert (variable.numpy() < [1.0, 2.0]).all() and optimizer.ema_overwrite_frequency is None


@pytest.mark.parametrize("target", ["Ftrl", "legacy.Adam"])
def test_an_optimiser_that_can_not_train_is_answered_with_those_that_can(target):
    with pytest.raises(ConfigError, match=r"legal of tf_keras are the optimisers Adadelta, .*SGD, and schedules"):
        compose(["dataset=digits", f"schedule.optimizer._target_=tf_keras.optimizers.{target}"])


def test_arguments_that_no_optimiser_takes_are_refused():
    words = ["dataset=digits", "schedule.optimizer._target_=tf_keras.optimizers.SGD"]
    with pytest.raises(ConfigError, match=r"schedule\.optimizer\.betas: .*SGD has no argument betas"):
        compose([*words, "+schedule.optimizer.betas=[.9,.999]"])
    with pytest.raises(ConfigError, match=r"schedule\.optimizer\.jit_compile is not legal: give jit_compile in its"):
        compose(["dataset=digits", "+schedule.optimizer.jit_compile=true"])


@pytest.mark.parametrize(
    ("argument", "key"),
    [("learning_rate", "rate"), ("weight_decay", "weight_decay"), ("clipnorm", "clip_norm"), ("use_ema", "ema_decay")],
)
def test_an_argument_of_the_optimiser_that_the_schedule_supplies_is_refused(argument, key):
    optimizer = functools.partial(tf_keras.optimizers.SGD, **{argument: 1.0})
    with pytest.raises(ConfigError, match=rf"schedule\.optimizer\.{argument} is not legal: give schedule\.{key} "):
        schedule(steps=10, optimizer=optimizer)


@pytest.mark.parametrize(
    ("steps", "decay", "share"),
    [(2000, 0.9999, "82%"), (50, 0.95, "8%"), (2000, None, None), (3, None, None), (90, 0.95, None)],
)
def test_an_average_that_hardly_leaves_the_initial_weights_is_named(steps, decay, share):
    told = schedule(steps=steps, ema_decay=decay).warnings("schedule")
    if share is None:
        assert told == []
    else:
        assert len(told) == 1 and f"schedule.ema_decay={decay}: after {steps} steps, {share}" in told[0]


def by_hand(steps, warmup, decay, step_at, factor) -> list[float]:
    """The rate of steps 0..steps in float64."""
    curve = []
    for step in range(steps + 1):
        if step < warmup:
            curve.append(RATE * step / warmup)
        elif decay == "cosine":
            curve.append(RATE * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2)
        elif decay == "step":
            done = sum(step >= round(steps * at) and step > warmup for at in step_at)
            curve.append(RATE * factor**done)
        else:
            curve.append(RATE)
    return curve


@pytest.mark.parametrize("decay", ["cosine", "step", "constant"])
@pytest.mark.parametrize(
    ("steps", "warmup"),
    [(1, 0), (2, 0), (2, 1), (3, 2), (10, 0), (10, 1), (10, 5), (10, 9), (57, 20), (100, 30), (240, 20), (500, 25)],
)
def test_the_rate_of_every_step(decay, steps, warmup):
    for step_at, factor in (((0.6, 0.85), 0.1), ((0.29,), 0.5), ((0.0, 0.02, 1.0), 0.3))[: 3 if decay == "step" else 1]:
        plan = schedule(steps=steps, warmup=warmup, decay=decay, step_at=step_at, step_factor=factor)
        rate = tf.function(plan.learning_rate(), input_signature=[tf.TensorSpec((), tf.int64)])  # as in training
        curve = [float(rate(tf.constant(step, tf.int64))) for step in range(steps + 1)]
        np.testing.assert_allclose(curve, by_hand(steps, warmup, decay, step_at, factor), rtol=1e-5, atol=1e-7 * RATE)
        assert curve[warmup] == np.float32(RATE) == max(curve)


@pytest.mark.parametrize(
    ("decay", "step_at", "curve"),
    [
        ("cosine", (0.6,), [0, 0.5, 1, 0.853553, 0.5, 0.146447]),
        ("step", (0.5, 0.8), [0, 0.5, 1, 0.1, 0.1, 0.01]),  # drops at steps 3 and 5
        ("step", (0.1, 0.2), [0, 0.5, 1, 0.01, 0.01, 0.01]),  # drops at steps 1 and 1 come after the warm-up
        ("constant", (0.6,), [0, 0.5, 1, 1, 1, 1]),
    ],
)
def test_six_steps_by_eye(decay, step_at, curve):
    rate = schedule(steps=6, warmup=2, decay=decay, step_at=step_at).learning_rate()
    assert [float(rate(step)) / RATE for step in range(6)] == pytest.approx(curve, abs=1e-6)


def test_the_optimizer_takes_the_rate_of_its_step():
    optimizer = schedule(steps=4, warmup=2, ema_decay=0, clip_norm=None, weight_decay=None).build_optimizer()
    weight, seen = tf_keras.backend.variable(0.0), []
    optimizer.build([weight])
    for _ in range(4):
        before = float(weight)
        optimizer.apply_gradients([(tf_keras.backend.constant(-1.0), weight)])
        seen.append(float(weight) - before)
    assert seen == pytest.approx([0, RATE / 2, RATE, RATE / 2], rel=1e-4)


def test_the_default_warmup_is_a_part_of_the_steps():
    expected = {1: 0, 9: 0, 10: 1, 40: 4, 199: 19, 200: 20, 240: 20, 300: 20, 400: 20, 600: 30, 1000: 50, 50_000: 50}
    assert {steps: default_warmup(steps) for steps in expected} == expected
    assert schedule(steps=40, warmup=None).warmup_steps == 4
    assert schedule(steps=40, warmup=3).warmup_steps == 3


def test_packaged_schedules_keep_their_warmup_and_scale_it():
    cfg = compose(["dataset=digits", "quantize=int8"])
    plans = cfg.schedule, cfg.classify.schedule, cfg.quantize.schedule
    assert [(plan.warmup, default_warmup(plan.steps)) for plan in plans] == [(None, 50), (None, 20), (None, 20)]
    compose(["dataset=digits", "schedule.steps=10", "classify.schedule.steps=1"])


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["warmup=50", "steps=50"],
         "warmup=50 is not legal: the rate would never be reached; expected a whole number below {where}.steps=50, "
         "or null"),
        (["warmup=-1"], "warmup=-1 is not legal: expected a whole number from 0 or null"),
        (["step_at=[.8,.6]"],
         "step_at=[0.8, 0.6] is not legal: expected at least one share from 0 to 1, each above the one before"),
        (["step_at=[.6,.6]"],
         "step_at=[0.6, 0.6] is not legal: expected at least one share from 0 to 1, each above the one before"),
        (["step_at=[]"], "step_at=[] is not legal: expected at least one share from 0 to 1, each above the one before"),
        (["step_at=[.5,1.5]"], "step_at.1=1.5 is not legal: expected a number from 0 to 1"),
        (["optimizer.beta_1=1.0"], "optimizer.beta_1=1.0 is not legal: expected a number from 0 to 0.999999"),
        (["optimizer.beta_2=abc"], "optimizer.beta_2=abc is not legal: expected a number from 0 to 0.999999"),
        (["optimizer.epsilon=0"], "optimizer.epsilon=0 is not legal: expected a number above 0"),
        (["freeze_until=10"], "freeze_until=10 is not legal: expected the name of a layer, or null"),
        (["freeze_until=''"], "freeze_until= is not legal: expected the name of a layer, or null"),
    ],
)  # fmt: skip
def test_contradictions_are_refused_in_every_schedule(given, complaint):
    schedules = ["classify.schedule", "quantize.schedule", "schedule"]
    _refused_in(schedules, given, complaint)


def _refused_in(schedules, given, complaint, *more):
    with pytest.raises(ConfigError) as caught:
        lines = [f"{where}.{line}" for where in schedules for line in given]
        compose(["dataset=digits", "quantize=int8", *more, *lines])
    expected = [f"{where}.{complaint.format(where=where)}" for where in schedules]
    assert sorted(str(caught.value).splitlines()) == expected


@pytest.mark.parametrize(
    ("option", "argument", "expected"),
    [
        ("sgd", "nesterov=no", "true or false"),
        ("sgd", "momentum=1.5", "a number from 0 to 0.999999"),
        ("rmsprop", "rho=null", "a number from 0 to 0.999999"),
    ],
)
def test_values_of_an_optimiser_are_checked(option, argument, expected):
    complaint = f"optimizer.{argument} is not legal: expected {expected}"
    _refused_in(["schedule"], [f"optimizer.{argument}"], complaint, f"schedule/optimizer={option}")


def test_what_an_optimiser_refuses_itself_names_the_key():
    def refuses(**_):
        raise ValueError("a strange beta_3\nand a page of text")

    with pytest.raises(ConfigError, match=r"^classify\.schedule\.optimizer: refuses: a strange beta_3$"):
        schedule(steps=10, optimizer=refuses).build_optimizer("classify.schedule")
    own = functools.partial(lambda momentum, **_: momentum, momentum=2)
    assert schedule(steps=10, optimizer=own).optimizer.keywords == {"momentum": 2}, "another one has its own rules"


def test_the_constructor_refuses_the_same():
    with pytest.raises(ConfigError, match=r"schedule.warmup=10 is not legal.*below schedule.steps=10"):
        schedule(steps=10, warmup=10)
    with pytest.raises(ConfigError, match=r"schedule.step_at=\(\) is not legal"):
        schedule(steps=10, step_at=())


def test_the_refusal_comes_before_tensorflow():
    code = (
        "import sys\nfrom detect.config.compose import compose\nfrom detect.errors import ConfigError\n"
        "try:\n    compose(['dataset=digits', 'schedule.warmup=50', 'schedule.steps=20'])\n"
        "except ConfigError as error:\n    print(error, 'tensorflow' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.startswith("schedule.warmup=50 is not legal") and done.stdout.endswith("False\n"), done.stderr


def test_the_used_settings_have_no_open_defaults():
    """As an arm of an ablation adds steps to its stage: warm-up and averages are of all of its steps."""
    used = dataclasses.replace(schedule(steps=90, warmup=None, batch_norm_decay=0.0), steps=100).used()
    assert (used["steps"], used["warmup"], used["ema_decay"], used["batch_norm_decay"]) == (100, 10, 0.9, 0.0)
    assert used["optimizer"] == {"name": "SGD"} and used["step_at"] == [0.6, 0.85]
    made = hydra.utils.instantiate(compose(["dataset=digits", "schedule/optimizer=rmsprop"]).schedule).used()
    assert made["optimizer"] == {"name": "RMSprop", "rho": 0.9, "momentum": 0.9, "epsilon": 1.0}
    own = schedule(steps=2, optimizer=functools.partial(functools.partial, function=len, alpha=0.5)).used()
    assert own["optimizer"]["alpha"] == 0.5 and own["optimizer"]["name"] == "partial"
    for used_values in (made, own):
        assert json.loads(json.dumps(used_values)) == used_values
    settings = hyper_parameters(compose(["dataset=digits"]), "detector", used)
    assert (settings["schedule.steps"], settings["schedule.warmup"], settings["stage"]) == (100, 10, "detector")


def test_a_batch_norm_decay_of_0_is_not_the_default():
    image = tf_keras.Input((4, 4, 3))
    model = tf_keras.Model(image, tf_keras.layers.BatchNormalization(name="norm")(image))
    schedule(steps=1000, batch_norm_decay=0.0).prepare(SimpleNamespace(model=model, input_sources={}))
    assert model.get_layer("norm").momentum == 0
