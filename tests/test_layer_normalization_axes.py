"""LayerNormalization normalises as many of the last axes of a step's features as it is told, and refuses what it cannot."""

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, layers
from tests.gradients import central_differences
from tests.peers import as_array, require

AXES = [-1, 3, (3,), (-2, -1), (-1, -2), [2, 3]]


def made(axis, **options):
    layer = layers.LayerNormalization(axis, dtype="float64", gamma_initializer="glorot_uniform", beta_initializer="glorot_uniform", **options)
    layer.build((None, None, 3, 4))
    return layer


def oracle(layer, x, axes):
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    gamma, beta = layer.get_weights()
    return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta


@pytest.mark.parametrize("axis", AXES)
def test_values(axis, rng):
    x, layer = rng.standard_normal((2, 5, 3, 4)), made(axis)
    axes = (2, 3) if np.size(axis) == 2 else (3,)
    assert layer.get_weights()[0].shape == tuple(x.shape[a] for a in axes)
    np.testing.assert_allclose(layer(x), oracle(layer, x, axes), atol=1e-12)


def test_gradients(rng):
    x, dy, layer = rng.standard_normal((2, 3, 3, 4)), rng.standard_normal((2, 3, 3, 4)), made((-2, -1))
    found = layer.vjp(x, dy)
    value = lambda: float((oracle(layer, x, (2, 3)) * dy).sum())
    np.testing.assert_allclose(found["x"], central_differences(value, x), atol=1e-7)
    gamma, beta = layer.get_weights()
    normal = (oracle(layer, x, (2, 3)) - beta) / gamma
    np.testing.assert_allclose(found["weights"][0], (dy * normal).sum((0, 1)), atol=1e-11)
    np.testing.assert_allclose(found["weights"][1], dy.sum((0, 1)), atol=1e-11)


@pytest.mark.parametrize("axis", [-1, (-2, -1)])
def test_parity_with_keras(axis, rng):
    keras = require("keras")
    x = rng.standard_normal((2, 5, 3, 4)).astype(np.float32)
    peer = keras.layers.LayerNormalization(axis)
    peer.build(x.shape)
    layer = layers.LayerNormalization(axis)
    layer.build((None, None, 3, 4))
    weights = [rng.standard_normal(w.shape) for w in layer.get_weights()]
    layer.set_weights(weights)
    peer.set_weights(weights)
    np.testing.assert_allclose(layer(x), as_array(peer(x)), atol=2e-6)


def test_saves_and_ignores_padding(rng, tmp_path):
    model = Sequential([Input((None, 3, 4)), layers.LayerNormalization((-2, -1)), layers.GlobalMaxPooling1D(), layers.Flatten(), layers.Dense(2)])
    x = rng.standard_normal((2, 6, 3, 4)).astype(np.float32)
    model.save(tmp_path / "m.rnnf")
    y = rnnfast.load(tmp_path / "m.rnnf").predict_on_batch(x, lengths=[6, 2])
    np.testing.assert_array_equal(y, model.predict_on_batch(x, lengths=[6, 2]))
    np.testing.assert_array_equal(y[1:], model.predict_on_batch(x[1:, :2]))


@pytest.mark.parametrize(("axis", "shape"), [(1, (None, 5, 4)), ((1, 2), (None, 5, 4)), (-2, (None, None, 3, 4)), ((), (None, 4)), (0, (None, 4)), (2, (None, 4)), (None, (None, 4)), ((None, -1), (None, 4))])
def test_other_axes_are_refused(axis, shape):
    with pytest.raises(ValueError, match="LayerNormalization 'odd': axis must be the last of a step's features"):
        layers.LayerNormalization(axis, name="odd").build(shape)
