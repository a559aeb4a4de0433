"""The three plain shapes of work: many to one, one to many, many to many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rnnfast.builders._stack import recurrent_stack, sequence_input
from rnnfast.errors import suggest
from rnnfast.layers import Dense, Input, RepeatVector, Subtract
from rnnfast.models.model import Model
from rnnfast.models.sequential import Sequential


def many_to_one(
    features: int | None = None, outputs: int = 1, *, vocabulary: int | None = None, embedding: int = 32, mask_zero: bool = True, activation: Any = None,
    cell: str = "lstm", units: int | Sequence[int] = 32, layers: int = 1, bidirectional: bool = False, dropout: float = 0.0, **options: Any,
) -> Sequential:  # fmt: skip
    """A whole sequence becomes one vector: classify a sentence, forecast the next value.

    Parameters
    ----------
    features : int, optional
        Size of the vectors that come in, [B, T, features].
    outputs : int
        Size of the vector that comes out, [B, outputs].
    vocabulary : int, optional
        Instead of features: the number of tokens that come in, [B, T].
    embedding : int
        Size of a token's vector.
    mask_zero : bool
        Whether token 0 is padding.
    activation : str, optional
        Of the output: "softmax" for classes, None for numbers.
    cell, units, layers, bidirectional, dropout, **options
        Of the recurrent layers, see :func:`rnnfast.builders.recurrent_stack`.

    Examples
    --------
    >>> import numpy as np
    >>> many_to_one(features=3, outputs=2, cell="gru").predict_on_batch(np.zeros((4, 10, 3), np.float32)).shape
    (4, 2)
    """
    return Sequential([
        *sequence_input("many_to_one", features, vocabulary, embedding, mask_zero),
        *recurrent_stack(cell, units, layers, bidirectional, dropout, **options),
        Dense(outputs, activation=activation),
    ])  # fmt: skip


def many_to_many(
    features: int | None = None, outputs: int = 1, *, vocabulary: int | None = None, embedding: int = 32, mask_zero: bool = True, activation: Any = None,
    cell: str = "lstm", units: int | Sequence[int] = 32, layers: int = 1, bidirectional: bool = False, dropout: float = 0.0, **options: Any,
) -> Sequential:  # fmt: skip
    """Every step of a sequence gets its output: label words, predict the next token, filter a signal.

    Parameters
    ----------
    features, outputs, vocabulary, embedding, mask_zero, activation, cell, units, layers, bidirectional, dropout, **options
        As of :func:`many_to_one`; the output is [B, T, outputs].

    Examples
    --------
    >>> import numpy as np
    >>> many_to_many(vocabulary=20, outputs=5, bidirectional=True, activation="softmax").predict_on_batch(np.array([[1, 2, 0], [3, 4, 5]])).shape
    (2, 3, 5)
    """
    return Sequential([
        *sequence_input("many_to_many", features, vocabulary, embedding, mask_zero),
        *recurrent_stack(cell, units, layers, bidirectional, dropout, return_sequences=True, **options),
        Dense(outputs, activation=activation),
    ])  # fmt: skip


def one_to_many(
    features: int, outputs: int, steps: int, *, vector: str = "input", activation: Any = None,
    cell: str = "lstm", units: int | Sequence[int] = 32, layers: int = 1, bidirectional: bool = False, dropout: float = 0.0, **options: Any,
) -> Sequential | Model:  # fmt: skip
    """One vector becomes a sequence of fixed length.

    Parameters
    ----------
    features : int
        Size of the vector that comes in, [B, features].
    outputs, steps : int
        The output is [B, steps, outputs].
    vector : {"input", "state"}
        What the vector is to the recurrent layers: their input, the same at every step; or, through a Dense layer for each state, what they start from,
        after which nothing comes in any more.
    activation, cell, units, layers, bidirectional, dropout, **options
        As of :func:`many_to_one`.

    Examples
    --------
    >>> import numpy as np
    >>> one_to_many(features=3, outputs=2, steps=6).predict_on_batch(np.zeros((4, 3), np.float32)).shape
    (4, 6, 2)
    """
    stack = recurrent_stack(cell, units, layers, bidirectional, dropout, return_sequences=True, **options)
    head = Dense(outputs, activation=activation)
    if vector == "input":
        return Sequential([Input((features,)), RepeatVector(steps), *stack, head])
    if vector != "state":
        raise ValueError(f"one_to_many: unknown vector {vector!r}. {suggest(vector, ['input', 'state'])}")
    x = Input((features,))
    y = RepeatVector(steps)(Subtract()([x, x]))  # zeros
    for layer in stack:
        sizes = [n for one in layer.sublayers() or [layer] for n in getattr(one, "state_sizes", [])]
        y = layer(y, initial_state=[Dense(n, activation="tanh")(x) for n in sizes] or None)
    return Model(x, head(y))
