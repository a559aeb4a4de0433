"""`pytest bench`: rnnfast alone over the grid, by pytest-benchmark."""

import pytest

from rnnfast import get_num_threads
from rnnfast.benchmark.cases import GRID, Case
from rnnfast.benchmark.rivals import rnnfast


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.name)
def test_case(benchmark, case: Case) -> None:
    run, _ = rnnfast(case, get_num_threads())
    benchmark.group = f"{case.mode} {case.cell}"
    benchmark(run)
