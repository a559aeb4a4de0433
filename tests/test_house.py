"""The house: imports and includes point one way, and the README's quick start has the two commands."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = ["_engine", "plan", "layers", "models"]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@pytest.mark.parametrize("folder", ORDER)
def test_imports_point_down(folder):
    above = ORDER[ORDER.index(folder) + 1 :]
    for path in (ROOT / "rnnfast" / folder).glob("*.py"):
        wrong = [name for name in imported(path) for upper in above if name.startswith(f"rnnfast.{upper}")]
        assert not wrong, f"{path.name} imports {wrong}"


def test_engine_imports_nothing_above():
    for path in (ROOT / "rnnfast" / "_engine").glob("*.p[yx][xd]"):
        modules = re.findall(r"^\s*(?:from|cimport|import) (rnnfast\S*)", path.read_text(), re.M)
        assert [m for m in modules if not m.startswith(("rnnfast._engine", "rnnfast.errors"))] == []


def test_c_includes_no_python():
    for path in (ROOT / "csrc").rglob("*.[ch]"):
        assert "Python.h" not in path.read_text()


def test_quick_start_is_two_lines():
    section = re.search(r"## Quick start\n(.*?)\n## ", (ROOT / "README.md").read_text(), re.S)[1]
    blocks = re.findall(r"```(\w*)\n(.*?)```", section, re.S)
    assert [kind for kind, _ in blocks] == ["sh", "sh"]
    assert all(text.count("\n") == 1 for _, text in blocks)
