"""How a model is trained and what is watched: optimizer, loss and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rnnfast import optimizers
from rnnfast.metrics import Mean
from rnnfast.models.heads import Heads


class Compilable:
    """Mixin that holds what :meth:`compile` sets.

    Attributes
    ----------
    optimizer, loss
        Set by :meth:`compile`.
    """

    name: str
    output_names: list[str] | None = None
    optimizer: optimizers.Optimizer
    loss: Any
    stop_training = False
    compiled = False
    _heads: Heads
    _needs_predictions = False
    _log_norm = False

    def _compiled(self) -> None:
        """Called at the end of :meth:`compile`."""

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        *,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        loss_steps: Any = None,
        time_weights: Any = None,
        gradient_norm: bool = False,
    ) -> None:
        """Set how the model is trained and what is watched.

        Parameters
        ----------
        optimizer : str or Optimizer
        loss : str or Loss, or a list or dict of them
            Of a model with several outputs: one for all, a list in their order, or a dict by `output_names`; None where an output has no loss.
        loss_weights : float, list or dict of float, optional
            The model's loss is the sum of the outputs' losses times these; 1 by default. An output of weight 0 is watched, not trained.
        metrics : list, optional
            Names, metrics or functions of (y_true, y_pred); sample weights do not reach them. Of several outputs a list with an entry (a metric, a list of
            them, None) for each, or a dict by name.
        weighted_metrics : list, optional
            The same, with sample weights.
        loss_steps : int, optional
            Of each row only so many of its last valid steps count, for the loss and the metrics. The output has a time axis. Of several outputs also a list
            or dict.
        time_weights : array_like (T,), optional
            Weights of the steps; they multiply `sample_weight`. Of several outputs also a list or dict.
        gradient_norm : bool
            Log the norm of the whole gradient before clipping as ``gradient_norm``, also where the optimizer does not clip; where it does, that is
            logged anyway.

        Raises
        ------
        ValueError
            For unknown names, for a loss without a reduction, and for lists and dicts that do not fit the outputs.
        """
        asked = {"loss": loss, "loss_weights": loss_weights, "metrics": metrics, "weighted_metrics": weighted_metrics}
        self._heads = Heads(self._label, self.output_names or ["output"], **asked, loss_steps=loss_steps, time_weights=time_weights)
        self.optimizer, self.loss, self._log_norm = optimizers.get(optimizer), self._heads.loss, bool(gradient_norm)
        self._norm_tracker, self._loss_tracker = Mean("gradient_norm"), Mean("loss")
        self._loss_tracker.direction = "down"
        self._needs_predictions = self._heads.needs_predictions
        self.compiled, self.stop_training = True, False
        self._compiled()

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return what :meth:`compile_from_config` needs, as JSON types; None before :meth:`compile`.

        Metrics that are functions cannot be written down; they are left out with a warning.
        """
        if not self.compiled:
            return None
        return {"optimizer": optimizers.serialize(self.optimizer), **self._heads.get_config(), "gradient_norm": self._log_norm}

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compile as described by :meth:`get_compile_config`."""
        self.compile(**config)

    @property
    def metrics(self) -> list[Any]:
        """The loss' mean, those of several outputs' losses, and the metrics of :meth:`compile`."""
        return [self._loss_tracker, *self._heads.metrics] if self.compiled else []

    def reset_metrics(self) -> None:
        """Forget the batches that the loss and the metrics have seen."""
        self._loss_tracker.reset_state()
        self._norm_tracker.reset_state()
        self._heads.reset_state()

    def _check_compiled(self, what: str) -> None:
        if not self.compiled:
            raise RuntimeError(f"{self._label}: call compile(optimizer, loss) before {what}.")

    @property
    def _label(self) -> str:
        return f"{type(self).__name__} {getattr(self, 'name', '')!r}"
