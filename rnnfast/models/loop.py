"""The loops over epochs and batches.

:class:`Loop` knows batches, epochs, metrics and callbacks. What happens inside a step belongs to the model, which gives
it ``_train_step``, ``_test_step``, ``_predict_step`` and ``_output_mask``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rnnfast import losses
from rnnfast.callbacks import CallbackList, History, Logs
from rnnfast.models.compiling import Compilable
from rnnfast.models.data_adapter import Batch, Batches, StreamBatches, with_class_weight, with_time_weights
from rnnfast.models.interrupts import ctrl_c_between_batches


class Loop(Compilable):
    """Mixin that runs epochs of steps."""

    built: bool
    history: History

    build: Callable[..., Any]

    # The model's part.

    def _train_step(
        self, x: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, mask: np.ndarray | None, resets: Any = None
    ) -> tuple[float, np.ndarray | None]:
        """Run one optimizer step; return the loss and, if ``_needs_predictions``, the predictions before it."""
        raise NotImplementedError

    def _test_step(
        self, x: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, mask: np.ndarray | None, resets: Any = None
    ) -> tuple[float, np.ndarray]:
        """Return the loss and the predictions."""
        raise NotImplementedError

    def _predict_step(self, x: np.ndarray, mask: np.ndarray | None, resets: Any = None) -> Any:
        """Return the predictions, an array or a list of arrays."""
        raise NotImplementedError

    def _output_mask(self) -> np.ndarray | None:
        """Return the boolean mask (B, T) in force at the output of the last step, None when there was none."""
        raise NotImplementedError

    def _gradient_norm(self) -> float | None:
        """Return the norm of the last training step's gradient before clipping, None where it is not measured."""
        return None

    # The loops.

    def _run_epochs(
        self,
        batches: Batches,
        held_out: Batches | None,
        hooks: CallbackList,
        epochs: range,
        class_weight: Mapping[int, float] | None,
        validation_freq: int | list[int],
    ) -> None:
        self.stop_training = False
        logs: Logs = {}
        hooks.on_train_begin()
        try:
            with ctrl_c_between_batches() as interrupted:
                for epoch in epochs:
                    self.reset_metrics()
                    hooks.on_epoch_begin(epoch)
                    trained = self._run_train_batches(batches, hooks, class_weight, interrupted)
                    if not trained and epoch == epochs[0]:
                        raise ValueError(f"{self._label}: x must yield at least one batch to fit, got none.")
                    if not trained:
                        break
                    logs = trained
                    if held_out is not None and _is_due(epoch, validation_freq):
                        found = self._run_test_batches(held_out, hooks, interrupted)
                        logs |= {f"val_{name}": value for name, value in found.items()}
                    hooks.on_epoch_end(epoch, logs)
                    interrupted()
                    if self.stop_training:
                        break
        except KeyboardInterrupt:
            hooks.on_train_end(logs)
            raise
        hooks.on_train_end(logs)

    def _run_train_batches(
        self,
        batches: Batches,
        hooks: CallbackList,
        class_weight: Mapping[int, float] | None,
        interrupted: Callable[[], None],
    ) -> Logs:
        logs: Logs = {}
        for index, batch in enumerate(batches):
            hooks.on_train_batch_begin(index)
            logs = self._train_batch(batch, class_weight)
            hooks.on_train_batch_end(index, logs)
            interrupted()
            if self.stop_training:
                break
        if isinstance(batches, StreamBatches):
            hooks.params["steps"] = batches.steps
            self.stop_training |= batches.exhausted
        return logs

    def _run_test_batches(self, batches: Batches, hooks: CallbackList, interrupted: Callable[[], None]) -> Logs:
        self.reset_metrics()
        hooks.on_test_begin()
        logs: Logs = {}
        for index, batch in enumerate(batches):
            hooks.on_test_batch_begin(index)
            logs = self._test_batch(batch)
            hooks.on_test_batch_end(index, logs)
            interrupted()
        hooks.on_test_end(logs)
        return logs

    def _train_batch(self, batch: Batch, class_weight: Mapping[int, float] | None) -> Logs:
        numbers = isinstance(self.loss, losses.SparseCategoricalCrossentropy)
        y = self._targets(batch)
        if class_weight is not None and self.loss.per_sequence:
            raise ValueError(f"{self._label}: class_weight has no meaning for loss {self.loss.name!r}, a value for whole sequences. Use sample_weight.")
        batch = with_time_weights(with_class_weight(batch, class_weight, numbers), self._time_weights)
        loss, y_pred = self._train_step(batch.x, y, batch.sample_weight, batch.mask, **batch.episodes)
        logs, norm = self._watch(batch, loss, y_pred), self._gradient_norm()
        if norm is not None:
            self._norm_tracker.update_state(norm)
            logs["gradient_norm"] = self._norm_tracker.result()
        return logs

    def _test_batch(self, batch: Batch) -> Logs:
        y, batch = self._targets(batch), with_time_weights(batch, self._time_weights)
        loss, y_pred = self._test_step(batch.x, y, batch.sample_weight, batch.mask, **batch.episodes)
        return self._watch(batch, loss, y_pred)

    def _watch(self, batch: Batch, loss: float, y_pred: np.ndarray | None) -> Logs:
        """Add a batch to the loss' mean, weighted by its number of samples, and to the metrics."""
        self._loss_tracker.update_state(loss, batch.samples)
        if self._needs_predictions:
            mask = self._output_mask()
            self._metric_list.update_state(batch.y, y_pred, batch.sample_weight, mask)
        return {"loss": self._loss_tracker.result(), **self._metric_list.result()}

    def _targets(self, batch: Batch) -> np.ndarray:
        if batch.y is None:
            raise ValueError(f"{self._label}: y must be given to compute the loss, got None.")
        self._build_for(batch.x)
        return batch.y

    def _build_for(self, x: Any) -> None:
        """Make the weights, if they are not there, for the first data."""
        if not self.built:
            self.build((None, *np.shape(x)[1:]))


def _is_due(epoch: int, frequency: int | list[int]) -> bool:
    return epoch + 1 in frequency if isinstance(frequency, list | tuple) else (epoch + 1) % frequency == 0
