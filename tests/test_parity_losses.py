"""Every loss, reduction, mask and weight against Keras in float64."""

import numpy as np
import pytest

from rnnfast import losses
from tests.peers import require

keras = require("keras")
RNG = np.random.default_rng(1)
CASES = [
    ("MeanSquaredError", {}),
    ("MeanAbsoluteError", {}),
    ("MeanAbsolutePercentageError", {}),
    ("MeanSquaredLogarithmicError", {}),
    ("Huber", {}),
    ("Huber", {"delta": 0.1}),
    ("LogCosh", {}),
    ("KLDivergence", {}),
    ("Poisson", {}),
    ("BinaryCrossentropy", {}),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.2}),
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}),
    ("CategoricalCrossentropy", {"from_logits": True}),
    ("Hinge", {}),
    ("SquaredHinge", {}),
    ("CategoricalHinge", {}),
    ("CosineSimilarity", {}),
    ("SparseCategoricalCrossentropy", {}),
    ("SparseCategoricalCrossentropy", {"from_logits": True}),
    ("SparseCategoricalCrossentropy", {"ignore_class": 1}),
]


def pair(name, shape):
    p = RNG.uniform(0.05, 0.95, shape)
    if name.startswith("Sparse"):
        return RNG.integers(0, shape[-1], shape[:-1]), p
    if name == "CategoricalHinge":
        return np.eye(shape[-1])[RNG.integers(0, shape[-1], shape[:-1])], p
    return RNG.uniform(0.0, 1.0, shape), p


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight", "none"])
@pytest.mark.parametrize("weighting", ["plain", "weights", "mask", "both"])
@pytest.mark.parametrize(("name", "config"), CASES)
def test_loss(name, config, weighting, reduction):
    y, p = pair(name, (4, 5, 3))
    weights = RNG.uniform(0.5, 2.0, (4, 5)) if weighting in ("weights", "both") else None
    mask = RNG.random((4, 5)) < 0.6 if weighting in ("mask", "both") else None
    tensor = keras.ops.convert_to_tensor(p, "float64")
    if mask is not None:
        keras.src.backend.set_keras_mask(tensor, keras.ops.convert_to_tensor(mask))
    theirs = getattr(keras.losses, name)(reduction=reduction, dtype="float64", **config)
    expected = theirs(keras.ops.convert_to_tensor(y), tensor, weights)
    got = getattr(losses, name)(reduction=reduction, **config)(y, p, weights, mask)
    # Keras holds its epsilon in float32, which shows where it is compared with small targets.
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-6 if name != "MeanAbsolutePercentageError" else 1e-5)


@pytest.mark.parametrize(("name", "config"), CASES)
def test_defaults_and_names(name, config):
    ours, theirs = getattr(losses, name)(**config), getattr(keras.losses, name)(**config)
    # Keras leaves delta out of Huber's configuration.
    assert ours.get_config() == {**theirs.get_config(), **({"delta": ours.delta} if name == "Huber" else {})}
    assert type(losses.get(theirs.name)) is type(ours)


def test_trailing_axis_of_one():
    y, p = RNG.normal(size=(6,)), RNG.normal(size=(6, 1))
    expected = keras.losses.MeanSquaredError(dtype="float64")(y, p)
    assert losses.MeanSquaredError()(y, p) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("name", ["Hinge", "SquaredHinge"])
@pytest.mark.parametrize("sides", [(0, 1), (-1, 1), (0, 2), (1, 1)])
def test_binary_targets_become_sides(name, sides):
    y, p = RNG.choice(sides, (6, 4)), RNG.normal(size=(6, 4))
    expected = getattr(keras.losses, name)(dtype="float64")(y, p)
    assert getattr(losses, name)()(y, p) == pytest.approx(float(expected), rel=1e-6)
