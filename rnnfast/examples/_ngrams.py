"""Models of text that only count, as baselines. Both give the probability of each token of a text but the first."""

from __future__ import annotations

import numpy as np


def _counts(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """How often each wanted key is among `keys`."""
    found, counts = np.unique(keys, return_counts=True)
    place = np.searchsorted(found, wanted).clip(max=len(found) - 1)
    return np.where(found[place] == wanted, counts[place], 0)


def witten_bell(train: np.ndarray, text: np.ndarray, size: int, order: int) -> np.ndarray:
    """Interpolated model of `order` tokens of context (Witten and Bell 1991).

    ``p_k(w) = (c(context_k w) + d p_(k-1)(w)) / (c(context_k) + d)`` where d is the number of different tokens seen behind the last k tokens; ``p_(-1) = 1 / size``.

    Parameters
    ----------
    train, text : ndarray of int, (N,), (M,)
        Tokens in [0, size).
    size, order : int

    Returns
    -------
    ndarray of shape (M - 1,)
    """
    p = np.full(len(text) - 1, 1 / size)
    for k in range(order + 1):
        power = size ** np.arange(k, -1, -1)
        grams, asked = (np.lib.stride_tricks.sliding_window_view(tokens, k + 1) @ power for tokens in (train, text))
        if k == 0:
            asked = asked[1:]
        context = asked // size
        seen, different = _counts(grams // size, context), _counts(np.unique(grams) // size, context)
        there = p[len(p) - len(asked) :]  # the first tokens have less context than k
        total = np.maximum(seen + different, 1)
        there[...] = np.where(seen, (_counts(grams, asked) + different * there) / total, there)
    return p


def kneser_ney(train: np.ndarray, text: np.ndarray, size: int) -> np.ndarray:
    """Interpolated bigrams with absolute discount (Kneser and Ney 1995; the discount of Ney, Essen and Kneser 1994).

    ``p(w | v) = max(c(v w) - D, 0) / c(v) + D d(v) / c(v) p(w)``; p(w) is the share of different bigrams that end in w, discounted likewise towards ``1 / size``.

    Parameters
    ----------
    train, text : ndarray of int, (N,), (M,)
        Tokens in [0, size).
    size : int

    Returns
    -------
    ndarray of shape (M - 1,)
    """
    grams, asked = train[:-1] * size + train[1:], text[:-1] * size + text[1:]
    different, counts = np.unique(grams, return_counts=True)
    once, twice = (counts == 1).sum(), (counts == 2).sum()
    discount = once / (once + 2 * twice)
    ends = np.bincount(different % size, minlength=size)
    single = (np.maximum(ends - discount, 0) + discount * (ends > 0).sum() / size) / ends.sum()
    p = single[text[1:]]
    context, followers = np.bincount(train[:-1], minlength=size)[text[:-1]], np.bincount(different // size, minlength=size)[text[:-1]]
    bigram = (np.maximum(_counts(grams, asked) - discount, 0) + discount * followers * p) / np.maximum(context, 1)
    return np.where(context, bigram, p)
