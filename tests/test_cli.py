"""The command line."""

import os
import subprocess
import sys

import numpy as np
import pytest

import rnnfast
from rnnfast import _engine, cli, demo


def test_info_names_what_is_in_use(capsys):
    assert cli.main(["info"]) == 0
    printed = capsys.readouterr().out
    for word in (rnnfast.__version__, "isa", "threads", "numpy"):
        assert word in printed.lower()


@pytest.mark.parametrize(("arguments", "words"), [(["dmeo"], "invalid choice: 'dmeo'"), ([], "required: command"), (["info", "--x"], "unrecognized arguments: --x")])
def test_wrong_commands_are_usage_errors(arguments, words, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"rnnfast {rnnfast.__version__}\n"


@pytest.mark.parametrize("wanted", ["", "generic", " AVX2 ", "avx512", "emulated_avx512", "neon", "avx9"])
def test_an_instruction_set_is_forced_or_refused(wanted):
    """Whatever this CPU and build have: the one that was asked for, or one clear error that names those that there are."""
    command = [sys.executable, "-c", "import rnnfast._engine as e; print(e.isa(), *e.available_isas())"]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"RNNFAST_ISA": wanted})
    name, available = wanted.strip().lower(), _engine.available_isas()
    if not name or name in available:
        assert result.stdout.split() == [name or available[0], *available]
        return
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert f"RNNFAST_ISA={name!r} is not supported by this CPU or build (has: {', '.join(available)}). Unset it to use {available[0]!r}." in last


COMMANDS = {"info": ["-m", "rnnfast", "info"], "example": ["-m", "rnnfast.examples.streams", "--quick"]}


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX pipes")
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_reader_may_stop_reading(command):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        result = subprocess.run([sys.executable, *command], stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=120)
    assert result.returncode == 1 and result.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_full_disk_is_one_line(command):
    with open("/dev/full", "w") as full:
        result = subprocess.run([sys.executable, *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and "No space left" in result.stderr


def test_convert_names_the_file_that_cannot_be_written(tmp_path, capsys):
    source = tmp_path / "model.rnnf"
    rnnfast.Sequential([rnnfast.Input((None, 2)), rnnfast.layers.GRU(3)]).save(source)
    for target in (tmp_path / "missing" / "model.onnx", tmp_path / "folder.npz"):
        if target.suffix == ".npz":
            target.mkdir()
        assert cli.main(["convert", str(source), str(target)]) == 1
        printed = capsys.readouterr().err
        assert printed.startswith("rnnfast convert:") and str(target) in printed and ".tmp" not in printed


def test_a_demo_whose_picture_cannot_be_written_goes_on(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "forecast.png").mkdir()
    months = np.arange("2000-01", "2009-01", dtype="datetime64[M]")
    said = demo.picture(months, np.ones(len(months)), {"flat": np.ones(demo.HELD_OUT)})
    assert said is not None and said.startswith("could not be written")
