"""Weights as textbooks write them, and as the layers hold them.

A textbook multiplies one matrix a gate with the state and the input written one below the other, ``W [h, x] + b``; the layers hold a kernel for x and a
recurrent kernel for h, with the gates side by side. And where one book's GRU computes ``(1 - z) h + z n``, Keras, cuDNN and this package compute ``z h + (1 - z) n``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnfast.errors import ShapeError


def from_concatenated(matrices: Sequence[Any], biases: Sequence[Any] | None = None, state_first: bool = True) -> list[np.ndarray]:
    """The weights of a layer, for :meth:`Layer.set_weights`, from one matrix a gate that multiplies ``[h, x]``.

    Parameters
    ----------
    matrices : sequence of G array_like of shape (H, H + I)
        In the layer's order of gates: LSTM i, f, c, o; GRU z, r, h; SimpleRNN one. Of a GRU, `reset_after=False` is the form ``tanh(W [r h, x] + b)``.
    biases : sequence of G array_like of shape (H), optional
    state_first : bool, default True
        Whether the columns are those of [h, x]; else of [x, h].

    Returns
    -------
    list of ndarray
        Kernel (I, G H), recurrent kernel (H, G H) and, if there are biases, bias (G H).

    Raises
    ------
    ShapeError
        If the matrices differ in shape, have no more columns than rows, or do not fit the biases.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast.layers.conversion import from_concatenated
    >>> [w.shape for w in from_concatenated([np.ones((4, 7))] * 3, [np.zeros(4)] * 3)]
    [(3, 12), (4, 12), (12,)]
    """
    gates = [np.asarray(m) for m in matrices]
    shape = gates[0].shape if gates else ()
    if len(shape) != 2 or shape[1] <= shape[0] or any(m.shape != shape for m in gates):
        raise ShapeError(f"from_concatenated: matrices must all have one shape (H, H + I) with I > 0, got {[m.shape for m in gates]}.")
    units = shape[0]
    border = units if state_first else shape[1] - units
    first, second = (np.hstack([m[:, part].T for m in gates]) for part in (slice(border), slice(border, None)))
    weights = [second, first] if state_first else [first, second]
    if biases is None:
        return weights
    vectors = [np.asarray(b) for b in biases]
    if [b.shape for b in vectors] != [(units,)] * len(gates):
        raise ShapeError(f"from_concatenated: biases must be {len(gates)} vectors of shape ({units},), got {[b.shape for b in vectors]}.")
    return [*weights, np.concatenate(vectors)]


def to_concatenated(weights: Sequence[Any], state_first: bool = True) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """One matrix (H, H + I) and one bias (H) a gate from a layer's weights: the inverse of :func:`from_concatenated`.

    Parameters
    ----------
    weights : sequence of array_like
        Kernel, recurrent kernel and, if there is one, bias (G H). A GRU's bias of shape (2, 3 H) has no place in ``W [r h, x] + b``.
    state_first : bool, default True

    Returns
    -------
    matrices, biases : list of ndarray
        `biases` is None where there are none.
    """
    kernel, recurrent, *rest = (np.asarray(w) for w in weights)
    if recurrent.ndim != 2 or recurrent.shape[1] % recurrent.shape[0] or kernel.shape[1:] != recurrent.shape[1:]:
        raise ShapeError(f"to_concatenated: kernel and recurrent kernel must have shapes (I, G H) and (H, G H), got {kernel.shape} and {recurrent.shape}.")
    if rest and rest[0].shape != recurrent.shape[1:]:
        raise ShapeError(f"to_concatenated: bias must have shape {recurrent.shape[1:]}, got {rest[0].shape}.")
    gates = recurrent.shape[1] // recurrent.shape[0]
    both = np.vstack([recurrent, kernel] if state_first else [kernel, recurrent])
    return [m.T for m in np.split(both, gates, axis=1)], (np.split(rest[0], gates) if rest else None)


def flip_update_gate(weights: Sequence[Any]) -> list[np.ndarray]:
    """A GRU's weights for the other convention of its update gate: ``(1 - z) h + z n`` from ``z h + (1 - z) n``, or back.

    What goes into z changes its sign, since ``sigmoid(-a) = 1 - sigmoid(a)``, as for hard_sigmoid.

    Parameters
    ----------
    weights : sequence of array_like
        Kernel (I, 3 H), recurrent kernel (H, 3 H) and, if there is one, bias (3 H) or (2, 3 H), gates in the order z, r, h.

    Returns
    -------
    list of ndarray
    """
    flipped = [np.array(w) for w in weights]
    for w in flipped:
        if w.ndim == 0 or w.shape[-1] % 3:
            raise ShapeError(f"flip_update_gate: the last dimension of a GRU's weights must be 3 H, got shape {w.shape}.")
        w[..., : w.shape[-1] // 3] *= -1
    return flipped
