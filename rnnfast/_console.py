"""What the project's commands have in common: errors of files are a line and an exit code, and whoever reads the output may stop reading."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def command(name: str, run: Callable[[], int | None]) -> int:
    """Run a command; its exit code.

    Parameters
    ----------
    name : str
        As errors begin.
    run : function of ()
        Returns the exit code, or None for 0.
    """
    try:
        code = run() or 0
        sys.stdout.flush()
        return code
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            print(f"{name}: {error}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # what is left has nowhere to go when Python ends, either
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
