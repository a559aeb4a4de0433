"""The command line that all examples share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence


def main(run: Callable[[bool], dict[str, float]], arguments: Sequence[str] | None = None) -> None:
    """Parse ``--quick`` and run an example, which prints its scores.

    Parameters
    ----------
    run : function of (quick)
    arguments : sequence of str, optional
        Of the command line; the process' own when None.
    """
    parser = argparse.ArgumentParser(description=sys.modules[run.__module__].__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller version of the task, in seconds")
    run(parser.parse_args(arguments).quick)
