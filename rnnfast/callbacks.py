"""Callbacks: what happens around epochs and batches."""

from __future__ import annotations

import csv
import math
import operator
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

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


class CallbackList(Callback):
    """Several callbacks as one: every hook calls theirs in order, with the same logs dict.

    Parameters
    ----------
    callbacks : Callback or sequence of them, optional
    add_history : bool
        Append a :class:`History` unless there is one, and make it ``model.history``.
    model : optional
    **params
        Handed to all as ``params``.
    """

    def __init__(self, callbacks: Any = None, add_history: bool = False, model: Any = None, **params: Any) -> None:
        super().__init__()
        callbacks = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or [])
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise ValueError(f"callbacks must hold Callback objects, got {callback!r}.")
        if add_history and not any(isinstance(callback, History) for callback in callbacks):
            callbacks.append(History())
        self.callbacks: list[Callback] = callbacks
        if model is not None:
            self.set_model(model)
        self.set_params(params)

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        for callback in self.callbacks:
            callback.set_model(model)
            if isinstance(callback, History):
                model.history = callback

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        for callback in self.callbacks:
            callback.set_params(params)


def _fan_out(hook: str) -> Callable[..., None]:
    def call(self: CallbackList, *args: Any, **kwargs: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(*args, **kwargs)

    call.__name__ = hook
    call.__doc__ = f"Call every callback's ``{hook}``."
    return call


for _hook in [name for name in vars(Callback) if name.startswith("on_")]:
    setattr(CallbackList, _hook, _fan_out(_hook))


class History(Callback):
    """Records every epoch; ``fit`` returns it.

    Attributes
    ----------
    history : dict of str to list
        A value an epoch for each of the logs.
    epoch : list of int
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
        self.model.history = self

    def plot(self, keys: Sequence[str] | None = None, ax: Any = None) -> Any:
        """Draw the curves over the epochs, validation dashed.

        Parameters
        ----------
        keys : sequence of str, optional
            Which ones (``val_`` is added where there is one); by default all.
        ax : matplotlib Axes, optional
            Drawn into this instead of a new figure.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        ImportError
            Without matplotlib: ``pip install rnnfast[plot]``.
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError("History.plot needs matplotlib: pip install rnnfast[plot]") from error
        known = [name for name in self.history if not name.startswith("val_")]
        for key in keys or ():
            if key not in self.history:
                raise ValueError(f"History.plot: keys must be among {list(self.history)}, got {key!r}.")
        ax = plt.subplots()[1] if ax is None else ax
        for name in keys or known:
            (line,) = ax.plot(_epochs(self.history[name]), self.history[name], label=name)
            if f"val_{name}" in self.history:
                values = self.history[f"val_{name}"]
                ax.plot(_epochs(values), values, "--", color=line.get_color(), label=f"val_{name}")
        ax.set_xlabel("epoch")
        ax.legend()
        return ax


def _epochs(values: Sequence[Any]) -> range:
    return range(1, len(values) + 1)


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
        direction = {"up": "max", "down": "min"}.get(found.get(name) or ("down" if name == "loss" else ""))
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
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
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


class LearningRateScheduler(Callback):
    """Set the learning rate at every epoch's start.

    Parameters
    ----------
    schedule : callable
        ``schedule(epoch, learning_rate)`` returns the new rate.
    verbose : {0, 1}
    """

    def __init__(self, schedule: Callable[[int, float], float], verbose: int = 0) -> None:
        super().__init__()
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        rate = self.schedule(epoch, self.model.optimizer.learning_rate)
        if isinstance(rate, bool) or not isinstance(rate, float | int | np.floating):
            raise ValueError(f"LearningRateScheduler: schedule must return a float, got {rate!r}.")
        self.model.optimizer.learning_rate = float(rate)
        if self.verbose > 0:
            print(f"Epoch {epoch + 1}: learning rate set to {rate}.")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


class CSVLogger(Callback):
    """Write a line an epoch to a CSV file.

    Parameters
    ----------
    filename : str or path
    separator : str
    append : bool
        Go on in a file that is there, instead of a new one.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename, self.separator, self.append = os.fspath(filename), separator, append
        self._keys: list[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._keys = None
        self._header = not (self.append and os.path.exists(self.filename) and os.path.getsize(self.filename))
        if self._header:
            open(self.filename, "w").close()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        if self._keys is None:
            self._keys = sorted(logs)
            if not any(key.startswith("val_") for key in self._keys):
                # Validation may not run in the first epoch.
                self._keys += [f"val_{key}" for key in self._keys]
        with open(self.filename, "a", newline="") as file:
            writer = csv.DictWriter(file, ["epoch", *self._keys], "NA", "ignore", delimiter=self.separator)
            if self._header:
                writer.writeheader()
                self._header = False
            writer.writerow({"epoch": epoch, **{key: _cell(logs.get(key, "NA")) for key in self._keys}})


def _cell(value: Any) -> Any:
    return f"[{', '.join(map(str, value.tolist()))}]" if isinstance(value, np.ndarray) and value.ndim else value


class TerminateOnNaN(Callback):
    """Stop training when the loss is NaN or infinite.

    Parameters
    ----------
    raise_error : bool
        Raise RuntimeError instead of a message and a normal end.
    """

    def __init__(self, raise_error: bool = False) -> None:
        super().__init__()
        self.raise_error = raise_error

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(f"TerminateOnNaN: the loss is {loss} at batch {batch}.")
        print(f"Batch {batch}: the loss is {loss}, training stops.")
        self.model.stop_training = True


class LambdaCallback(Callback):
    """Hooks from functions, for any hook of :class:`Callback`.

    Examples
    --------
    >>> LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs)).on_epoch_end(0, {"loss": 0.5})
    0 {'loss': 0.5}
    """

    def __init__(self, **hooks: Callable[..., Any] | None) -> None:
        super().__init__()
        for name, function in hooks.items():
            if not name.startswith("on_") or not hasattr(Callback, name):
                raise ValueError(f"LambdaCallback: {name!r} is not a hook of Callback.")
            if function is not None:
                setattr(self, name, function)
