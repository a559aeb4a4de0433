"""How a model is trained and what is watched: optimizer, loss and metrics."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnfast import losses, metrics, optimizers
from rnnfast.errors import ShapeError


class Compilable:
    """Mixin that holds what :meth:`compile` sets.

    Attributes
    ----------
    optimizer, loss
        Set by :meth:`compile`.
    """

    name: str
    optimizer: optimizers.Optimizer
    loss: losses.Loss
    stop_training = False
    compiled = False
    _needs_predictions = False
    _loss_steps: int | None = None
    _time_weights: np.ndarray | None = None
    _log_norm = False

    def _compiled(self) -> None:
        """Called at the end of :meth:`compile`."""

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        *,
        metrics: list[Any] | None = None,
        weighted_metrics: list[Any] | None = None,
        loss_steps: int | None = None,
        time_weights: Any = None,
        gradient_norm: bool = False,
    ) -> None:
        """Set how the model is trained and what is watched.

        Parameters
        ----------
        optimizer : str or Optimizer
        loss : str or Loss
        metrics : list, optional
            Names, metrics or functions of (y_true, y_pred); sample weights do not reach them.
        weighted_metrics : list, optional
            The same, with sample weights.
        loss_steps : int, optional
            Of each row only so many of its last valid steps count, for the loss and the metrics. The output has a time axis.
        time_weights : array_like (T,), optional
            Weights of the steps; they multiply `sample_weight`.
        gradient_norm : bool
            Log the norm of the whole gradient before clipping as ``gradient_norm``, also where the optimizer does not clip; where it does, that is
            logged anyway.

        Raises
        ------
        ValueError
            For unknown names and for a loss without a reduction.
        """
        made = losses.get(loss)
        if made is None:
            raise ValueError(f"{self._label}: loss must be a name or a Loss, got None.")
        if made.reduction == "none":
            raise ValueError(f"{self._label}: loss {made.name!r} must have a reduction to be trained on, got 'none'.")
        if loss_steps is not None and (isinstance(loss_steps, bool) or not isinstance(loss_steps, int | np.integer) or loss_steps < 1):
            raise ValueError(f"{self._label}: loss_steps must be a positive integer, got {loss_steps!r}.")
        self._loss_steps, self._log_norm = None if loss_steps is None else int(loss_steps), bool(gradient_norm)
        self._time_weights = None if time_weights is None else np.asarray(time_weights, np.float64)
        if self._time_weights is not None and self._time_weights.ndim != 1:
            raise ShapeError(f"{self._label}: time_weights must have shape (T,), got {self._time_weights.shape}.")
        if made.per_sequence and (loss_steps is not None or time_weights is not None):
            raise ValueError(f"{self._label}: loss_steps and time_weights have no meaning for loss {made.name!r}, a value for whole sequences.")
        self.optimizer, self.loss = optimizers.get(optimizer), made
        self._norm_tracker = _make_norm_tracker()
        self._compile_arguments = (metrics, weighted_metrics)
        self._metric_list = _make_metrics(metrics, weighted_metrics)
        self._loss_tracker = _make_loss_tracker()
        self._needs_predictions = len(self._metric_list) > 0
        self.compiled, self.stop_training = True, False
        self._compiled()

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return what :meth:`compile_from_config` needs, as JSON types; None before :meth:`compile`.

        Metrics that are functions cannot be written down; they are left out with a warning.
        """
        if not self.compiled:
            return None
        lists = [_serialize_metrics(given) for given in self._compile_arguments]
        return {
            "optimizer": optimizers.serialize(self.optimizer),
            "loss": losses.serialize(self.loss),
            "metrics": lists[0],
            "weighted_metrics": lists[1],
            "loss_steps": self._loss_steps,
            "time_weights": None if self._time_weights is None else self._time_weights.tolist(),
            "gradient_norm": self._log_norm,
        }

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compile as described by :meth:`get_compile_config`."""
        self.compile(**config)

    @property
    def metrics(self) -> list[Any]:
        """The loss' mean and the metrics of :meth:`compile`."""
        return [self._loss_tracker, *self._metric_list.metrics] if self.compiled else []

    def reset_metrics(self) -> None:
        """Forget the batches that the loss and the metrics have seen."""
        self._loss_tracker.reset_state()
        self._norm_tracker.reset_state()
        self._metric_list.reset_state()

    def _check_compiled(self, what: str) -> None:
        if not self.compiled:
            raise RuntimeError(f"{self._label}: call compile(optimizer, loss) before {what}.")

    @property
    def _label(self) -> str:
        return f"{type(self).__name__} {getattr(self, 'name', '')!r}"


def _make_metrics(given: list[Any] | None, weighted: list[Any] | None) -> metrics.MetricList:
    return metrics.MetricList(given, weighted)


def _make_loss_tracker() -> metrics.Mean:
    tracker = metrics.Mean("loss")
    tracker.direction = "down"
    return tracker


def _make_norm_tracker() -> metrics.Mean:
    return metrics.Mean("gradient_norm")


def _serialize_metrics(given: list[Any] | None) -> list[Any] | None:
    if given is None:
        return None
    written: list[Any] = []
    for each in given:
        if isinstance(each, str | dict):
            written.append(each)
        elif isinstance(each, metrics.Metric) and not isinstance(each, metrics.MeanMetricWrapper):
            written.append(metrics.serialize(each))
        else:
            warnings.warn(f"metric {each!r} is a function and is not saved.", stacklevel=4)
    return written
