"""The gradients of attention are those of its own forward pass: central differences in float64 at 1e-7."""

import numpy as np
import pytest

from rnnfast import layers
from tests.attention_cases import SCORES, SEEN, Problem
from tests.conftest import max_rel_error
from tests.gradients import central_differences


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("score", SCORES)
def test_inputs_and_weights(score, seen, rng):
    p = Problem(score, seen, "small", rng, "float64", masked=seen != "all")
    weights = p.layer.get_weights()

    def total():
        p.layer.set_weights(weights)
        return sum(float((y * d).sum()) for y, d in zip(p.layer(p.xs, mask=p.mask), (p.dy, p.dscores), strict=True))

    found = p.vjp()
    for array, gradient in zip([*p.xs, *weights], [*found["x"], *found["weights"]], strict=True):
        assert max_rel_error(gradient, central_differences(total, array)) < 1e-7


@pytest.mark.parametrize("units", [None, 3])
def test_pooling(units, rng):
    x, dy = rng.standard_normal((3, 4, 2)), rng.standard_normal((3, 2))
    layer, lengths = layers.AttentionPooling1D(units, activation="gelu", dtype="float64"), np.array([4, 0, 2])
    found = layer.vjp(x, dy, lengths=lengths)
    weights = layer.get_weights()

    def total():
        layer.set_weights(weights)
        return float((layer(x, lengths=lengths) * dy).sum())

    for array, gradient in zip([x, *weights], [found["x"], *found["weights"]], strict=True):
        assert max_rel_error(gradient, central_differences(total, array)) < 1e-7
