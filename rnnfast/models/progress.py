"""Progress on the screen: a line that is drawn again on a terminal, a line an epoch in a log."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from rnnfast.callbacks import Callback, Logs

REDRAW_SECONDS = 0.1


class Progress(Callback):
    """Show how far a run is, how long a step takes, how long is left, and the logs.

    Parameters
    ----------
    verbose : {"auto", 0, 1, 2}
        0 is silent. 1 draws one line again and again on a terminal and prints a line an epoch elsewhere; 2 prints a
        line an epoch everywhere. "auto" is 1, but silent outside a terminal for evaluation and predictions.
    """

    def __init__(self, verbose: str | int = "auto") -> None:
        super().__init__()
        if verbose not in ("auto", 0, 1, 2):
            raise ValueError(f"verbose must be 'auto', 0, 1 or 2, got {verbose!r}.")
        self.verbose = verbose
        self._training = False
        self._width = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._width:
            self._write("\n")
            self._width = 0
        self._training = False

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._start(f"Epoch {epoch + 1}/{self.params.get('epochs')}")

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._advance(batch + 1, logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._finish(logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        if not self._training:
            self._start("Evaluate")

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if not self._training:
            self._advance(batch + 1, logs)

    def on_test_end(self, logs: Logs | None = None) -> None:
        if not self._training:
            self._finish(logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        self._start("Predict")

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._advance(batch + 1, None)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        self._finish(None)

    def _start(self, title: str) -> None:
        self._title, self._done = title, 0
        self._began = self._drawn = time.perf_counter()
        terminal = bool(sys.stdout and sys.stdout.isatty())
        self._redraws = terminal and self.verbose in ("auto", 1)
        self._silent = self.verbose == 0 or (self.verbose == "auto" and not terminal and not self._training)

    def _advance(self, done: int, logs: Logs | None) -> None:
        self._done = done
        now = time.perf_counter()
        if self._redraws and now - self._drawn >= REDRAW_SECONDS:
            self._drawn = now
            self._draw(self._line(now - self._began, logs, running=True))

    def _finish(self, logs: Logs | None) -> None:
        line = self._line(time.perf_counter() - self._began, logs, running=False)
        if self._redraws:
            self._draw(line)
            self._write("\n")
            self._width = 0
        elif not self._silent:
            self._write(line + "\n")

    def _line(self, seconds: float, logs: Logs | None, running: bool) -> str:
        steps = self.params.get("steps")
        a_step = seconds / max(self._done, 1)
        parts = [self._title, f"{self._done}/{steps}" if steps else str(self._done)]
        if running and steps:
            parts.append(f"ETA {_clock(a_step * (steps - self._done))}")
        else:
            parts.append(_clock(seconds))
        parts.append(f"{_milliseconds(a_step)} ms/step")
        return "  ".join(parts + [f"{name} {_number(value)}" for name, value in (logs or {}).items()])

    def _draw(self, line: str) -> None:
        import shutil  # only needed on a terminal

        line = line[: max(shutil.get_terminal_size().columns - 1, 1)]
        self._write("\r" + line.ljust(self._width))
        self._width = len(line)

    @staticmethod
    def _write(text: str) -> None:
        if sys.stdout:
            sys.stdout.write(text)
            sys.stdout.flush()


def _clock(seconds: float) -> str:
    """``4.2s`` under a minute, ``m:ss`` or ``h:mm:ss`` above."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _milliseconds(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _number(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.ndim:
        return "[" + " ".join(f"{each:.4g}" for each in value.ravel()) + "]"
    return f"{float(value):.4g}" if abs(float(value)) < 1e-3 else f"{float(value):.4f}"
