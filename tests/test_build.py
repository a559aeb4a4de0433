"""What the build makes again: files whose sources changed, whichever way their dates went."""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).parent.parent / "setup.py"


@pytest.fixture
def rules():
    """The functions of setup.py that decide, without the rest of it."""
    tree = ast.parse(SETUP.read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in ("digest_of", "is_current", "keep_record")]
    newer = lambda sources, made: any(os.stat(one).st_mtime_ns > os.stat(made).st_mtime_ns for one in sources)
    names = {"hashlib": hashlib, "os": os, "Path": Path, "newer_group": newer}
    exec(compile(tree, str(SETUP), "exec"), names)
    return names


def test_sources_that_are_not_compiled_say_what_to_do(tmp_path):
    shutil.copytree(SETUP.parent / "rnnfast", tmp_path / "rnnfast", ignore=shutil.ignore_patterns("*.so", "*.pyd", "*.c", "__pycache__"))
    found = subprocess.run([sys.executable, "-c", "import rnnfast"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True)
    assert found.returncode == 1
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: {tmp_path / 'rnnfast' / '_engine'} holds rnnfast's sources")
    assert "pip install -e ." in last


def test_content_decides_and_dates_where_nothing_is_recorded(rules, tmp_path):
    header, made, record = tmp_path / "a.h", tmp_path / "a.o", tmp_path / "made" / "a.txt"
    current = lambda flags=("-O3",): rules["is_current"](made, record, [header], flags)
    header.write_text("one")
    made.write_text("object")
    os.utime(header, (1, 1))
    assert current()  # by its date
    rules["keep_record"](made, record, [header], ("-O3",))
    assert current()
    assert not current(("-O2",))
    for date in (1, 1 << 32):  # older, newer than the object
        header.write_text("two")
        os.utime(header, (date, date))
        assert not current()
        header.write_text("one")
        os.utime(header, (date, date))
        assert current()
    made.write_text("made by somebody else")
    assert not current()  # by its date again
