"""The hooks that every callback has."""

from __future__ import annotations

from typing import Any

Logs = dict[str, Any]


class Callback:
    """Base class; every hook does nothing.

    Attributes
    ----------
    model : the model that is trained, evaluated or asked for predictions
    params : dict
        ``epochs``, ``steps`` (None when unknown) and ``verbose``.

    Notes
    -----
    ``model.stop_training = True`` ends training after the batch, and the epoch's hooks still run.
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Say which model the hooks are about."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Say how long the run is."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch, or when the keyboard interrupted training."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before an evaluation, also the one at the end of an epoch."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """After an evaluation."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Before predictions."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """After predictions."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch of training."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch and its validation, whose logs begin with ``val_``."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of ``on_train_batch_begin``."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of ``on_train_batch_end``."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch of training."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch of training, with the means since the epoch's start."""
        self.on_batch_end(batch, logs)

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch of evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch of evaluation."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch of predictions."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch of predictions; ``logs["outputs"]`` holds them."""
