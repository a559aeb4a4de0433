"""CTC by its definition: every alignment of classes and blanks, enumerated. Source: Graves, Fernandez, Gomez, Schmidhuber, ICML 2006, equations 2 and 3."""

from __future__ import annotations

import itertools

import numpy as np


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def all_labels(log_p: np.ndarray, blank: int) -> dict[tuple[int, ...], float]:
    """Log probability of every label sequence, from log probabilities (T, classes)."""
    found: dict[tuple[int, ...], list[float]] = {}
    for path in itertools.product(range(log_p.shape[1]), repeat=log_p.shape[0]):
        labels = tuple(label for label, _ in itertools.groupby(path) if label != blank)
        found.setdefault(labels, []).append(sum(log_p[t, c] for t, c in enumerate(path)))
    return {labels: float(np.logaddexp.reduce(scores)) for labels, scores in found.items()}


def loss(logits: np.ndarray, labels: tuple[int, ...], blank: int) -> float:
    return -all_labels(log_softmax(logits), blank).get(tuple(labels), -np.inf)
