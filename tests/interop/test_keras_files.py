"""Keras' files of all versions give the model that Keras has; weights go both ways."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnnfast
from rnnfast import interop, layers
from tests.interop import keras_models as cases
from tests.peers import require

h5py = require("h5py")
keras = cases.keras
pytestmark = cases.pytestmark
GOLDEN = Path(__file__).parent / "golden"
FILES = ["keras2.h5", "keras2.keras", "keras213.keras", "keras22.h5", "cudnn.h5", "keras3.keras"]


def as_list(y: Any) -> list[np.ndarray]:
    return list(y.values()) if isinstance(y, dict) else y if isinstance(y, list) else [y]


def golden(name: str) -> tuple[Any, list[np.ndarray]]:
    """The inputs and Keras' outputs of a golden file."""
    with np.load(GOLDEN / "keras_expected.npz") as kept:
        outputs = [kept[key] for key in sorted(kept) if key.rpartition("_")[0] == name]
        return ([kept["tokens"], kept["numbers"]] if len(outputs) > 1 else kept["numbers"]), outputs


@pytest.mark.parametrize("name", FILES)
def test_files_of_all_versions(name):
    model = rnnfast.load(GOLDEN / name)
    x, outputs = golden(name.split(".")[0])
    for mine, theirs in zip(as_list(model.predict(x, verbose=0)), outputs, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


@pytest.mark.parametrize("name", ["keras2.h5", "keras2.keras"])
def test_weights_of_a_whole_file_go_into_a_model_of_the_same_layers(name):
    model = rnnfast.load(GOLDEN / "keras2.keras")
    expected = model.get_weights()
    model.set_weights([0 * w for w in expected])
    model.load_weights(GOLDEN / name)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), expected, strict=True))
    with pytest.raises(rnnfast.FormatError, match=r"cudnn.h5.*its layers with weights are LSTM, Bidirectional, Dense, those of"):
        model.load_weights(GOLDEN / "cudnn.h5")


MODELS: dict[str, Callable[[], Any]] = {
    **{name: cases.MASKED[name] for name in ("tagger", "maximum, which takes masked steps too", "masked embedding beside unmasked", "gate on zeros", "residual on zeros")},
    **{name: lambda name=name: cases.chain(*cases.PLAIN[name][1](), shape=cases.PLAIN[name][0]) for name in ("windows", "normalised", "inside steps", "frozen")},
    **{graph.__name__: graph for graph in [*cases.GRAPHS, cases.shared_between_models]},
    "stateful": lambda: cases.chain(cases.L.Bidirectional(cases.L.LSTM(3, stateful=True)), batch=2),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_whole_models(name, tmp_path):
    model = cases.randomized(MODELS[name]())
    model.compile("adam", "mse")
    ours = rnnfast.from_keras(model)
    x = ours.test_inputs()
    expected = as_list(ours.predict(x if len(x) > 1 else x[0], verbose=0))
    for kind in ("keras", "h5"):
        model.save(tmp_path / f"m.{kind}")
        again = rnnfast.load(tmp_path / f"m.{kind}")
        for mine, theirs in zip(as_list(again.predict(x if len(x) > 1 else x[0], verbose=0)), expected, strict=True):
            assert np.array_equal(mine, theirs)


WEIGHTS = {"normalised", "inside steps", "branches", "encoder_decoder", "attention", "tagger"}


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_weights_go_both_ways(name, tmp_path):
    model = cases.randomized(MODELS[name]())
    ours, expected = rnnfast.from_keras(model), model.get_weights()
    interop.keras_files.write(ours, tmp_path / "ours.weights.h5")
    model.set_weights([0 * w for w in expected])
    model.load_weights(tmp_path / "ours.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), expected, strict=True))
    model.save_weights(tmp_path / "theirs.weights.h5")
    ours.set_weights([0 * w for w in expected])
    ours.load_weights(tmp_path / "theirs.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), expected, strict=True))
    ours.set_weights(model.get_weights())


def of_cudnn() -> Any:
    return rnnfast.Sequential([rnnfast.Input((None, 3)), layers.LSTM(4, return_sequences=True), layers.Bidirectional(layers.GRU(3)), layers.Dense(2)])


def test_a_list_of_weights_by_layer(tmp_path):
    """The old file of weights alone, here with cuDNN's, goes into a model by the order of the layers."""
    with h5py.File(GOLDEN / "cudnn.h5") as whole, h5py.File(tmp_path / "w.h5", "w") as alone:
        for name, value in whole["model_weights"].attrs.items():
            alone.attrs[name] = value
        for name in whole["model_weights"]:
            whole.copy(f"model_weights/{name}", alone)
    model = of_cudnn()
    model.load_weights(tmp_path / "w.h5")
    x, outputs = golden("cudnn")
    np.testing.assert_allclose(model.predict(x, verbose=0), outputs[0], atol=1e-6)
    with pytest.raises(rnnfast.FormatError, match=r"w.h5: model_config: is not there: the file holds weights alone"):
        rnnfast.load(tmp_path / "w.h5")
    small = rnnfast.Sequential([rnnfast.Input((None, 3)), layers.LSTM(4)])
    with pytest.raises(rnnfast.FormatError, match="layer_names: 3 layers have weights, lstm"):
        small.load_weights(tmp_path / "w.h5")


def test_converting_on_the_command_line(tmp_path, capsys):
    from rnnfast.cli import main

    assert main(["convert", str(GOLDEN / "cudnn.h5"), str(tmp_path / "m.rnnf")]) == 0
    assert main(["convert", str(tmp_path / "m.rnnf"), str(tmp_path / "m.weights.h5")]) == 0
    model = of_cudnn()
    model.load_weights(tmp_path / "m.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), rnnfast.load(GOLDEN / "cudnn.h5").get_weights(), strict=True))


@pytest.mark.parametrize("layer", [layers.IndRNN(3), layers.AdditiveAttention(units=2)], ids=["layer", "form"])
def test_what_keras_does_not_have_is_not_written(layer, tmp_path):
    x = rnnfast.Input((4, 3))
    model = rnnfast.Model(x, layer([x, x] if layer.many else x))
    with pytest.raises(ValueError, match=f"{type(layer).__name__} .*Keras has no such layer"):
        interop.keras_files.write(model, tmp_path / "m.weights.h5")
    assert not list(tmp_path.iterdir())


def edited(tmp_path: Path, change: Callable[[dict[str, Any]], None], name: str = "keras213.keras", **members: bytes) -> Path:
    """A golden archive with another configuration, or other members."""
    target = tmp_path / name
    with zipfile.ZipFile(GOLDEN / name) as archive, zipfile.ZipFile(target, "w") as copy:
        config = json.loads(archive.read("config.json"))
        change(config)
        copy.writestr("config.json", json.dumps(config))
        for member in ("metadata.json", "model.weights.h5"):
            copy.writestr(member, members.get(member.partition(".")[0], archive.read(member)))
    return target


def _layer(config: dict[str, Any], place: int) -> dict[str, Any]:
    return config["config"]["layers"][place]


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "unknown argument": (lambda c: _layer(c, 1)["config"].update(peepholes=True), "LSTM 'lstm.*unknown argument 'peepholes'"),
    "time first": (lambda c: _layer(c, 1)["config"].update(time_major=True), "time_major=True is not supported; only False"),
    "other units": (lambda c: _layer(c, 1)["config"].update(units=5), r"LSTM 'lstm.*weight 'kernel' must have shape \(3, 20\), the file has \(3, 16\)"),
    "no bias": (lambda c: _layer(c, 1)["config"].update(use_bias=False), "vars/2: belongs to no layer of the model"),
    "a layer less": (lambda c: c["config"]["layers"].pop(), "dense.*belongs to no layer of the model, as do 1 others"),
    "a layer more": (lambda c: c["config"]["layers"].append({**_layer(c, 4), "config": {**_layer(c, 4)["config"], "name": "more"}}), "dense_1/vars/0: is missing"),
    "module": (lambda c: _layer(c, 1).update(module="os"), "LSTM 'lstm.*custom class"),
    "registered": (lambda c: _layer(c, 1).update(registered_name="mine>LSTM"), "custom class .mine>LSTM"),
    "name twice": (lambda c: _layer(c, 3)["config"].update(name=_layer(c, 1)["config"]["name"]), "the name occurs twice"),
    "initializer": (lambda c: _layer(c, 1)["config"].update(kernel_initializer={"module": "mine", "class_name": "Zeros", "config": {}}), "kernel_initializer is a custom object"),
    "cell": (lambda c: _layer(c, 1).update(class_name="RNN", config={"name": "r", "cell": {"class_name": "MyCell", "config": {}}}), "RNN 'r': cell 'MyCell' is not one of"),
    "no model": (lambda c: c.update(class_name="Dense"), "must be a Sequential or functional model"),
    "no layers": (lambda c: c["config"].update(layers=[]), "must have layers"),
    "layers of text": (lambda c: c["config"].update(layers="LSTM"), "config.json: cannot be read"),
    "no number": (lambda c: _layer(c, 1)["config"].update(units="many"), "units must be a positive integer, got 'many'"),
    "huge": (lambda c: _layer(c, 1)["config"].update(units=10**9), "must have shape"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_configuration_that_does_not_fit_is_refused(name, tmp_path):
    change, text = CHANGES[name]
    with pytest.raises(rnnfast.FormatError, match=f"keras213.keras: .*{text}"):
        rnnfast.load(edited(tmp_path, change))


@pytest.mark.parametrize(("version", "text"), [("1.2.2", "'1.2.2' is not a version from 2 on"), ("x", "'x' is not a version"), (None, "'None' is not")])
def test_versions(version, text, tmp_path):
    with pytest.raises(rnnfast.FormatError, match=f"keras_version: {text}"):
        rnnfast.load(edited(tmp_path, lambda c: None, metadata=json.dumps({"keras_version": version}).encode()))


def test_hard_sigmoid_is_the_one_of_its_version():
    def gates(name: str) -> set[str]:
        return {layer.recurrent_activation for layer in rnnfast.load(GOLDEN / name).layers if isinstance(layer, layers.LSTM | layers.GRU)}

    assert "hard_sigmoid_02" in gates("keras2.h5") & gates("keras2.keras") & gates("keras22.h5")
    assert "hard_sigmoid" in gates("keras3.keras")
