"""Metrics made of true and false positives and negatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnfast import config
from rnnfast.metrics.base import Metric, same_shape

# What top_k puts in the place of the predictions it drops: below every threshold a user would set.
_DROPPED = -1e10


class _Thresholded(Metric):
    """True positives against one other count, at each of some thresholds."""

    arguments = ("thresholds", "top_k", "class_id")

    def __init__(
        self,
        thresholds: float | Sequence[float] | None = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
    ) -> None:
        default = 0.5 if top_k is None else _DROPPED
        self._levels = np.atleast_1d(np.asarray(default if thresholds is None else thresholds, np.float64))
        if thresholds is not None and not ((self._levels >= 0.0) & (self._levels <= 1.0)).all():
            raise ValueError(f"{type(self).__name__}: thresholds must lie in [0, 1], got {thresholds!r}.")
        self.thresholds, self.top_k, self.class_id = thresholds, top_k, class_id
        super().__init__(name)

    def reset_state(self) -> None:
        self.true_positives = np.zeros(len(self._levels))
        self.others = np.zeros(len(self._levels))

    def _update(self, y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray) -> None:
        truth = same_shape(self.name, y_true, y_pred).astype(bool)
        if self.top_k is not None:
            order = np.argsort(-y_pred, axis=-1, kind="stable")[:, : self.top_k]
            kept = np.zeros(y_pred.shape, bool)
            np.put_along_axis(kept, order, True, -1)
            y_pred = np.where(kept, y_pred, _DROPPED)
        if self.class_id is not None:
            truth, y_pred = truth[:, [self.class_id]], y_pred[:, [self.class_id]]
        for index, level in enumerate(self._levels):
            positive = y_pred > level
            self.true_positives[index] += weights @ (positive & truth).sum(-1)
            self.others[index] += weights @ self._other(positive, truth).sum(-1)

    def _other(self, positive: np.ndarray, truth: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def result(self) -> Any:
        shares = _ratio(self.true_positives, self.true_positives + self.others)
        return float(shares[0]) if len(shares) == 1 else shares


class Precision(_Thresholded):
    """True positives over all predicted positives.

    Parameters
    ----------
    thresholds : float or sequence of float, optional
        Predictions above are positive; 0.5 by default. Several give an array of results.
    top_k : int, optional
        Only the `k` greatest predictions of a row can be positive.
    class_id : int, optional
        Only this output counts.

    Examples
    --------
    >>> Precision()([[0], [1], [1]], [[0.9], [0.8], [0.1]])
    0.5
    """

    default_name = "precision"

    def _other(self, positive: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return positive & ~truth


class Recall(_Thresholded):
    """True positives over all that are positive in truth. Arguments as for :class:`Precision`.

    Examples
    --------
    >>> Recall()([[0], [1], [1]], [[0.9], [0.8], [0.1]])
    0.5
    """

    default_name = "recall"

    def _other(self, positive: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return ~positive & truth


class FBetaScore(Metric):
    """Weighted harmonic mean of precision and recall, for one-hot or multi-label targets.

    Parameters
    ----------
    average : {None, "micro", "macro", "weighted"}
        None returns a score a class; "micro" counts all classes together, "macro" averages the scores, "weighted"
        averages them by the number of targets.
    beta : float
        Weight of recall.
    threshold : float, optional
        Predictions above are positive; None takes the greatest of each row.
    """

    default_name: str = "fbeta_score"
    arguments: tuple[str, ...] = ("average", "beta", "threshold")

    def __init__(
        self, average: str | None = None, beta: float = 1.0, threshold: float | None = None, name: str | None = None
    ) -> None:
        if average not in (None, "micro", "macro", "weighted"):
            raise ValueError(
                f"{type(self).__name__}: average must be None, 'micro', 'macro' or 'weighted', got {average!r}."
            )
        if not beta > 0.0:
            raise ValueError(f"{type(self).__name__}: beta must be greater than 0, got {beta!r}.")
        if threshold is not None and not 0.0 < threshold <= 1.0:
            raise ValueError(f"{type(self).__name__}: threshold must be in (0, 1], got {threshold!r}.")
        self.average, self.beta, self.threshold = average, beta, threshold
        super().__init__(name)

    def reset_state(self) -> None:
        self._sums: Any = np.zeros((4, 1))

    def _update(self, y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray) -> None:
        truth = same_shape(self.name, y_true, y_pred).astype(np.float64)
        if self.threshold is None:
            positive = (y_pred >= y_pred.max(-1, keepdims=True)) & (np.abs(y_pred) > 1e-9)
        else:
            positive = y_pred > self.threshold
        parts = np.stack([positive * truth, positive * (1.0 - truth), ~positive * truth, truth])
        sums = np.einsum("knf,n->kf", parts, weights)
        self._sums = self._sums + (sums.sum(-1, keepdims=True) if self.average == "micro" else sums)

    def result(self) -> Any:
        hits, false_positives, false_negatives, targets = self._sums
        guard = config.epsilon()
        precision = hits / (hits + false_positives + guard)
        recall = hits / (hits + false_negatives + guard)
        scores = (1.0 + self.beta**2) * precision * recall / (self.beta**2 * precision + recall + guard)
        if self.average is None:
            return scores
        shares = targets / (targets.sum() + guard) if self.average == "weighted" else 1.0 / len(scores)
        return float((scores * shares).sum())


class F1Score(FBetaScore):
    """:class:`FBetaScore` with beta 1."""

    default_name, arguments = "f1_score", ("average", "threshold")

    def __init__(self, average: str | None = None, threshold: float | None = None, name: str | None = None) -> None:
        super().__init__(average, 1.0, threshold, name)


class AUC(Metric):
    """Area under a curve over all thresholds, from counts at `num_thresholds` of them.

    Parameters
    ----------
    num_thresholds : int
        At least 2; spread evenly over [0, 1].
    curve : {"ROC", "PR"}
        True over false positive rate, or precision over recall.
    summation_method : {"interpolation", "minoring", "majoring"}
        Trapezoids (for PR the interpolation of Davis and Goadrich, "The relationship between precision-recall and ROC
        curves", ICML 2006), or the lower or upper rectangles.
    thresholds : sequence of float, optional
        In (0, 1), instead of the even ones.
    multi_label : bool
        Compute an area for each output and average them, instead of counting all outputs together.
    num_labels : int, optional
        Number of outputs, checked with `multi_label`.
    label_weights : sequence of float, optional
        Weights of the outputs in the average, or in the counts without `multi_label`.
    from_logits : bool
        Predictions go through a sigmoid first.

    Examples
    --------
    >>> AUC()([[0], [0], [1], [1]], [[0.0], [0.5], [0.3], [0.9]])
    0.75
    """

    default_name = "auc"
    arguments = (
        "num_thresholds",
        "curve",
        "summation_method",
        "thresholds",
        "multi_label",
        "num_labels",
        "label_weights",
        "from_logits",
    )

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Sequence[float] | None = None,
        from_logits: bool = False,
    ) -> None:
        if thresholds is None and num_thresholds < 2:
            raise ValueError(f"AUC: num_thresholds must be at least 2, got {num_thresholds!r}.")
        if curve not in ("ROC", "PR"):
            raise ValueError(f"AUC: curve must be 'ROC' or 'PR', got {curve!r}.")
        if summation_method not in ("interpolation", "minoring", "majoring"):
            raise ValueError(
                f"AUC: summation_method must be 'interpolation', 'minoring' or 'majoring', got {summation_method!r}."
            )
        inner = np.linspace(0.0, 1.0, num_thresholds)[1:-1] if thresholds is None else np.sort(thresholds)
        # The ends lie outside [0, 1], so that rounding cannot leave a prediction beyond them.
        self._levels = np.array([-config.epsilon(), *inner, 1.0 + config.epsilon()])
        self.num_thresholds, self.curve, self.summation_method = len(self._levels), curve, summation_method
        self.thresholds = None if thresholds is None else inner.tolist()
        self.multi_label, self.num_labels, self.from_logits = multi_label, num_labels, from_logits
        self.label_weights = None if label_weights is None else list(label_weights)
        super().__init__(name)

    def reset_state(self) -> None:
        self._counts: Any = np.zeros((4, len(self._levels), 1))

    def _update(self, y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray) -> None:
        truth = same_shape(self.name, y_true, y_pred).astype(bool)
        labels = y_pred.shape[-1]
        if self.num_labels not in (None, labels):
            raise ValueError(f"{self.name}: y_pred must have {self.num_labels} labels, got {labels}.")
        if self.from_logits:
            y_pred = 0.5 * (1.0 + np.tanh(0.5 * y_pred))
        each = np.broadcast_to(weights[:, None], y_pred.shape)
        if self.multi_label:
            columns = [self._count(truth[:, i], y_pred[:, i], each[:, i]) for i in range(labels)]
        else:
            each = each if self.label_weights is None else each * np.asarray(self.label_weights)
            columns = [self._count(truth.reshape(-1), y_pred.reshape(-1), each.reshape(-1))]
        self._counts = self._counts + np.stack(columns, -1)

    def _count(self, truth: np.ndarray, y_pred: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """True positives, false positives, true negatives, false negatives, each at all thresholds."""
        # Bin i holds the predictions above exactly i thresholds; those above threshold i are in the bins after it.
        bins = np.searchsorted(self._levels, np.where(np.isnan(y_pred), -np.inf, y_pred), side="left")
        size = len(self._levels) + 1
        totals, above = [], []
        for of_kind in (truth, ~truth):
            heaped = np.bincount(bins[of_kind], weights[of_kind], size)[::-1].cumsum()[::-1]
            totals.append(heaped[0])
            above.append(heaped[1:])
        return np.stack([above[0], above[1], totals[1] - above[1], totals[0] - above[0]])

    def result(self) -> float:
        areas = (
            self._pr_interpolated() if (self.curve, self.summation_method) == ("PR", "interpolation") else self._sum()
        )
        if self.multi_label and self.label_weights is not None:
            return float(np.average(areas, weights=self.label_weights))
        return float(areas.mean())

    def _sum(self) -> np.ndarray:
        tp, fp, tn, fn = self._counts
        recall = _ratio(tp, tp + fn)
        x, y = (_ratio(fp, fp + tn), recall) if self.curve == "ROC" else (recall, _ratio(tp, tp + fp))
        if self.summation_method == "interpolation":
            heights = 0.5 * (y[:-1] + y[1:])
        else:
            heights = (np.minimum if self.summation_method == "minoring" else np.maximum)(y[:-1], y[1:])
        areas: np.ndarray = ((x[:-1] - x[1:]) * heights).sum(0)
        return areas

    def _pr_interpolated(self) -> np.ndarray:
        tp, fp, _, fn = self._counts
        p = tp + fp
        slope = _ratio(tp[:-1] - tp[1:], p[:-1] - p[1:])
        intercept = tp[1:] - slope * p[1:]
        both = (p[:-1] > 0.0) & (p[1:] > 0.0)
        stretch = np.where(both, _ratio(p[:-1], p[1:]), 1.0)
        areas: np.ndarray = _ratio(slope * (tp[:-1] - tp[1:] + intercept * np.log(stretch)), tp[1:] + fn[1:]).sum(0)
        return areas


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a / b``, zero where b is zero."""
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0.0)
