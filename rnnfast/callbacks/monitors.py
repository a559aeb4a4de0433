"""Callbacks that watch one of the logs: EarlyStopping, ModelCheckpoint, ReduceLROnPlateau."""

from __future__ import annotations

import operator
import os
import warnings
from typing import Any

import numpy as np

from rnnfast.callbacks.base import Callback, Logs


class MonitorCallback(Callback):
    """Base of the callbacks that watch one of the logs.

    Parameters
    ----------
    monitor : str
    mode : {"auto", "min", "max"}
        Which is better; "auto" asks the metric.
    min_delta : float
        A smaller change is none.
    """

    def __init__(self, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0.0) -> None:
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"{type(self).__name__}: mode must be 'auto', 'min' or 'max', got {mode!r}.")
        self.monitor, self.mode, self.min_delta = monitor, mode, abs(min_delta)
        self.best: float | None = None

    def _direction(self) -> str:
        if self.mode != "auto":
            return self.mode
        name = self.monitor.removeprefix("val_")
        found = {metric.name: metric.direction for metric in getattr(self.model, "metrics", ())}
        names = [name, *(name.removeprefix(f"{output}_") for output in getattr(self.model, "output_names", None) or ())]
        known = next((found[one] for one in names if found.get(one)), "down" if name == "loss" else "")
        direction = {"up": "max", "down": "min"}.get(known)
        if direction is None:
            raise ValueError(
                f"{type(self).__name__}: mode must be 'min' or 'max' for monitor {self.monitor!r}, whose better "
                "direction is unknown, got 'auto'."
            )
        return direction

    def _improves(self, value: float, reference: float | None) -> bool:
        better, delta = (operator.gt, -self.min_delta) if self._direction() == "max" else (operator.lt, self.min_delta)
        return reference is None or bool(better(value + delta, reference))

    def _value(self, logs: Logs | None) -> Any:
        value = (logs or {}).get(self.monitor)
        if value is None:
            warnings.warn(
                f"{type(self).__name__}: monitor {self.monitor!r} is not among the logs {sorted(logs or {})}.",
                stacklevel=3,
            )
        return value


class EarlyStopping(MonitorCallback):
    """Stop when the monitored value has not improved for `patience` epochs.

    Parameters
    ----------
    monitor, min_delta, mode
        See :class:`MonitorCallback`.
    patience : int
    verbose : {0, 1}
    baseline : float, optional
        Only values better than this restart the wait.
    restore_best_weights : bool
        At the end of training, go back to the weights of the best epoch.
    start_from_epoch : int
        Epochs before this one are not looked at.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        self._reset()

    def _reset(self) -> None:
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = None
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        current = self._value(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        improved = self._improves(current, self.best)
        if self.restore_best_weights and (improved or self.best_weights is None):
            self.best_weights = self.model.get_weights()
        self.wait += 1
        if improved:
            self.best, self.best_epoch = current, epoch
            if self.baseline is None or self._improves(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch > 0 and self.verbose > 0:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose > 0:
                print(f"Restoring the weights of the best epoch, {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(MonitorCallback):
    """Save the model after every epoch, or every `save_freq` batches, or when it is the best so far.

    Parameters
    ----------
    filepath : str or path
        May hold ``{epoch:02d}``, ``{batch}`` and names of the logs, as in ``"m-{epoch:02d}-{val_loss:.3f}.rnnf"``.
    monitor, mode
        See :class:`MonitorCallback`.
    verbose : {0, 1}
    save_best_only : bool
    save_weights_only : bool
        Call ``model.save_weights`` instead of ``model.save``.
    save_freq : "epoch" or int
    initial_value_threshold : float, optional
        A value to beat from the start.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        if save_freq != "epoch" and (isinstance(save_freq, bool) or not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(f"ModelCheckpoint: save_freq must be 'epoch' or an integer > 0, got {save_freq!r}.")
        self.filepath, self.verbose, self.save_freq = os.fspath(filepath), verbose, save_freq
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self.best = initial_value_threshold
        self._epoch = self._batches = 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if isinstance(self.save_freq, int):
            self._batches += 1
            if self._batches % self.save_freq == 0:
                self._save({"batch": batch + 1, **(logs or {})})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq == "epoch":
            self._save(logs or {})

    def _save(self, logs: Logs) -> None:
        if self.save_best_only:
            current = self._value(logs)
            if current is not None:
                if not self._improves(current, self.best):
                    return
                self.best = current
        try:
            path = self.filepath.format(**{**logs, "epoch": self._epoch + 1})
        except KeyError as error:
            raise KeyError(
                f"ModelCheckpoint: filepath {self.filepath!r} asks for {error}; known: epoch, {', '.join(logs)}."
            ) from None
        if folder := os.path.dirname(path):
            os.makedirs(folder, exist_ok=True)
        (self.model.save_weights if self.save_weights_only else self.model.save)(path)
        if self.verbose > 0:
            print(f"Epoch {self._epoch + 1}: saved to {path}")


class ReduceLROnPlateau(MonitorCallback):
    """Multiply the learning rate by `factor` when the monitored value has not improved for `patience` epochs.

    Parameters
    ----------
    monitor, mode, min_delta
        See :class:`MonitorCallback`.
    factor : float
        Less than one.
    patience : int
    verbose : {0, 1}
    cooldown : int
        Epochs after a reduction that are not counted.
    min_lr : float
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if factor >= 1.0:
            raise ValueError(f"ReduceLROnPlateau: factor must be less than 1, got {factor!r}.")
        self.factor, self.patience, self.verbose, self.cooldown, self.min_lr = (
            factor,
            patience,
            verbose,
            cooldown,
            min_lr,
        )
        self.wait = self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.best = None
        self.wait = self.cooldown_counter = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        if logs is not None:
            logs["learning_rate"] = optimizer.learning_rate
        current = self._value(logs)
        if current is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._improves(current, self.best):
            self.best, self.wait = current, 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience and optimizer.learning_rate > self.min_lr:
                optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
                self.cooldown_counter, self.wait = self.cooldown, 0
                if self.verbose > 0:
                    print(f"Epoch {epoch + 1}: learning rate reduced to {optimizer.learning_rate}.")
