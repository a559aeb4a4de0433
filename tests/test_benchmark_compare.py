"""The benchmark's reports: what comparison calls slower, tables, pictures, and what is read from callgrind."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rnnfast.benchmark import instructions, table
from rnnfast.benchmark.__main__ import main
from rnnfast.benchmark.compare import compare
from rnnfast.benchmark.measure import TRIES, deviation, difference, row, stolen, timed
from rnnfast.benchmark.sets import grid

ROOT = Path(__file__).parent.parent
CASES = grid()


def made(factor=lambda i: 1.0, machine=1.0, spread=0.01, cases=CASES):
    """A report of a machine that is `machine` times as slow as another, whose case i takes `factor(i)` times as long."""
    rows = []
    for i, case in enumerate(cases):
        limit = case.flops / 2e11 * machine
        own = 2 * limit * factor(i)
        times = {(library, n): [(own * k * wave, own * k * 3) for wave in (1 - spread, 1, 1 + spread)] for library, k in (("rnnfast", 1.0), ("torch", 1.5)) for n in (1, 2)}
        rows.append(row(case, "rnnfast", times, limit))
    reads = {"L2": [1e6, 5e10, 1e11], "DRAM": [1e18, 1e10, 2e10]}
    return {
        "set": "grid", "own": "rnnfast", "date": "2000-01-01", "command": "python -m rnnfast.benchmark", "cpu": "one", "caches": "L1 32K", "isa": "avx2", "threads": [2, 1],
        "versions": {"rnnfast": "0"}, "limits": {"busy": 0.0, "flops": 2e11 / machine, "reads": reads}, "rows": rows,
    }  # fmt: skip


def wobble(size, seed):
    """Noise between runs, log-normal."""
    noise = np.exp(np.random.default_rng(seed).normal(0, size, len(CASES)))
    return lambda i: noise[i]


def test_noise_and_a_slower_machine_are_no_regression():
    for seed in range(20):
        lines, slower = compare(made(wobble(0.03, seed)), made(wobble(0.03, seed + 100), machine=1.3))
        assert not slower, lines[-1]


def test_one_slower_case_is_one():
    noise = wobble(0.02, 1)
    lines, slower = compare(made(noise), made(lambda i: noise(i) * (1.4 if i == 7 else 1), machine=0.8))
    assert slower
    assert lines[-1] == f"81 cases compared, 1 slower: {CASES[7].name}"
    assert [line.endswith("slower") for line in lines if line.startswith(CASES[7].name)] == [True]
    lines, slower = compare(made(noise), made(lambda i: noise(i) / (1.4 if i == 7 else 1)))
    assert not slower
    assert sum(line.endswith("faster") for line in lines) == 1


def test_rounds_that_differ_excuse_their_case_alone():
    new = made(lambda i: 1.2 if i in (3, 4) else 1.0)
    new["rows"][3]["spread"]["rnnfast"] = 0.2
    lines, slower = compare(made(), new)
    assert slower
    assert lines[-1].endswith(f"1 slower: {CASES[4].name}")


def test_everything_slower_is_a_regression():
    lines, slower = compare(made(), made(lambda i: 1.5))
    assert slower
    assert lines[-1].endswith("all cases together")
    assert not compare(made(), made(lambda i: 1.1))[1]


def test_few_cases_are_judged_by_their_times_alone():
    assert compare(made(cases=CASES[:2]), made(lambda i: 1.5, cases=CASES[:2]))[1]
    assert not compare(made(cases=CASES[:2]), made(lambda i: 1.2, cases=CASES[:2]))[1]


def test_files_of_different_cases():
    lines, _ = compare(made(), made(cases=CASES[:20]) | {"isa": "generic"})
    assert lines[0] == "isa: avx2 before, generic now"
    assert any(line.startswith("61 cases of the old file are not in the new one") for line in lines)
    with pytest.raises(ValueError, match="no case in common"):
        compare(made(cases=CASES[:2]), made(cases=CASES[2:4]))


def test_the_command_line_compares_files(tmp_path, capsys):
    files = {name: tmp_path / f"{name}.json" for name in ("old", "new", "bad")}
    for name, report in (("old", made()), ("new", made()), ("bad", made(lambda i: 1.0 + (i == 2)))):
        files[name].write_text(json.dumps(report))
    assert main(["--read", str(files["new"]), "--compare", str(files["old"])]) == 0
    assert main(["--read", str(files["bad"]), "--compare", str(files["old"])]) == 1
    assert main(["--read", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err
    assert main(["--compare", str(tmp_path / "none.json")]) == 2


def counted(value=10000.0, compiler="GCC: (x) 12.2.0"):
    return {"set": "instructions", "isa": "avx2", "compiler": compiler, "rows": [{"case": "a: pack", "instructions": 50.0}, {"case": "a: step", "instructions": value}]}


def test_counts_are_compared_to_one_percent():
    assert not compare(counted(), counted(10090.0))[1]
    lines, slower = compare(counted(), counted(10150.0))
    assert slower
    assert lines[-1] == "2 cases compared, 1 slower: a: step"
    lines, slower = compare(counted(), counted(15000.0, compiler="clang version 18.1"))
    assert not slower
    assert "compiler: GCC: (x) 12.2.0 before, clang version 18.1 now" in lines
    assert any(line.startswith("not judged") for line in lines)


CALLGRIND = """
desc: Trigger: Client Request: a case
ob=/x/_engine/program.so
fl=???
fn=run
0 30
cob=/x/_engine/cpu.cpython.so
cfn=lstm_step_f32_avx2
calls=2 100
0 800
calls=1 200
cfn=helper
0 7

ob=/x/_engine/cpu.cpython.so
fn=lstm_step_f32_avx2
0 300
cfn=tile_f32_avx2
calls=4 5
0 500

ob=/usr/lib/libpython.so
fn=eval
12 999
cob=/x/_engine/program.so
cfn=run
calls=1 1
13 5000
"""


def test_callgrind_files_are_read_by_kernel():
    assert instructions.costs(CALLGRIND, "avx2") == {"lstm_step": 800 / instructions.CALLS, instructions.LOOPS: 30 / instructions.CALLS}


def test_requests_outside_valgrind_do_nothing():
    if instructions.platform.machine() in ("x86_64", "AMD64"):
        assert instructions.Valgrind().request(instructions.DUMP, "name") == 0


def test_a_missing_valgrind_is_one_clear_error(monkeypatch, capsys):
    monkeypatch.setattr(instructions.shutil, "which", lambda name: None)
    monkeypatch.setattr(instructions.platform, "machine", lambda: "x86_64")
    assert main(["--instructions"]) == 2
    assert "apt install valgrind" in capsys.readouterr().err


def test_a_row_counts_each_library_at_its_better_setting():
    times = {("rnnfast", 2): [(2.0, 4.0)], ("rnnfast", 1): [(3.0, 5.0)], ("torch", 1): [(8.0, 9.0)], ("torch", 2): [(9.0, 9.0)], ("jax", 1): [(10.0, 10.0)]}
    line = row(CASES[0], "rnnfast", times, 1.0)
    assert (line["best_peer"], line["ratio"], line["gain"], line["limit_share"], line["cost"]) == ("torch", 4.0, 1.5, 0.5, None)
    assert line["threads"] == {"rnnfast": 2, "torch": 1, "jax": 1}


@pytest.mark.parametrize(("losses", "asked"), [([0.0], 1), ([5.0, 5.0, 0.0], 3), ([5.0] * 20, TRIES)])
def test_a_measurement_whose_time_was_stolen_is_repeated(losses, asked, monkeypatch):
    lost, answers = [0.0], []

    def ask(*command):
        lost[0] += losses[len(answers)]
        answers.append(command)
        return len(answers)

    monkeypatch.setattr("rnnfast.benchmark.measure.stolen", lambda: lost[0])
    assert timed(SimpleNamespace(ask=ask), 1, 0.5) == asked
    assert answers == asked * [("time", 1, 0.5)]


def test_stolen_time_only_grows():
    before = stolen()
    assert 0 <= before <= stolen()


def test_differences_and_deviations():
    a = np.array([1.0, np.nan])
    assert difference(a, a) == 0
    assert difference(a, np.array([1.0, 2.0])) == np.inf
    assert difference(np.zeros(3), np.zeros(2)) == np.inf
    assert deviation([1.0, 2.0, 3.0, 100.0, 2.0]) == pytest.approx(1.4826)


def test_tables_and_pictures(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    report = made(lambda i: 1 + i % 3)
    lines = table.markdown(report)
    assert sum(line.startswith(("| lstm |", "| gru |", "| rnn |")) for line in lines) == 81
    assert "| torch | 1.50 in 60 | 1.50 | 1.50 in 21 | 1.50 |" in lines
    summary = table.summary(report["rows"], "rnnfast")
    assert any(line.startswith("train, against torch: 21 cases, geometric mean 1.50") for line in summary)
    for one in report["rows"]:
        one["limit_share"] = 0.5 if one["mode"] == "infer" else 2.0  # a case may be past its limit
    could = [line for line in table.summary(report["rows"], "rnnfast") if "at its limit" in line]
    assert [line.split("geometric mean ")[1][:4] for line in could] == ["3.00", "1.50"]
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report))
    assert main(["--read", str(file), "--plot", str(tmp_path / "a.png"), "--roofline", str(tmp_path / "b.png")]) == 0
    assert min((tmp_path / name).stat().st_size for name in ("a.png", "b.png")) > 20000
    capsys.readouterr()


@pytest.mark.parametrize("isa", ["avx2", "generic"])
def test_the_counted_baselines(isa):
    report = json.loads((ROOT / "bench" / f"instructions-{isa}.json").read_text())
    kernels = {row["case"].split(": ")[1] for row in report["rows"]}
    assert kernels >= {"lstm_step", "gru_step", "simple_rnn_step", "lstm_step_back", "outer", "pack", "update", "matmul", instructions.LOOPS}
    assert report["isa"] == isa
    assert {row["case"].split(": ")[0] for row in report["rows"]} == {case.name for case in instructions.cases()}
    assert not compare(report, report)[1]
