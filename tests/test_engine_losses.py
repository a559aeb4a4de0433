"""Every loss in the engine: its value is the readable definition's, its gradient that of central differences, with weights and masks."""

import numpy as np
import pytest

from rnnfast import Input, Sequential, layers, losses, optimizers
from tests.gradients import central_differences

RNG = np.random.default_rng(17)
LOGITS = {"from_logits": True}
CASES = [
    ("MeanSquaredError", {}), ("MeanAbsoluteError", {}), ("MeanAbsolutePercentageError", {}), ("MeanSquaredLogarithmicError", {}), ("Huber", {"delta": 0.3}),
    ("LogCosh", {}), ("KLDivergence", {}), ("Poisson", {}), ("Hinge", {}), ("SquaredHinge", {}), ("CategoricalHinge", {}), ("CosineSimilarity", {}),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}), ("BinaryCrossentropy", LOGITS), ("CategoricalCrossentropy", {}),
    ("CategoricalCrossentropy", {"label_smoothing": 0.1} | LOGITS), ("SparseCategoricalCrossentropy", {"ignore_class": 2}), ("SparseCategoricalCrossentropy", LOGITS),
]  # fmt: skip


def targets(name):
    if name.startswith("Sparse"):
        return RNG.integers(0, 4, (3, 6))
    if name in ("CategoricalCrossentropy", "CategoricalHinge"):
        return np.eye(4)[RNG.integers(0, 4, (3, 6))]
    if "Hinge" in name:
        return RNG.choice([0, 1], (3, 6, 4))
    return RNG.uniform(0.05, 0.95, (3, 6, 4))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("name", "config"), CASES)
def test_value_and_gradient(name, config, masked):
    bounded = not config.get("from_logits") and ("entropy" in name or name in ("KLDivergence", "Poisson", "MeanSquaredLogarithmicError"))
    out = layers.Dense(4, activation="sigmoid" if bounded else None, dtype="float64")
    model = Sequential([Input((None, 3), dtype="float64"), layers.SimpleRNN(5, return_sequences=True, dtype="float64"), out])
    loss = getattr(losses, name)(**config)
    model.compile(optimizers.SGD(1.0), loss)
    x, y, weight = RNG.normal(size=(3, 6, 3)), targets(name), RNG.uniform(0.5, 1.5, (3, 6))
    mask = RNG.random((3, 6)) < 0.7 if masked else None
    given = {"sample_weight": weight, "mask": mask}
    expected = loss(y, model.predict(x, mask=mask), weight, mask)
    before = model.get_weights()
    assert model.train_on_batch(x, y, **given) == pytest.approx(expected, rel=1e-12)
    after = model.get_weights()

    def value():
        model.set_weights(before)
        return model.evaluate(x, y, verbose=0, **given)

    for old, new in list(zip(before, after, strict=True))[-2:]:
        np.testing.assert_allclose(old - new, central_differences(value, old, 1e-5), atol=1e-7 * max(1.0, abs(expected)))


@pytest.mark.parametrize("name", ["Hinge", "SquaredHinge", "CategoricalHinge", "CosineSimilarity"])
def test_nan_and_zero_vectors(name):
    model = Sequential([Input((2,), dtype="float64"), layers.Dense(3, use_bias=False, dtype="float64")])
    model.compile("sgd", getattr(losses, name)())
    y = np.eye(3)[:2]
    assert np.isnan(model.evaluate(np.full((2, 2), np.nan), y, verbose=0))
    assert np.isfinite(model.train_on_batch(np.zeros((2, 2)), y))
    assert all(np.isfinite(w).all() for w in model.get_weights())
