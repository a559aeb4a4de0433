"""From the output of a CTC model to labels: the best path, and prefix beam search.

An alignment gives each step a class or the blank; it stands for the labels left when repeats are merged and blanks removed. The best path (Graves et al., ICML
2006) takes the most probable alignment. Prefix beam search (Graves 2006; Hannun et al., arXiv:1408.2873) adds up the alignments of the same labels and keeps
the `beam_width` most probable prefixes after each step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rnnfast import _engine, config
from rnnfast.errors import ShapeError

__all__ = ["DecodedPath", "ctc_beam_search", "ctc_greedy"]

Scorer = Callable[[tuple[int, ...]], Any]


class DecodedPath(NamedTuple):
    """Labels and their log probability."""

    labels: list[int]
    log_probability: float


def ctc_greedy(y_pred: Any, lengths: Any = None, *, blank: int = 0, from_logits: bool = True) -> list[DecodedPath]:
    """The labels of the most probable alignment of each sequence.

    Parameters
    ----------
    y_pred : array_like, (B, T, classes)
        Logits or log probabilities; probabilities if not `from_logits`.
    lengths : array_like of int (B,) or mask of bool (B, T), optional
        Valid steps.
    blank : int
        The blank's class; negative ones count from the last.
    from_logits : bool

    Returns
    -------
    list of DecodedPath
        With the log probability of the one alignment.

    Examples
    --------
    >>> [(labels, score)] = ctc_greedy([[[0.1, 0.9], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]]], from_logits=False)
    >>> labels, round(score, 4)
    ([1, 1], -0.4214)
    """
    sequences, blank = _log_probabilities("ctc_greedy", y_pred, lengths, blank, from_logits)
    return [_best_path(log_p, blank) for log_p in sequences]


def ctc_beam_search(
    y_pred: Any,
    lengths: Any = None,
    *,
    beam_width: int = 100,
    top_paths: int = 1,
    blank: int = 0,
    from_logits: bool = True,
    scorer: Scorer | None = None,
) -> list[list[DecodedPath]]:
    """The most probable labels of each sequence, as far as a beam finds them.

    Parameters
    ----------
    y_pred, lengths, blank, from_logits
        As for :func:`ctc_greedy`.
    beam_width : int
        Prefixes kept after each step.
    top_paths : int
        Results a sequence, at most `beam_width`.
    scorer : callable, optional
        A language model: called with a prefix, a tuple of labels, it returns what each class gains in log probability when it is appended, shape (classes,).

    Returns
    -------
    list of list of DecodedPath
        Best first. The log probability is that of all alignments in the beam, a lower bound of the labels' own; the scorer's gains are in it.

    Examples
    --------
    The best alignment is two blanks (0.36), but three others stand for the label 1 (0.64).

    >>> [[(labels, score), *_]] = ctc_beam_search([[[0.6, 0.4], [0.6, 0.4]]], beam_width=2, from_logits=False)
    >>> labels, round(float(np.exp(score)), 4)
    ([1], 0.64)
    """
    for name, count in (("beam_width", beam_width), ("top_paths", top_paths)):
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise ValueError(f"ctc_beam_search: {name} must be a positive integer, got {count!r}.")
    if top_paths > beam_width:
        raise ValueError(f"ctc_beam_search: top_paths must be at most beam_width, {beam_width}, got {top_paths}.")
    sequences, blank = _log_probabilities("ctc_beam_search", y_pred, lengths, blank, from_logits)
    return [[DecodedPath(*found) for found in _search(log_p, blank, beam_width, scorer).best(top_paths)] for log_p in sequences]


def _search(log_p: np.ndarray, blank: int, width: int, scorer: Scorer | None) -> Any:
    steps, classes = log_p.shape
    beam = _engine.PrefixBeam(classes, blank, width, steps)
    if scorer is None:
        beam.run(log_p)
        return beam
    known: dict[int, np.ndarray] = {}
    for row in log_p:
        nodes = beam.prefixes()
        for node in nodes:
            if node not in known:
                known[node] = np.asarray(scorer(tuple(beam.labels(node))), np.float64)
                if known[node].shape != (classes,):
                    raise ShapeError(f"ctc_beam_search: scorer must return an array of shape ({classes},), got {known[node].shape}.")
        if nodes:
            beam.advance(row, np.stack([known[node] for node in nodes]))
    return beam


def _best_path(log_p: np.ndarray, blank: int) -> DecodedPath:
    path = log_p.argmax(-1)
    first = np.ones(len(path), bool)
    first[1:] = path[1:] != path[:-1]
    return DecodedPath(path[first & (path != blank)].tolist(), float(log_p.max(-1).sum()))


def _log_probabilities(owner: str, y_pred: Any, lengths: Any, blank: int, from_logits: bool) -> tuple[list[np.ndarray], int]:
    """Log probabilities (T, classes) of the valid steps of each sequence, and the blank's class."""
    y_pred = np.asarray(y_pred, np.float64)
    if y_pred.ndim != 3 or not y_pred.shape[2]:
        raise ShapeError(f"{owner}: y_pred must have shape (B, T, classes), got {y_pred.shape}.")
    B, T, classes = y_pred.shape
    if isinstance(blank, bool) or not isinstance(blank, int | np.integer) or not -classes <= blank < classes:
        raise ValueError(f"{owner}: blank must be in [{-classes}, {classes}), the classes, got {blank!r}.")
    valid = np.ones((B, T), bool) if lengths is None else np.asarray(lengths)
    if valid.dtype.kind in "iu" and valid.shape == (B,):
        if B and not 0 <= valid.min() <= valid.max() <= T:
            raise ValueError(f"{owner}: lengths must be in [0, {T}], got {valid.min()} to {valid.max()}.")
        valid = np.arange(T) < valid[:, None]
    if valid.dtype != bool or valid.shape != (B, T):
        raise ShapeError(f"{owner}: lengths must be integers of shape ({B},) or a mask of shape ({B}, {T}), got {valid.dtype} of shape {valid.shape}.")
    sequences = [_normalized(steps[kept], from_logits) for steps, kept in zip(y_pred, valid, strict=True)]
    if any(np.isnan(log_p).any() for log_p in sequences):
        raise ValueError(f"{owner}: y_pred must hold numbers, got NaN (or a step of infinite logits alone).")
    return sequences, blank % classes


def _normalized(y_pred: np.ndarray, from_logits: bool) -> np.ndarray:
    if not from_logits:
        return np.log(np.clip(y_pred / y_pred.sum(-1, keepdims=True), config.epsilon(), 1.0))
    with np.errstate(invalid="ignore"):
        shifted = y_pred - y_pred.max(-1, keepdims=True, initial=-np.inf)
        return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
