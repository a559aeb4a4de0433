"""Conv1D, pooling, padding and BatchNormalization give Keras' and PyTorch's numbers, gradients and shapes on random weights."""

import numpy as np
import pytest

import rnnfast
from tests.conftest import max_rel_error
from tests.gradients import keras_floatx
from tests.peers import as_array, require

B, T, C = 3, 17, 6
CASES = {
    "valid": ("Conv1D", {"filters": 7, "kernel_size": 3}),
    "same-strided": ("Conv1D", {"filters": 8, "kernel_size": 4, "strides": 3, "padding": "same", "activation": "relu"}),
    "causal-dilated": ("Conv1D", {"filters": 5, "kernel_size": 3, "dilation_rate": 2, "padding": "causal", "activation": "tanh"}),
    "causal-strided": ("Conv1D", {"filters": 5, "kernel_size": 4, "strides": 2, "padding": "causal", "use_bias": False}),
    "groups": ("Conv1D", {"filters": 9, "kernel_size": 2, "groups": 3, "padding": "same", "activation": "gelu"}),
    "max": ("MaxPooling1D", {"pool_size": 3, "strides": 2, "padding": "same"}),
    "max-default": ("MaxPooling1D", {}),
    "mean": ("AveragePooling1D", {"pool_size": 4, "strides": 3}),
    "padding": ("ZeroPadding1D", {"padding": (2, 1)}),
    "cropping": ("Cropping1D", {"cropping": (1, 3)}),
    "batch-norm": ("BatchNormalization", {"epsilon": 1e-2}),
    "batch-norm-plain": ("BatchNormalization", {"center": False, "scale": False}),
}


@pytest.mark.parametrize("kind, config", CASES.values(), ids=CASES)
def test_inference_and_gradients_equal_keras(kind, config, rng):
    torch = require("torch")
    with keras_floatx("float64") as keras:
        theirs, ours = getattr(keras.layers, kind)(**config, dtype="float64"), getattr(rnnfast.layers, kind)(**config, dtype="float64")
        x = rng.standard_normal((B, T, C))
        theirs.build((None, T, C))
        ours.build((None, T, C))
        assert [w.shape for w in ours.get_weights()] == [tuple(w.shape) for w in theirs.weights]
        weights = [rng.random(w.shape) + 0.1 for w in ours.get_weights()]
        ours.set_weights(weights)
        theirs.set_weights(weights)
        given = torch.tensor(x, requires_grad=True)
        y = theirs(given)
        assert ours.output_shape((None, T, C)) == theirs.compute_output_shape((None, T, C)) == (None, *y.shape[1:])
        dy = rng.standard_normal(tuple(y.shape))
        (y * torch.tensor(dy)).sum().backward()
        found = ours.vjp(x, dy)
        assert max_rel_error(found["y"], y.detach().numpy()) <= 1e-12
        assert max_rel_error(found["x"], given.grad.numpy()) <= 1e-11
        for mine, variable in zip(found["weights"], theirs.weights, strict=True):
            if variable.trainable:
                assert max_rel_error(mine, variable.value.grad.numpy()) <= 1e-11


@pytest.mark.parametrize("masked", [False, True])
def test_batch_statistics_equal_keras(masked, rng):
    torch = require("torch")
    with keras_floatx("float64") as keras:
        theirs, ours = keras.layers.BatchNormalization(momentum=0.8, dtype="float64"), rnnfast.layers.BatchNormalization(momentum=0.8, dtype="float64")
        x, valid = rng.standard_normal((B, T, C)) * 3 + 5, np.ones((B, T), bool)
        if masked:
            valid = rng.random((B, T)) < 0.6
        weights = [rng.random(C) + 0.5 for _ in range(4)]
        for layer in (theirs, ours):
            layer.build((None, T, C))
            layer.set_weights(weights)
        given = torch.tensor(x, requires_grad=True)
        y = theirs(given, training=True, mask=torch.tensor(valid) if masked else None)
        dy = rng.standard_normal((B, T, C)) * valid[..., None]
        (y * torch.tensor(dy)).sum().backward()
        found = ours.vjp(x, dy, mask=valid if masked else None, training=True)
        close = 1e-7 if masked else 1e-12  # with a mask, Keras adds its epsilon of 1e-7 to the count
        assert max_rel_error(found["y"][valid], y.detach().numpy()[valid]) <= close
        assert max_rel_error(found["x"], given.grad.numpy()) <= close
        for mine, variable in zip(found["weights"][:2], theirs.weights, strict=False):
            assert max_rel_error(mine, variable.value.grad.numpy()) <= close
        for mine, other in zip(ours.get_weights(), theirs.weights, strict=True):
            assert max_rel_error(mine, as_array(other)) <= close


@pytest.mark.parametrize("config", [{}, {"stride": 2}, {"dilation": 3}, {"groups": 2}, {"stride": 2, "dilation": 2}], ids=str)
def test_convolution_equals_torch(config, dtype, rng):
    torch = require("torch")
    module = torch.nn.Conv1d(C, 8, 3, dtype=getattr(torch, dtype), **config)
    names = {"stride": "strides", "dilation": "dilation_rate", "groups": "groups"}
    layer = rnnfast.layers.Conv1D(8, 3, dtype=dtype, **{names[name]: value for name, value in config.items()})
    layer.build((None, T, C))
    layer.set_weights([module.weight.detach().numpy().transpose(2, 1, 0), module.bias.detach().numpy()])
    x = rng.standard_normal((B, T, C)).astype(dtype)
    expected = module(torch.tensor(x).transpose(1, 2)).transpose(1, 2).detach().numpy()
    assert max_rel_error(layer(x), expected) <= (1e-6 if dtype == "float32" else 1e-12)


def test_batch_normalization_equals_torch(rng):
    torch = require("torch")
    module = torch.nn.BatchNorm1d(C, eps=1e-3, momentum=0.1, dtype=torch.float64)
    layer = rnnfast.layers.BatchNormalization(momentum=0.9, dtype="float64")
    x = rng.standard_normal((B, T, C)) * 2 + 1
    expected = module(torch.tensor(x).transpose(1, 2)).transpose(1, 2).detach().numpy()
    assert max_rel_error(layer(x, training=True), expected) <= 1e-12
    assert max_rel_error(layer.moving_mean.value, module.running_mean.numpy()) <= 1e-12
    unbiased = B * T / (B * T - 1)  # PyTorch's running variance divides by the count less one
    assert max_rel_error((layer.moving_variance.value - 0.9) * unbiased, module.running_var.numpy() - 0.9) <= 1e-12
