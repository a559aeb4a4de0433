"""Weights of classes and of steps, as weights of samples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rnnfast.errors import ShapeError
from rnnfast.models.data_adapter import Batch
from rnnfast.models.heads import Heads


def with_class_weight(batch: Batch, class_weight: Mapping[int, float] | None, class_numbers: bool) -> Batch:
    """Multiply the sample weights by those of the targets' classes.

    Parameters
    ----------
    batch : Batch
    class_weight : mapping of class number to weight, optional
        Classes that are not in it weigh one.
    class_numbers : bool
        The targets are class numbers even if they have several axes; otherwise a last axis longer than one is one-hot.
    """
    if class_weight is None:
        return batch
    if not isinstance(class_weight, Mapping) or batch.y is None:
        raise ValueError(f"fit: class_weight must be a dict of class numbers and needs y, got {class_weight!r}.")
    labels = batch.y
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    elif labels.ndim > 1 and not class_numbers:
        labels = labels.argmax(-1)
    classes, places = np.unique(np.nan_to_num(np.round(labels), nan=-1).astype(np.int64), return_inverse=True)
    weights = np.array([float(class_weight.get(int(number), 1.0)) for number in classes])[places.reshape(labels.shape)]
    if batch.sample_weight is not None:
        own = batch.sample_weight
        weights = weights * own.reshape(own.shape + (1,) * (weights.ndim - own.ndim))
    return batch._replace(sample_weight=weights)


def with_time_weights(batch: Batch, heads: Heads) -> Batch:
    """Multiply the sample weights by weights of the steps (T,)."""
    if batch.y is None:
        return batch
    ys, weights = (batch.y, batch.sample_weight) if heads.several else ([batch.y], [batch.sample_weight])
    found = [_over_time(y, own, head.time_weights) for y, own, head in zip(ys, weights, heads.list, strict=True)]
    return batch._replace(sample_weight=found if heads.several else found[0])


def _over_time(y: np.ndarray | None, own: np.ndarray | None, weights: np.ndarray | None) -> np.ndarray | None:
    if weights is None or y is None:
        return own
    if y.ndim < 2 or y.shape[1] != len(weights):
        raise ShapeError(f"time_weights must have a weight for each step of y, of shape {y.shape}, got {len(weights)}.")
    own = np.ones(1) if own is None else own
    return np.broadcast_to(own[:, None] if own.ndim == 1 else own, (len(y), len(weights))) * weights
