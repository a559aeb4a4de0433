"""Error rates of transcriptions: edits over the length of what was said."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from rnnfast import _engine
from rnnfast.errors import ShapeError
from rnnfast.losses import expand_weights
from rnnfast.metrics.base import Metric


class _ErrorRate(Metric):
    """``sum(edits) / sum(length)`` over pairs of a reference and a hypothesis."""

    direction = "down"

    def reset_state(self) -> None:
        self.edits = self.length = 0.0

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> None:
        """Add references and hypotheses.

        Parameters
        ----------
        y_true, y_pred : str, or sequence of str or of sequences
        sample_weight : array_like, (B,), optional
        mask : optional
            Of a model's predictions; see :class:`CharacterErrorRate`.
        """
        references, hypotheses = self._pairs(y_true, y_pred, mask)
        if len(references) != len(hypotheses):
            raise ShapeError(f"{self.name}: y_pred must have {len(references)} sequences as y_true does, got {len(hypotheses)}.")
        weights = np.ones(len(references))
        if sample_weight is not None:
            weights = np.broadcast_to(expand_weights(self.name, "sample_weight", np.asarray(sample_weight, np.float64), weights.shape), weights.shape)
        for reference, hypothesis, weight in zip(references, hypotheses, weights, strict=True):
            a, b = self._units(reference), self._units(hypothesis)
            self.edits += float(weight) * _engine.edit_distance(*_numbered(a, b))
            self.length += float(weight) * len(a)

    def _pairs(self, y_true: Any, y_pred: Any, mask: Any) -> tuple[Sequence[Any], Sequence[Any]]:
        return _listed(y_true), _listed(y_pred)

    def _units(self, text: Any) -> Sequence[Hashable]:
        raise NotImplementedError

    def result(self) -> float:
        """Return the rate; inf where hypotheses stand against references of no length."""
        return self.edits / self.length if self.length else (float("inf") if self.edits else 0.0)


class CharacterErrorRate(_ErrorRate):
    """Insertions, deletions and substitutions of characters (or labels), over the number of characters in the references.

    As a metric of a CTC model (``compile(metrics=[CharacterErrorRate()])``) it takes labels (B, L) and the model's output (B, T, classes), of which it decodes
    the best path.

    Parameters
    ----------
    name : str, optional
    blank : int
        Of a CTC model's output; negative ones count from the last.
    padding : int, optional
        What stands behind a sequence's last label; the blank when None.

    Examples
    --------
    >>> CharacterErrorRate()(["hello", "you"], ["hallo", "yo"])
    0.25
    """

    default_name = "character_error_rate"
    arguments = ("blank", "padding")

    def __init__(self, name: str | None = None, blank: int = 0, padding: int | None = None) -> None:
        super().__init__(name)
        self.blank, self.padding = blank, padding

    def _pairs(self, y_true: Any, y_pred: Any, mask: Any) -> tuple[Sequence[Any], Sequence[Any]]:
        if not isinstance(y_pred, np.ndarray) or y_pred.ndim != 3:
            return super()._pairs(y_true, y_pred, mask)
        padding = self.blank % y_pred.shape[-1] if self.padding is None else self.padding
        from rnnfast.decoding import ctc_greedy

        paths = ctc_greedy(y_pred, mask, blank=self.blank)
        return [row[row != padding].tolist() for row in np.asarray(y_true)], [path.labels for path in paths]

    def _units(self, text: Any) -> Sequence[Hashable]:
        return text if isinstance(text, str) else np.asarray(text).tolist()


class WordErrorRate(_ErrorRate):
    """Insertions, deletions and substitutions of words, over the number of words in the references.

    Strings are split at white space; other sequences are words already.

    Examples
    --------
    >>> WordErrorRate()(["it was not so bad"], ["it is not bad"])
    0.4
    """

    default_name = "word_error_rate"

    def _units(self, text: Any) -> Sequence[Hashable]:
        return text.split() if isinstance(text, str) else np.asarray(text).tolist()


def _listed(given: Any) -> Sequence[Any]:
    return [given] if isinstance(given, str) else given


def _numbered(a: Sequence[Hashable], b: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """The same number for the same unit."""
    numbers: dict[Hashable, int] = {}
    first, second = (np.array([numbers.setdefault(unit, len(numbers)) for unit in units], np.int64) for units in (a, b))
    return first, second
