"""Callbacks that write down what happened: History and CSVLogger."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnfast.callbacks.base import Callback, Logs


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
            import csv  # at its first use, as all that a model in a service does without

            writer = csv.DictWriter(file, ["epoch", *self._keys], "NA", "ignore", delimiter=self.separator)
            if self._header:
                writer.writeheader()
                self._header = False
            writer.writerow({"epoch": epoch, **{key: _cell(logs.get(key, "NA")) for key in self._keys}})


def _cell(value: Any) -> Any:
    return f"[{', '.join(map(str, value.tolist()))}]" if isinstance(value, np.ndarray) and value.ndim else value
