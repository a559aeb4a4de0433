"""A live series: each new value gives the forecast of what follows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnfast.builders._series import Given
from rnnfast.data.checks import as_series
from rnnfast.errors import ShapeError

if TYPE_CHECKING:
    from rnnfast.builders.forecaster import Forecaster
    from rnnfast.models.stream import Stream


class ForecastStream:
    """A live series of a forecaster, made by ``model.stream()``.

    The recurrent layers keep their state, so that a value costs one step, however long the series; after the first ``lags + season`` values the forecast is the one
    that ``model.predict`` makes of them. An encoder-decoder reads its last `lags` rows again for every forecast.

    Parameters
    ----------
    model : Forecaster
        Fitted.
    network : Stream or None
        Of the layers; None where they need the whole window.
    """

    def __init__(self, model: Forecaster, network: Stream | None) -> None:
        self._model, self._pipeline = model, model.pipeline
        self._network: Any = network or _Window(model)
        self._recent = np.empty(0)

    def step(self, value: float, *, past: Any = None, future: Any = None) -> np.ndarray:
        """The forecast after the next value.

        Parameters
        ----------
        value : float
        past : array_like, (P,), optional
            The other columns at this step.
        future : array_like, (horizon, K), optional
            The columns known ahead, of the steps that are forecast.

        Returns
        -------
        ndarray of shape (horizon,), float64
            NaN as long as there is no value a season before.
        """
        pipeline, horizon = self._pipeline, self._model.horizon
        known = self._columns("past", past, (1, pipeline.past)), self._columns("future", future, (horizon, pipeline.future))
        new = pipeline.check_values([value])
        self._recent = np.concatenate([self._recent, new])[-pipeline.season - 1 :]
        if len(self._recent) <= pipeline.season:
            return np.full(horizon, np.nan)
        z, before, after = pipeline.scaled(Given(self._recent[None], known[0][None], known[1][None]))
        y = self._run(np.concatenate([z[0, 0], before[0, 0], after[0, pipeline.ahead - 1]]))
        if pipeline.ahead < horizon:
            y = self._free_run(y, after[0, 1:])
        return pipeline.restore(y[None], self._recent[None])[0]

    def _run(self, row: np.ndarray) -> np.ndarray:
        output: np.ndarray = self._network.step(row.astype(self._model.runner().dtype))
        return output.reshape(-1).astype(np.float64)

    def _free_run(self, y: np.ndarray, upcoming: np.ndarray) -> np.ndarray:
        """Feed forecasts back, and return to the state before."""
        state, found = self._network.get_state(), [y]
        for columns in upcoming:
            found.append(self._run(np.concatenate([found[-1], columns])))
        self._network.set_state(state)
        return np.concatenate(found)

    def _columns(self, name: str, given: Any, shape: tuple[int, int]) -> np.ndarray:
        values = np.zeros((shape[0], 0)) if given is None else as_series(self._pipeline.owner, given, (1, 2), name).astype(np.float64)
        if values.size != shape[0] * shape[1]:
            wanted = shape[1:] if name == "past" else shape
            raise ShapeError(f"{self._pipeline.owner}: {name} of a step must have shape {wanted}, got {np.shape(given)}.")
        return values.reshape(shape)

    def reset(self) -> None:
        """Start a new series."""
        self._network.reset()
        self._recent = np.empty(0)

    def get_state(self) -> tuple[np.ndarray, Any]:
        """The last values and the network's state, from which :meth:`set_state` goes on."""
        return self._recent.copy(), self._network.get_state()

    def set_state(self, state: tuple[np.ndarray, Any]) -> None:
        """Go on from what :meth:`get_state` gave."""
        self._recent = np.array(state[0])
        self._network.set_state(state[1])


class _Window:
    """The last rows, read anew at every step: a stream of a network that needs its whole window."""

    def __init__(self, model: Forecaster) -> None:
        self._model = model
        self.reset()

    def reset(self) -> None:
        self._rows = np.empty((0, self._model.pipeline.features))

    def step(self, row: np.ndarray) -> np.ndarray:
        self._rows = np.concatenate([self._rows, row[None]])[-self._model.pipeline.lags :]
        output: np.ndarray = self._model.predict_on_batch(self._rows[None].astype(row.dtype))
        return output[0]

    def get_state(self) -> np.ndarray:
        return self._rows

    def set_state(self, state: np.ndarray) -> None:
        self._rows = np.array(state)
