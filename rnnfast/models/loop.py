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
from rnnfast.models.data_adapter import Batch, Batches, StreamBatches
from rnnfast.models.interrupts import ctrl_c_between_batches
from rnnfast.models.weighting import with_class_weight, with_time_weights


class Loop(Compilable):
    """Mixin that runs epochs of steps."""

    built: bool
    history: History

    build: Callable[..., Any]

    # The model's part.

    def _train_step(self, x: Any, y: Any, sample_weight: Any, mask: Any, resets: Any = None) -> tuple[float, Any]:
        """Run one optimizer step; return the loss and, if ``_needs_predictions``, the predictions before it, a list for several outputs."""
        raise NotImplementedError

    def _train_again(self, x: Any, y: Any, lengths: Any) -> float | None:
        """Run another step like the last one, that had nothing but x, y and perhaps lengths; return its loss, None (and no step) if anything differs or needs a look."""
        return None

    def _test_step(self, x: Any, y: Any, sample_weight: Any, mask: Any, resets: Any = None) -> tuple[float, Any]:
        """Return the loss and the predictions."""
        raise NotImplementedError

    def _predict_step(self, x: Any, mask: Any, resets: Any = None) -> Any:
        """Return the predictions, an array or a list of arrays."""
        raise NotImplementedError

    def _output_mask(self) -> Any:
        """Return the boolean mask (B, T) in force at the output of the last step, None when there was none; a list of them for several outputs."""
        raise NotImplementedError

    def _output_losses(self) -> list[float]:
        """Return the last step's losses of the outputs that have one, without their weights; asked for where there are several outputs."""
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
        batch = self._weighted(batch if class_weight is None else self._with_class_weight(batch, class_weight))
        loss, y_pred = self._train_step(batch.x, batch.y, batch.sample_weight, batch.mask, **batch.episodes)
        logs, norm = self._watch(batch, loss, y_pred), self._gradient_norm()
        if norm is not None:
            self._norm_tracker.update_state(norm)
            logs["gradient_norm"] = self._norm_tracker.result()
        return logs

    def _test_batch(self, batch: Batch) -> Logs:
        batch = self._weighted(batch)
        loss, y_pred = self._test_step(batch.x, batch.y, batch.sample_weight, batch.mask, **batch.episodes)
        return self._watch(batch, loss, y_pred)

    def _watch(self, batch: Batch, loss: float, y_pred: Any) -> Logs:
        """Add a batch to the losses' means, weighted by its number of samples, and to the metrics."""
        self._loss_tracker.update_state(loss, batch.samples)
        if self._heads.several:
            self._heads.update_losses(self._output_losses(), batch.samples)
        if self._needs_predictions:
            self._heads.update_metrics(batch.y, y_pred, batch.sample_weight, self._output_mask())
        return {"loss": self._loss_tracker.result(), **self._heads.result()}

    def _with_class_weight(self, batch: Batch, class_weight: Mapping[int, float]) -> Batch:
        if self._heads.several:
            raise ValueError(f"{self._label}: class_weight needs a model with one output, this has {len(self._heads.list)}. Use sample_weight.")
        if self.loss.per_sequence:
            raise ValueError(f"{self._label}: class_weight has no meaning for loss {self.loss.name!r}, a value for whole sequences. Use sample_weight.")
        return with_class_weight(batch, class_weight, isinstance(self.loss, losses.SparseCategoricalCrossentropy))

    def _weighted(self, batch: Batch) -> Batch:
        """The batch, with the weights of the steps, for a model that has its weights by now."""
        heads = self._heads
        for head, y in zip(heads.list, batch.y, strict=True) if heads.several and batch.y is not None else [(heads.list[0], batch.y)]:
            if y is None and (head.loss is not None or len(head.metrics)):
                what = f"y of output '{head.name}'" if heads.several else "y"
                raise ValueError(f"{self._label}: {what} must be given to compute the loss, got None.")
        self._build_for(batch.x)
        return with_time_weights(batch, heads) if heads.weighs_time else batch

    def _build_for(self, x: Any) -> None:
        """Make the weights, if they are not there, for the first data."""
        if not self.built:
            self.build((None, *np.shape(x)[1:]))


def _is_due(epoch: int, frequency: int | list[int]) -> bool:
    return epoch + 1 in frequency if isinstance(frequency, list | tuple) else (epoch + 1) % frequency == 0
