"""The benchmark: the grid is whole, every adapter agrees with the oracle, the table and the files are written."""

import json

import numpy as np
import pytest

from rnnfast.benchmark import rivals
from rnnfast.benchmark.__main__ import main
from rnnfast.benchmark.cases import GRID, Case
from tests import peers, reference
from tests.conftest import max_rel_error

ORACLE = {"lstm": "LSTM", "gru": "GRU", "rnn": "SimpleRNN"}


def test_the_grid():
    assert len({case.name for case in GRID}) == 81
    assert [sum(case.mode == mode for case in GRID) for mode in ("infer", "train")] == [60, 21]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")
@pytest.mark.parametrize("cell", ORACLE)
@pytest.mark.parametrize("library", ["rnnfast", "torch", "keras"])
def test_adapters_run_the_same_model(library, cell):
    if library != "rnnfast":
        peers.require(library)
    case = Case("infer", cell, 3, 7, 5, 8)
    data = case.data()
    weights = [np.asarray(data[name], np.float64) for name in ("kernel", "recurrent", "bias")]
    layer = reference.layers.make((ORACLE[cell], {"units": 8, "return_sequences": True}), weights)
    _, check = rivals.ALL[library](case, 1)
    assert max_rel_error(check(), layer.forward(data["x"].astype(np.float64))[0][0]) <= 2e-6


@pytest.mark.parametrize("cell", ORACLE)
def test_training_adapters_make_the_same_step(cell):
    peers.require("torch")
    case = Case("train", cell, 3, 7, 5, 8)
    steps = [rivals.ALL[library](case, 1)[1]() for library in ("rnnfast", "torch")]
    assert np.abs(steps[0] - case.data()["recurrent"]).max() > 1e-4
    assert max_rel_error(*steps) <= 1e-5


def test_the_table(capsys, tmp_path):
    file = tmp_path / "figures.json"
    assert main(["--cases", "infer rnn 1,1,16,16", "--peers", "", "--quick", "--json", str(file)]) == 0
    assert "infer rnn 1,1,16,16" in capsys.readouterr().out
    figures = json.loads(file.read_text())
    assert figures["rows"][0]["microseconds"]["rnnfast"] > 0


def test_streams_are_timed_beside_their_peers(tmp_path, capsys):
    assert main(["--streams", "--quick", "--json", str(tmp_path / "streams.json")]) == 0
    rows = {row["case"]: row for row in json.loads((tmp_path / "streams.json").read_text())["rows"]}
    assert all(0 < row["median"] <= row["p99.9"] for row in rows.values())
    assert rows["process lstm 16"]["peers"]["RTNeural"] == 0.083 and "numpy" in rows["step gru 64"]["peers"]
    assert sum("of a stream alone" in line for line in capsys.readouterr().out.splitlines()) >= 2
