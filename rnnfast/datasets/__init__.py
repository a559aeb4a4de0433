"""Real data that ships with the package."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

__all__ = ["air_passengers"]


def air_passengers() -> tuple[np.ndarray, np.ndarray]:
    """Monthly totals of international airline passengers, 1949 to 1960, in thousands.

    Series G of Box and Jenkins, "Time series analysis: forecasting and control" (1970).

    Returns
    -------
    months : ndarray of shape (144,), datetime64[M]
    passengers : ndarray of shape (144,), float32

    Examples
    --------
    >>> months, passengers = air_passengers()
    >>> months[0], float(passengers[0]), float(passengers.sum())
    (np.datetime64('1949-01'), 112.0, 40363.0)
    """
    text = (files(__package__) / "air_passengers.csv").read_text(encoding="ascii")
    rows = [line.split(",") for line in text.split()[1:]]
    return np.array([month for month, _ in rows], "datetime64[M]"), np.array([count for _, count in rows], np.float32)
