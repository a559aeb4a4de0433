"""The gated linear unit halves the last axis as Keras' does, forward and backward, in sequences of any length."""

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, activations, layers
from tests.gradients import central_differences
from tests.peers import as_array, require


def oracle(x):
    value, gate = np.split(x, 2, axis=-1)
    return value / (1 + np.exp(-gate))


def test_values(rng):
    x = rng.standard_normal((2, 5, 6))
    np.testing.assert_allclose(activations.get("glu")(x), oracle(x), atol=1e-12)
    np.testing.assert_allclose(layers.Activation(activations.glu, dtype="float64")(x), oracle(x), atol=1e-12)


def test_gradient(rng):
    x, dy = rng.standard_normal((2, 3, 6)), rng.standard_normal((2, 3, 3))
    found = layers.Activation("glu", dtype="float64").vjp(x, dy)["x"]
    np.testing.assert_allclose(found, central_differences(lambda: float((oracle(x) * dy).sum()), x), atol=1e-7)


def test_parity_with_keras(rng):
    keras = require("keras")
    x = rng.standard_normal((3, 8)).astype(np.float32)
    np.testing.assert_allclose(layers.Activation("glu")(x), as_array(keras.layers.Activation("glu")(x)), atol=1e-6)


def test_in_a_model(rng, tmp_path):
    model = Sequential([Input((None, 4)), layers.Dense(6), layers.Activation("glu"), layers.GRU(4, return_sequences=True)])
    assert model.output_shape == (None, None, 4)
    x = rng.standard_normal((2, 7, 4)).astype(np.float32)
    y = model.predict_on_batch(x, lengths=[7, 3])
    np.testing.assert_array_equal(y[1, :3], model.predict_on_batch(x[1:, :3])[0])
    stream = model.stream()
    np.testing.assert_array_equal([stream.step(row) for row in x[0]], y[0])
    model.save(tmp_path / "m.rnnf")
    np.testing.assert_array_equal(rnnfast.load(tmp_path / "m.rnnf").predict_on_batch(x), model.predict_on_batch(x))
    model.compile("sgd", "mse")
    model.train_on_batch(x, np.zeros((2, 7, 4), np.float32))


@pytest.mark.parametrize("call", [lambda: activations.glu(np.ones((2, 3))), lambda: activations.glu(1.0)])
def test_odd_sizes_are_refused(call):
    with pytest.raises(ValueError, match=r"activations.glu: the last axis must have an even size"):
        call()


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 5, 4, 4)])
def test_layer_refuses(shape):
    with pytest.raises(ValueError, match=r"Activation 'g': glu needs one axis of features, of even size, got"):
        layers.Activation("glu", name="g")(np.ones(shape, np.float32))


def test_other_layers_do_not_know_it():
    with pytest.raises(ValueError, match="unknown activation 'glu'"):
        layers.LSTM(4, activation="glu")
