"""Conv1D and pooling give the oracle's numbers and gradients, and the same bits for any threads, padding, holes and order of rows."""

import numpy as np
import pytest

import rnnfast
from rnnfast import layers
from tests.conftest import max_rel_error
from tests.reference import convolution as oracle

B, T, C = 5, 19, 6
LENGTHS = np.array([19, 4, 0, 11, 7])
CONVOLUTIONS = [
    {"filters": 7, "kernel_size": 3},
    {"filters": 20, "kernel_size": 4, "padding": "same"},
    {"filters": 5, "kernel_size": 3, "padding": "causal", "activation": "tanh"},
    {"filters": 9, "kernel_size": 3, "strides": 2, "padding": "same", "groups": 3, "activation": "sigmoid"},
    {"filters": 70, "kernel_size": 2, "strides": 3, "padding": "causal", "activation": "relu"},
    {"filters": 4, "kernel_size": 3, "dilation_rate": 3, "padding": "causal", "groups": 2, "use_bias": False},
    {"filters": 6, "kernel_size": 5, "strides": 2, "dilation_rate": 2, "activation": "silu"},
    {"filters": 12, "kernel_size": 1, "groups": 6, "activation": "softmax"},
]
POOLS = [{}, {"pool_size": 3, "strides": 1}, {"pool_size": 3, "strides": 2, "padding": "same"}, {"pool_size": 2, "strides": 3}, {"pool_size": 4, "strides": 1, "padding": "same"}]
ENDS = [layers.ZeroPadding1D((2, 3)), layers.Cropping1D((1, 2))]


def windows_of(layer, length):
    size = getattr(layer, "kernel_size", None) or layer.pool_size
    return oracle.steps_read(length, size, layer.strides, getattr(layer, "dilation_rate", 1), layer.padding)


def made(layer, rng, dtype="float64"):
    layer.build((None, None, C))
    layer.set_weights([(rng.standard_normal(w.shape) / np.sqrt(C)).astype(dtype) for w in layer.weights])
    return layer


def all_layers(dtype):
    yield from (layers.Conv1D(**config, dtype=dtype) for config in CONVOLUTIONS)
    yield from (kind(**config, dtype=dtype) for kind in (layers.MaxPooling1D, layers.AveragePooling1D) for config in POOLS)


@pytest.mark.parametrize("config", CONVOLUTIONS, ids=lambda c: "-".join(map(str, c.values())))
@pytest.mark.parametrize("ragged", [False, True])
def test_convolution_against_the_oracle(config, ragged, dtype, rng):
    layer = made(layers.Conv1D(**config, dtype=dtype), rng, dtype)
    x, lengths = rng.standard_normal((B, T, C)).astype(dtype), LENGTHS if ragged else np.full(B, T)
    y_full = layer(x, lengths=lengths) if ragged else layer(x)
    dy = np.zeros_like(y_full)
    weights = [w.astype(np.float64) for w in layer.get_weights()]
    kernel, bias = weights[0], weights[1] if layer.use_bias else np.zeros(layer.filters)
    y, dx, dkernel, dbias = np.zeros(y_full.shape), np.zeros(x.shape), np.zeros(kernel.shape), np.zeros(bias.shape)
    activation = layers.Activation(layer.activation, dtype="float64")
    for b, length in enumerate(lengths):
        reads = windows_of(layer, length)
        z = oracle.convolve_row(x[b, :length].astype(np.float64), kernel, bias, layer.groups, reads)
        dy[b, : len(reads)] = rng.standard_normal(z.shape)
        if len(reads):
            backed = activation.vjp(z, dy[b, : len(reads)].astype(np.float64))
            y[b, : len(reads)] = backed["y"]
            dx[b, :length], one_kernel, one_bias = oracle.convolve_row_back(x[b, :length].astype(np.float64), kernel, layer.groups, reads, backed["x"])
            dkernel, dbias = dkernel + one_kernel, dbias + one_bias
        y[b, len(reads) :] = activation(np.zeros((1, layer.filters)))
    found = layer.vjp(x, dy, **({"lengths": lengths} if ragged else {}))
    forward, backward = (1e-6, 2e-6) if dtype == "float32" else (1e-12, 1e-11)
    assert max_rel_error(y_full, y) <= forward
    assert max_rel_error(found["y"], y) <= forward
    assert max_rel_error(found["x"], dx) <= backward
    for one, expected in zip(found["weights"], (dkernel, dbias), strict=False):
        assert max_rel_error(one, expected) <= backward


@pytest.mark.parametrize("config", POOLS, ids=str)
@pytest.mark.parametrize("kind", ["max", "mean"])
def test_pooling_against_the_oracle(config, kind, dtype, rng):
    layer = {"max": layers.MaxPooling1D, "mean": layers.AveragePooling1D}[kind](**config, dtype=dtype)
    x = rng.integers(-3, 3, (B, T, C)).astype(dtype)  # with ties
    y = layer(x, lengths=LENGTHS)
    dy, expected, dx = np.zeros_like(y), np.zeros(y.shape), np.zeros(x.shape)
    for b, length in enumerate(LENGTHS):
        reads, row = windows_of(layer, length), x[b, :length].astype(np.float64)
        expected[b, : len(reads)] = oracle.pool_row(row, kind, reads)
        dy[b, : len(reads)] = rng.standard_normal((len(reads), C))
        dx[b, :length] = oracle.pool_row_back(row, kind, reads, dy[b].astype(np.float64))
    found = layer.vjp(x, dy, lengths=LENGTHS)
    assert max_rel_error(y, expected) <= 1e-6
    assert max_rel_error(found["x"], dx) <= 2e-6


@pytest.mark.parametrize("layer", [*all_layers("float32"), *ENDS], ids=lambda layer: layer.name)
def test_bits_of_a_row_alone_in_a_batch_with_holes_and_on_threads(layer, rng):
    made(layer, rng, "float32")
    x, dy = rng.standard_normal((B, T, C)).astype(np.float32), None
    holes, spread = np.zeros((B, T), bool), rng.standard_normal((B, T, C)).astype(np.float32)
    for b, length in enumerate(LENGTHS):
        holes[b, np.sort(rng.permutation(T)[:length])] = True
        spread[b, holes[b]] = x[b, :length]
    y, closed = layer(x, lengths=LENGTHS), layer(spread, mask=holes)
    for b, length in enumerate(LENGTHS):
        count = layer.window.steps(int(length))
        if count:
            alone = layer(x[b : b + 1, :length])[0] if length else np.zeros((count, C))
            np.testing.assert_array_equal(y[b, :count], alone)
            np.testing.assert_array_equal(closed[b, holes[b]] if layer.window.keeps_time else closed[b, :count], alone)
    order = rng.permutation(B)
    np.testing.assert_array_equal(layer(x[order], lengths=LENGTHS[order]), y[order])
    dy, gradients, threads = rng.standard_normal(y.shape).astype(np.float32), [], rnnfast.get_num_threads()
    for n in (1, 2, 3):
        rnnfast.set_num_threads(n)
        np.testing.assert_array_equal(layer(x, lengths=LENGTHS), y)
        gradients.append(layer.vjp(x, dy, lengths=LENGTHS))
    rnnfast.set_num_threads(threads)
    for other in gradients[1:]:
        for a, b in zip([gradients[0]["x"], *gradients[0]["weights"]], [other["x"], *other["weights"]], strict=True):
            np.testing.assert_array_equal(a, b)


def test_threads_that_share_many_rows_give_the_same_bits(rng):
    layer = layers.Conv1D(40, 5, padding="same", activation="tanh")
    x = rng.standard_normal((16, 200, 70)).astype(np.float32)
    y, gradients, threads = layer(x), [], rnnfast.get_num_threads()
    for n in (1, 2, 3):
        rnnfast.set_num_threads(n)
        np.testing.assert_array_equal(layer(x), y)
        gradients.append(layer.vjp(x, y))
    rnnfast.set_num_threads(threads)
    for other in gradients[1:]:
        np.testing.assert_array_equal(gradients[0]["x"], other["x"])
        np.testing.assert_array_equal(gradients[0]["weights"][0], other["weights"][0])


def test_ends_of_rows(rng):
    x = rng.standard_normal((2, 5, 1)).astype(np.float32)
    padded, cropped = layers.ZeroPadding1D((1, 2))(x, lengths=[5, 2]), layers.Cropping1D((1, 2))(x, lengths=[5, 4])
    np.testing.assert_array_equal(padded[:, :, 0], [[0, *x[0, :, 0], 0, 0], [0, *x[1, :2, 0], 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(cropped[:, :, 0], [x[0, 1:3, 0], [x[1, 1, 0], 0]])
    dy = rng.standard_normal(cropped.shape).astype(np.float32)
    np.testing.assert_array_equal(layers.Cropping1D((1, 2)).vjp(x, dy)["x"], np.pad(dy, ((0, 0), (1, 2), (0, 0))))


def test_a_mask_shortens_what_follows(rng):
    """The steps that a strided convolution leaves are the valid steps of the layers behind it, and of the loss."""
    model = rnnfast.Sequential([rnnfast.Input((None, C)), layers.Conv1D(4, 3, strides=2), layers.GRU(3, return_sequences=True), layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = rng.standard_normal((B, T, C)).astype(np.float32), rng.standard_normal((B, 9, 1)).astype(np.float32)
    whole = model.evaluate(x, y, lengths=LENGTHS, verbose=0)
    counts = [max(0, (n - 3) // 2 + 1) for n in LENGTHS]
    errors = [(model.predict_on_batch(x[b : b + 1, :n])[0] - y[b, :count]) ** 2 for b, (n, count) in enumerate(zip(LENGTHS, counts, strict=True)) if count]
    assert whole == pytest.approx(np.concatenate(errors).mean(), rel=1e-5)
