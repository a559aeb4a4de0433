"""Arguments and inputs that make no sense to windows over time are refused by name; configurations come back as they were."""

import numpy as np
import pytest

from rnnfast import layers

X = np.zeros((2, 5, 4), np.float32)
BAD = {
    "strides-0": (lambda: layers.Conv1D(3, 2, strides=0), ["Conv1D", "strides", "positive integer", "0"]),
    "filters-float": (lambda: layers.Conv1D(3.5, 2), ["Conv1D", "filters", "3.5"]),
    "kernel-size-pair": (lambda: layers.Conv1D(3, (2, 2)), ["Conv1D", "kernel_size", "(2, 2)"]),
    "dilation-negative": (lambda: layers.Conv1D(3, 2, dilation_rate=-1), ["dilation_rate", "-1"]),
    "padding-misspelt": (lambda: layers.Conv1D(3, 2, padding="casual"), ["casual", "Did you mean 'causal'?"]),
    "padding-number": (lambda: layers.Conv1D(3, 2, padding=1), ["padding", "1", "valid"]),
    "pool-causal": (lambda: layers.MaxPooling1D(2, padding="causal"), ["MaxPooling1D", "causal", "same, valid"]),
    "channels-first": (lambda: layers.Conv1D(3, 2, data_format="channels_first"), ["data_format", "channels_last"]),
    "groups-of-filters": (lambda: layers.Conv1D(3, 2, groups=2), ["filters", "multiple of groups", "3", "2"]),
    "groups-of-channels": (lambda: layers.Conv1D(3, 2, groups=3)(X), ["channels", "multiple of groups", "4", "3"]),
    "activation": (lambda: layers.Conv1D(3, 2, activation="rellu"), ["activation", "relu"]),
    "unknown": (lambda: layers.Conv1D(3, 2, kernel_sise=2), ["kernel_sise", "kernel_size"]),
    "too-short": (lambda: layers.Conv1D(3, 3, dilation_rate=3)(X), ["Conv1D", "at least 7 steps", "5", "same"]),
    "pool-too-short": (lambda: layers.AveragePooling1D(6)(X), ["AveragePooling1D", "at least 6 steps", "5"]),
    "crop-too-short": (lambda: layers.Cropping1D(3)(X), ["Cropping1D", "at least 7 steps", "5"]),
    "crop-negative": (lambda: layers.Cropping1D((1, -1)), ["cropping", "(1, -1)"]),
    "padding-three": (lambda: layers.ZeroPadding1D((1, 2, 3)), ["padding", "(1, 2, 3)"]),
    "rank-2": (lambda: layers.Conv1D(3, 2)(X[0]), ["(B, T, C)"]),
    "rank-4": (lambda: layers.MaxPooling1D(2)(X[..., None]), ["(B, T, C)"]),
    "other-channels": (lambda: _built()(X[..., :3]), ["4", "(2, 5, 3)"]),
}


def _built():
    layer = layers.Conv1D(3, 2)
    layer.build((None, None, 4))
    return layer


@pytest.mark.parametrize("call, words", BAD.values(), ids=BAD)
def test_refused_with_a_clear_error(call, words):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert not [word for word in words if word not in str(error.value)], str(error.value)


@pytest.mark.parametrize("shape", [(0, 5, 4), (2, 0, 4), (2, 1, 4)])
def test_empty_and_short_inputs(shape):
    layer = layers.Conv1D(3, 3, strides=2, padding="causal")
    found = layer.vjp(np.ones(shape, np.float32), np.ones((shape[0], -(-shape[1] // 2), 3), np.float32))
    assert found["y"].shape == (shape[0], -(-shape[1] // 2), 3)
    assert found["x"].shape == shape
    assert np.isfinite(found["weights"][0]).all()


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv1D(4, (3,), strides=2, padding="same", dilation_rate=1, groups=2, activation="relu", use_bias=False, kernel_regularizer="l2", kernel_constraint="max_norm"),
        layers.MaxPooling1D(3, 2, "same"), layers.AveragePooling1D(), layers.ZeroPadding1D(2), layers.Cropping1D((0, 1)),
        layers.BatchNormalization(momentum=0.5, epsilon=1e-4, center=False, gamma_regularizer="l1", moving_mean_initializer="ones"),
    ],
    ids=lambda layer: layer.name,
)  # fmt: skip
def test_configurations_come_back(layer):
    again = layers.deserialize(layers.serialize(layer))
    assert again.get_config() == layer.get_config()
    layer.build((None, 5, 4))
    again.build((None, 5, 4))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(layer(X), again(X))
