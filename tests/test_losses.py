"""Losses: values, reductions, masks, bad arguments. Parity with Keras is in test_parity_losses.py."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnfast import losses
from rnnfast.errors import ShapeError

NAMES = ["mse", "mae", "mape", "msle", "huber", "log_cosh", "bce", "categorical_crossentropy", "kld", "poisson", "hinge", "squared_hinge", "categorical_hinge",
         "cosine_similarity"]  # fmt: skip
RNG = np.random.default_rng(0)


def probabilities(*shape):
    p = RNG.uniform(0.1, 1.0, shape)
    return p / p.sum(-1, keepdims=True)


@pytest.mark.parametrize("name", [*NAMES, "sparse_categorical_crossentropy"])
def test_config_round_trip_and_engine_description(name):
    loss = losses.get(name)
    again = losses.deserialize(losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    kind, parameters = loss.engine()
    assert kind
    assert all(isinstance(parameter, float) for parameter in parameters)


def test_engine_parameters():
    assert losses.Huber(2.0).engine() == ("huber", (2.0,))
    assert losses.BinaryCrossentropy(True, 0.1).engine() == ("binary_crossentropy", (1.0, 0.1, 1e-7))
    kind, parameters = losses.SparseCategoricalCrossentropy(ignore_class=3).engine()
    assert (kind, parameters) == ("sparse_categorical_crossentropy", (0.0, 1e-7, 3.0))
    assert math.isnan(losses.SparseCategoricalCrossentropy().engine()[1][2])


@pytest.mark.parametrize("name", NAMES)
def test_mask_equals_cutting_and_ignores_nan(name):
    loss = losses.get(name)
    y, p = probabilities(3, 5, 4), probabilities(3, 5, 4)
    mask = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [0, 1, 0, 1, 1]], bool)
    expected = loss(y[mask], p[mask])
    p[~mask] = np.nan
    assert loss(y, p, mask=mask) == pytest.approx(expected, rel=1e-14)
    assert loss(y, p, sample_weight=mask * 2.0, mask=mask) == pytest.approx(2 * expected, rel=1e-14)
    assert loss(y, p, mask=np.zeros((3, 5), bool)) == 0.0


def test_reductions():
    y, p, w = np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0, 4.0]), np.array([1.0, 2.0, 3.0])
    made = {reduction: losses.MeanSquaredError(reduction=reduction) for reduction in losses.REDUCTIONS}
    assert made["sum"](y, p, w) == 13.0
    assert made["mean"](y, p, w) == made["sum_over_batch_size"](y, p, w) == pytest.approx(13 / 3)
    assert made["mean_with_sample_weight"](y, p, w) == pytest.approx(13 / 6)
    assert made["mean_with_sample_weight"](y, p) == pytest.approx(5 / 3)
    np.testing.assert_array_equal(made["none"](y, p, w), [1.0, 0.0, 12.0])
    assert losses.MeanSquaredError(reduction=None).reduction == "none"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 6), st.integers(1, 4), st.sampled_from(losses.REDUCTIONS[:4]), st.booleans(), st.integers(0, 99))
def test_coefficients_are_the_reduction(batch, steps, reduction, masked, seed):
    rng = np.random.default_rng(seed)
    loss = losses.MeanSquaredError(reduction=reduction)
    values, weights = rng.normal(size=(batch, steps)), rng.uniform(0.5, 1.5, (batch, 1))
    mask = rng.random((batch, steps)) < 0.7 if masked else np.ones((batch, steps), bool)
    total = (values * weights)[mask].sum() if mask.any() else 0.0
    divisor = {"sum": 1.0, "mean_with_sample_weight": (weights * mask).sum()}.get(reduction, mask.sum())
    got = (loss.coefficients((batch, steps), weights[:, 0], mask) * values).sum()
    assert got == pytest.approx(total / divisor if divisor else 0.0, abs=1e-12)


def test_sparse_equals_one_hot():
    p, labels = probabilities(4, 6, 5), RNG.integers(0, 5, (4, 6))
    sparse, dense = losses.SparseCategoricalCrossentropy(), losses.CategoricalCrossentropy()
    assert sparse(labels, p) == pytest.approx(dense(np.eye(5)[labels], p), rel=1e-14)
    assert sparse(labels[..., None].astype("float32"), p) == sparse(labels, p)
    kept = labels != 2
    ignoring = losses.SparseCategoricalCrossentropy(ignore_class=2)
    assert ignoring(labels, p) == pytest.approx(sparse(labels[kept], p[kept]), rel=1e-14)
    mask = RNG.random((4, 6)) < 0.5
    assert ignoring(labels, p, mask=mask) == pytest.approx(sparse(labels[kept & mask], p[kept & mask]), rel=1e-14)
    assert losses.SparseCategoricalCrossentropy(ignore_class=-1)(np.full((4, 6), -1), p) == 0.0


@pytest.mark.parametrize("padding", [-1, 99, np.nan])
def test_labels_outside_the_mask_are_not_looked_at(padding):
    p, labels = probabilities(4, 6, 5), RNG.integers(0, 5, (4, 6)).astype("float64")
    mask = RNG.random((4, 6)) < 0.5
    sparse = losses.SparseCategoricalCrossentropy()
    expected = sparse(labels[mask], p[mask])
    assert sparse(np.where(mask, labels, padding), p, mask=mask) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("cls", [losses.BinaryCrossentropy, losses.CategoricalCrossentropy])
def test_logits_do_not_overflow(cls):
    y, logits = np.array([[0.0, 1.0]]), np.array([[1000.0, -1000.0]])
    assert np.isfinite(cls(from_logits=True)(y, logits))
    assert losses.LogCosh()(y, logits * 1e3) > 1e5


def test_missing_last_axis_of_size_one():
    y, p = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3, 1))
    mask = RNG.random((4, 3)) < 0.5
    mse = losses.MeanSquaredError()
    assert mse(y, p, mask=mask) == mse(y[..., None], p, mask=mask)
    assert mse(y[:, 0], p[:, 0]) == mse(y[:, :1], p[:, 0]) == mse(y[:, :1], p[:, 0, 0])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: losses.get("mse")(np.zeros((4, 2)), np.zeros((4, 3))), ShapeError, r"shape \(4, 3\) .* got \(4, 2\)"),
        (lambda: losses.get("mse")(np.zeros((4, 3)), np.zeros((4, 1))), ShapeError, r"\(4, 1\) or \(4,\) for"),
        (lambda: losses.get("mse")(np.zeros(4), np.zeros((4, 3, 1))), ShapeError, r"\(4, 3, 1\) or \(4, 3\)"),
        (lambda: losses.get("mse")(np.zeros((4, 1), complex), np.zeros((4, 1))), ValueError, "real numbers"),
        (lambda: losses.get("mse")(np.array(["a"]), np.zeros((1, 1))), ValueError, "real numbers"),
        (
            lambda: losses.SparseCategoricalCrossentropy()([[1, 0]], [[0.5, 0.5]]),
            ShapeError,
            r"must have shape \(1,\) .*got \(1, 2\).*categorical_crossentropy",
        ),
        (lambda: losses.SparseCategoricalCrossentropy()([2], [[0.5, 0.5]]), ValueError, r"\[0, 2\), got 2 to 2"),
        (lambda: losses.SparseCategoricalCrossentropy()([np.nan], [[0.5, 0.5]]), ValueError, "fractions or NaN"),
        (lambda: losses.SparseCategoricalCrossentropy()(["a"], [[0.5, 0.5]]), ValueError, "must hold numbers"),
        (lambda: losses.get("mse")([[0.0]], [[0.0]], [1.0, 2.0]), ShapeError, r"sample_weight must have shape \(1,\)"),
        (lambda: losses.get("mse")([[0.0]], [[0.0]], mask=True), ShapeError, r"mask must have shape \(1,\), got \(\)"),
        (lambda: losses.get("msee"), ValueError, "Unknown loss 'msee'. Did you mean 'mse'"),
        (lambda: losses.get(lambda a, b: a - b), ValueError, "the engine computes it"),
        (lambda: losses.Huber(-1), ValueError, "Huber: delta must be a number greater than 0, got -1"),
        (lambda: losses.Huber("1"), ValueError, "Huber: delta must be a number greater than 0, got '1'"),
        (lambda: losses.Huber(float("nan")), ValueError, "delta must be a number greater than 0, got nan"),
        (lambda: losses.MeanSquaredError(reduction="avg"), ValueError, "reduction must be one of"),
        (lambda: losses.BinaryCrossentropy(axis=1), ValueError, "axis must be -1"),
        (lambda: losses.CategoricalCrossentropy(label_smoothing=2), ValueError, "label_smoothing"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_empty_batch_is_zero_and_nan_passes_through():
    mse = losses.MeanSquaredError()
    assert mse(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0
    assert math.isnan(mse([[np.nan]], [[0.0]]))
