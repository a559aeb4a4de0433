"""Language models: the next character or word, text written by the model, and how well it predicts a text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from rnnfast.builders._sampling import Sampler
from rnnfast.builders._stack import recurrent_stack, sequence_input
from rnnfast.data.checks import count
from rnnfast.data.text import Vocabulary
from rnnfast.layers import Dense
from rnnfast.models.files import register_model
from rnnfast.models.sequential import Sequential

_CHUNK = 256  # tokens that are scored at once
_SPECIAL = 2  # padding and unknown are never written


@register_model
class LanguageModel(Sequential):
    """A Sequential over tokens that knows their vocabulary. :func:`language_model` makes one.

    Attributes
    ----------
    vocabulary : Vocabulary
    """

    vocabulary: Vocabulary

    def __init__(self, layers: Any = None, name: str | None = None, vocabulary: Vocabulary | None = None) -> None:
        super().__init__(layers, name)
        if vocabulary is not None:
            self._speak(vocabulary)

    def _speak(self, vocabulary: Vocabulary) -> None:
        sizes = (getattr(self.layers[0], "input_dim", None), self.output_shape[-1])
        if sizes != (len(vocabulary), len(vocabulary)):
            raise ValueError(f"{self._label}: the vocabulary has {len(vocabulary)} tokens, the model reads {sizes[0]} and predicts {sizes[1]}.")
        self.vocabulary = vocabulary

    # -- writing ---------------------------------------------------------------------------------------------------------------

    def generate(
        self, prompt: str, length: int, temperature: float = 1.0, top_k: int | None = None, nucleus: float | None = None, seed: int | None = None
    ) -> str:
        """Go on from a text, token by token, each fed back.

        Parameters
        ----------
        prompt : str
            At least one token; unknown ones are read as such.
        length : int
            Tokens to write.
        temperature : float
            Logits are divided by it: below 1 is more careful, 0 takes the likeliest token always, 1 samples what the model says.
        top_k : int, optional
            Only among so many of the likeliest tokens.
        nucleus : float in (0, 1], optional
            Only among the fewest tokens whose probabilities sum to this (Holtzman et al. 2020, arXiv 1904.09751).
        seed : int, optional
            The same seed writes the same text; without one it follows `rnnfast.utils.set_random_seed`.

        Returns
        -------
        str
            The new tokens alone. Padding and the unknown token are never among them.
        """
        sampler, length, tokens = Sampler(temperature, top_k, nucleus, seed), count("generate", "length", length), self.vocabulary.encode(prompt)
        if not len(tokens):
            raise ValueError(f"generate: prompt must have at least one {self.vocabulary.level}, got {prompt!r}.")
        stream, written = self.stream(), []
        for start in range(0, len(tokens), _CHUNK):
            output = stream.process(tokens[start : start + _CHUNK])[-1]
        for _ in range(length):
            logits = self._log_probabilities(output)
            logits[:_SPECIAL] = -np.inf
            written.append(sampler(logits))
            output = stream.step(written[-1])
        return self.vocabulary.decode(written)

    def _log_probabilities(self, output: np.ndarray) -> np.ndarray:
        """Of the last layer's output, which is probabilities or logits; float64."""
        values = output.astype(np.float64)
        if self.layers[-1].get_config().get("activation") == "softmax":
            return np.log(np.maximum(values, np.finfo(self.layers[-1].dtype).tiny))
        values -= values.max(-1, keepdims=True)
        return values - np.log(np.exp(values).sum(-1, keepdims=True))

    # -- scoring ---------------------------------------------------------------------------------------------------------------

    def _surprise(self, text: str) -> tuple[float, list[str]]:
        """-log p of a text's tokens behind the first, summed, and these tokens."""
        tokens, parts = self.vocabulary.encode(text), self.vocabulary.split(text)
        if len(tokens) < 2:
            raise ValueError(f"{self._label}: text must have at least two {self.vocabulary.level}s to be scored, got {len(tokens)}.")
        return sum(self._chunks(tokens)), parts[1:]

    def _chunks(self, tokens: np.ndarray) -> Iterator[float]:
        stream = self.stream()
        for start in range(0, len(tokens) - 1, _CHUNK):
            x = tokens[start : min(start + _CHUNK, len(tokens) - 1)]
            y = tokens[start + 1 : start + 1 + len(x)]
            yield -float(self._log_probabilities(stream.process(x))[np.arange(len(x)), y].sum())

    def perplexity(self, text: str) -> float:
        """exp of the mean of -log p(token given all before it), over all tokens but the first; the text is read once, in one stream."""
        total, tokens = self._surprise(text)
        return math.exp(total / len(tokens))

    def bits_per_character(self, text: str) -> float:
        """-log2 p of the tokens behind the first, divided by their characters.

        Of words, white space counts for nothing and an unknown word costs only that it is unknown, so compare models of one vocabulary.
        """
        total, tokens = self._surprise(text)
        return total / math.log(2) / sum(map(len, tokens))

    # -- configuration ---------------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """The layers' configurations and the vocabulary, as JSON can hold them."""
        return super().get_config() | {"vocabulary": self.vocabulary.get_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a model, with new weights, from :meth:`get_config`'s result."""
        return super().from_config(config | {"vocabulary": Vocabulary.from_config(config["vocabulary"])})  # type: ignore[return-value]


def language_model(
    vocabulary: Vocabulary | str, level: str = "character", *, cell: str = "lstm", units: int | Sequence[int] = 128, layers: int = 1, dropout: float = 0.0,
    embedding: int = 32, activation: str | None = "softmax", stateful: bool = False, max_size: int | None = None, min_count: int = 1, name: str | None = None,
) -> LanguageModel:  # fmt: skip
    """A model of text: tokens [B, T] in, for each the probabilities of the token after it [B, T, V] out.

    It reads from left to right only, since what it predicts must not be seen, so there is no `bidirectional`.

    Parameters
    ----------
    vocabulary : Vocabulary or str
        Fitted; or a text that it is fitted to.
    level : {"character", "word"}
        With a text: what a token is.
    cell, units, layers, dropout
        Of the recurrent layers, see :func:`rnnfast.builders.recurrent_stack`.
    embedding : int
        Size of a token's vector.
    activation : {"softmax", None}
        Of the output; None gives logits, for a loss with ``from_logits=True``.
    stateful : bool
        Whether states are carried from batch to batch, for training on :func:`rnnfast.data.token_streams`.
    max_size, min_count
        With a text: as of :class:`rnnfast.data.Vocabulary`.
    name : str, optional

    Examples
    --------
    >>> from rnnfast.data import token_windows
    >>> text = "to be or not to be, that is the question " * 8
    >>> model = language_model(text, units=16)
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> x, y = token_windows(model.vocabulary.encode(text), 20)
    >>> history = model.fit(x, y, epochs=2, verbose=0)
    >>> len(model.generate("to be", 12, temperature=0.7, nucleus=0.9, seed=1))
    12
    >>> bool(1 < model.perplexity(text) < len(model.vocabulary))
    True
    """
    if isinstance(vocabulary, str):
        vocabulary = Vocabulary(level, max_size, min_count).fit(vocabulary)
    if activation not in ("softmax", None):
        raise ValueError(f"language_model: activation must be 'softmax' or None (logits), got {activation!r}.")
    size = len(vocabulary)
    chain = [
        *sequence_input("language_model", None, size, embedding, mask_zero=False),
        *recurrent_stack(cell, units, layers, False, dropout, return_sequences=True, stateful=stateful),
        Dense(size, activation=activation),
    ]  # fmt: skip
    return LanguageModel(chain, name, vocabulary)
