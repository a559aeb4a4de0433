"""Distances between targets and predictions: the losses as metrics, and the coefficient of determination."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast import losses
from rnnfast.metrics.base import Metric, RowMean, same_shape


class LossMetric(RowMean):
    """Mean of a loss of :mod:`rnnfast.losses`, whose other arguments it takes."""

    direction = "down"
    loss: type[losses.Loss]

    def __init__(self, name: str | None = None, **arguments: Any) -> None:
        self._loss = self.loss(**arguments)
        super().__init__(name or self.default_name or self._loss.name)

    def _update(self, y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray) -> None:
        targets = self._loss.prepare(y_true, y_pred.shape)
        values = self._loss.call(targets, np.asarray(y_pred, np.float64))
        kept = self._loss.target_mask(targets, None)
        self._add(*((values, weights) if kept is None else (values[kept], weights[kept])))

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, **{key: getattr(self._loss, key) for key in self._loss.arguments}}


class MeanSquaredError(LossMetric):
    """See :class:`rnnfast.losses.MeanSquaredError`."""

    loss = losses.MeanSquaredError


class RootMeanSquaredError(LossMetric):
    """Root of the mean squared error.

    Examples
    --------
    >>> RootMeanSquaredError()([[0.0], [0.0]], [[1.0], [7.0]])
    5.0
    """

    loss, default_name = losses.MeanSquaredError, "root_mean_squared_error"

    def result(self) -> float:
        return float(np.sqrt(super().result()))


class MeanAbsoluteError(LossMetric):
    """See :class:`rnnfast.losses.MeanAbsoluteError`."""

    loss = losses.MeanAbsoluteError


class MeanAbsolutePercentageError(LossMetric):
    """See :class:`rnnfast.losses.MeanAbsolutePercentageError`."""

    loss = losses.MeanAbsolutePercentageError


class MeanSquaredLogarithmicError(LossMetric):
    """See :class:`rnnfast.losses.MeanSquaredLogarithmicError`."""

    loss = losses.MeanSquaredLogarithmicError


class LogCoshError(LossMetric):
    """See :class:`rnnfast.losses.LogCosh`."""

    loss, default_name = losses.LogCosh, "logcosh"


class Huber(LossMetric):
    """See :class:`rnnfast.losses.Huber`."""

    loss, default_name = losses.Huber, "huber"


class KLDivergence(LossMetric):
    """See :class:`rnnfast.losses.KLDivergence`."""

    loss = losses.KLDivergence


class Poisson(LossMetric):
    """See :class:`rnnfast.losses.Poisson`."""

    loss = losses.Poisson


class BinaryCrossentropy(LossMetric):
    """See :class:`rnnfast.losses.BinaryCrossentropy`."""

    loss = losses.BinaryCrossentropy


class CategoricalCrossentropy(LossMetric):
    """See :class:`rnnfast.losses.CategoricalCrossentropy`."""

    loss = losses.CategoricalCrossentropy


class SparseCategoricalCrossentropy(LossMetric):
    """See :class:`rnnfast.losses.SparseCategoricalCrossentropy`."""

    loss = losses.SparseCategoricalCrossentropy


class R2Score(Metric):
    """Coefficient of determination: one minus the squared error over the targets' squared distance from their mean.

    Parameters
    ----------
    class_aggregation : {"uniform_average", "variance_weighted_average", None}
        How the scores of several outputs become one; None returns them all.
    num_regressors : int
        Greater than zero for the adjusted score with that many independent regressors.
    """

    default_name, arguments = "r2_score", ("class_aggregation", "num_regressors")

    def __init__(
        self, class_aggregation: str | None = "uniform_average", num_regressors: int = 0, name: str | None = None
    ) -> None:
        if class_aggregation not in (None, "uniform_average", "variance_weighted_average"):
            raise ValueError(
                "R2Score: class_aggregation must be 'uniform_average', 'variance_weighted_average' or None, "
                f"got {class_aggregation!r}."
            )
        if num_regressors < 0:
            raise ValueError(f"R2Score: num_regressors must be at least 0, got {num_regressors!r}.")
        self.class_aggregation, self.num_regressors = class_aggregation, num_regressors
        super().__init__(name)

    def reset_state(self) -> None:
        self._sums: Any = 0.0
        self._samples = 0

    def _update(self, y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray) -> None:
        y_true = same_shape(self.name, y_true, y_pred).astype(np.float64)
        terms = np.stack([np.ones_like(y_true), y_true, np.square(y_true), np.square(y_true - y_pred)])
        self._sums = self._sums + np.einsum("knf,n->kf", terms, weights)
        self._samples += y_true.size

    def result(self) -> Any:
        if not self._samples:
            return 0.0
        count, total, squares, error = self._sums
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = squares - total * total / count
            scores = 1.0 - error / variance
        scores = np.where(np.isinf(scores), 0.0, scores)
        score: Any = scores
        if self.class_aggregation == "uniform_average":
            score = float(scores.mean())
        elif self.class_aggregation == "variance_weighted_average":
            score = float((variance * scores).sum() / variance.sum())
        spare = self._samples - self.num_regressors - 1
        if self.num_regressors and spare > 0:
            score = 1.0 - (1.0 - score) * (self._samples - 1) / spare
        return score
