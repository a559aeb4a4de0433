"""Sentences from small grammars."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnnfast.data import Vocabulary, pad_sequences


class Choice:
    """Repeatable choices."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def of(self, words: str | Sequence[str]) -> str:
        """One of some words, given as a list or in one text."""
        options = words.split() if isinstance(words, str) else words
        return options[int(self.random.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)


def encode(vocabulary: Vocabulary, sentences: list[str]) -> np.ndarray:
    """Token numbers [N, longest], zeros behind the end."""
    return pad_sequences([vocabulary.encode(sentence) for sentence in sentences], padding="post", dtype="int64")
