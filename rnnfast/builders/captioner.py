"""One to many: a vector conditions a sequence that is written token by token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rnnfast.builders._stack import recurrent_class, widths
from rnnfast.builders._writer import Writer, decode, decoder_layers
from rnnfast.data.text import Vocabulary
from rnnfast.errors import ShapeError
from rnnfast.layers import Dense, Input
from rnnfast.models.files import register_model
from rnnfast.models.model import Model
from rnnfast.random import SeedGenerator, generator


@register_model
class Captioner(Writer):
    """A Model of [vector, text so far] that knows its vocabulary and writes by itself. :func:`captioner` makes one.

    Attributes
    ----------
    target : Vocabulary
    teacher_forcing : float
        May be changed between epochs.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(inputs, outputs, name, **kwargs)
        states = [state for node in self.graph().nodes if node.layer.name.startswith("decoder_") for state in node.states]
        self._starts = Model(self.graph().inputs[0], states, name=f"{self.name}_starts")

    def prepare(self, x: Any, texts: Sequence[str]) -> tuple[list[np.ndarray], np.ndarray]:
        """Model inputs and targets of pairs: x is an array of vectors (N, F)."""
        reads, says = self.prepare_targets(texts)
        return [np.asarray(x), reads], says

    def describe(
        self, x: Any, *, beam: int = 1, length_penalty: float = 0.6, temperature: float = 0.0, seed: int | None = None, max_length: int = 100,
    ) -> list[str]:  # fmt: skip
        """Write a text for each vector.

        Parameters
        ----------
        x : array_like, (N, F)
        beam, length_penalty
            As of :meth:`EncoderDecoder.translate`.
        temperature : float
            0 takes the likeliest token each time; otherwise tokens are drawn, 1 as likely as the model says, less more carefully. Not with a beam.
        seed : int, optional
            Of what is drawn; without one it follows `rnnfast.utils.set_random_seed`.
        max_length : int
            At most so many tokens.

        Returns
        -------
        list of str
        """
        if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature < np.inf:
            raise ValueError(f"{self._label}: temperature must be a number of at least 0, got {temperature!r}.")
        if temperature and beam != 1:
            raise ValueError(f"{self._label}: temperature draws tokens and a beam searches for the likeliest; give one of them, got {temperature} and beam={beam}.")
        vectors = np.asarray(x)
        if vectors.ndim != 2:
            raise ShapeError(f"{self._label}: vectors must have shape (N, F), got {vectors.shape}.")
        self.runner()
        states = self._starts.runner().predict(vectors)
        sampling = (temperature, generator(SeedGenerator(seed).next())) if temperature else ()
        found = self.write(states if isinstance(states, list) else [states], [], None, max_length, beam, length_penalty, sampling)
        return [self.target.decode(np.array(one.tokens, np.int64)) for one in found]


def captioner(
    features: int, target: Vocabulary | Iterable[str], *, level: str = "character", cell: str = "lstm", units: int | Sequence[int] = 128, layers: int = 1,
    dropout: float = 0.0, embedding: int = 32, hidden: int | None = None, teacher_forcing: float = 1.0, name: str | None = None,
) -> Captioner:  # fmt: skip
    """A model that writes a text about a vector: the vector makes the first state of each decoder layer (Vinyals et al. 2015, arXiv 1411.4555).

    Parameters
    ----------
    features : int
        Size of the vector.
    target : Vocabulary or texts
        Texts are fitted to.
    level : {"character", "word"}
        What a token is, where texts are given.
    cell, units, layers, dropout
        Of the decoder's recurrent layers. A decoder cannot read ahead, so there is no `bidirectional`.
    embedding : int
        Size of a token's vector.
    hidden : int, optional
        Width of a layer between the vector and the states; `units` when None.
    teacher_forcing : float in [0, 1]
        The probability that a decoder's input in training is the true token.

    Returns
    -------
    Captioner
        To be compiled with loss "sparse_categorical_crossentropy".

    Examples
    --------
    >>> import numpy as np
    >>> model = captioner(3, ["red", "green", "blue"], units=8)
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> history = model.fit(np.eye(3), ["red", "green", "blue"], epochs=1, verbose=0)
    >>> len(model.describe(np.eye(3), max_length=6))
    3
    """
    said = target if isinstance(target, Vocabulary) else Vocabulary(level).fit(target)
    sizes = widths(units, layers)
    vector, text = Input((features,), name="vector"), Input((None,), name="target")
    seen = Dense(hidden or sizes[-1], activation="relu", name="seen")(vector)
    count = recurrent_class(cell).states
    states = [Dense(size, activation="tanh", name=f"start_{i}_{j}")(seen) for i, size in enumerate(sizes, 1) for j in range(count)]
    chances, _, _ = decode(decoder_layers(said, cell, sizes, dropout, embedding), text, states)
    return Captioner([vector, text], chances, name, target=said, teacher_forcing=teacher_forcing)
