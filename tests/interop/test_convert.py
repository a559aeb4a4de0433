"""`rnnfast convert` from every format to every other, and what it takes to use the result."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, cli, interop, layers
from rnnfast.interop import nam, rtneural
from tests.conftest import max_rel_error
from tests.peers import require

ENDINGS = [".rnnf", ".weights.h5", ".onnx", ".json", ".safetensors", ".pt", ".npz", ".nam"]
SOURCES = ["rnnf", "keras", "h5", "onnx", "rtneural", "rtneural-torch", "nam", "pt", "safetensors", "npz"]
EXTRAS = {".weights.h5": "h5py", ".onnx": "onnx", "keras": "keras", "h5": "keras", "onnx": "onnx"}
X = np.random.default_rng(0).normal(size=(2, 9, 1)).astype(np.float32)


def model():
    """A chain that every format can hold."""
    made = Sequential([Input((None, 1), name="x"), layers.LSTM(4, return_sequences=True, name="lstm"), layers.Dense(1, name="dense")])
    rng = np.random.default_rng(1)
    made.set_weights([rng.normal(0, 0.5, v.shape) for v in made.weights])
    return made


def as_keras(path):
    keras = require("keras")
    k = keras.layers
    made = keras.Sequential([k.Input((None, 1)), k.LSTM(4, return_sequences=True, name="lstm"), k.Dense(1, name="dense")])
    made.set_weights(model().get_weights())
    made.save(path)


def source(kind, folder):
    """A file of a format."""
    from rnnfast.interop import torch_files
    from rnnfast.interop.state_dicts import to_state_dict

    path = folder / f"in.{kind}"
    state = to_state_dict(model())
    if kind == "rnnf":
        model().save(path)
    elif kind in ("keras", "h5"):
        as_keras(path)
    elif kind == "rtneural-torch":
        path.write_text(json.dumps({name: array.tolist() for name, array in state.items()}))
    elif kind == "npz":
        np.savez(path, **state)
    else:
        writers = {"onnx": interop.to_onnx, "rtneural": rtneural.write, "nam": nam.write}
        writers.get(kind, lambda made, to: torch_files.write(made, to))(model(), path)
    return path


def test_what_a_format_does_not_hold_is_said(tmp_path, capsys):
    made = Sequential([Input((None, 1)), layers.LSTM(4), layers.Dense(2, activation="softmax")])
    made.save(tmp_path / "in.rnnf")
    for ending in (".pt", ".safetensors"):
        with pytest.warns(UserWarning, match="loaded alone it makes another model"):
            interop.convert(tmp_path / "in.rnnf", tmp_path / f"out{ending}")
        assert cli.main(["convert", str(tmp_path / "in.rnnf"), str(tmp_path / f"out{ending}")]) == 0
        assert "load_weights" in capsys.readouterr().err
        same = Sequential([Input((None, 1)), layers.LSTM(4), layers.Dense(2, activation="softmax")])
        same.load_weights(tmp_path / f"out{ending}")
        np.testing.assert_array_equal(same.predict_on_batch(X), made.predict_on_batch(X))


def test_options_of_onnx(tmp_path, capsys):
    require("onnx")
    tokens = Sequential([Input((None,)), layers.Embedding(9, 3, mask_zero=True), layers.GRU(4, name="gru")])
    tokens.save(tmp_path / "in.rnnf")
    source, target = str(tmp_path / "in.rnnf"), str(tmp_path / "out.onnx")
    assert cli.main(["convert", "--lengths", "--states", source, target]) == 0
    names = rnnfast.load(target).input_names
    assert "lengths" in names
    assert "gru_h_in" in names
    assert cli.main(["convert", "--lengths", source, str(tmp_path / "out.pt")]) == 1
    assert "lengths can be said of '.onnx' alone" in capsys.readouterr().err


def output(path):
    """What a written file computes."""
    if path.name.endswith((".weights.h5", ".npz")):
        made = Sequential([Input((None, 1), name="x"), layers.LSTM(4, return_sequences=True, name="lstm"), layers.Dense(1, name="dense")])
        made.load_weights(path)
        return made.predict_on_batch(X)
    return rnnfast.load(path).predict_on_batch(X)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")
@pytest.mark.filterwarnings("ignore::UserWarning:keras")
@pytest.mark.parametrize("kind", SOURCES)
def test_every_pair(kind, tmp_path):
    for name in {EXTRAS.get(kind, "numpy"), *(EXTRAS.get(ending, "numpy") for ending in ENDINGS)}:
        require(name)
    want = model().predict_on_batch(X)
    start = source(kind, tmp_path)
    for ending in ENDINGS:
        target = tmp_path / f"out{ending}"
        assert cli.main(["convert", str(start), str(target)]) == 0
        assert max_rel_error(output(target), want) < 2e-6, ending


def trained(folder):
    made = Sequential([Input((None, 1)), layers.LSTM(4, return_sequences=True, trained_initial_state=True), layers.Dense(1)])
    rng = np.random.default_rng(2)
    made.set_weights([rng.normal(0, 0.5, v.shape) for v in made.weights])
    nam.write(made, folder / "in.nam")
    return folder / "in.nam"


def forecaster(folder):
    made = rnnfast.builders.forecaster(horizon=2, lags=4, units=3)
    made.fit(np.sin(np.arange(60.0)), epochs=1, verbose=0)
    made.save(folder / "in.rnnf")
    return folder / "in.rnnf"


def bidirectional(folder):
    Sequential([Input((None, 1)), layers.Bidirectional(layers.IndRNN(2)), layers.LayerNormalization()]).save(folder / "in.rnnf")
    return folder / "in.rnnf"


def broken(folder):
    (folder / "in.onnx").write_bytes(b"\x08\x08\xff\xff")
    return folder / "in.onnx"


UNWILLING = {
    "a trained state": (trained, [".json", ".safetensors", ".pt", ".weights.h5"]),
    "a model with more than layers": (forecaster, [ending for ending in ENDINGS if ending != ".rnnf"]),
    "layers of its own": (bidirectional, [".onnx", ".json", ".safetensors", ".pt", ".weights.h5", ".nam"]),
    "a damaged file": (broken, ENDINGS),
    "no file": (lambda folder: folder / "in.rnnf", ENDINGS),
    "an unknown ending": (lambda folder: source("nam", folder), [".bin", ".h5", ".tflite"]),
    "a folder": (lambda folder: folder, ENDINGS),
}


@pytest.mark.parametrize("name", UNWILLING)
def test_what_cannot_be_converted_is_one_clear_error(name, tmp_path, capsys):
    make, endings = UNWILLING[name]
    start = make(tmp_path)
    for ending in endings:
        require(EXTRAS.get(ending, "numpy"))
        target = tmp_path / f"out{ending}"
        assert cli.main(["convert", str(start), str(target)]) == 1
        printed = capsys.readouterr().err
        assert printed.startswith("rnnfast convert: ") and printed.count("\n") == 1, ending
        assert not target.exists()


WITHOUT = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("h5py", "onnx", "safetensors", "torch", "keras", "tensorflow", "onnxruntime", "sklearn"):
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Nothing())
import numpy as np, rnnfast
x = np.load(sys.argv[2])
y = rnnfast.load(sys.argv[1]).predict_on_batch(x)
assert np.abs(y - np.load(sys.argv[3])).max() < 1e-6
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")
@pytest.mark.filterwarnings("ignore::UserWarning:keras")
@pytest.mark.parametrize("kind", ["keras", "h5", "onnx", "nam", "pt"])
def test_a_converted_model_needs_only_numpy(kind, tmp_path):
    require(EXTRAS.get(kind, "numpy"))
    interop.convert(source(kind, tmp_path), tmp_path / "m.rnnf")
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", model().predict_on_batch(X))
    command = [sys.executable, "-c", WITHOUT, *(str(tmp_path / name) for name in ("m.rnnf", "x.npy", "y.npy"))]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
