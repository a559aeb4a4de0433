"""Text as whole numbers: vocabularies of characters or words, and windows of tokens for language models."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from rnnfast.data.checks import count
from rnnfast.errors import NotBuiltError, ShapeError, suggest

__all__ = ["PADDING", "UNKNOWN", "UNKNOWN_SIGN", "Vocabulary", "token_streams", "token_windows"]

PADDING, UNKNOWN = 0, 1
UNKNOWN_SIGN = "\N{REPLACEMENT CHARACTER}"
_WORD = re.compile(r"\n|\w+|[^\w\s]")


class Vocabulary:
    """The tokens of a text and their numbers, the most frequent first. 0 is padding and 1 stands for every unknown token.

    Words are runs of letters, digits and underscores; punctuation marks and line ends are tokens of their own, other white space only separates.

    Parameters
    ----------
    level : {"character", "word"}
        What a token is.
    max_size : int, optional
        At most so many numbers, padding and unknown included; rarer tokens are unknown.
    min_count : int
        Tokens seen less often are unknown.
    tokens : list of str, optional
        Those with the numbers 2, 3, ..., instead of :meth:`fit`.

    Examples
    --------
    >>> vocabulary = Vocabulary("word").fit("the cat saw the dog")
    >>> vocabulary.encode("the bird saw")
    array([2, 1, 5])
    >>> vocabulary.decode([2, 1, 5])
    'the \N{REPLACEMENT CHARACTER} saw'
    >>> len(vocabulary), "dog" in vocabulary
    (6, True)
    """

    def __init__(self, level: str = "character", max_size: int | None = None, min_count: int = 1, tokens: Iterable[str] | None = None) -> None:
        if level not in ("character", "word"):
            raise ValueError(f"Vocabulary: unknown level {level!r}. {suggest(level, ['character', 'word'])}")
        if max_size is not None and count("Vocabulary", "max_size", max_size) < 3:
            raise ValueError(f"Vocabulary: max_size must be at least 3, for padding, unknown and a token, got {max_size}.")
        self.level, self.max_size, self.min_count = level, max_size, count("Vocabulary", "min_count", min_count)
        self.tokens: list[str] = []
        self._numbers: dict[str, int] = {}
        if tokens is not None:
            self._set(list(tokens))

    def _set(self, tokens: list[str]) -> None:
        self.tokens, self._numbers = tokens, {token: i for i, token in enumerate(tokens, 2)}
        if len(self._numbers) != len(tokens) or not all(isinstance(token, str) for token in tokens):
            raise ValueError("Vocabulary: tokens must be texts that differ from each other.")

    def fit(self, text: str | Iterable[str]) -> Vocabulary:
        """Take the tokens from a text, or from several; ties are broken alphabetically.

        Raises
        ------
        ValueError
            If there is no token, or none that is frequent enough.
        """
        counts: Counter[str] = Counter()
        for each in [text] if isinstance(text, str) else text:
            counts.update(self.split(each))
        kept = sorted((token for token, n in counts.items() if n >= self.min_count and token != UNKNOWN_SIGN), key=lambda token: (-counts[token], token))
        if not kept:
            seen = f"none of {len(counts)} seen {self.min_count} times" if counts else "an empty text"
            raise ValueError(f"Vocabulary: text must have at least one {self.level}, got {seen}.")
        self._set(kept[: None if self.max_size is None else self.max_size - 2])
        return self

    def split(self, text: str) -> list[str]:
        """The text's tokens, known or not."""
        if not isinstance(text, str):
            raise TypeError(f"Vocabulary: text must be a str, got {type(text).__name__}.")
        return list(text) if self.level == "character" else _WORD.findall(text)

    def encode(self, text: str) -> np.ndarray:
        """The numbers of a text's tokens, int64 of shape (N,)."""
        if not self.tokens:
            raise NotBuiltError("Vocabulary: not fitted. Call fit(text) with the training text.")
        return np.array([self._numbers.get(token, UNKNOWN) for token in self.split(text)], np.int64)

    def decode(self, numbers: Any) -> str:
        """The text of tokens (N,): characters side by side, words with spaces between them. Padding is left out."""
        values = np.asarray(numbers)
        if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
            raise ShapeError(f"Vocabulary: numbers must be integers of shape (N,), got {values.dtype} of shape {values.shape}.")
        if values.size and not 0 <= values.min() <= values.max() < len(self):
            raise ValueError(f"Vocabulary: numbers must be in [0, {len(self)}), got values from {values.min()} to {values.max()}.")
        found = [UNKNOWN_SIGN if i == UNKNOWN else self.tokens[i - 2] for i in values.tolist() if i != PADDING]
        return "".join(found) if self.level == "character" else " ".join(found).replace(" \n", "\n").replace("\n ", "\n")

    def __len__(self) -> int:
        return len(self.tokens) + 2

    def __contains__(self, token: object) -> bool:
        return token in self._numbers

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        return {"level": self.level, "max_size": self.max_size, "min_count": self.min_count, "tokens": list(self.tokens)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Vocabulary:
        """Make an equal vocabulary from :meth:`get_config`'s result."""
        return cls(**config)


def _tokens(owner: str, tokens: Any, least: int) -> np.ndarray:
    values = np.asarray(tokens)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ShapeError(f"{owner}: tokens must be integers of shape (N,), got {values.dtype} of shape {values.shape}.")
    if len(values) < least:
        raise ValueError(f"{owner}: must have at least {least} tokens, got {len(values)}.")
    return values


def token_windows(tokens: Any, length: int, stride: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Windows of a text and the token that follows each of their tokens.

    Parameters
    ----------
    tokens : array_like of int, (N,)
    length : int
        Tokens of a window.
    stride : int, optional
        Tokens from the start of one window to the next one's; `length` when None, so that every token is a target once. What is left at the end is not used.

    Returns
    -------
    x, y : ndarray of shape (windows, length)
        ``y[i, t]`` is the token after ``x[i, t]``.

    Examples
    --------
    >>> x, y = token_windows([1, 2, 3, 4, 5, 6], 2)
    >>> x.tolist(), y.tolist()
    ([[1, 2], [3, 4]], [[2, 3], [4, 5]])
    """
    length = count("token_windows", "length", length)
    step = length if stride is None else count("token_windows", "stride", stride)
    both = np.lib.stride_tricks.sliding_window_view(_tokens("token_windows", tokens, length + 1), length + 1)[::step]
    return np.ascontiguousarray(both[:, :-1]), np.ascontiguousarray(both[:, 1:])


def token_streams(tokens: Any, length: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows in an order for stateful training: row i of each batch goes on where row i of the batch before ended.

    The text is cut into `batch_size` streams of equal length, and each of them into windows. Train with ``stateful=True`` layers,
    ``model.fit(x, y, batch_size=batch_size, shuffle=False)`` and ``model.reset_states()`` between epochs.

    Parameters
    ----------
    tokens : array_like of int, (N,)
    length : int
        Tokens of a window.
    batch_size : int
        Streams side by side.

    Returns
    -------
    x, y : ndarray of shape (batches * batch_size, length)
        As of :func:`token_windows`.

    Examples
    --------
    >>> x, _ = token_streams(range(13), length=2, batch_size=2)
    >>> x.reshape(-1, 2, 2).tolist()
    [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]
    """
    length, batch_size = count("token_streams", "length", length), count("token_streams", "batch_size", batch_size)
    values = _tokens("token_streams", tokens, length * batch_size + 1)
    batches = (len(values) - 1) // (length * batch_size)
    used = batches * batch_size * length

    def order(part: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(part.reshape(batch_size, batches, length).swapaxes(0, 1)).reshape(-1, length)

    return order(values[:used]), order(values[1 : used + 1])
