"""scikit-learn's images of written digits, which come with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.random import generator


def load(seed: int) -> tuple[Any, Any, Any, Any]:
    """Images [N, 8, 8] in [0, 1] and digits for training, then 360 of both that are held out."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("This example needs scikit-learn: pip install 'rnnfast[examples]'.") from error
    data: Any = load_digits()
    order = generator(seed).permutation(len(data.target))
    x, y = (data.images[order] / 16).astype(np.float32), data.target[order]
    return x[360:], y[360:], x[:360], y[:360]
