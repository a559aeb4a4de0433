"""Pickles and copies of models and layers, made before and after plans exist: the same numbers, nothing shared, training that goes on with the same bits."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys

import numpy as np
import pytest

from rnnfast import Input, Model, Sequential, builders, layers

X = np.linspace(-1, 1, 6 * 5 * 3, dtype=np.float32).reshape(6, 5, 3)
Y = np.cos(X[:, :, :1])
WAYS = {"pickle": lambda model: pickle.loads(pickle.dumps(model)), "deepcopy": copy.deepcopy, "copy": copy.copy}


def chain() -> Sequential:
    model = Sequential([Input((None, 3)), layers.Bidirectional(layers.GRU(4, return_sequences=True)), layers.Dropout(0.2, seed=3), layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    return model


def graph() -> Model:
    x = Input((None, 3))
    shared = layers.LSTM(4, return_sequences=True)
    inner, state, _ = layers.LSTM(3, return_sequences=True, return_state=True)(x)
    first = shared(inner)
    y = layers.Dense(1)(layers.Add()([first, shared(inner), layers.GRU(4, return_sequences=True)(inner, initial_state=layers.Dense(4)(state))]))
    model = Model(x, {"y": y})
    model.compile("adam", "mse")
    return model


def fresh(model):
    pass


def predicted(model):
    model.predict_on_batch(X)
    model.predict_on_batch(X)


def trained(model):
    model.fit(X, Y, epochs=2, batch_size=3, verbose=0)
    model.predict_on_batch(X)


def numbers(model):
    found = model.predict_on_batch(X)
    return found["y"] if isinstance(found, dict) else found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", [fresh, predicted, trained])
@pytest.mark.parametrize("make", [chain, graph])
def test_a_copy_goes_on_as_its_original_and_shares_nothing(make, before, way):
    model = make()
    before(model)
    again = WAYS[way](model)
    assert type(again) is type(model)
    assert np.array_equal(numbers(again), numbers(model))
    kept = numbers(model)
    again.train_on_batch(X, Y)
    assert np.array_equal(numbers(model), kept)
    assert not np.array_equal(numbers(again), kept)
    model.train_on_batch(X, Y)
    assert np.array_equal(numbers(again), numbers(model))  # the optimizer's and the random states were those of the original
    assert len(again.weights) == len(model.weights)
    assert not any(a is b or np.shares_memory(a.value, b.value) for a in again.weights for b in model.weights)


@pytest.mark.parametrize("way", WAYS)
def test_weights_that_stop_training_keep_the_optimizers_state_of_the_others(way):
    model = chain()
    trained(model)
    model.layers[0].trainable = False
    again = WAYS[way](model)
    for one in (model, again):
        one.train_on_batch(X, Y)
    assert np.array_equal(numbers(again), numbers(model))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [lambda: layers.GRU(4, stateful=True), lambda: layers.Bidirectional(layers.LSTM(4, dropout=0.2, seed=1)), lambda: layers.Dense(2)])
def test_layers(make, way):
    layer = make()
    layer(X)
    again = WAYS[way](layer)
    assert np.array_equal(again(X), layer(X))
    kept = layer(X)
    again.set_weights([w + 1 for w in again.get_weights()])
    if not getattr(layer, "stateful", False):
        assert np.array_equal(layer(X), kept)
    assert not np.array_equal(again(X), layer(X))


@pytest.mark.parametrize("way", WAYS)
def test_models_that_share_layers_share_them_in_their_copy(way):
    model = chain()
    part = Sequential([Input((None, 3)), model.layers[0]])
    part(X)
    both = {"pickle": lambda pair: pickle.loads(pickle.dumps(pair)), "deepcopy": copy.deepcopy, "copy": copy.deepcopy}[way]([model, part])
    both[0].train_on_batch(X, Y)
    assert both[1].layers[0] is both[0].layers[0]
    assert not np.array_equal(both[1](X), part(X))
    assert np.array_equal(both[1](X), both[0].layers[0](X))


@pytest.mark.parametrize("way", WAYS)
def test_long_graphs(way):
    x = Input((None, 3))
    y = x
    for _ in range(400):
        y = layers.Activation("tanh")(y)
    model = Model(x, y)
    assert np.array_equal(WAYS[way](model)(X), model(X))


@pytest.mark.parametrize("way", WAYS)
def test_models_of_builders_keep_what_they_hold_beside_layers(way):
    model = builders.language_model("abcab", embedding=4, units=8)
    model.predict_on_batch(np.zeros((1, 3), np.int64))
    again = WAYS[way](model)
    assert again.generate("a", 9, seed=1) == model.generate("a", 9, seed=1)


@pytest.mark.parametrize("way", WAYS)
def test_quantized(way):
    model = chain()
    model.quantize("int8")
    predicted(model)
    again = WAYS[way](model)
    assert np.array_equal(numbers(again), numbers(model))
    assert again.layers[0].quantization_mode == "int8"


def test_a_pickle_opens_in_another_process():
    model = chain()
    trained(model)
    code = "import pickle, sys, numpy; numpy.save(sys.stdout.buffer, pickle.load(sys.stdin.buffer).predict_on_batch(numpy.ones((2, 4, 3), 'f4')))"
    run = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(model), capture_output=True, check=True)
    assert np.array_equal(np.load(io.BytesIO(run.stdout)), model.predict_on_batch(np.ones((2, 4, 3), np.float32)))
