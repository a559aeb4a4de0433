"""The command line that all examples share."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence

from rnnfast._console import command


def main(run: Callable[..., dict[str, float]], arguments: Sequence[str] | None = None) -> None:
    """Parse ``--quick``, and ``--plot FILE`` where there is a picture, and run an example, which prints its scores.

    Parameters
    ----------
    run : function of (quick) or (quick, plot)
    arguments : sequence of str, optional
        Of the command line; the process' own when None.
    """
    parser = argparse.ArgumentParser(description=sys.modules[run.__module__].__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller version of the task, in seconds")
    if "plot" in inspect.signature(run).parameters:
        parser.add_argument("--plot", metavar="FILE", help="draw a picture (needs the extra: pip install 'rnnfast[plot]')")
    options = vars(parser.parse_args(arguments))

    def show() -> None:
        run(**options)

    code = command(f"python -m {run.__module__ if run.__module__ != '__main__' else 'rnnfast.examples'}", show)
    if code:
        sys.exit(code)
