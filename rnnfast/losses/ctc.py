"""Connectionist temporal classification: labels without alignment."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast import config
from rnnfast.errors import ShapeError
from rnnfast.losses.base import Loss
from rnnfast.losses.crossentropy import log_probabilities


class CTC(Loss):
    """``-log p(labels | y_pred)``, summed over all alignments of a label sequence with the steps of a longer one.

    An alignment gives every step a class or the blank; it stands for the labels that are left when repeats are merged
    and blanks removed. With z' the labels z with a blank before, between and after them, and p_t the classes'
    probabilities at step t, the forward variables are::

        alpha_t(s) = p_t(z'_s) (alpha_{t-1}(s) + alpha_{t-1}(s-1) + alpha_{t-1}(s-2) [z'_s not blank, z'_s != z'_{s-2}])

    and the loss is ``-log(alpha_T(S) + alpha_T(S-1))`` (Graves, Fernandez, Gomez and Schmidhuber, ICML 2006).

    Parameters
    ----------
    reduction : {"sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none"}
        Over sequences, as Keras does. For PyTorch's ``reduction="mean"`` set `per_label` too.
    blank : int
        The blank's class; negative ones count from the last, as -1 for the last.
    from_logits : bool
        `y_pred` holds logits or log probabilities, which a softmax does not change; otherwise probabilities, divided
        by their sum and clipped to [epsilon, 1 - epsilon].
    zero_infinity : bool
        A sequence that cannot be aligned (fewer steps than labels plus repeats) has loss 0 instead of inf.
    padding : int, optional
        What stands in `y_true` behind a sequence's last label; the blank when None, as in Keras.
    per_label : bool
        Divide the loss of each sequence by its number of labels, at least one, as PyTorch's ``reduction="mean"``.

    Notes
    -----
    Labels are int (B, L), predictions (B, T, classes); a mask or lengths of the predictions count only valid steps.
    Sample weights are one a sequence. A sequence that cannot be aligned has gradient 0, whatever its loss, where
    PyTorch gives NaN; NaN in a sequence's predictions gives loss and gradient NaN.

    Examples
    --------
    Of the four alignments of two steps with a blank and one class, three stand for the label 1: the loss is log(4/3).

    >>> round(CTC()([[1]], [[[0.0, 0.0], [0.0, 0.0]]]), 4)
    0.2877
    """

    kind = default_name = "ctc"
    arguments = ("blank", "from_logits", "zero_infinity", "padding", "per_label")
    per_sequence = True

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "ctc",
        *,
        blank: int = 0,
        from_logits: bool = True,
        zero_infinity: bool = False,
        padding: int | None = None,
        per_label: bool = False,
    ) -> None:
        super().__init__(reduction, name)
        for what, value in (("blank", blank), ("padding", padding)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer | None):
                raise ValueError(f"CTC: {what} must be an integer, got {value!r}.")
        self.blank, self.padding = blank, padding
        self.from_logits, self.zero_infinity, self.per_label = bool(from_logits), bool(zero_infinity), bool(per_label)

    def numbers(self, classes: int) -> dict[str, Any]:
        """Return what the engine's op needs to know for predictions of so many classes."""
        if not -classes <= self.blank < classes:
            raise ValueError(f"{self.name}: blank must be in [{-classes}, {classes}), the classes, got {self.blank}.")
        blank = self.blank % classes
        padding = blank if self.padding is None else self.padding
        flags = {each: getattr(self, each) for each in ("from_logits", "zero_infinity", "per_label")}
        return {"blank": blank, "padding": padding, "epsilon": config.epsilon(), **flags}

    def prepare(self, y_true: Any, shape: tuple[int, ...], mask: Any = None) -> np.ndarray:
        """Return the labels (B, L), checked, for predictions of `shape`.

        Raises
        ------
        ShapeError
            For shapes that do not fit.
        ValueError
            For what is not a class number, blanks before the last label, labels behind the padding.
        """
        labels = np.asarray(y_true)
        if len(shape) != 3:
            raise ShapeError(f"{self.name}: y_pred must have shape (B, T, classes), got {shape}.")
        if labels.ndim != 2 or labels.shape[0] != shape[0]:
            raise ShapeError(f"{self.name}: y_true must have shape ({shape[0]}, L), labels, got {labels.shape}.")
        if labels.dtype.kind not in "biuf" or (labels.dtype.kind == "f" and not (labels == np.floor(labels)).all()):
            raise ValueError(f"{self.name}: y_true must hold class numbers, got dtype {labels.dtype}.")
        numbers = self.numbers(shape[2])
        blank, padding = numbers["blank"], numbers["padding"]
        used = labels != padding
        if (used[:, 1:] > used[:, :-1]).any():
            hint = ", the blank," if padding == blank else ""
            raise ValueError(f"{self.name}: y_true must hold labels, then padding; got {padding}{hint} before a label.")
        if labels.min(where=used, initial=0) < 0 or labels.max(where=used, initial=0) >= shape[2]:
            raise ValueError(f"{self.name}: y_true must hold class numbers in [0, {shape[2]}), got {labels[used].min()} to {labels[used].max()}.")
        if padding != blank and (labels == blank).any(where=used):
            raise ValueError(f"{self.name}: y_true must not hold the blank, {blank}, as a label.")
        return labels

    def target_mask(self, y_true: np.ndarray, mask: Any) -> Any:
        """Every sequence counts; what the mask says of steps is part of its value."""
        return None

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None, *, lengths: Any = None, label_lengths: Any = None
    ) -> Any:
        """Return the reduced loss.

        Parameters
        ----------
        y_true : array_like of int, (B, L)
        y_pred : array_like, (B, T, classes)
        sample_weight : array_like, (B,), optional
        mask : array_like of bool, (B, T), optional
        lengths : array_like of int, (B,), optional
            Valid steps of `y_pred`, instead of `mask`.
        label_lengths : array_like of int, (B,), optional
            Labels of each sequence, whatever stands behind them.

        Returns
        -------
        float
            Or an ndarray (B,) for ``reduction="none"``.
        """
        y_pred = np.asarray(y_pred, np.float64)
        if label_lengths is not None:
            y_true = self.padded(y_true, label_lengths, y_pred.shape[-1])
        labels = self.prepare(y_true, y_pred.shape)
        B, T = y_pred.shape[:2]
        valid = np.ones((B, T), bool) if mask is None else np.broadcast_to(np.asarray(mask, bool), (B, T))
        if lengths is not None:
            valid = valid & (np.arange(T) < np.asarray(lengths)[:, None])
        values = np.array([self._value(row, steps[kept]) for row, steps, kept in zip(labels, y_pred, valid, strict=True)])
        weights = self.coefficients(values.shape, sample_weight)
        weighted = np.multiply(values, weights, out=np.zeros_like(values), where=np.broadcast_to(weights != 0, values.shape))
        return weighted if self.reduction == "none" else float(weighted.sum())

    def padded(self, labels: Any, label_lengths: Any, classes: int) -> np.ndarray:
        """Return labels (B, L) with padding behind the given lengths (B,): targets for training."""
        labels, counts = np.asarray(labels), np.asarray(label_lengths)
        if labels.ndim != 2 or counts.shape != labels.shape[:1] or counts.dtype.kind not in "iu":
            raise ShapeError(f"{self.name}: label_lengths must be integers of shape (B,), got {counts.dtype} of shape {counts.shape}.")
        if counts.size and not 0 <= counts.min() <= counts.max() <= labels.shape[1]:
            raise ValueError(f"{self.name}: label_lengths must be in [0, {labels.shape[1]}], got {counts.min()} to {counts.max()}.")
        inside, numbers = np.arange(labels.shape[1]) < counts[:, None], self.numbers(classes)
        if (labels == numbers["padding"]).any(where=inside):
            raise ValueError(f"{self.name}: y_true must not hold {numbers['padding']}, the padding or blank, as a label.")
        return np.where(inside, labels, numbers["padding"])

    def _value(self, labels: np.ndarray, y_pred: np.ndarray) -> float:
        """Loss of one sequence, (L,) with padding and (T, classes) without."""
        numbers = self.numbers(y_pred.shape[-1])
        labels = labels[labels != numbers["padding"]].astype(np.int64)
        states = np.full(2 * len(labels) + 1, numbers["blank"])
        states[1::2] = labels
        jump = np.full(len(states), -np.inf)
        jump[3::2][labels[1:] != labels[:-1]] = 0.0
        alpha = np.full(len(states) + 2, -np.inf)  # two states that are never reached, then the others
        alpha[2] = 0.0
        for p in log_probabilities(y_pred, self.from_logits):
            alpha[2:] = p[states] + np.logaddexp(np.logaddexp(alpha[2:], alpha[1:-1]), alpha[:-2] + jump)
        loss = -np.logaddexp(alpha[-1], alpha[-2] if len(labels) else -np.inf)
        loss = 0.0 if self.zero_infinity and np.isposinf(loss) else loss
        return float(loss / max(1, len(labels)) if self.per_label else loss) + 0.0
