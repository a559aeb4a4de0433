"""Series as a network's inputs: logarithm, seasonal difference, scaling, windows; and back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rnnfast.data.checks import as_series, count
from rnnfast.data.scalers import Scaler, deserialize_scaler, get_scaler, serialize_scaler
from rnnfast.errors import NotBuiltError, ShapeError


class Given(NamedTuple):
    """Checked series: `values` [N, T], `past` [N, T, P] and `future` [N, T or longer, K], the last two of width 0 where there are none."""

    values: np.ndarray
    past: np.ndarray
    future: np.ndarray

    def take(self, rows: slice, steps: slice) -> Given:
        return Given(*(array[rows, steps] for array in self))


class Pipeline:
    """How series become inputs [N, lags, F] and outputs [N, ahead] become forecasts.

    ``z_t = scale(u_t - u_(t - season))`` with ``u = log(series)`` or the series itself; a row of an input is ``z_t, past_t, future_(t + ahead)``.

    Parameters
    ----------
    lags : int
        Rows of an input.
    ahead : int
        Steps that the network forecasts at once.
    past, future : int
        Widths of the other columns.
    season, log, scaler
        See :func:`rnnfast.builders.forecaster`.
    """

    owner = "forecaster"

    def __init__(self, lags: int, ahead: int, past: int = 0, future: int = 0, season: int | None = None, log: bool = False, scaler: Any = "standard") -> None:
        for name, width in (("past", past), ("future", future)):
            if width:
                count(self.owner, name, width)
        self.lags, self.ahead, self.past, self.future = count(self.owner, "lags", lags), count(self.owner, "horizon", ahead), past, future
        if future and lags < ahead:
            raise ValueError(f"forecaster: lags must be at least horizon = {ahead} with future columns, got {lags}.")
        self.season = 0 if season is None else count(self.owner, "season", season)
        self.log = bool(log)
        first = get_scaler(scaler)
        self.scalers: tuple[Scaler | None, Scaler | None] = (first, deserialize_scaler(serialize_scaler(first)) if first else None)
        self.fitted = False

    @property
    def features(self) -> int:
        """Columns of the network's input."""
        return 1 + self.past + self.future

    @property
    def history(self) -> int:
        """Steps of the series that a forecast needs."""
        return self.lags + self.season

    # -- what comes in ---------------------------------------------------------------------------------------------------------

    def check(self, series: Any, past: Any, future: Any, steps: int | None = None) -> Given:
        """Check the arrays of a fit (`steps` None), or of a forecast of so many steps."""
        values = self.check_values(series)
        lead, length = values.shape[:-1], values.shape[-1]
        needed = self.history + (self.ahead if steps is None else 0)
        if length < needed:
            parts = "lags + season + horizon" if steps is None else "lags + season"
            raise ValueError(f"{self.owner}: series must have at least {parts} = {needed} steps, got {length}.")
        columns = [self._columns(name, given, width, lead, rows) for name, given, width, rows in
                   (("past", past, self.past, length), ("future", future, self.future, length + (steps or 0)))]  # fmt: skip
        return Given(np.atleast_2d(values), *columns)

    def check_values(self, series: Any) -> np.ndarray:
        """The series as float64: finite, and positive where logarithms are taken."""
        values = as_series(self.owner, series, (1, 2)).astype(np.float64)
        if self.log and not (values > 0).all():
            raise ValueError(f"{self.owner}: series must be positive for log=True, got {values.min()}.")
        return values

    def _columns(self, name: str, given: Any, width: int, lead: tuple[int, ...], length: int) -> np.ndarray:
        if (given is None) != (not width):
            raise ValueError(f"{self.owner}: {name} must have {width} columns, as the model was made, got {'none' if given is None else np.shape(given)}.")
        shape = (*lead, length, width)
        values = np.zeros(shape) if given is None else as_series(self.owner, given, (2, 3), name).astype(np.float64)
        if values.shape != shape:
            raise ShapeError(f"{self.owner}: {name} must have shape {shape}, got {values.shape}.")
        return values if lead else values[None]

    def split(self, given: Given, share: float) -> tuple[Given, Given | None]:
        """Training part and held out part; the second begins early enough for the first held out value to have a history."""
        if not share:
            return given, None
        several = len(given.values) > 1
        size = given.values.shape[0 if several else 1]
        at = size - round(share * size)
        whole = slice(None)
        least = 1 if several else self.history + self.ahead
        if not 0 < share < 1 or not least <= at or size - at < (1 if several else self.ahead):
            raise ValueError(f"{self.owner}: validation_split {share!r} of {size} {'series' if several else 'steps'} leaves one of the parts too short.")
        if several:
            return given.take(slice(at), whole), given.take(slice(at, None), whole)
        return given.take(whole, slice(at)), given.take(whole, slice(at - self.history, None))

    # -- there and back --------------------------------------------------------------------------------------------------------

    def _differences(self, values: np.ndarray) -> np.ndarray:
        u = np.log(values) if self.log else values
        return u[:, self.season :] - u[:, : -self.season] if self.season else u

    def fit(self, *given: Given) -> None:
        """Fit the scalers, once."""
        if self.fitted:
            return
        series, columns = self.scalers
        if series is not None and columns is not None:
            series.fit(np.concatenate([self._differences(one.values).reshape(-1) for one in given]))
            if self.features > 1:
                columns.fit(np.concatenate([np.concatenate([one.past, one.future], axis=-1).reshape(-1, self.features - 1) for one in given]))
        self.fitted = True

    def forget(self) -> None:
        """Make the scalers new."""
        self.scalers = tuple(None if each is None else type(each)(**each.arguments()) for each in self.scalers)  # type: ignore[assignment]
        self.fitted = False

    def scaled(self, given: Given) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The network's columns: differences [N, T - season, 1], and the others as long as they are given."""
        if not self.fitted:
            raise NotBuiltError(f"{self.owner}: not fitted. Call fit(series) first.")
        z, past, future = self._differences(given.values)[..., None], given.past, given.future
        series, columns = self.scalers
        if series is None or columns is None:
            return z, past, future
        if self.features > 1:
            offset, scale = columns.offset, columns.scale
            assert offset is not None and scale is not None
            past, future = (past - offset[: self.past]) / scale[: self.past], (future - offset[self.past :]) / scale[self.past :]
        return series.transform(z), past, future

    def samples(self, given: Given, stride: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs [n, lags, F] and targets [n, ahead] of all windows, series after series."""
        z, past, future = self.scaled(given)
        last = given.values.shape[1] - self.ahead
        rows = np.concatenate([z[:, : -self.ahead], past[:, self.season : last], future[:, self.season + self.ahead :]], axis=-1)
        x = np.lib.stride_tricks.sliding_window_view(rows, self.lags, axis=1)[:, ::stride].swapaxes(2, 3)
        y = np.lib.stride_tricks.sliding_window_view(z[:, self.lags :, 0], self.ahead, axis=1)[:, ::stride]
        return x.reshape(-1, self.lags, self.features), y.reshape(-1, self.ahead)

    def inputs(self, given: Given) -> tuple[np.ndarray, np.ndarray]:
        """The input [B, lags, F] at the end of the histories, and the future columns of the rows to come [B, steps - 1, K]."""
        length = given.values.shape[1]
        tail = Given(given.values[:, length - self.history :], given.past[:, length - self.lags :], given.future[:, length - self.lags + self.ahead :])
        z, past, future = self.scaled(tail)
        return np.concatenate([z, past, future[:, : self.lags]], axis=-1), future[:, self.lags :]

    def restore(self, outputs: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Forecasts on the series' scale from outputs [B, H] and the histories [B, T] before them."""
        series = self.scalers[0]
        u = outputs if series is None else series.inverse_transform(outputs[..., None])[..., 0]
        if self.season:
            known = values[:, values.shape[1] - self.season :]
            u = np.concatenate([np.log(known) if self.log else known, u], axis=1)
            for t in range(self.season, u.shape[1]):
                u[:, t] += u[:, t - self.season]
            u = u[:, self.season :]
        return np.exp(u) if self.log else u

    # -- configuration ---------------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments and the fitted scalers, as JSON types."""
        names = ("lags", "ahead", "past", "future", "season", "log", "fitted")
        return {name: getattr(self, name) for name in names} | {"scalers": [serialize_scaler(each) for each in self.scalers]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Pipeline:
        """Make a pipeline from :meth:`get_config`'s result."""
        arguments = dict(config)
        fitted, (series, columns) = bool(arguments.pop("fitted")), arguments.pop("scalers")
        pipeline = cls(**arguments | {"season": arguments["season"] or None, "scaler": series})
        pipeline.scalers = (pipeline.scalers[0], None if columns is None else deserialize_scaler(columns))
        pipeline.fitted = fitted
        return pipeline
