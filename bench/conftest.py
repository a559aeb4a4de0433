"""`pytest bench --set NAME`: which cases."""

import pytest

from rnnfast.benchmark.sets import SETS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--set", choices=sorted(SETS), default="grid", help="a set of python -m rnnfast.benchmark (default: %(default)s)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("case", SETS[metafunc.config.getoption("--set")].cases(), ids=lambda case: case.name)
