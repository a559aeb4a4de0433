"""What models that write a sequence share: the decoder's layers, its two graphs (all steps for training, one step for writing), and texts as targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from rnnfast.builders._decoding import Limits, Written, beam_search, one_by_one
from rnnfast.builders._stack import recurrent_class
from rnnfast.data.checks import count
from rnnfast.data.padding import pad_sequences
from rnnfast.data.text import PADDING, UNKNOWN, Vocabulary
from rnnfast.errors import suggest
from rnnfast.layers import AdditiveAttention, Attention, Concatenate, Dense, Dropout, Embedding, Input, Layer
from rnnfast.models.model import Model
from rnnfast.random import SeedGenerator, generator

ATTENTIONS = ("luong", "bahdanau")
Symbols = list[Any]


def decoder_layers(vocabulary: Vocabulary, cell: str, sizes: list[int], dropout: float, embedding: int, attention: str | None = None) -> dict[str, Layer]:
    """The layers of a decoder by name; its tokens are the vocabulary's, then start and end."""
    size, units = len(vocabulary) + 2, sizes[-1]
    made: list[Layer] = [Embedding(size, embedding, mask_zero=True, name="target_embedding")]
    for i, width in enumerate(sizes, 1):
        made.append(recurrent_class(cell)(width, return_sequences=True, return_state=True, name=f"decoder_{i}"))
        if dropout:
            made.append(Dropout(dropout, name=f"decoder_dropout_{i}"))
    if attention is not None:
        if attention not in ATTENTIONS:
            raise ValueError(f"encoder_decoder: attention must be None or one of {ATTENTIONS}, got {attention!r}. {suggest(str(attention), ATTENTIONS)}")
        if attention == "bahdanau":
            made += [Dense(units, use_bias=False, name="query"), Concatenate(name="context_below")]
        score = AdditiveAttention if attention == "bahdanau" else Attention
        made.append(score(return_attention_scores=True, name="attention"))
        made += [Concatenate(name="context_above"), Dense(units, activation="tanh", name="readout")]
    made.append(Dense(size, activation="softmax", name="tokens"))
    return {layer.name: layer for layer in made}


def decode(layers: dict[str, Layer], target: Any, states: Symbols, memory: Any = None, key: Any = None) -> tuple[Any, Symbols, Any]:
    """Probabilities of the tokens after each of `target`, the decoder's new states, and its attention to `memory` (None without)."""
    x, new, context, shown, first = layers["target_embedding"](target), [], None, None, 0
    for i in range(1, len(layers) + 1):
        if f"decoder_{i}" not in layers:
            break
        layer: Any = layers[f"decoder_{i}"]
        if context is not None:
            x = layers["context_below"]([x, context])
        x, *after = layer(x, initial_state=states[first : first + layer.states])
        first += layer.states
        new += after
        if f"decoder_dropout_{i}" in layers:
            x = layers[f"decoder_dropout_{i}"](x)
        if "query" in layers and i == 1:
            context, shown = layers["attention"]([layers["query"](x), memory, key])
    if "attention" in layers:
        if context is None:
            context, shown = layers["attention"]([x, memory, key])
        x = layers["readout"](layers["context_above"]([x, context]))
    return layers["tokens"](x), new, shown


class Writer(Model):
    """Base of models whose last input is the sequence that they are to write.

    Attributes
    ----------
    target : Vocabulary
        Of what is written; the start and end tokens have the two numbers behind it.
    teacher_forcing : float
        In training, a decoder's input is the true token with this probability, otherwise what the model itself thinks it is, from a forward pass with the
        true tokens (Bengio et al. 2015, arXiv 1506.03099, in the parallel form of Mihaylova and Martins 2019, arXiv 1906.07651).
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, *, target: Vocabulary, teacher_forcing: float = 1.0) -> None:
        super().__init__(inputs, outputs, name)
        if not 0 <= teacher_forcing <= 1:
            raise ValueError(f"{self._label}: teacher_forcing must be in [0, 1], got {teacher_forcing!r}.")
        self.target, self.teacher_forcing = target, float(teacher_forcing)
        self.seeds = SeedGenerator()
        self._parts: dict[str, Layer] = {layer.name: layer for layer in self.layers}
        self._one_step = self._step_model()

    @property
    def start(self) -> int:
        """The token that every sequence begins with."""
        return len(self.target)

    @property
    def end(self) -> int:
        """The token that ends every sequence."""
        return len(self.target) + 1

    # -- graphs ----------------------------------------------------------------------------------------------------------------

    def _memory_inputs(self) -> Symbols:
        """Inputs for what the decoder attends to: its values and its keys."""
        return []

    def _step_model(self) -> Model:
        decoders: list[Any] = [layer for name, layer in self._parts.items() if name.startswith("decoder_") and layer.has_states]
        states = [Input((n,), name=f"{layer.name}_state_{i}") for layer in decoders for i, n in enumerate(layer.state_sizes)]
        token, memory = Input((None,), name="token"), self._memory_inputs()
        chances, new, shown = decode(self._parts, token, states, *memory)
        return Model([token, *memory, *states], [chances, *new, *([] if shown is None else [shown])], name=f"{self.name}_step")

    def write(self, states: list[np.ndarray], memory: list[np.ndarray], valid: np.ndarray | None, limit: int, beam: int, alpha: float, sampling: Any) -> list[Written]:
        """Sequences from a decoder's first states; `memory` and `valid` have a row each as states have."""
        count(self._label, "beam", beam)
        self.runner()  # whose parameter vector the step reads
        rows, limits = len(states[0]), Limits(self.start, self.end, count(self._label, "max_length", limit))
        if rows == 0:
            return []
        repeated = [np.repeat(x, beam, axis=0) for x in memory]
        mask = None if valid is None else [None, *[np.repeat(valid, beam, axis=0)] * len(memory), *[None] * len(states)]

        def step(tokens: np.ndarray, now: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
            chances, *found = self._one_step.runner().predict([tokens[:, None], *repeated, *now], mask=mask)
            scores = np.log(np.maximum(chances[:, 0].astype(np.float64), 1e-300))
            scores[:, [PADDING, UNKNOWN, self.start]] = -np.inf
            return scores, found[: len(now)], found[-1][:, 0] if memory else np.zeros((len(tokens), 0))

        if beam == 1:
            return one_by_one(step, states, rows, limits, *sampling)
        return beam_search(step, [np.repeat(state, beam, axis=0) for state in states], rows, beam, limits, alpha)

    # -- targets ---------------------------------------------------------------------------------------------------------------

    def prepare_targets(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """What the decoder reads (start, tokens) and is to say (tokens, end), int64 (N, T) with 0 as padding."""
        tokens = [self.target.encode(text).tolist() for text in texts]
        reads, says = [[self.start, *each] for each in tokens], [[*each, self.end] for each in tokens]
        return pad_sequences(reads, dtype="int64", padding="post"), pad_sequences(says, dtype="int64", padding="post")

    def prepare(self, x: Any, texts: Sequence[str]) -> tuple[list[np.ndarray], np.ndarray]:
        """Model inputs and targets of training pairs."""
        raise NotImplementedError

    def _prepared(self, x: Any, y: Any) -> tuple[Any, Any]:
        texts = isinstance(y, list | tuple) and len(y) > 0 and isinstance(y[0], str)
        return self.prepare(x, y) if texts else (x, y)

    def fit(self, x: Any = None, y: Any = None, batch_size: int | None = None, epochs: int = 1, *, validation_data: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """As of any model; y may be a list of texts, and x then is what :meth:`prepare` takes. So may validation_data."""
        x, y = self._prepared(x, y)
        if isinstance(validation_data, tuple) and len(validation_data) == 2:
            validation_data = self._prepared(*validation_data)
        return super().fit(x, y, batch_size, epochs, validation_data=validation_data, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, batch_size: int | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """As of any model; y may be a list of texts."""
        return super().evaluate(*self._prepared(x, y), batch_size, **kwargs)

    def _train_step(self, x: Any, y: Any, sample_weight: Any, mask: Any, resets: Any = None) -> tuple[float, np.ndarray | None]:
        if self.teacher_forcing < 1:
            x = [*x[:-1], self._own_inputs(x, mask)]
        return super()._train_step(x, y, sample_weight, mask, resets)

    def _own_inputs(self, x: Any, mask: Any) -> np.ndarray:
        """The decoder's inputs, some of them as the model itself would have said."""
        true: np.ndarray = x[-1]
        said = self.runner().predict(x, mask=mask)
        said[:, :, [PADDING, UNKNOWN, self.start, self.end]] = 0
        own = np.concatenate([true[:, :1], said.argmax(-1)[:, :-1]], 1)
        keep = generator(self.seeds.next()).random(true.shape) < self.teacher_forcing
        keep[:, :1] = True
        return np.where(keep | (true == PADDING), true, own)

    # -- files -----------------------------------------------------------------------------------------------------------------

    def _seeds(self) -> list[Any]:
        return [self.seeds, *super()._seeds()]

    def get_config(self) -> dict[str, Any]:
        """The graph and the vocabularies, as JSON can hold them."""
        return super().get_config() | {"target": self.target.get_config(), "teacher_forcing": self.teacher_forcing}

    @classmethod
    def own_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        """The constructor's arguments beside the graph and the name, from :meth:`get_config`'s result."""
        return {"target": Vocabulary.from_config(config["target"]), "teacher_forcing": config["teacher_forcing"]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a model, with new weights, from :meth:`get_config`'s result."""
        graph = cls.graph_from_config(config)
        return cls(graph.inputs, graph.outputs, name=config.get("name"), **cls.own_config(config))
