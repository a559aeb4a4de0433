"""The benchmark: the sets are whole, every adapter agrees with the oracle, tables, files and pictures are written."""

import json
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from rnnfast.benchmark import rivals, worker
from rnnfast.benchmark.__main__ import main
from rnnfast.benchmark.cases import Case
from rnnfast.benchmark.limits import least_time, machine_limits
from rnnfast.benchmark.sets import SETS, grid
from tests import peers, reference
from tests.conftest import max_rel_error

ORACLE = {"lstm": "LSTM", "gru": "GRU", "rnn": "SimpleRNN"}
PLAIN = Case("infer", "lstm", 3, 7, 5, 8)
SHAPES = {
    "stack": replace(PLAIN, layers=2), "both": replace(PLAIN, cell="gru", layers=2, bidirectional=True), "lengths": replace(PLAIN, lengths=True), "resets": replace(PLAIN, resets=True),
    "live": replace(PLAIN, batch=1, live=True, outputs=1), "step": replace(PLAIN, cell="gru", batch=1, time=1, live=True), "pool": replace(PLAIN, time=1, live=True),
    "chunks": replace(PLAIN, live=True, layers=2),
}  # fmt: skip
LIMITS = {"flops": 2e11, "reads": {"L1": [1e5, 1e11, 2e11], "DRAM": [1e18, 1e10, 1e10]}}


def check(library, case):
    return rivals.prepare(library, case, 1)[1]()


def test_the_grid():
    assert len({case.name for case in grid()}) == 81
    assert [sum(case.mode == mode for case in grid()) for mode in ("infer", "train")] == [60, 21]


@pytest.mark.parametrize("name", SETS)
def test_sets_name_each_case_once_and_send_it_whole(name):
    cases = SETS[name].cases()
    assert cases
    assert len({case.name for case in cases}) == len(cases)
    assert all(Case(**json.loads(json.dumps(case.packed()))) == case for case in cases)
    assert all(least_time(case, LIMITS) > 0 and case.flops > 0 and case.touched_bytes > case.weight_bytes for case in cases)
    assert SETS[name].about


def test_the_work_beside_a_base():
    case = next(case for case in SETS["ragged"].cases() if case.name == "infer lstm 8,50,16,32 lengths")
    assert case.work == pytest.approx(case.row_lengths.sum() / (8 * 50))
    assert all(case.work == 2 for case in SETS["bidirectional"].cases())
    assert SETS["streams"].cases()[-1].work == 256


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")
@pytest.mark.parametrize("cell", ORACLE)
@pytest.mark.parametrize("library", ["rnnfast", "torch", "rnnfast.torch", "keras"])
def test_adapters_run_the_same_model(library, cell):
    for name in ("torch", "keras"):
        if name in library:
            peers.require(name)
    case = replace(PLAIN, cell=cell)
    weights = [np.asarray(array, np.float64) for array in case.weights()[0][0].values()]
    layer = reference.layers.make((ORACLE[cell], {"units": 8, "return_sequences": True}), weights)
    assert max_rel_error(check(library, case), layer.forward(case.data()["x"].astype(np.float64))[0][0]) <= 2e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_adapters_agree_on_every_shape(shape):
    peers.require("torch")
    case = SHAPES[shape]
    expected = check("rnnfast", case)
    assert expected.shape == (*((2,) if case.live else ()), case.batch, case.time, case.outputs or case.units * case.directions)
    assert max_rel_error(check("torch", case), expected) <= 2e-6
    if case.lengths:
        assert not expected[~case.valid].any()
    if not case.live:
        assert max_rel_error(check("rnnfast.torch", case), expected) <= 2e-6


def test_numpy_agrees():
    for cell in ("lstm", "gru"):
        case = replace(SHAPES["live"], cell=cell)
        assert max_rel_error(check("numpy", case), check("rnnfast", case)) <= 2e-6
    with pytest.raises(rivals.CannotRunError, match="no layers 2"):
        check("numpy", SHAPES["stack"])


@pytest.mark.parametrize("shape", [{"cell": "lstm"}, {"cell": "gru"}, {"cell": "rnn"}, {"lengths": True}, {"resets": True}, {"layers": 2, "outputs": 1}], ids=str)
def test_training_adapters_make_the_same_step(shape):
    peers.require("torch")
    case = replace(PLAIN, mode="train", **shape)
    steps = [check(library, case) for library in ("rnnfast", "torch")]
    assert np.abs(steps[0] - case.weights()[0][0]["recurrent"]).max() > 1e-4
    assert max_rel_error(*steps) <= 1e-5


@pytest.mark.parametrize("shape", [{}, {"lengths": True}, {"alone": True, "time": 1}], ids=str)
def test_module_adapters_have_the_same_gradients(shape):
    peers.require("torch")
    case = replace(PLAIN, mode="backward", **shape)
    assert max_rel_error(check("rnnfast.torch", case), check("torch", case)) <= 1e-5


def test_the_machine_has_limits():
    limits = machine_limits(0.002)
    assert limits["flops"] > 1e8
    assert all(one > 1e7 and every > 1e7 for _, one, every in limits["reads"].values())


@pytest.mark.parametrize(("call", "expected"), [(0.8e-6, 0.8e-6), (15e-6, 15e-6), (40e-6, 40.2e-6)])
def test_looks_at_the_clock_count_little_in_brief_calls(call, expected, monkeypatch):
    """With a clock of which two looks take 0.2 us."""
    now = [0.0]

    def look():
        now[0] += 0.2e-6
        return now[0]

    def run():
        now[0] += call

    monkeypatch.setattr(worker.time, "perf_counter", look)
    median, late = worker.call_times(run, 1e-3)
    assert median == pytest.approx(expected, rel=0.02)
    assert late == pytest.approx(call + 0.2e-6, rel=1e-6)


def test_a_run_and_its_files(capsys, tmp_path):
    file = tmp_path / "figures.json"
    assert main(["--set", "ragged", "--cases", "infer rnn 8,50", "--peers", "", "--quick", "--json", str(file)]) == 0
    assert "infer rnn 8,50,16,32 lengths" in capsys.readouterr().out
    report = json.loads(file.read_text())
    line = report["rows"][0]
    assert line["microseconds"]["rnnfast"] > 0
    assert line["cost"] > 0
    assert report["set"] == "ragged"
    assert report["versions"]["rnnfast"]
    assert main(["--read", str(file), str(file), "--markdown", "--roofline", str(tmp_path / "roofline.png")]) == 0
    assert capsys.readouterr().out.count("| rnn | 8,50,16,32 lengths |") == 2
    assert (tmp_path / "roofline.png").stat().st_size > 10000


WRONG_OPTIONS = {
    "rounds": (["--rounds", "0"], "argument --rounds: invalid positive int value: '0'"),
    "seconds": (["--seconds", "nan"], "argument --seconds: invalid positive float value: 'nan'"),
    "cases": (["--cases", "("], "'(' is no regular expression"),
    "peers": (["--peers", "torch,bogus"], "unknown library 'bogus' (rnnfast, "),
}


@pytest.mark.parametrize(("arguments", "words"), WRONG_OPTIONS.values(), ids=WRONG_OPTIONS)
def test_wrong_options_are_usage_errors(arguments, words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--read", "--compare"])
@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"set": "grid", "rows": 3}'])
def test_files_that_are_no_reports(option, text, tmp_path, capsys):
    (tmp_path / "old.json").write_text(text)
    assert main([option, str(tmp_path / "old.json")]) == 2
    assert "old.json: not a report of this benchmark" in capsys.readouterr().err


def test_what_could_not_be_measured_or_written_is_known_at_once(tmp_path, capsys):
    assert main(["--cases", "nothing", "--peers", ""]) == 2
    assert "no case of the set 'grid' matches 'nothing'" in capsys.readouterr().err
    assert main(["--json", str(tmp_path / "missing" / "new.json")]) == 2
    assert "missing" in capsys.readouterr().err


@pytest.mark.parametrize(("busy_turns", "turns"), [(0, 1), (1, 2), (5, 3)])
def test_a_case_that_met_a_busy_machine_is_measured_again_after_all_others(busy_turns, turns, monkeypatch, tmp_path):
    seen = []

    def measured(ready, case, rounds, seconds, folder, times):
        seen.append(case.name)
        busy = case.inputs == 16 and seen.count(case.name) <= busy_turns
        for library, factor in (("rnnfast", 1.0), ("torch", 2.0)):
            times.setdefault((library, 2), []).extend((factor * one, 9.0) for one in ((1.0, 2.0, 3.0) if busy else (1.0, 1.0, 1.0)))

    worker = SimpleNamespace(peer="rnnfast")
    replaced = {"team": lambda *_: nullcontext([worker]), "prepare": lambda *_: [worker], "measure": measured, "machine_limits": lambda: LIMITS | {"busy": 0.0}}
    for name, function in replaced.items():
        monkeypatch.setattr(f"rnnfast.benchmark.__main__.{name}", function)
    file = tmp_path / "figures.json"
    assert main(["--cases", "infer rnn 1,1,(16,16|64,64)", "--peers", "", "--json", str(file)]) == 0
    first, second = "infer rnn 1,1,16,16", "infer rnn 1,1,64,64"
    assert seen == [first, second] + (turns - 1) * [first]
    rows = json.loads(file.read_text())["rows"]
    assert [(line["case"], line["ratio"]) for line in rows] == [(first, 2.0), (second, 2.0)]
    assert rows[0]["microseconds"]["rnnfast"] == (2e6 if busy_turns == 5 else 1e6)
