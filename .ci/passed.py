"""Nothing is shown twice: of two runs of the tests the first writes down what passed, the second, with the peers that were missing, runs all else."""

import os
from pathlib import Path

LIST = Path(os.environ["RNNFAST_PASSED"])
passed = []


def pytest_runtest_logreport(report):
    if report.when == "call" and report.passed:
        passed.append(report.nodeid)


def pytest_collection_modifyitems(config, items):
    if LIST.exists():
        known = set(LIST.read_text().splitlines())
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in known])
        items[:] = [item for item in items if item.nodeid not in known]


def pytest_sessionfinish(session):
    if not hasattr(session.config, "workerinput") and not LIST.exists():  # of several processes the one that hears of all
        LIST.write_text("\n".join(passed))
