"""Optimizers and schedules. Parity with Keras is in test_parity_optimizers.py."""

import math

import numpy as np
import pytest

from rnnfast import optimizers, schedules

KINDS = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("rmsprop", {"momentum": 0.5, "centered": True}),
    ("adam", {}),
    ("adam", {"amsgrad": True}),
    ("adamw", {}),
    ("nadam", {}),
    ("adagrad", {}),
]


def make(name, config):
    return optimizers.deserialize({"class_name": name, "config": config})


def gradients(seed, dtype="float64"):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(3, 4)).astype(dtype), rng.normal(size=5).astype(dtype)]


@pytest.mark.parametrize(("name", "config"), KINDS)
def test_config_state_and_slots(name, config):
    first = make(name, config)
    assert len(first.slot_names) == len(first.slot_init)
    assert len(first.step_scalars()) <= 8
    assert first.step_scalars() == first.step_scalars()
    params = gradients(0)
    for step in range(3):
        first.apply(params, gradients(step + 1))
    second = optimizers.deserialize(optimizers.serialize(first))
    second.set_state(first.get_state())
    copies = [w.copy() for w in params]
    first.apply(params, gradients(9))
    second.apply(copies, gradients(9))
    for a, b in zip(params, copies, strict=True):
        np.testing.assert_array_equal(a, b)
    assert second.iterations == 4


@pytest.mark.parametrize(("name", "config"), KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_minimises_a_quadratic_and_leaves_gradients_alone(name, config, dtype):
    optimizer = make(name, {**config, "learning_rate": 0.05})
    w = np.array([3.0, -2.0], dtype)
    start = float(np.square(w).sum())
    for _ in range(200):
        gradient = 2 * w
        kept = gradient.copy()
        optimizer.apply([w], [gradient])
        np.testing.assert_array_equal(gradient, kept)
    assert w.dtype == dtype
    assert float(np.square(w).sum()) < start


def test_nadam_product_does_not_depend_on_the_way_there():
    walked, jumped = optimizers.Nadam(), optimizers.Nadam()
    for step in (0, 1, 2, 50, 900, 3):
        walked.iterations = jumped.iterations = step
        jumped._product = (0, 1.0)
        assert walked.step_scalars() == jumped.step_scalars()


def test_clipping():
    g = [np.array([3.0, 4.0]), np.array([12.0])]

    def stepped(**clip):
        params = [np.zeros(2), np.zeros(1)]
        optimizers.SGD(1.0, **clip).apply(params, g)
        return np.concatenate([-w for w in params])

    np.testing.assert_allclose(stepped(clipvalue=3.5), [3.0, 3.5, 3.5])
    np.testing.assert_allclose(stepped(clipnorm=1.0), [0.6, 0.8, 1.0])
    np.testing.assert_allclose(stepped(global_clipnorm=1.3), [0.3, 0.4, 1.2])
    np.testing.assert_allclose(stepped(global_clipnorm=100.0), [3.0, 4.0, 12.0])
    w = np.zeros(1)
    optimizers.SGD(1.0, clipnorm=1.0).apply([w], [np.array([math.inf])])
    assert np.isnan(w[0])


def test_learning_rate_can_be_set_or_follows_a_schedule():
    optimizer = optimizers.get("adam")
    optimizer.learning_rate = 0.5
    assert optimizer.get_config()["learning_rate"] == optimizer.learning_rate == 0.5
    optimizer = optimizers.Adam(schedules.ExponentialDecay(1.0, 1, 0.5))
    optimizer.iterations = 3
    assert optimizer.learning_rate == 0.125
    with pytest.raises(TypeError, match="follows ExponentialDecay"):
        optimizer.learning_rate = 0.5
    again = optimizers.deserialize(optimizers.serialize(optimizer))
    again.iterations = 3
    assert again.learning_rate == 0.125
    again.learning_rate = schedules.ExponentialDecay(2.0, 1, 0.5)
    assert again.learning_rate == 0.25


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimizers.get("adamm"), "Unknown optimizer 'adamm'. Did you mean 'adam'"),
        (lambda: optimizers.get(None), "optimizer must be"),
        (lambda: optimizers.get(print), "optimizer must be"),
        (lambda: optimizers.SGD(-1.0), "SGD 'sgd': learning_rate must be at least 0, got -1.0"),
        (lambda: optimizers.SGD("fast"), "learning_rate must be a float or a LearningRateSchedule, got 'fast'"),
        (lambda: optimizers.SGD(momentum=1.5), r"momentum must be in \[0, 1\], got 1.5"),
        (lambda: optimizers.Adam(beta_1=1.0), "beta_1"),
        (lambda: optimizers.Nadam(epsilon=-1e-7), "Nadam 'nadam': epsilon must be at least 0, got -1e-07"),
        (lambda: optimizers.RMSprop(epsilon=None), "RMSprop 'rmsprop': epsilon must be a number, got None"),
        (lambda: optimizers.Adagrad(initial_accumulator_value=float("nan")), "initial_accumulator_value must be at least 0, got nan"),
        (lambda: optimizers.Adam(clipnorm=1.0, clipvalue=1.0), "only one kind of clipping"),
        (lambda: optimizers.Adam(clipnorm=0.0), "clipnorm must be greater than 0, got 0.0"),
        (lambda: optimizers.AdamW(weight_decay=None), "weight_decay must be a float"),
        (lambda: optimizers.deserialize({"class_name": "Adam", "config": {"decay": 1}}), "config does not fit"),
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.5), "decay_steps must be greater than 0"),
        (lambda: schedules.PiecewiseConstantDecay([1], [1.0]), "one fewer than values"),
        (lambda: schedules.CosineDecayRestarts(0.1, 5, t_mul=0.5), "t_mul must be at least 1"),
        (lambda: schedules.deserialize({"class_name": "Cosine", "config": {}}), "Unknown learning rate schedule"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_restarts_land_exactly_on_their_boundaries():
    rate = schedules.CosineDecayRestarts(1.0, 10, t_mul=2.0, m_mul=0.5)
    assert [rate(step) for step in (0, 10, 30, 70)] == [1.0, 0.5, 0.25, 0.125]


@pytest.mark.parametrize("name", ["clipnorm", "clipvalue", "global_clipnorm", "weight_decay", "beta_1", "beta_2", "epsilon"])
@pytest.mark.parametrize("value", ["1", True, [1.0]])
def test_numbers_that_are_none(name, value):
    with pytest.raises(ValueError, match=f"Adam 'adam': {name} must be a number, got"):
        optimizers.Adam(**{name: value})
