"""Bidirectional and TimeDistributed."""

from __future__ import annotations

from typing import Any

from rnnfast.errors import suggest
from rnnfast.layers.base import Layer, deserialize, register, serialize
from rnnfast.layers.recurrent import OverTime
from rnnfast.plan import Builder, Tensor
from rnnfast.plan.recurrent import add_recurrent

MERGE_MODES = ("concat", "sum", "mul", "ave", None)


@register
class Bidirectional(Layer):
    """A recurrent layer over the sequence and one over the reversed sequence (Schuster and Paliwal 1997).

    Parameters
    ----------
    layer : recurrent layer
    merge_mode : {"concat", "sum", "mul", "ave", None}
        How the two outputs become one; None gives both.
    backward_layer : recurrent layer, optional
        By default made from `layer`'s configuration with the other direction.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> layers.Bidirectional(layers.LSTM(4, return_sequences=True))(np.ones((2, 5, 3), np.float32)).shape
    (2, 5, 8)
    """

    timed = True
    uses_mask = True

    def __init__(self, layer: OverTime, merge_mode: str | None = "concat", *, backward_layer: OverTime | None = None, **kwargs: Any) -> None:
        super().__init__(**({"dtype": getattr(layer, "dtype", None)} | kwargs))  # type: ignore[arg-type]
        if not isinstance(layer, OverTime):
            raise TypeError(f"Bidirectional '{self.name}': layer must be a recurrent layer, got {layer!r}.")
        if merge_mode not in MERGE_MODES:
            raise ValueError(f"Bidirectional '{self.name}': unknown merge_mode {merge_mode!r}. {suggest(merge_mode, [str(m) for m in MERGE_MODES])}")
        self.merge_mode, self.own_backward = merge_mode, backward_layer is not None
        self.forward_layer: Any = layer
        if backward_layer is None:
            name = layer.name.removeprefix("forward_")
            config = layer.get_config() | {"go_backwards": not layer.go_backwards, "name": f"backward_{name}"}
            layer.name = f"forward_{name}"
            made: Any = type(layer).from_config(config)
            made._quantization = layer._quantization
            backward_layer = made
        self.backward_layer: Any = backward_layer
        self._check_pair()
        pair: list[Any] = [self.forward_layer, self.backward_layer]
        for one in pair:
            one.zero_output_for_mask = one.zero_output_for_mask or one.return_sequences
        self.return_sequences, self.return_state, self.stateful = layer.return_sequences, layer.return_state, layer.stateful
        self.states = sum(one.states for one in pair)

    def _check_pair(self) -> None:
        forward, backward = self.forward_layer, self.backward_layer
        if not isinstance(backward, OverTime):
            raise TypeError(f"Bidirectional '{self.name}': backward_layer must be a recurrent layer, got {backward!r}.")
        if forward.go_backwards == backward.go_backwards:
            raise ValueError(f"Bidirectional '{self.name}': backward_layer must have the other go_backwards than layer, got {backward.go_backwards} in both.")
        for name in ("stateful", "return_sequences", "return_state"):
            if getattr(forward, name) != getattr(backward, name):
                raise ValueError(f"Bidirectional '{self.name}': both layers must have the same {name}, got {getattr(forward, name)} and {getattr(backward, name)}.")

    def sublayers(self) -> list[Layer]:
        return [self.forward_layer, self.backward_layer]

    def create_weights(self, input_shape: tuple[int | None, ...]) -> None:
        for layer in self.sublayers():
            layer.build(input_shape)
            for variable in layer.weights:
                variable.path = f"{self.name}/{layer.name}/{variable.name}"
        self.weights = [*self.forward_layer.weights, *self.backward_layer.weights]

    def input_problem(self, features: tuple[int, ...], timed: bool) -> str | None:
        return self.forward_layer.input_problem(features, timed) or self.backward_layer.input_problem(features, timed)

    def output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        first = self.forward_layer.output_shape(shape)
        width = self.forward_layer.output_size + self.backward_layer.output_size if self.merge_mode == "concat" else self.forward_layer.output_size
        return (*first[:-1], width)

    def output_shapes(self, shape: tuple[int | None, ...]) -> list[tuple[int | None, ...]]:
        first = [self.output_shape(shape)] * (1 if self.merge_mode else 2)
        return first + [(shape[0], n) for one in self.sublayers() for n in (one.state_sizes if self.return_state else [])]  # type: ignore[attr-defined]

    def describe(self, b: Builder, x: Tensor) -> Any:
        return self.describe_states(b, x, [])[0]

    def describe_states(self, b: Builder, x: Tensor, initial: list[Tensor]) -> tuple[Any, list[Tensor]]:
        """As describe, from given states (the forward layer's, then the backward one's)."""
        pair = [self.forward_layer, self.backward_layer]
        first = pair[0].states
        given = [initial[:first] or pair[0].start(b, x.rows), initial[first:] or pair[1].start(b, x.rows)]
        sequence, need = self.return_sequences, self.return_state or self.stateful
        concat = self.merge_mode == "concat"
        penalties = [layer.activity_regularizer for layer in pair]
        directions = [layer.direction(states) for layer, states in zip(pair, given, strict=True)]
        dropped = [layer.inputs(b, x) for layer in pair]
        together = dropped[0] is dropped[1]
        joined = concat and together and not any(penalties)  # the directions write into one tensor
        if together:
            results = add_recurrent(b, dropped[0], directions, sequence, not sequence, need, joined)
        else:
            results = [add_recurrent(b, each, [direction], sequence, not sequence, need)[0] for each, direction in zip(dropped, directions, strict=True)]
        for layer, result in zip(pair, results, strict=True):
            if self.stateful:
                b.carry_states(layer, result.states)
        states = [s for result in results for s in result.states] if self.return_state else []
        outputs: list[Any] = [r.sequence if sequence else r.last for r in results]
        if joined:
            return outputs[0], states
        b.activities += [(output, penalty) for output, penalty in zip(outputs, penalties, strict=True) if penalty is not None]
        if concat:
            return b.concat(outputs), states
        return (b.merge(outputs[0], outputs[1], self.merge_mode) if self.merge_mode else outputs), states

    def reset_state(self) -> None:
        """Let stateful layers start from zeros again."""
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    reset_states = reset_state

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"layer": serialize(self.forward_layer), "merge_mode": self.merge_mode}
        config["backward_layer"] = serialize(self.backward_layer)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        backward = config.pop("backward_layer", None)
        layer: Any = deserialize(config.pop("layer"))
        other: Any = deserialize(backward) if backward else None
        return cls(layer, backward_layer=other, **config)


@register
class TimeDistributed(Layer):
    """A layer applied to every step by itself.

    Parameters
    ----------
    layer : Layer

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> layers.TimeDistributed(layers.Dense(4))(np.ones((2, 5, 3), np.float32)).shape
    (2, 5, 4)
    """

    timed = True

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        super().__init__(**({"dtype": getattr(layer, "dtype", None)} | kwargs))  # type: ignore[arg-type]
        if not isinstance(layer, Layer):
            raise TypeError(f"TimeDistributed '{self.name}': layer must be a Layer, got {layer!r}.")
        self.layer = layer

    @property
    def streams(self) -> bool:  # type: ignore[override]
        nested = self.input_shape is not None and len(self.input_shape) > 3  # the layer has a time axis of its own
        return nested or (self.layer.streams and not self.layer.timed)

    @property
    def tokens(self) -> bool:
        """Whether the layer looks up tokens, which have no features."""
        return getattr(self.layer, "tokens", False)

    @property
    def input_dim(self) -> int:
        """Of an Embedding inside."""
        return self.layer.input_dim  # type: ignore[attr-defined, no-any-return]

    mask_zero = False  # as in Keras, no mask comes out of the layer inside

    def check_tokens(self, x: Any) -> None:
        """Of an Embedding inside: raise if a token is outside its table."""
        self.layer.check_tokens(x)  # type: ignore[attr-defined]

    def sublayers(self) -> list[Layer]:
        return [self.layer]

    def input_problem(self, features: tuple[int, ...], timed: bool) -> str | None:
        problem = super().input_problem(features, timed)
        if problem or self.tokens:
            return problem
        inner = self.layer.input_problem(features[1:], True) if len(features) > 1 else self.layer.input_problem(features, False)
        if inner is None and self.layer.timed is False:
            inner = "it must not make a time axis of its own"
        return f"{type(self.layer).__name__} '{self.layer.name}', which sees a step as a batch: {inner}" if inner else None

    def create_weights(self, input_shape: tuple[int | None, ...]) -> None:
        self.layer.build((None, *input_shape[2:]))
        for variable in self.layer.weights:
            variable.path = f"{self.name}/{variable.path}"
        self.weights = self.layer.weights

    def output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        inner = self.layer.output_shape((None, *shape[2:]))
        return (shape[0], shape[1], *inner[1:])

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        return self.layer.describe(b, x) if self.tokens else b.each_step(x, self.layer.describe, len(x.features) > 1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"layer": serialize(self.layer)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        return cls(deserialize(config.pop("layer")), **config)
