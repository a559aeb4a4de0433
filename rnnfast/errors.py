"""The errors a user can meet, and the help that goes into their text."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["FormatError", "NotBuiltError", "ShapeError", "UnsupportedISAError", "suggest"]


class NotBuiltError(ValueError):
    """A model or layer was used before its shapes were known."""


class ShapeError(ValueError):
    """An array has a shape that does not fit."""


class UnsupportedISAError(ValueError):
    """The forced instruction set is unknown or this machine does not have it."""


class FormatError(ValueError):
    """A file is not what it says it is: damaged, cut off, altered or of an unknown version."""


def suggest(name: object, known: Iterable[str]) -> str:
    """Help for an unknown name: the nearest known one, then all of them.

    Examples
    --------
    >>> suggest("adma", ["adam", "sgd"])
    "Did you mean 'adam'? Known: adam, sgd."
    >>> suggest("zzz", ["adam", "sgd"])
    'Known: adam, sgd.'
    """
    import difflib  # only needed once something is wrong

    names = sorted(set(known), key=str.lower)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known: {', '.join(names)}."
