"""One op of a plan and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Entry:
    """An op of a plan.

    Attributes
    ----------
    op : engine op
    line : str, or a function that makes it
        As `print(plan)` shows it.
    flops : float
        Floating-point operations, about.
    maker : str
        The layer that added it.
    seconds : pair of float
        On one thread and on the team, as estimated.
    part : Part or None
        Of the forward pass of a recurrent layer of one direction.
    """

    op: Any
    line: str | Callable[[], str]
    flops: float
    maker: str
    seconds: tuple[float, float]
    part: Any = None
