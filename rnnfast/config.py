"""Process-wide numeric defaults: the float type of new layers and the small number that guards divisions."""

from __future__ import annotations

from rnnfast.errors import suggest

__all__ = ["epsilon", "floatx", "set_epsilon", "set_floatx"]

_FLOATS = ("float32", "float64")
_floatx = "float32"
_epsilon = 1e-7


def floatx() -> str:
    """Return the default float type, ``"float32"`` unless :func:`set_floatx` changed it.

    Examples
    --------
    >>> floatx()
    'float32'
    """
    return _floatx


def set_floatx(value: str) -> None:
    """Set the float type of layers made from now on.

    Parameters
    ----------
    value : {"float32", "float64"}

    Raises
    ------
    ValueError
        For any other value.
    """
    global _floatx
    if value not in _FLOATS:
        raise ValueError(f"set_floatx: value must be 'float32' or 'float64', got {value!r}. {suggest(value, _FLOATS)}")
    _floatx = value


def epsilon() -> float:
    """Return the small number used where a division or logarithm needs a guard (1e-7 by default).

    Examples
    --------
    >>> epsilon()
    1e-07
    """
    return _epsilon


def set_epsilon(value: float) -> None:
    """Set the value :func:`epsilon` returns.

    Parameters
    ----------
    value : float
        Greater than zero and less than one half.
    """
    global _epsilon
    if not 0.0 < float(value) < 0.5:
        raise ValueError(f"set_epsilon: value must be a float in (0, 0.5), got {value!r}.")
    _epsilon = float(value)
