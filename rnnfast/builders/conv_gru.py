"""Convolutions that shorten and clean a sequence before a recurrence reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rnnfast.builders._stack import recurrent_stack, sequence_input
from rnnfast.layers import BatchNormalization, Conv1D, Dense, Layer, MaxPooling1D
from rnnfast.models.sequential import Sequential


def conv_gru(
    features: int | None = None, outputs: int = 1, *, vocabulary: int | None = None, embedding: int = 8, mask_zero: bool = True, activation: Any = None,
    filters: int = 32, kernel_size: int = 8, strides: int = 2, convolutions: int = 1, padding: str = "causal", pool_size: int = 1, normalize: bool = False,
    return_sequences: bool = False, cell: str = "gru", units: int | Sequence[int] = 32, layers: int = 1, bidirectional: bool = False, dropout: float = 0.0,
) -> Sequential:  # fmt: skip
    """Convolutions find short patterns at any place; the recurrence, over fewer steps, tells how they follow each other.

    Each convolution makes a sequence `strides` times shorter, and `pool_size` times more with pooling: a recurrence over half the steps costs half the time and
    remembers twice as far. With causal padding, and without `bidirectional`, the model streams.

    Parameters
    ----------
    features, outputs, vocabulary, embedding, mask_zero, activation
        As of :func:`many_to_one`.
    filters, kernel_size, strides, padding
        Of each convolution, see :class:`rnnfast.layers.Conv1D`.
    convolutions : int
        How many, one above the other.
    pool_size : int
        Steps of which each convolution's maximum is taken; 1 for no pooling.
    normalize : bool
        Whether batch normalisation stands behind each convolution.
    return_sequences : bool
        Whether every step that is left gets an output, instead of the sequence.
    cell, units, layers, bidirectional, dropout
        Of the recurrent layers, see :func:`recurrent_stack`.

    Examples
    --------
    >>> import numpy as np
    >>> conv_gru(features=1, outputs=10).predict_on_batch(np.zeros((4, 50, 1), np.float32)).shape
    (4, 10)
    >>> conv_gru(vocabulary=5, outputs=2, convolutions=2, return_sequences=True).predict_on_batch(np.ones((4, 50), int)).shape
    (4, 13, 2)
    """
    stack: list[Layer] = []
    for _ in range(convolutions):
        stack.append(Conv1D(filters, kernel_size, strides=strides, padding=padding, activation="relu"))
        if normalize:
            stack.append(BatchNormalization())
        if pool_size > 1:
            stack.append(MaxPooling1D(pool_size))
    return Sequential([
        *sequence_input("conv_gru", features, vocabulary, embedding, mask_zero),
        *stack,
        *recurrent_stack(cell, units, layers, bidirectional, dropout, return_sequences),
        Dense(outputs, activation=activation),
    ])  # fmt: skip
