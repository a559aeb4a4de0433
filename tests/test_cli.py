"""The command line."""

import os
import subprocess
import sys

import pytest

import rnnfast
from rnnfast import _engine, cli


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
