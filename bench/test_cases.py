"""`pytest bench`: rnnfast alone over a set of cases, by pytest-benchmark."""

import pytest

from rnnfast import get_num_threads
from rnnfast.benchmark.cases import Case
from rnnfast.benchmark.rivals import CannotRunError, prepare


def test_case(benchmark, case: Case) -> None:
    try:
        run, _ = prepare("rnnfast", case, get_num_threads())
    except CannotRunError as reason:
        pytest.skip(str(reason))
    benchmark.group = f"{case.mode} {case.cell}"
    benchmark(run)
