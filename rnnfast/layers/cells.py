"""IndRNN, minGRU and the LSTM with peepholes. Their equations stand in csrc/cells/."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rnnfast import initializers
from rnnfast.layers.base import register
from rnnfast.layers.recurrent import LSTM, Gated, Recurrent
from rnnfast.plan import Tensor, Variable
from rnnfast.plan.direction import Direction


def _without_recurrent_dropout(layer: Recurrent) -> None:
    if layer.recurrent_dropout:
        raise ValueError(
            f"{type(layer).__name__} '{layer.name}': recurrent_dropout must be 0, since no recurrent product mixes the units, got {layer.recurrent_dropout}. "
            "Use dropout or zoneout."
        )


@register
class IndRNN(Recurrent):
    """Independently recurrent network (Li et al. 2018, arXiv 1803.04831): each unit remembers for itself, units mix from layer to layer.

    ``h' = activation(x W + u h + b)``, where u is a vector.

    The arguments are those of :class:`Recurrent`, with activation "relu"; u starts uniformly in [0, 1). For long sequences the paper keeps
    ``|u| <= 2 ** (1 / T)``. There is no product that `recurrent_dropout` could thin out.
    Weights: kernel (I, H), recurrent_kernel (H), bias (H).

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> layers.IndRNN(4, return_sequences=True)(np.ones((2, 5, 3), np.float32)).shape
    (2, 5, 4)
    """

    cell = "indrnn"

    def __init__(self, units: int, *, activation: Any = "relu", recurrent_initializer: Any = None, **kwargs: Any) -> None:
        start = initializers.RandomUniform(0.0, 1.0) if recurrent_initializer is None else recurrent_initializer
        super().__init__(units, activation=activation, recurrent_initializer=start, **kwargs)
        _without_recurrent_dropout(self)

    def recurrent_shape(self) -> tuple[int, ...]:
        return (self.units,)

    def direction(self, initial: list[Tensor], backwards: bool = False) -> Direction:
        return replace(super().direction(initial, backwards), recurrent_kernel=None, vectors=self.recurrent_kernel)


@register
class MinGRU(Gated):
    """Minimal GRU, whose gate and candidate see the input alone (Feng et al. 2024, Were RNNs all we needed?, arXiv 2410.01201).

    With s the recurrent activation and f the activation (linear in the paper)::

        z = s(x W_z + b_z)
        h' = (1 - z) h + z f(x W_h + b_h)

    The arguments are those of :class:`Recurrent` and `recurrent_activation`; there is no product that `recurrent_dropout` could thin out.
    Weights: kernel (I, 2 H) in the order z, h; bias (2 H).

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> layers.MinGRU(4)(np.ones((2, 5, 3), np.float32)).shape
    (2, 4)
    """

    cell, gates = "mingru", 2

    def __init__(self, units: int, *, activation: Any = None, **kwargs: Any) -> None:
        super().__init__(units, activation=activation, **kwargs)
        _without_recurrent_dropout(self)

    def recurrent_shape(self) -> tuple[int, ...]:
        return ()


@register
class PeepholeLSTM(LSTM):
    """LSTM whose gates see the cell state (Gers and Schmidhuber 2000, Recurrent nets that time and count).

    As :class:`LSTM`, with a vector p for each gate::

        i, f = s(x W_i + h R_i + p_i c + b_i), s(x W_f + h R_f + p_f c + b_f)
        c' = f c + i f(x W_c + h R_c + b_c)
        o = s(x W_o + h R_o + p_o c' + b_o)
        h' = o f(c')

    Weights: those of the LSTM, then peephole (3 H) in the order i, f, o.

    Parameters
    ----------
    peephole_initializer : default "zeros"
        With zeros the layer starts as an LSTM.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> y, h, c = layers.PeepholeLSTM(4, return_state=True)(np.ones((2, 5, 3), np.float32))
    >>> c.shape
    (2, 4)
    """

    cell, takes_rows = "peephole_lstm", False

    def __init__(self, units: int, *, peephole_initializer: Any = "zeros", **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.peephole_initializer = initializers.get(peephole_initializer)
        self.peephole: Variable

    def create_weights(self, input_shape: tuple[int | None, ...]) -> None:
        super().create_weights(input_shape)
        self.peephole = self.add_weight((3 * self.units,), "peephole", self.peephole_initializer)

    def direction(self, initial: list[Tensor], backwards: bool = False) -> Direction:
        return replace(super().direction(initial, backwards), vectors=self.peephole)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"peephole_initializer": initializers.serialize(self.peephole_initializer)}
