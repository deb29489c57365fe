"""The optimiser of one operation a variable, beside that of tf_keras."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.training.fused import AdamW

SHAPES = ((3, 3, 2, 4), (4,), (7, 5))


def trained(kind, steps=20, **arguments):
    """The variables after some steps on the same random gradients, and the optimiser."""
    random = np.random.default_rng(0)
    variables = [tf.Variable(random.normal(size=shape).astype(np.float32), name=f"w{k}/kernel")
                 for k, shape in enumerate(SHAPES)]  # fmt: skip
    rate = tf_keras.optimizers.schedules.PolynomialDecay(0.01, 30)
    optimizer = kind(rate, weight_decay=0.02, global_clipnorm=3.0, use_ema=True, ema_momentum=0.9, **arguments)
    optimizer.build(variables)
    step = tf.function(lambda *given: optimizer.apply_gradients(zip(given, variables, strict=True)), autograph=False)
    for _ in range(steps):
        step(*(tf.constant(random.normal(size=shape).astype(np.float32)) for shape in SHAPES))
    return variables, optimizer, step


@pytest.mark.parametrize("arguments", [{}, {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}, {"amsgrad": True}], ids=str)
def test_it_computes_what_tf_keras_computes(arguments):
    """Weights, moments and the average of the weights, with clipping, decay and a schedule."""
    (ours, optimizer, _), (theirs, reference, _) = (
        trained(kind, **arguments) for kind in (AdamW, tf_keras.optimizers.AdamW)
    )
    for a, b in zip([*ours, *optimizer.variables], [*theirs, *reference.variables], strict=True):
        assert a.name == b.name
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6, err_msg=a.name)


def test_a_variable_is_updated_by_one_operation():
    _, _, step = trained(AdamW, steps=1)
    kinds = [
        op.type for op in step.get_concrete_function(*(tf.zeros(shape) for shape in SHAPES)).graph.get_operations()
    ]
    assert kinds.count("ResourceApplyAdam") == len(SHAPES)


def test_sparse_gradients_take_the_operations_of_tf_keras():
    found = []
    for kind in (AdamW, tf_keras.optimizers.AdamW):
        table, optimizer = tf.Variable(tf.ones((6, 2))), kind(0.1)
        optimizer.build([table])
        optimizer.apply_gradients(
            [(tf.IndexedSlices(tf.ones((2, 2)), tf.constant([1, 4]), tf.constant([6, 2])), table)]
        )
        found.append(table.numpy())
    np.testing.assert_array_equal(*found)


def test_its_state_is_that_of_tf_keras(tmp_path):
    """A state that the one has saved is read by the other."""
    _, optimizer, _ = trained(AdamW)
    prefix = tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "state"))
    _, reference, _ = trained(tf_keras.optimizers.AdamW, steps=0)
    tf.train.Checkpoint(optimizer=reference).read(prefix).assert_consumed()
    for a, b in zip(optimizer.variables, reference.variables, strict=True):
        np.testing.assert_array_equal(a, b)
