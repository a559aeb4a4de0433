"""RTNeural's JSON: files as its exporters lay them out, with Keras and PyTorch as judges on random weights, and files that mean harm."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import rnnfast
from rnnfast import FormatError, Input, Sequential, layers
from rnnfast.interop import rtneural
from tests.conftest import max_rel_error
from tests.interop.hostile import check_calm, check_refused, mutations
from tests.peers import require

KINDS = {"Dense": "dense", "LSTM": "lstm", "GRU": "gru", "Conv1D": "conv1d", "BatchNormalization": "batchnorm", "Activation": "activation", "TimeDistributed": "time-distributed-dense"}


def put(path, content):
    path.write_text(json.dumps(content))
    return path


def exported(model):
    """A Keras model in the format's Keras style: types, activations, output shapes, and the weights as Keras has them."""
    entries = []
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        name = getattr(getattr(inner, "activation", None), "__name__", "linear")
        entry = {"type": KINDS[type(layer).__name__], "activation": "" if name == "linear" else name, "shape": list(layer.output.shape)}
        if entry["type"] == "conv1d":
            entry |= {"kernel_size": list(layer.kernel_size), "dilation": list(layer.dilation_rate), "groups": layer.groups}
        if entry["type"] == "batchnorm":
            entry["epsilon"] = layer.epsilon
        entries.append(entry | {"weights": [w.tolist() for w in layer.get_weights()]})
    return {"in_shape": list(model.input_shape), "layers": entries}


def randomize(model, rng):
    model.set_weights([np.abs(rng.normal(0, 0.5, v.shape)) + 0.1 if "variance" in v.path else rng.normal(0, 0.5, v.shape) for v in model.weights])
    return model


def keras_models(k):
    conv = k.Conv1D(6, 3, dilation_rate=2, groups=2, padding="causal", activation="elu")
    yield "gru", [k.Input((None, 2)), k.TimeDistributed(k.Dense(4, activation="tanh")), k.GRU(5, return_sequences=True), k.Dense(1)]
    yield "lstm", [k.Input((None, 1)), k.LSTM(5, return_sequences=True), k.LSTM(3, return_sequences=True), k.Dense(2, activation="sigmoid")]
    yield "last", [k.Input((20, 1)), k.LSTM(5, return_sequences=True), k.GRU(3), k.Dense(1)]
    yield "conv", [k.Input((None, 2)), k.Dense(4, activation="relu"), conv, k.BatchNormalization(), k.Activation("tanh"), k.BatchNormalization(scale=False, center=False)]
    yield "dense", [k.Input((3,)), k.Dense(4, use_bias=False), k.Activation("softmax"), k.Dense(1)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")
@pytest.mark.parametrize("name", ["gru", "lstm", "last", "conv", "dense"])
def test_keras_style(name, rng, tmp_path):
    keras = require("keras")
    source = randomize(keras.Sequential(dict(keras_models(keras.layers))[name]), rng)
    model = rnnfast.load(put(tmp_path / "m.json", exported(source) | {"author": "me"}))
    assert model.origin == {"author": "me"}
    x = rng.normal(size=(2, *(20 if n is None else n for n in source.input_shape[1:]))).astype(np.float32)
    want = source.predict(x, verbose=0)
    assert max_rel_error(model.predict_on_batch(x), want) < 2e-6
    rtneural.write(model, tmp_path / "again.json")
    assert max_rel_error(rnnfast.load(tmp_path / "again.json").predict_on_batch(x), want) < 2e-6


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_pytorch_style_with_all_layers_of_a_stack(kind, rng, tmp_path):
    torch = require("torch")
    nn = torch.nn
    first, second, head = getattr(nn, kind)(1, 4, batch_first=True), getattr(nn, kind)(4, 4, num_layers=3, batch_first=True), nn.Linear(4, 1)
    parts = {"first": first, "second": second, "dense": head}
    state = {f"{name}.{key}": value.tolist() for name, part in parts.items() for key, value in part.state_dict().items()}
    model = rnnfast.load(put(tmp_path / "m.json", state))
    x = rng.normal(size=(2, 30, 1)).astype(np.float32)
    with torch.no_grad():
        want = head(second(first(torch.from_numpy(x))[0])[0]).numpy()
    assert max_rel_error(model.predict_on_batch(x), want) < 2e-6


def test_a_stream_runs_it_sample_by_sample(rng, tmp_path):
    chain = [layers.Conv1D(3, 2, padding="causal", dilation_rate=3), layers.GRU(4, return_sequences=True), layers.Dense(1)]
    rtneural.write(randomize(Sequential([Input((None, 1)), *chain]), rng), tmp_path / "m.json")
    model = rnnfast.load(tmp_path / "m.json")
    x = rng.normal(size=(1, 25, 1)).astype(np.float32)
    stream = model.stream()
    got = np.stack([np.asarray(stream.step(sample)).ravel() for sample in x[0]])
    assert max_rel_error(got, model.predict_on_batch(x)[0]) < 1e-6


NOT_WRITABLE = {
    "SimpleRNN": [layers.SimpleRNN(3)],
    "reset_after": [layers.GRU(3, reset_after=False)],
    "recurrent_activation": [layers.LSTM(3, recurrent_activation="hard_sigmoid")],
    "go_backwards": [layers.LSTM(3, go_backwards=True)],
    "softplus": [layers.Dense(3, activation="softplus")],
    "causal": [layers.Conv1D(3, 2)],
    "Bidirectional": [layers.Bidirectional(layers.LSTM(3))],
    "TimeDistributed": [layers.TimeDistributed(layers.BatchNormalization())],
}


@pytest.mark.parametrize("word", NOT_WRITABLE)
def test_what_the_format_cannot_hold_is_refused(word, tmp_path):
    with pytest.raises(FormatError, match=word):
        rtneural.write(Sequential([Input((None, 1)), *NOT_WRITABLE[word]]), tmp_path / "m.json")
    assert not list(tmp_path.iterdir())


def test_a_trained_initial_state_that_is_not_zero_is_refused(rng, tmp_path):
    model = Sequential([Input((None, 1)), layers.LSTM(3, trained_initial_state=True)])
    rtneural.write(model, tmp_path / "m.json")
    with pytest.raises(FormatError, match="initial state"):
        rtneural.write(randomize(model, rng), tmp_path / "n.json")


def test_embeddings_and_graphs_are_refused(tmp_path):
    with pytest.raises(FormatError, match="in_shape"):
        rtneural.write(Sequential([Input((None,)), layers.Embedding(3, 2)]), tmp_path / "m.json")
    x = Input((None, 2))
    with pytest.raises(FormatError, match="chains"):
        rtneural.write(rnnfast.Model(x, layers.Add()([x, layers.Dense(2)(x)])), tmp_path / "m.json")


def random_file(rng, **members):
    """A small file of every type of layer."""
    norm = lambda *shape: rng.normal(0, 0.5, shape).tolist()
    entries = [
        {"type": "dense", "activation": "tanh", "shape": [None, None, 4], "weights": [norm(1, 4), norm(4)]},
        {"type": "conv1d", "activation": "", "shape": [None, None, 2], "kernel_size": [2], "dilation": [1], "groups": 2, "weights": [norm(2, 2, 2), norm(2)]},
        {"type": "gru", "activation": "tanh", "shape": [None, None, 2], "weights": [norm(2, 6), norm(2, 6), norm(2, 6)]},
        {"type": "lstm", "activation": "", "shape": [None, None, 2], "weights": [norm(2, 8), norm(2, 8), norm(8)]},
        {"type": "batchnorm", "activation": "", "shape": [None, None, 2], "epsilon": 0.01, "weights": [norm(2), norm(2), norm(2), [1.0, 2.0]]},
        {"type": "activation", "activation": "elu", "shape": [None, None, 2], "weights": []},
    ]
    return {"in_shape": [None, None, 1], "layers": entries} | members


def changed(place, **members):
    """An alteration of one layer of that file."""
    return lambda content: content["layers"][place].update(members)


BAD = {
    "layers: must be": lambda c: c.update(layers=[]),
    "layers[0]: must be an object": lambda c: c["layers"].__setitem__(0, 5),
    "in_shape": lambda c: c.update(in_shape=[None, None, 16, 1]),
    "in_shape: must be a positive": lambda c: c.update(in_shape=[None, None, 10**30]),
    "needs an in_shape": lambda c: c.update(in_shape=[None, 1]),
    "in_skip": lambda c: c.update(in_skip=1),
    "RTNeural skips": changed(0, type="unknown"),
    "'prelu'": changed(0, type="prelu"),
    "'conv2d'": changed(1, type="conv2d"),
    "Did you mean 'lstm'": changed(3, type="lstn"),
    "shape: must be": changed(0, shape=4),
    "shape: must be a positive integer, got -4": changed(0, shape=[None, None, -4]),
    "kernel": changed(0, shape=[None, None, 5]),
    "the file has (2, 8)": changed(3, shape=[None, None, 10**9]),
    "'tanh', which RTNeural computes": changed(2, activation="relu"),
    "one of tanh, relu": changed(0, activation="gelu"),
    "activation: must be": changed(0, activation={"a": 1}),
    "activation: is empty": changed(5, activation=""),
    "list of 1 or 2 arrays, got 3": changed(0, weights=[[[1.0] * 4], [1.0] * 4, [1.0]]),
    "list of 2 or 4 arrays, got 3": changed(4, weights=[[1.0, 1.0]] * 3),
    "got dict": changed(0, weights={"0": 1}),
    "lists of one length": changed(0, weights=[[[1.0, 2.0, 3.0], [1.0]], [1.0, 2.0]]),
    "lists of one length.": changed(1, weights=[[[[1.0, 2.0], [1.0, 2.0]], [[1.0, 2.0]]], [1.0, 2.0]]),
    "got str": changed(0, weights=[[["1", "2", "3", "4"]], [1.0] * 4]),
    "got NoneType": changed(0, weights=[[[None] * 4], [1.0] * 4]),
    "an empty list": changed(0, weights=[[[]], []]),
    "not finite": changed(0, weights=[[[float("nan")] * 4], [1.0] * 4]),
    "kernel_size": changed(1, kernel_size=[]),
    "dilation": changed(1, dilation=0),
    "groups": changed(1, groups=3),
    "epsilon": changed(4, epsilon=None),
    "no meaning": changed(0, strides=[2]),
    "bias": changed(2, weights=[[[1.0] * 6] * 2, [[1.0] * 6] * 2, [1.0] * 6]),
}


@pytest.mark.parametrize("word", BAD)
def test_bad_files(word, rng, tmp_path):
    content = random_file(rng)
    assert rnnfast.load(put(tmp_path / "good.json", content)).count_params() == 1 * 4 + 4 + 10 + 36 + 40 + 8
    BAD[word](content)
    path = put(tmp_path / "m.json", content)
    with pytest.raises(FormatError, match=re.escape(word)):
        rnnfast.load(path)
    check_refused(rnnfast.load, path)


TEXTS = {
    "deep": '{"layers": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "deeper weights": '{"in_shape": [1, 1], "layers": [{"type": "dense", "shape": [1, 1], "weights": [' + "[" * 900 + "1" + "]" * 900 + ", [1]]}]}",
    "twice": '{"layers": [], "layers": []}',
    "huge integer": '{"in_shape": [1, 1' + "0" * 10_000 + '], "layers": [{}]}',
    "many objects": '{"layers": [' + "{}," * 5_000_000 + "{}]}",
    "many numbers": '{"layers": [' + "1e9," * 4_000_000 + "0]}",
    "many lists": '{"first.weight_ih_l0": [' + "[[]]," * 500_000 + "[]]}",
    "one wide sign": '{"layers": "' + "a" * 30_000_000 + '\U0001f600"}',
    "cut": '{"layers": [{"type": "den',
    "numbers as names": '{"weight_ih_l0": [[1, 2], [3]]}',
    "not a tensor": '{"weight_ih_l0": {"a": 1}}',
}


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_texts(name, tmp_path):
    path = tmp_path / "m.json"
    path.write_text(TEXTS[name])
    check_refused(rnnfast.load, path)


def test_any_damage_ends_in_a_model_or_a_format_error(rng, tmp_path):
    content = put(tmp_path / "m.json", random_file(rng)).read_bytes()
    refused = 0
    for i, damaged in enumerate(mutations(content, 150, seed=2)):
        path = tmp_path / f"{i}.json"
        path.write_bytes(damaged)
        refused += check_calm(rnnfast.load, path)
    assert refused > 75
