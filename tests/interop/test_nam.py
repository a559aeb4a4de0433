"""`.nam` files against an independent float64 step of the format's own program: NeuralAmpModelerCore, NAM/lstm.cpp."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import rnnfast
from rnnfast import FormatError, Input, Sequential, interop, layers
from rnnfast.interop import nam
from tests.conftest import max_rel_error
from tests.interop.hostile import check_calm, check_refused, mutations


def random_file(rng, inputs=1, units=3, count=1, outputs=1, **members):
    """What the exporter writes, with random numbers."""
    sizes = [4 * units * (i + units) + 4 * units + 2 * units for i in [inputs, *[units] * (count - 1)]]
    config = {"input_size": inputs, "hidden_size": units, "num_layers": count}
    if outputs > 1 or inputs > 1:
        config |= {"in_channels": inputs, "out_channels": outputs}
    weights = rng.normal(0, 0.6, sum(sizes) + outputs * (units + 1)).tolist()
    return {"version": "0.5.4", "architecture": "LSTM", "config": config, "weights": weights} | members


def put(path, content):
    path.write_text(json.dumps(content))
    return path


def play(content, x):
    """The program: one sample after the other, each cell with [x, h] in one vector, i f g o, float64."""
    config, left = content["config"], list(content["weights"])
    units = config["hidden_size"]

    def take(*shape):
        values = [left.pop(0) for _ in range(int(np.prod(shape)))]
        return np.array(values).reshape(shape)

    cells = []
    for i in range(config["num_layers"]):
        width = units if i else config["input_size"]
        cells.append({"w": take(4 * units, width + units), "b": take(4 * units), "h": take(units), "c": take(units)})
    head, shift = take(config.get("out_channels", 1), units), take(config.get("out_channels", 1))
    assert not left
    sigmoid = lambda v: 1 / (1 + np.exp(-v))
    y = []
    for sample in x:
        value = sample
        for cell in cells:
            i, f, g, o = np.split(cell["w"] @ np.concatenate([value, cell["h"]]) + cell["b"], 4)
            cell["c"] = sigmoid(f) * cell["c"] + sigmoid(i) * np.tanh(g)
            value = cell["h"] = sigmoid(o) * np.tanh(cell["c"])
        y.append(head @ value + shift)
    return np.array(y)


@pytest.mark.parametrize(("inputs", "units", "count", "outputs"), [(1, 3, 1, 1), (1, 8, 2, 1), (2, 5, 3, 2), (1, 16, 1, 1)])
def test_plays_as_the_program_does(inputs, units, count, outputs, rng, tmp_path):
    content = random_file(rng, inputs, units, count, outputs)
    model = rnnfast.load(put(tmp_path / "m.nam", content))
    x = rng.normal(0, 0.5, (40, inputs))
    want = play(content, x)
    assert max_rel_error(model.predict_on_batch(x[None].astype(np.float32))[0], want) < 1e-6
    stream = model.stream()
    got = np.concatenate([np.asarray(stream.process(piece.astype(np.float32))).reshape(-1, outputs) for piece in np.split(x, [1, 17])])
    assert max_rel_error(got, want) < 1e-6


def test_sample_rate_and_metadata_stay_with_the_model(rng, tmp_path):
    said = {"sample_rate": 44100, "metadata": {"name": "Plexi", "loudness": -18.5, "date": {"year": 2024}}}
    model = rnnfast.load(put(tmp_path / "m.nam", random_file(rng, **said)))
    assert model.origin == said | {"version": "0.5.4"}
    model.save(tmp_path / "m.rnnf")
    assert rnnfast.load(tmp_path / "m.rnnf").origin == model.origin


@pytest.mark.parametrize("sizes", [(1, 3, 1, 1), (2, 5, 3, 2)])
def test_written_again_it_is_the_same(sizes, rng, tmp_path):
    content = random_file(rng, *sizes, sample_rate=48000, metadata={"name": "x"})
    interop.convert(put(tmp_path / "a.nam", content), tmp_path / "b.nam")
    found = json.loads((tmp_path / "b.nam").read_text())
    assert {k: v for k, v in found.items() if k not in ("weights", "config")} == {k: v for k, v in content.items() if k not in ("weights", "config")}
    assert np.array_equal(np.float32(found["weights"]), np.float32(content["weights"]))
    assert found["config"].items() >= content["config"].items()


def test_a_model_of_ones_own_is_written(rng, tmp_path):
    chain = [Input((None, 1)), layers.LSTM(4, return_sequences=True), layers.Dropout(0.2), layers.LSTM(4, return_sequences=True, use_bias=False), layers.Dense(1)]
    model = Sequential(chain)
    model.set_weights([rng.normal(0, 0.5, v.shape) for v in model.weights])
    nam.write(model, tmp_path / "m.nam")
    x = rng.normal(size=(30, 1))
    want = play(json.loads((tmp_path / "m.nam").read_text()), x)
    assert max_rel_error(model.predict_on_batch(x[None].astype(np.float32))[0], want) < 1e-6


NOT_WRITABLE = {
    "GRU": [layers.GRU(3, return_sequences=True), layers.Dense(1)],
    "zoneout": [layers.LSTM(3, return_sequences=True, zoneout=0.1), layers.Dense(1)],
    "activation": [layers.LSTM(3, return_sequences=True, activation="relu"), layers.Dense(1)],
    "units": [layers.LSTM(3, return_sequences=True), layers.LSTM(4, return_sequences=True), layers.Dense(1)],
    "linear": [layers.LSTM(3, return_sequences=True), layers.Dense(1, activation="tanh")],
    "LSTM layers": [layers.Dense(1)],
    "one output": [layers.LSTM(3, return_sequences=True), layers.Dense(1), layers.LSTM(2, return_state=True)],
}


@pytest.mark.parametrize("word", NOT_WRITABLE)
def test_what_the_format_cannot_hold_is_refused(word, tmp_path):
    with pytest.raises(FormatError, match=word):
        nam.write(Sequential([Input((None, 1)), *NOT_WRITABLE[word]]), tmp_path / "m.nam")
    assert not list(tmp_path.iterdir())


BAD = {
    "WaveNet": {"architecture": "WaveNet"},
    "ConvNet": {"architecture": "ConvNet"},
    "from 0.5.0": {"version": "0.4.9"},
    "to 0.7": {"version": "0.8.0"},
    "version: must": {"version": 5},
    "must be an object": {"config": [1, 2]},
    "input_size": {"config": {"input_size": 0, "hidden_size": 3, "num_layers": 1}},
    "hidden_size": {"config": {"input_size": 1, "hidden_size": 2.0, "num_layers": 1}},
    "num_layers": {"config": {"input_size": 1, "hidden_size": 3, "num_layers": 10**300}},
    "num_layers: must be a positive": {"config": {"input_size": 1, "hidden_size": 3}},
    "input_size: must be a positive integer, got True": {"config": {"input_size": True, "hidden_size": 3, "num_layers": 1}},
    "numbers for these sizes": {"config": {"input_size": 1, "hidden_size": 2**30, "num_layers": 2**30}},
    "bias_size": {"config": {"input_size": 1, "hidden_size": 3, "num_layers": 1, "bias_size": 3}},
    "in_channels": {"config": {"input_size": 1, "hidden_size": 3, "num_layers": 1, "in_channels": 2}},
    "weights: must be a list of 70 numbers": {"weights": None},
    "got 69": {"weights": [0.1] * 69},
    "got 71": {"weights": [0.1] * 71},
    "not finite": {"weights": [0.1] * 69 + [float("nan")]},
    "finite in float32": {"weights": [0.1] * 69 + [1e300]},
    "no float can hold": {"weights": [0.1] * 69 + [10**400]},
    "must be numbers, got str": {"weights": [0.1] * 69 + ["0.1"]},
    "must be numbers, got bool": {"weights": [0.1] * 69 + [True]},
    "must be numbers, got list": {"weights": [0.1] * 69 + [[0.1]]},
    "a flat list": {"weights": [[0.1]] * 70},
    "cannot be kept": {"metadata": {"loudness": float("inf")}},
}


@pytest.mark.parametrize("word", BAD)
def test_bad_files(word, rng, tmp_path):
    path = put(tmp_path / "m.nam", random_file(rng) | BAD[word])
    with pytest.raises(FormatError, match=re.escape(word)):
        rnnfast.load(path)
    check_refused(rnnfast.load, path)


def test_any_damage_ends_in_a_model_or_a_format_error(rng, tmp_path):
    content = put(tmp_path / "m.nam", random_file(rng)).read_bytes()
    refused = 0
    for i, damaged in enumerate(mutations(content, 150, seed=1)):
        path = tmp_path / f"{i}.nam"
        path.write_bytes(damaged)
        refused += check_calm(rnnfast.load, path)
    assert refused > 75
