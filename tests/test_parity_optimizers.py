"""Steps of every optimizer and values of every schedule against Keras in float64."""

import numpy as np
import pytest

from rnnfast import optimizers, schedules
from tests.peers import as_array, require

keras = require("keras")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.8, "rho": 0.7}),
    ("RMSprop", {"centered": True, "momentum": 0.3, "epsilon": 1e-3}),
    ("RMSprop", {"centered": True}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "beta_1": 0.5, "beta_2": 0.6}),
    ("Adam", {"weight_decay": 0.2}),
    ("AdamW", {}),
    ("AdamW", {"weight_decay": 0.3, "global_clipnorm": 1.0}),
    ("Nadam", {}),
    ("Nadam", {"clipnorm": 0.5}),
    ("Adagrad", {}),
    ("Adagrad", {"initial_accumulator_value": 0.5, "clipvalue": 0.2}),
]
SCHEDULES = [
    ("ExponentialDecay", {"decay_steps": 7, "decay_rate": 0.6}),
    ("ExponentialDecay", {"decay_steps": 7, "decay_rate": 0.6, "staircase": True}),
    ("InverseTimeDecay", {"decay_steps": 5, "decay_rate": 0.4}),
    ("InverseTimeDecay", {"decay_steps": 5, "decay_rate": 0.4, "staircase": True}),
    ("PolynomialDecay", {"decay_steps": 9}),
    ("PolynomialDecay", {"decay_steps": 9, "power": 2.0, "cycle": True, "end_learning_rate": 0.01}),
    ("CosineDecay", {"decay_steps": 20}),
    ("CosineDecay", {"decay_steps": 20, "alpha": 0.1, "warmup_target": 0.5, "warmup_steps": 6}),
    ("CosineDecayRestarts", {"first_decay_steps": 5}),
    ("CosineDecayRestarts", {"first_decay_steps": 5, "t_mul": 1.0, "m_mul": 0.7, "alpha": 0.2}),
    ("CosineDecayRestarts", {"first_decay_steps": 4, "t_mul": 1.5, "m_mul": 0.9}),
]


@pytest.fixture(autouse=True)
def _float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


@pytest.mark.parametrize(("name", "config"), CASES)
def test_twenty_steps(name, config):
    rng = np.random.default_rng(0)
    ours = getattr(optimizers, name)(0.05, **config)
    theirs = getattr(keras.optimizers, name)(0.05, **config)
    params = [rng.normal(size=(4, 3)), rng.normal(size=3)]
    variables = [keras.Variable(w, dtype="float64") for w in params]
    for _ in range(20):
        grads = [rng.normal(size=w.shape) for w in params]
        ours.apply(params, grads)
        theirs.apply([keras.ops.convert_to_tensor(g) for g in grads], variables)
    for w, variable in zip(params, variables, strict=True):
        # Keras holds the betas' decay 0.96 and a few other numbers in float32.
        np.testing.assert_allclose(w, as_array(variable), rtol=2e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW", "Nadam", "Adagrad"])
def test_defaults(name):
    ours, theirs = getattr(optimizers, name)().get_config(), getattr(keras.optimizers, name)().get_config()
    ours.pop("name")
    assert ours == pytest.approx({key: theirs[key] for key in ours})
    assert set(theirs) - set(ours) <= {
        "name",
        "use_ema",
        "ema_momentum",
        "ema_overwrite_frequency",
        "loss_scale_factor",
        "gradient_accumulation_steps",
    }


@pytest.mark.parametrize(("name", "config"), SCHEDULES)
def test_schedule(name, config):
    ours = getattr(schedules, name)(0.2, **config)
    theirs = getattr(keras.optimizers.schedules, name)(0.2, **config)
    # Keras' logarithm may put the restart one step late, so steps exactly on one are left to test_optimizers.py.
    steps = [step for step in range(40) if "Restarts" not in name or step % 5 in (1, 2, 3)]
    np.testing.assert_allclose(
        [ours(step) for step in steps], [float(theirs(step)) for step in steps], rtol=1e-5, atol=1e-7
    )
    assert ours.get_config() == theirs.get_config()
    assert schedules.deserialize(schedules.serialize(ours))(3) == ours(3)


def test_piecewise():
    ours = schedules.PiecewiseConstantDecay([3, 6, 10], [0.4, 0.3, 0.2, 0.1])
    theirs = keras.optimizers.schedules.PiecewiseConstantDecay([3, 6, 10], [0.4, 0.3, 0.2, 0.1])
    assert [ours(step) for step in range(14)] == pytest.approx([float(theirs(step)) for step in range(14)])
