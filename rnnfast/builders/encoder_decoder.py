"""Encoder-decoder: a sequence becomes another one of its own length, by a network that reads and one that writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rnnfast.builders._stack import recurrent_class, sequence_input, widths
from rnnfast.builders._writer import Writer, decode, decoder_layers
from rnnfast.data.padding import pad_sequences
from rnnfast.data.text import Vocabulary
from rnnfast.layers import Bidirectional, Concatenate, Dense, Dropout, Input, Layer
from rnnfast.models.files import register_model
from rnnfast.models.model import Model


def _encode(front: Layer, source: Any, cell: str, sizes: list[int], bidirectional: bool, dropout: float) -> tuple[Any, list[Any]]:
    """The outputs of the encoder's last layer, and for each layer of the decoder the states that it starts from."""
    x, states = source if front is source else front(source), []
    for i, size in enumerate(sizes, 1):
        layer: Any = recurrent_class(cell)(size, return_sequences=True, return_state=True, name=f"encoder_{i}")
        if not bidirectional:
            x, *final = layer(x)
        else:
            x, *both = Bidirectional(layer, name=f"both_{i}")(x)
            pairs = list(zip(both[: layer.states], both[layer.states :], strict=True))
            final = [Dense(size, name=f"bridge_{i}_{j}")(Concatenate(name=f"ends_{i}_{j}")(list(pair))) for j, pair in enumerate(pairs)]
        if dropout:
            x = Dropout(dropout, name=f"encoder_dropout_{i}")(x)
        states += final
    return x, states


@register_model
class EncoderDecoder(Writer):
    """A Model of [source, target so far] that knows its vocabularies and writes by itself. :func:`encoder_decoder` makes one.

    Attributes
    ----------
    source : Vocabulary or None
        None where the source is a sequence of vectors.
    target : Vocabulary
    teacher_forcing : float
        May be changed between epochs.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, *, source: Vocabulary | None = None, **kwargs: Any) -> None:
        self.source = source
        super().__init__(inputs, outputs, name, **kwargs)
        self._encoder = self._encoder_model()

    def _encoder_model(self) -> Model:
        """From the source to what the decoder starts from and attends to."""
        by_layer = {node.layer.name: node for node in self.graph().nodes}
        first = [node for name, node in by_layer.items() if name.startswith("decoder_") and node.states]
        states = [state for node in first for state in node.states]
        self._attends = "attention" in by_layer
        memory = by_layer["attention"].inputs[1:] if self._attends else []
        return Model(self.graph().inputs[0], [*memory, *states], name=f"{self.name}_encoder")

    def _memory_inputs(self) -> list[Any]:
        node = next((node for node in self.graph().nodes if node.layer.name == "attention"), None)
        return [] if node is None else [Input(s.shape[1:], name=name) for s, name in zip(node.inputs[1:], ("memory", "key"), strict=True)]

    def prepare_sources(self, texts: Sequence[str]) -> np.ndarray:
        """Tokens (N, S) of texts, with 0 as padding."""
        if self.source is None:
            raise TypeError(f"{self._label}: the source is a sequence of vectors, not a text; give arrays.")
        return pad_sequences([self.source.encode(text) for text in texts], maxlen=max([1, *map(len, texts)]), dtype="int64", padding="post")

    def prepare(self, x: Any, texts: Sequence[str]) -> tuple[list[np.ndarray], np.ndarray]:
        """Model inputs and targets of pairs: x is texts, or an array of vectors (N, S, F)."""
        reads, says = self.prepare_targets(texts)
        return [self.prepare_sources(x) if self.source is not None else np.asarray(x), reads], says

    def translate(
        self, source: Any, *, lengths: Any = None, beam: int = 1, length_penalty: float = 0.6, max_length: int = 100, batch_size: int = 64,
        return_attention: bool = False,
    ) -> Any:  # fmt: skip
        """Write the target of each source.

        Parameters
        ----------
        source : str, list of str, or array (N, S, F) where the source is vectors
            Unknown characters or words are read as the vocabulary's unknown token; an empty text is a source without a step.
        lengths : array_like of int, (N,), optional
            Of a source of vectors.
        beam : int
            1 takes the likeliest token each time; more keeps so many hypotheses.
        length_penalty : float
            With a beam: a hypothesis' log-probability is divided by ((5 + length) / 6) ** length_penalty (Wu et al. 2016).
        max_length : int
            At most so many tokens.
        batch_size : int
            Sources that are decoded at once; a batch ends when all its sequences have.
        return_attention : bool
            Whether the attention is returned too.

        Returns
        -------
        str or list of str
            As the source. Or, with return_attention, pairs (text, array (tokens, steps of the source)).
        """
        alone = isinstance(source, str)
        texts = [source] if alone else list(source) if self.source is not None else []
        x = self.prepare_sources(texts) if self.source is not None else np.asarray(source)
        steps = np.array([len(self.source.split(text)) for text in texts]) if self.source is not None else lengths
        if return_attention and not self._attends:
            raise ValueError(f"{self._label}: return_attention needs a model with attention, made by encoder_decoder(attention='luong').")
        found: list[Any] = []
        for first in range(0, len(x), batch_size):
            rows = slice(first, first + batch_size)
            found += self._translate(x[rows], None if steps is None else np.asarray(steps)[rows], max_length, beam, length_penalty)
        results = [self.target.decode(np.array(one.tokens, np.int64)) for one in found]
        if return_attention:
            results = [(text, one.attention[:, : None if steps is None else steps[i]]) for i, (text, one) in enumerate(zip(results, found, strict=True))]  # type: ignore[misc]
        return results[0] if alone else results

    def _translate(self, x: np.ndarray, lengths: np.ndarray | None, limit: int, beam: int, alpha: float) -> list[Any]:
        self.runner()
        found = self._encoder.runner().predict(x, lengths=lengths)
        found = found if isinstance(found, list) else [found]
        memory, states = (found[:2], found[2:]) if self._attends else ([], found)
        valid = None if lengths is None else np.arange(x.shape[1]) < lengths[:, None]
        return self.write(states, memory, valid, limit, beam, alpha, ())

    def get_config(self) -> dict[str, Any]:
        """The graph and the vocabularies, as JSON can hold them."""
        return super().get_config() | {"source": self.source.get_config() if self.source is not None else None}

    @classmethod
    def own_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        """The constructor's arguments beside the graph and the name."""
        source = config["source"]
        return super().own_config(config) | {"source": None if source is None else Vocabulary.from_config(source)}


def _vocabulary(given: Vocabulary | Iterable[str], level: str) -> Vocabulary:
    return given if isinstance(given, Vocabulary) else Vocabulary(level).fit(given)


def encoder_decoder(
    source: Vocabulary | Iterable[str] | int, target: Vocabulary | Iterable[str], *, level: str = "character", cell: str = "lstm",
    units: int | Sequence[int] = 128, layers: int = 1, bidirectional: bool = True, dropout: float = 0.0, attention: str | None = "luong", embedding: int = 32,
    teacher_forcing: float = 1.0, name: str | None = None,
) -> EncoderDecoder:  # fmt: skip
    """A model that reads a sequence to its end and then writes another (Sutskever, Vinyals and Le 2014, arXiv 1409.3215; Cho et al. 2014, arXiv 1406.1078).

    The encoder's final states are the decoder's first. In training the decoder reads the true tokens so far (teacher forcing); by itself it reads its own.
    With attention, each step also reads a weighted mean of all the encoder's outputs:

    ===========  =================================================================================================================================
    attention    the decoder
    ===========  =================================================================================================================================
    "luong"      score ``d . W h`` of its last layer's output d with the encoder's h; then ``tanh(W_c [d; context])`` (Luong, Pham and Manning 2015)
    "bahdanau"   score ``v . tanh(W d + U h)`` of its first layer's output, which has read the tokens so far (Bahdanau, Cho and Bengio 2015); the context
                 enters the layers above the first, as in Wu et al. 2016, so that training need not wait for one step's attention before the next
    ===========  =================================================================================================================================

    Parameters
    ----------
    source : Vocabulary, texts or int
        Of the source; texts are fitted to; an int is the size of the vectors that the source consists of.
    target : Vocabulary or texts
    level : {"character", "word"}
        What a token is, where texts are given.
    cell, units, layers, dropout
        Of the recurrent layers, as many in the encoder as in the decoder.
    bidirectional : bool
        Whether the encoder reads in both directions; a Dense layer makes the decoder's first states of both ends.
    attention : {"luong", "bahdanau"}, optional
    embedding : int
        Size of a token's vector.
    teacher_forcing : float in [0, 1]
        The probability that a decoder's input in training is the true token.

    Returns
    -------
    EncoderDecoder
        To be compiled with loss "sparse_categorical_crossentropy".

    Examples
    --------
    >>> model = encoder_decoder(["uno dos", "tres"], ["1 2", "3"], units=8)
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> history = model.fit(["uno", "dos"], ["1", "2"], epochs=1, verbose=0)
    >>> isinstance(model.translate("uno dos", beam=3), str)
    True
    """
    read = None if isinstance(source, int) else _vocabulary(source, level)
    said = _vocabulary(target, level)
    inlet: Any
    inlet, *front = sequence_input("encoder_decoder", source if isinstance(source, int) else None, None if read is None else len(read), embedding)
    target_input = Input((None,), name="target")
    sizes = widths(units, layers)
    memory, states = _encode(front[0] if front else inlet, inlet, cell, sizes, bidirectional, dropout)
    parts = decoder_layers(said, cell, sizes, dropout, embedding, attention)
    key = None if attention is None else Dense(sizes[-1], use_bias=False, name="key")(memory)
    chances, _, _ = decode(parts, target_input, states, memory, key)
    return EncoderDecoder([inlet, target_input], chances, name, source=read, target=said, teacher_forcing=teacher_forcing)
