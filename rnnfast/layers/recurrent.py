"""SimpleRNN, LSTM and GRU. Their equations stand in csrc/cells/; here are Keras' arguments, weights and what a plan is told."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast import activations, constraints, initializers, regularizers
from rnnfast._engine import Rows
from rnnfast.layers.base import Layer, positive, rate, register
from rnnfast.plan import Builder, Tensor, Variable
from rnnfast.plan.direction import Direction
from rnnfast.plan.live import leave, take
from rnnfast.plan.recurrent import add_recurrent
from rnnfast.random import SeedGenerator

_ROLES = ("kernel", "recurrent", "bias")


class OverTime(Layer):
    """Base of all layers that run a cell over time.

    Parameters
    ----------
    return_sequences, return_state, go_backwards, stateful, unroll : bool
        As in Keras; `unroll` is accepted and changes nothing.
    zero_output_for_mask : bool
        Whether masked steps of a returned sequence are zeros instead of the output before.
    activity_regularizer : optional
        Of the output's valid steps; masked ones, which only show others again, do not count.
    """

    timed = True
    streams = uses_mask = True
    fused = False  # whether the fused engine runs it
    waits_for = "it reads a sequence from its end"

    def __init__(
        self, *, return_sequences: bool = False, return_state: bool = False, go_backwards: bool = False, stateful: bool = False, unroll: bool = False,
        zero_output_for_mask: bool = False, activity_regularizer: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.return_sequences, self.return_state = bool(return_sequences), bool(return_state)
        self.go_backwards, self.stateful, self.unroll = bool(go_backwards), bool(stateful), bool(unroll)
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.state_values: list[np.ndarray] | None = None

    @property
    def output_size(self) -> int:
        """Width of the output."""
        raise NotImplementedError

    @property
    def state_sizes(self) -> list[int]:
        """Width of each state."""
        raise NotImplementedError

    def initial_values(self, batch: int) -> list[np.ndarray]:
        """The states that a sequence starts from, each [batch, width]."""
        return [np.zeros((batch, n), self.dtype) for n in self.state_sizes]

    def stream_start(self) -> list[np.ndarray]:
        return self.initial_values(1)

    def start(self, b: Builder, rows: Rows) -> list[Tensor]:
        """The states that a plan's sequences start from where the caller gives none; empty for zeros."""
        return b.carried_states(self, rows)

    def inputs(self, b: Builder, x: Tensor) -> Tensor:
        """What the cell sees of the input."""
        return x

    def direction(self, initial: list[Tensor], backwards: bool = False) -> Any:
        """What `plan.recurrent.add_recurrent` runs."""
        raise NotImplementedError

    def output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (shape[0], shape[1], self.output_size) if self.return_sequences else (shape[0], self.output_size)

    def output_shapes(self, shape: tuple[int | None, ...]) -> list[tuple[int | None, ...]]:
        return [self.output_shape(shape)] + [(shape[0], n) for n in (self.state_sizes if self.return_state else [])]

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        return self.describe_states(b, x, [])[0]

    def describe_states(self, b: Builder, x: Tensor, initial: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """As describe, from given states; also returns the final ones when they are asked for."""
        if b.live is not None:
            return self._describe_live(b, x, b.live.states[self.name])
        initial = initial or self.start(b, x.rows)
        x = self.inputs(b, x)
        need = self.return_state or self.stateful
        carried = b.carried is not None
        sequences = self.return_sequences or carried
        result = add_recurrent(b, x, [self.direction(initial)], sequences, not sequences, need or carried)[0]
        if self.stateful or carried:
            b.carry_states(self, result.states)
        output = result.sequence if sequences else result.last
        assert output is not None
        if self.zero_output_for_mask and not sequences:
            output = b.blank(output, x.rows, self.go_backwards)
        if self.activity_regularizer is not None:
            b.activities.append((output, self.activity_regularizer))
        return b.flip(output) if sequences and self.go_backwards else output, result.states if self.return_state else []

    def _describe_live(self, b: Builder, x: Tensor, states: list[np.ndarray]) -> tuple[Tensor, list[Tensor]]:
        """All steps of a live sequence, from the states where it keeps them."""
        inputs, direction = self.inputs(b, x), self.direction([])
        if direction.layer is None:
            direction.kept = states  # the op itself reads and leaves them
        else:
            direction.initial = [take(b, x, values) for values in states]
        result = add_recurrent(b, inputs, [direction], True, False, direction.layer is not None)[0]
        for state, values in zip(result.states, states, strict=False):
            leave(b, state, values)
        assert result.sequence is not None
        return result.sequence, [take(b, x, values) for values in states] if self.return_state else []

    def reset_state(self) -> None:
        """Let a stateful layer start anew."""
        if self.state_values is not None:
            for state, start in zip(self.state_values, self.initial_values(len(self.state_values[0])), strict=True):
                state[...] = start  # in place: plans point at it

    reset_states = reset_state

    def get_config(self) -> dict[str, Any]:
        names = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "zero_output_for_mask")
        config = super().get_config() | {name: getattr(self, name) for name in names}
        return config | {"activity_regularizer": regularizers.serialize(self.activity_regularizer)}


class Recurrent(OverTime):
    """Base of the recurrent layers.

    Parameters
    ----------
    units : int
        Size H of the state.
    activation : str, default "tanh"
        SimpleRNN, LSTM and GRU also take "softmax", "log_softmax" and "sparsemax", over the units of a gate. The fused step cannot compute these: such a layer's
        steps are NumPy's (`layers/by_rows.py`), much slower, and without quantization.
    use_bias : bool, default True
    kernel_initializer, recurrent_initializer, bias_initializer : default "glorot_uniform", "orthogonal", "zeros"
    kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer : optional
    kernel_constraint, recurrent_constraint, bias_constraint : optional
    dropout : float in [0, 1)
        Of the inputs, in training: one mask a sequence, the same at every step (Gal and Ghahramani 2016).
    recurrent_dropout : float in [0, 1)
        Of the state that enters the recurrent product, in training.
    zoneout : float in [0, 1)
        Probability that a unit of the output keeps its value of the step before (Krueger et al. 2017, arXiv 1606.01305), drawn for every step and unit in
        training; at inference every unit takes the expectation, ``zoneout h_{t-1} + (1 - zoneout) h_t``.
    seed : int, optional
    trained_initial_state : bool
        Whether sequences start from states that are trained with the other weights, instead of zeros: one weight (1, width) a state, behind the others, zeros
        when they are new. A stateful layer and a stream start from their values.
    **kwargs
        Of :class:`OverTime`.
    """

    cell = ""
    gates = 1
    states = 1
    recurrent_activation = "linear"

    quantizable = fused = True
    takes_rows = False  # whether an activation may work on all units together
    by_rows = False  # whether one does

    def __init__(
        self, units: int, activation: Any = "tanh", *, use_bias: bool = True, dropout: float = 0.0, recurrent_dropout: float = 0.0, zoneout: float = 0.0,
        seed: int | None = None, trained_initial_state: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        roles = {f"{role}_{kind}": kwargs.pop(f"{role}_{kind}", None) for role in _ROLES for kind in ("initializer", "regularizer", "constraint")}
        kwargs.pop("implementation", None), kwargs.pop("use_cudnn", None)  # of old configurations; they choose between equal computations
        super().__init__(**kwargs)
        self.units = positive(self, "units", units)
        self.activation = self._activation("activation", activation)
        self.use_bias, self.seed = bool(use_bias), seed
        self.dropout, self.recurrent_dropout = rate(self, "dropout", dropout), rate(self, "recurrent_dropout", recurrent_dropout)
        self.zoneout, self.seeds = rate(self, "zoneout", zoneout), SeedGenerator(seed)
        defaults = {"kernel": "glorot_uniform", "recurrent": "orthogonal", "bias": "zeros"}
        for role in _ROLES:
            given = roles[f"{role}_initializer"]
            setattr(self, f"{role}_initializer", initializers.get(defaults[role] if given is None else given))
            setattr(self, f"{role}_regularizer", regularizers.get(roles[f"{role}_regularizer"]))
            setattr(self, f"{role}_constraint", constraints.get(roles[f"{role}_constraint"]))
        self.kernel: Variable
        self.recurrent_kernel: Variable | None = None
        self.bias: Variable | None = None
        self.trained_initial_state = bool(trained_initial_state)
        self.initial_state: list[Variable] = []

    def _activation(self, argument: str, given: Any) -> str:
        name = (activations.name_of if self.takes_rows else activations.of_units)(f"{type(self).__name__} '{self.name}'", argument, given)
        if name in activations.ROWS:
            self.by_rows, self.quantizable, self.fused = True, False, False
        return name

    def input_problem(self, features: tuple[int, ...], timed: bool) -> str | None:
        problem = super().input_problem(features, timed)
        return f"input must have shape (B, T, I), got (B, T, {', '.join(map(str, features))})" if problem is None and len(features) != 1 else problem

    def _roles(self, role: str) -> dict[str, Any]:
        return {kind: getattr(self, f"{role}_{kind}") for kind in ("initializer", "regularizer", "constraint")}

    @property
    def output_size(self) -> int:
        """Width of the output."""
        return self.units

    @property
    def state_sizes(self) -> list[int]:
        """Width of each state."""
        return [self.units] * self.states

    def recurrent_shape(self) -> tuple[int, ...]:
        return (self.output_size, self.gates * self.units)

    def bias_shape(self) -> tuple[int, ...]:
        return (self.gates * self.units,)

    def create_weights(self, input_shape: tuple[int | None, ...]) -> None:
        inputs = input_shape[-1]
        if inputs is None:
            raise ValueError(f"{type(self).__name__} '{self.name}': the last dimension of the input must be known, got {input_shape}.")
        self.kernel = self.add_weight((inputs, self.gates * self.units), "kernel", **self._roles("kernel"))
        if self.recurrent_shape():
            self.recurrent_kernel = self.add_weight(self.recurrent_shape(), "recurrent_kernel", **self._roles("recurrent"))
        if self.use_bias:
            self.bias = self.add_weight(self.bias_shape(), "bias", **self._roles("bias"))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if not self.built:
            super().build(input_shape)
            if self.trained_initial_state:
                self.initial_state = [self.add_weight((1, n), f"initial_state_{i}", "zeros") for i, n in enumerate(self.state_sizes)]

    def initial_values(self, batch: int) -> list[np.ndarray]:
        if not self.initial_state:
            return super().initial_values(batch)
        return [np.repeat(variable.numpy(), batch, axis=0) for variable in self.initial_state]

    def start(self, b: Builder, rows: Rows) -> list[Tensor]:
        return super().start(b, rows) or [b.repeated(variable, rows) for variable in self.initial_state]

    def inputs(self, b: Builder, x: Tensor) -> Tensor:
        return b.dropout(x, self.dropout, self.seeds, over_time=True)

    def zoneouts(self) -> tuple[float, ...]:
        """Of each state."""
        return (self.zoneout,)

    def direction(self, initial: list[Tensor], backwards: bool = False) -> Any:
        if self.by_rows:
            from rnnfast.layers.by_rows import direction  # whose tape is imported with the first such layer

            return direction(self, initial, self.go_backwards or backwards)
        return Direction(
            self.cell, self.units, self.kernel, self.recurrent_kernel, self.bias, self.activation, self.recurrent_activation,
            self.go_backwards or backwards, self.zero_output_for_mask, initial,
            self.recurrent_dropout, self.seeds, self.zoneouts(), weights=self._quantization,
        )  # fmt: skip

    def get_config(self) -> dict[str, Any]:
        names = ("units", "activation", "use_bias", "dropout", "recurrent_dropout", "zoneout", "seed", "trained_initial_state")
        config = super().get_config() | {name: getattr(self, name) for name in names}
        for role in _ROLES:
            config[f"{role}_initializer"] = initializers.serialize(getattr(self, f"{role}_initializer"))
            config[f"{role}_regularizer"] = regularizers.serialize(getattr(self, f"{role}_regularizer"))
            config[f"{role}_constraint"] = constraints.serialize(getattr(self, f"{role}_constraint"))
        return config


@register
class SimpleRNN(Recurrent):
    """Fully connected recurrent layer (Elman 1990).

    ``y_t = activation(x_t W + y_{t-1} R + b)``

    The arguments are those of :class:`Recurrent`. Weights: kernel (I, H), recurrent_kernel (H, H), bias (H).

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> layers.SimpleRNN(4)(np.zeros((2, 5, 3), np.float32)).shape
    (2, 4)
    """

    cell, takes_rows = "simple_rnn", True


class Gated(Recurrent):
    """Base of the layers with gates.

    Parameters
    ----------
    recurrent_activation : str, default "sigmoid"
        Of the gates.
    """

    def __init__(self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", **kwargs: Any) -> None:
        super().__init__(units, activation, **kwargs)
        self.recurrent_activation = self._activation("recurrent_activation", recurrent_activation)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"recurrent_activation": self.recurrent_activation}


@register
class LSTM(Gated):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate: Gers, Schmidhuber and Cummins 2000).

    With s the recurrent activation, f the activation and gate order i, f, c, o::

        i, f, o = s(x W_i + h R_i + b_i), s(x W_f + h R_f + b_f), s(x W_o + h R_o + b_o)
        c' = f c + i f(x W_c + h R_c + b_c)
        h' = o f(c')

    Weights: kernel (I, 4 H), recurrent_kernel (H, 4 H), bias (4 H). `return_state` gives [y, h, c].

    Parameters
    ----------
    unit_forget_bias : bool, default True
        Whether the forget gate's bias starts at 1.
    zoneout_cell : float in [0, 1)
        As `zoneout`, of c; h' is made of the c' before zoneout.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> y, h, c = layers.LSTM(4, return_state=True)(np.ones((2, 5, 3), np.float32))
    >>> bool((y == h).all()), c.shape
    (True, (2, 4))
    """

    cell, gates, states, takes_rows = "lstm", 4, 2, True

    def __init__(
        self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", *, unit_forget_bias: bool = True, zoneout_cell: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(units, activation, recurrent_activation, **kwargs)
        self.unit_forget_bias, self.zoneout_cell = bool(unit_forget_bias), rate(self, "zoneout_cell", zoneout_cell)

    def zoneouts(self) -> tuple[float, ...]:
        return (self.zoneout, self.zoneout_cell)

    def _roles(self, role: str) -> dict[str, Any]:
        roles = super()._roles(role)
        if role == "bias" and self.unit_forget_bias:
            roles["initializer"] = self._forget_bias
        return roles

    def _forget_bias(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        start: np.ndarray = initializers.get(super()._roles("bias")["initializer"])(shape, dtype=dtype)
        start[self.units : 2 * self.units] = 1
        return start

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"unit_forget_bias": self.unit_forget_bias, "zoneout_cell": self.zoneout_cell}


@register
class GRU(Gated):
    """Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), gate order z, r, h.

    With s the recurrent activation and f the activation::

        z, r = s(x W_z + h R_z + b_z), s(x W_r + h R_r + b_r)
        n = f(x W_h + r (h R_h + c_h) + b_h)      reset_after=True, as cuDNN and PyTorch
        n = f(x W_h + (r h) R_h + b_h)            reset_after=False
        h' = z h + (1 - z) n

    Weights: kernel (I, 3 H), recurrent_kernel (H, 3 H), bias (2, 3 H) when reset_after (input, recurrent) else (3 H).

    Parameters
    ----------
    reset_after : bool, default True

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> layers.GRU(4, return_sequences=True)(np.ones((2, 5, 3), np.float32)).shape
    (2, 5, 4)
    """

    gates, takes_rows = 3, True

    def __init__(self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", *, reset_after: bool = True, **kwargs: Any) -> None:
        super().__init__(units, activation, recurrent_activation, **kwargs)
        self.reset_after = bool(reset_after)
        self.cell = "gru" if self.reset_after else "gru_reset_before"

    def bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"reset_after": self.reset_after}
