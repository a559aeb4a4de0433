"""The floating-point mode of a thread: subnormals are flushed on every way through the engine, and the caller's mode stands again behind it."""

import os
import threading

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, _engine, layers
from tests import peers

UNITS, STEPS, STREAMS = 3, 4, 5
TINY = {"float32": 1e-40, "float64": 1e-310}


@pytest.fixture(params=[1, 2])
def threads(request):
    kept = rnnfast.get_num_threads()
    rnnfast.set_num_threads(request.param)
    yield request.param
    rnnfast.set_num_threads(kept)


def kept_by_numpy(dtype):
    """Whether this thread computes with subnormals: of vectors and of the last elements of an array."""
    return bool(np.all(np.full(37, TINY[dtype], dtype) * np.asarray(0.5, dtype) > 0))


def copying(layer, dtype):
    """A model that gives its input, computed: subnormals come out of it as zeros, if its engine flushes them."""
    model = Sequential([Input((None, UNITS), dtype=dtype), layer])
    model.set_weights([np.eye(*w.shape) if w.shape == (UNITS, UNITS) and i == 0 else np.zeros(w.shape) for i, w in enumerate(model.get_weights())])
    return model


def linear(dtype):
    return copying(layers.SimpleRNN(UNITS, activation=None, return_sequences=True, dtype=dtype), dtype)


def one_stream(model, x):
    stream = model.stream()
    return np.stack([stream.step(x[0, t]).copy() for t in range(STEPS)])


def pool(model, x):
    streams = model.stream_pool(STREAMS)
    ids = np.array([streams.open() for _ in range(STREAMS)])
    return np.stack([streams.step(ids, np.ascontiguousarray(x[:, t])).copy() for t in range(STEPS)])


WAYS = {
    "predict": lambda model, x: model.predict(x, batch_size=2),
    "predict_on_batch": lambda model, x: model.predict_on_batch(x),
    "call": lambda model, x: np.asarray(model(x)),
    "step": one_stream,
    "process": lambda model, x: model.stream().process(x[0]),
    "pool": pool,
}


@pytest.mark.parametrize("way", WAYS)
def test_subnormals_are_zeros_inside_and_kept_outside(way, dtype, threads):
    model, tiny = linear(dtype), np.full((STREAMS, STEPS, UNITS), TINY[dtype], dtype)
    assert np.all(WAYS[way](model, np.ones_like(tiny)) == 1)
    assert np.all(WAYS[way](model, tiny) == 0)
    assert kept_by_numpy(dtype)


@pytest.mark.parametrize("activation", ["tanh", "linear"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("way", WAYS)
def test_states_are_flushed(way, kind, activation, dtype):
    """Half of a candidate that is just a normal number would be a subnormal state."""
    model = Sequential([Input((None, UNITS), dtype=dtype), getattr(layers, kind)(UNITS, activation=activation, return_sequences=True, dtype=dtype)])
    model.set_weights([np.full(w.shape, 0 if w.shape[0] == UNITS else 1.25 * np.finfo(dtype).tiny) for w in model.get_weights()])
    states = WAYS[way](model, np.zeros((STREAMS, STEPS, UNITS), dtype))
    assert np.all((states == 0) | (states >= np.finfo(dtype).tiny))
    assert kept_by_numpy(dtype)


def test_training(dtype, threads):
    model, x = linear(dtype), np.full((STREAMS, STEPS, UNITS), TINY[dtype], dtype)
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.train_on_batch(x, np.zeros_like(x))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert kept_by_numpy(dtype)


def test_elementwise(dtype):
    assert np.all(_engine.elementwise("silu", np.full(37, TINY[dtype], dtype)) == 0)
    assert kept_by_numpy(dtype)


class Cell(layers.Cell):
    """A user's cell, which computes in the caller's mode."""

    state_size = UNITS

    def call(self, inputs, states):
        if not kept_by_numpy(self.dtype):
            raise FloatingPointError("flushed")
        if inputs[0, 0] > 1:
            raise ZeroDivisionError("the user's")
        return inputs * 0.5, [states[0]]


def test_cells_in_python_keep_subnormals_and_may_fail(dtype, threads):
    model, x = Sequential([Input((None, UNITS), dtype=dtype), layers.RNN(Cell(dtype=dtype), return_sequences=True)]), np.full((STREAMS, STEPS, UNITS), TINY[dtype], dtype)
    assert np.all(model.predict_on_batch(x) > 0)
    with pytest.raises(ZeroDivisionError, match="the user's"):
        model.predict_on_batch(np.full_like(x, 2))
    assert kept_by_numpy(dtype)


def test_threads_of_python(dtype, threads):
    model, tiny, seen = linear(dtype), np.full((STREAMS, STEPS, UNITS), TINY[dtype], dtype), []

    def work():
        seen.append(bool(np.all(model.predict_on_batch(tiny) == 0) and np.all(one_stream(model, tiny) == 0) and kept_by_numpy(dtype)))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert seen == [True] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child(threads):
    model, tiny = linear("float32"), np.full((STREAMS, STEPS, UNITS), TINY["float32"], np.float32)
    model.predict_on_batch(tiny)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.all(model.predict_on_batch(tiny) == 0) and kept_by_numpy("float32") else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_modules_of_torch():
    torch = peers.require("torch")
    from rnnfast.torch import RNN

    made = RNN(UNITS, UNITS, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            weight.copy_(torch.eye(UNITS) if name.startswith("weight_ih") else torch.zeros_like(weight))
    x = torch.full((STREAMS, STEPS, UNITS), TINY["float32"], requires_grad=True)
    y, _ = made(x)
    assert torch.all(y == 0)
    y.sum().backward()
    assert kept_by_numpy("float32")


def test_a_caller_that_flushes_goes_on_flushing(dtype):
    torch = peers.require("torch")
    model, tiny = linear(dtype), np.full((STREAMS, STEPS, UNITS), TINY[dtype], dtype)
    assert torch.set_flush_denormal(True)
    try:
        for way in WAYS.values():
            way(model, tiny)
        assert not kept_by_numpy(dtype)
    finally:
        torch.set_flush_denormal(False)
    assert kept_by_numpy(dtype)
