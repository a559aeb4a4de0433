"""Many to many without alignment: signals become text of another length, by CTC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rnnfast.builders._stack import recurrent_stack
from rnnfast.decoding import Scorer, ctc_beam_search, ctc_greedy
from rnnfast.layers import Dense, Input
from rnnfast.losses import CTC
from rnnfast.models.files import register_model
from rnnfast.models.sequential import Sequential


@register_model
class CTCRecognizer(Sequential):
    """A Sequential whose output (B, T, 1 + characters) holds logits of the blank, class 0, and of the characters of an alphabet, which is saved with it.

    Parameters
    ----------
    layers, name
        As of Sequential.
    alphabet : str
        The characters, each once: class 1 is the first one.
    """

    def __init__(self, layers: Any = None, name: str | None = None, *, alphabet: str) -> None:
        if not isinstance(alphabet, str) or not alphabet or len(set(alphabet)) < len(alphabet):
            raise ValueError(f"CTCRecognizer: alphabet must be a text of characters that differ from each other, got {alphabet!r}.")
        self.alphabet = alphabet
        self._classes = {character: i for i, character in enumerate(alphabet, 1)}
        super().__init__(layers, name)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """The targets to train on: labels (B, L), 0 behind each text.

        Examples
        --------
        >>> ctc_recognizer(features=3, alphabet="abc", units=4).encode(["cab", "a"])
        array([[3, 1, 2],
               [1, 0, 0]])
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        unknown = sorted(set().union(*texts) - self._classes.keys())
        if unknown:
            raise ValueError(f"{self._label}: texts must be of the characters {self.alphabet!r}, got {''.join(unknown)!r} too.")
        labels = np.zeros((len(texts), max(map(len, texts), default=0)), np.int64)
        for row, text in zip(labels, texts, strict=True):
            row[: len(text)] = [self._classes[character] for character in text]
        return labels

    def transcribe(
        self, x: Any, lengths: Any = None, beam_width: int | None = None, scorer: Callable[[str], Any] | None = None, batch_size: int | None = None
    ) -> list[str]:
        """The text of each sequence.

        Parameters
        ----------
        x : array_like, (B, T, features)
        lengths : array_like of int, (B,), optional
            Valid steps.
        beam_width : int, optional
            Of a prefix beam search; None takes the most probable alignment.
        scorer : callable, optional
            A language model for the beam search: called with a text, it returns what each character of the alphabet gains in log probability when it comes next.
        batch_size : int, optional
            Of :meth:`predict`.
        """
        if scorer is not None and beam_width is None:
            raise ValueError(f"{self._label}: scorer needs a beam search; give beam_width too.")
        logits = self.predict(x, lengths=lengths, batch_size=batch_size, verbose=0)
        if beam_width is None:
            return [self._text(path.labels) for path in ctc_greedy(logits, lengths)]
        gains = None if scorer is None else self._gains(scorer)
        return [self._text(paths[0].labels) for paths in ctc_beam_search(logits, lengths, beam_width=beam_width, scorer=gains)]

    def _gains(self, scorer: Callable[[str], Any]) -> Scorer:
        """A scorer of texts as one of labels, of which the blank gains nothing."""
        return lambda prefix: np.concatenate([[0.0], scorer(self._text(prefix))])

    def _text(self, labels: Sequence[int]) -> str:
        return "".join(self.alphabet[label - 1] for label in labels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alphabet": self.alphabet}


def ctc_recognizer(
    features: int, alphabet: str, *, optimizer: Any = "adam",
    cell: str = "lstm", units: int | Sequence[int] = 64, layers: int = 1, bidirectional: bool = True, dropout: float = 0.0,
) -> CTCRecognizer:  # fmt: skip
    """A model from sequences of vectors to text: recurrent layers and, at each step, the logits of all characters and the blank; compiled with the CTC loss.

    The layout of Graves and Jaitly, Towards end-to-end speech recognition with recurrent neural networks, ICML 2014.

    Parameters
    ----------
    features : int
        Size of the vectors that come in, [B, T, features].
    alphabet : str
        The characters that come out.
    optimizer : str or Optimizer
    cell, units, layers, bidirectional, dropout
        Of the recurrent layers, see :func:`rnnfast.builders.recurrent_stack`.

    Returns
    -------
    CTCRecognizer
        Train it on ``model.fit(x, model.encode(texts), lengths=lengths)``.

    Examples
    --------
    >>> model = ctc_recognizer(features=3, alphabet="abc", units=4)
    >>> loss = model.train_on_batch(np.zeros((2, 9, 3)), model.encode(["cab", "a"]), lengths=[9, 4])
    >>> len(model.transcribe(np.zeros((2, 9, 3)), lengths=[9, 4], beam_width=8))
    2
    """
    model = CTCRecognizer([
        Input((None, features)),
        *recurrent_stack(cell, units, layers, bidirectional, dropout, return_sequences=True),
        Dense(1 + len(alphabet)),
    ], alphabet=alphabet)  # fmt: skip
    model.compile(optimizer, CTC(zero_infinity=True))
    return model
