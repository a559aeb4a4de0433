"""Small helpers of the public API."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast import config
from rnnfast.random import check_seed, global_seed_generator

__all__ = ["set_random_seed", "to_categorical"]


def set_random_seed(seed: int) -> None:
    """Fix every source of randomness: this package's, Python's `random` and numpy's global generator.

    Parameters
    ----------
    seed : int
        In [0, 2**32).

    Examples
    --------
    >>> from rnnfast.initializers import GlorotUniform
    >>> set_random_seed(1); a = GlorotUniform()((2, 2))
    >>> set_random_seed(1); b = GlorotUniform()((2, 2))
    >>> bool((a == b).all())
    True
    """
    seed = check_seed("set_random_seed", seed)
    if seed >= 1 << 32:
        raise ValueError(f"set_random_seed: seed must be an integer in [0, 2**32), got {seed}.")
    import random as python_random

    python_random.seed(seed)
    np.random.seed(seed)
    global_seed_generator().set_state((seed, 0))


def to_categorical(x: Any, num_classes: int | None = None) -> np.ndarray:
    """Turn class numbers into one-hot rows.

    Parameters
    ----------
    x : array_like of int, any shape
        A trailing axis of size one is dropped.
    num_classes : int, optional
        Width of a row; the greatest number plus one when None.

    Returns
    -------
    ndarray
        Shape ``x.shape + (num_classes,)``, of type :func:`rnnfast.config.floatx`.

    Examples
    --------
    >>> to_categorical([0, 2])
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    given = np.asarray(x)
    labels = given.astype(np.int64)
    if not np.array_equal(labels, given):
        raise ValueError(f"to_categorical: x must hold whole numbers, got dtype {given.dtype}.")
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    width = int(labels.max(initial=-1)) + 1 if num_classes is None else int(num_classes)
    if labels.size and not 0 <= labels.min() <= labels.max() < width:
        raise ValueError(f"to_categorical: x must lie in [0, {width}), got values {labels.min()} to {labels.max()}.")
    result = np.zeros((*labels.shape, width), config.floatx())
    np.put_along_axis(result, labels[..., None], 1.0, axis=-1)
    return result
