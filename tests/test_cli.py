"""The command line."""

import subprocess
import sys

import pytest

import rnnfast
from rnnfast import cli


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


def test_an_unsupported_isa_is_one_clear_error():
    command = [sys.executable, "-c", "import os; os.environ['RNNFAST_ISA'] = 'avx9'; import rnnfast"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert "RNNFAST_ISA" in last
    assert "avx9" in last
    assert "generic" in last  # what there is
