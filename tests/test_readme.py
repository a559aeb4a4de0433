"""The README's code runs as it stands, and so do the pages' and the docstrings' examples."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import rnnfast
from tests.peers import require

MODULES = [m.name for m in pkgutil.walk_packages(rnnfast.__path__, "rnnfast.") if not re.search("benchmark|_engine|__main__", m.name)]


def test_readme():
    results = doctest.testfile(str(Path(__file__).parent.parent / "README.md"), module_relative=False)
    assert results.attempted > 4
    assert results.failed == 0


@pytest.mark.parametrize("page", ["coming_from", "data", "diagnostics", "estimators", "forecasting", "keras", "models", "streams", "training_through_time"])
def test_pages(page):
    results = doctest.testfile(str(Path(__file__).parent.parent / "docs" / f"{page}.md"), module_relative=False)
    assert results.attempted > 4
    assert results.failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name.startswith("rnnfast.torch"):
        require("torch")
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS).failed == 0
