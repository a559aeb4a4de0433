"""What all builders share: how a model begins, and the recurrent layers one above the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rnnfast.errors import suggest
from rnnfast.layers import Bidirectional, Dropout, Embedding, Input, Layer
from rnnfast.layers.base import REGISTRY, snake_case
from rnnfast.layers.recurrent import Recurrent


def recurrent_class(cell: Any) -> type[Recurrent]:
    """The recurrent layer of this name: "lstm", "gru", "rnn", or any other's class name in any case, with or without underscores.

    Examples
    --------
    >>> recurrent_class("lstm").__name__, recurrent_class("rnn").__name__
    ('LSTM', 'SimpleRNN')
    """
    known: dict[str, Any] = {snake_case(name): cls for name, cls in REGISTRY.items() if issubclass(cls, Recurrent)}
    known["rnn"] = known["simple_rnn"]
    plain = {name.replace("_", ""): cls for name, cls in known.items()}
    found: type[Recurrent] | None = plain.get(str(cell).replace("_", "").lower())
    if found is None:
        raise ValueError(f"cell: unknown name {cell!r}. {suggest(str(cell).lower(), known)}")
    return found


def widths(units: int | Sequence[int], layers: int) -> list[int]:
    """Units of each layer: `layers` times the same number, or a list of them.

    Examples
    --------
    >>> widths(8, 3), widths([16, 8], 2)
    ([8, 8, 8], [16, 8])
    """
    if isinstance(layers, bool) or not isinstance(layers, int) or layers < 1:
        raise ValueError(f"layers: must be a positive integer, got {layers!r}.")
    if not isinstance(units, Sequence):
        return [units] * layers
    if not units or layers not in (1, len(units)):
        raise ValueError(f"units: a list must have one number a layer, got {list(units)} for layers={layers}.")
    return list(units)


def recurrent_stack(
    cell: str = "lstm", units: int | Sequence[int] = 32, layers: int = 1, bidirectional: bool = False, dropout: float = 0.0, return_sequences: bool = False, **options: Any
) -> list[Layer]:
    """Recurrent layers one above the other; all but the last hand on their whole sequence.

    Parameters
    ----------
    cell : str
        "lstm", "gru", "rnn" or the name of another recurrent layer.
    units : int or list of int
        Of every layer, or of each.
    layers : int
        How many; a list of units says it too.
    bidirectional : bool
        Whether each layer reads the sequence in both directions.
    dropout : float in [0, 1)
        Behind each layer, so never on the way from step to step (Zaremba, Sutskever and Vinyals 2014, arXiv 1409.2329).
    return_sequences : bool
        Of the last layer.
    **options
        Further arguments of every recurrent layer.

    Examples
    --------
    >>> [type(layer).__name__ for layer in recurrent_stack("gru", [16, 8], dropout=0.1)]
    ['GRU', 'Dropout', 'GRU', 'Dropout']
    """
    make, sizes = recurrent_class(cell), widths(units, layers)
    stack: list[Layer] = []
    for i, size in enumerate(sizes):
        layer = make(size, return_sequences=return_sequences or i < len(sizes) - 1, **options)
        stack.append(Bidirectional(layer) if bidirectional else layer)
        if dropout:
            stack.append(Dropout(dropout))
    return stack


def sequence_input(owner: str, features: int | None, vocabulary: int | None, embedding: int, mask_zero: bool = True) -> list[Layer]:
    """How a model of sequences begins: with vectors [B, T, features], or with tokens [B, T] and their embedding.

    Parameters
    ----------
    owner : str
        The builder, as errors name it.
    features, vocabulary : int, optional
        One of them.
    embedding : int
        Size of a token's vector.
    mask_zero : bool
        Whether token 0 is padding.
    """
    if (features is None) == (vocabulary is None):
        raise ValueError(f"{owner}: give either features= (vectors) or vocabulary= (tokens), got features={features!r} and vocabulary={vocabulary!r}.")
    if vocabulary is not None:
        return [Input((None,)), Embedding(vocabulary, embedding, mask_zero=mask_zero)]
    return [Input((None, features))]
