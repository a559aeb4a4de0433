"""LSTM with a projected state, LSTM and GRU with layer normalisation: recurrent layers whose step has more stages than a product and a cell."""

from __future__ import annotations

from typing import Any

from rnnfast import initializers
from rnnfast.layers.base import positive, register
from rnnfast.layers.recurrent import GRU, LSTM, Recurrent
from rnnfast.plan import Tensor, Variable
from rnnfast.plan.staged import StagedDirection, StagedPart


class Staged(Recurrent):
    """What the layers of this file have in common. `recurrent_dropout`, zoneout and quantization are for the plain layers."""

    quantizable = fused = takes_rows = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("recurrent_dropout", "zoneout", "zoneout_cell"):
            if getattr(self, name, 0):
                raise ValueError(
                    f"{type(self).__name__} '{self.name}': {name} must be 0, got {getattr(self, name)!r}. Use LSTM or GRU with it, or dropout of the inputs."
                )

    def stages(self) -> dict[str, Any]:
        """The fields of StagedDirection that say what is done between the product and the next step."""
        raise NotImplementedError

    def direction(self, initial: list[Tensor], backwards: bool = False) -> StagedDirection:
        common = vars(super().direction(initial, backwards))
        return StagedDirection(**common | {"units": self.output_size, "hidden": self.units, "layer": StagedPart} | self.stages())


@register
class ProjectedLSTM(Staged, LSTM):
    """LSTM whose output is a projection of its cell's (Sak, Senior and Beaufays 2014, arXiv 1402.1128; PyTorch's `proj_size`).

    With s the recurrent activation, f the activation and h of size P::

        i, f, o = s(x W_i + h R_i + b_i), s(x W_f + h R_f + b_f), s(x W_o + h R_o + b_o)
        c' = f c + i f(x W_c + h R_c + b_c)
        h' = (o f(c')) W_p

    The recurrent product costs P 4 H instead of H 4 H. Weights: kernel (I, 4 H), recurrent_kernel (P, 4 H), bias (4 H), projection_kernel (H, P).
    `return_state` gives [y, h, c] of sizes P, P and H.

    Parameters
    ----------
    units : int
        H, of the cell.
    projection : int
        P, of the output.
    projection_initializer : default "glorot_uniform"
    **kwargs
        Of :class:`LSTM`, but for recurrent_dropout and zoneout.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> y, h, c = layers.ProjectedLSTM(8, 3, return_state=True)(np.ones((2, 5, 4), np.float32))
    >>> y.shape, h.shape, c.shape
    ((2, 3), (2, 3), (2, 8))
    """

    def __init__(self, units: int, projection: int, *, projection_initializer: Any = "glorot_uniform", **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.projection = positive(self, "projection", projection)
        self.projection_initializer = initializers.get(projection_initializer)
        self.projection_kernel: Variable

    @property
    def output_size(self) -> int:
        return self.projection

    @property
    def state_sizes(self) -> list[int]:
        return [self.projection, self.units]

    def create_weights(self, input_shape: tuple[int | None, ...]) -> None:
        super().create_weights(input_shape)
        self.projection_kernel = self.add_weight((self.units, self.projection), "projection_kernel", self.projection_initializer)

    def stages(self) -> dict[str, Any]:
        return {"projection": self.projection_kernel}

    def get_config(self) -> dict[str, Any]:
        own = {"projection": self.projection, "projection_initializer": initializers.serialize(self.projection_initializer)}
        return super().get_config() | own


class Normalised(Staged):
    """Base of the layers with layer normalisation.

    Parameters
    ----------
    epsilon : float, default 1e-3
        Added to the variance.
    """

    def __init__(self, units: int, *, epsilon: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)) or not epsilon > 0:
            raise ValueError(f"{type(self).__name__} '{self.name}': epsilon must be a positive number, got {epsilon!r}.")
        self.epsilon = float(epsilon)
        self.gains: list[Variable] = []

    def create_weights(self, input_shape: tuple[int | None, ...]) -> None:
        super().create_weights(input_shape)
        self.gains = [self.add_weight((self.gates * self.units,), f"{role}_gain", "ones") for role in ("kernel", "recurrent")]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"epsilon": self.epsilon}


@register
class LayerNormLSTM(Normalised, LSTM):
    """LSTM with layer normalisation (Ba, Kiros and Hinton 2016, arXiv 1607.06450, equations 20 to 22 of the supplement).

    With N(v) = (v - mean(v)) / sqrt(var(v) + epsilon) over all values of a row, s the recurrent activation and f the activation::

        [i, f, g, o] = N(x W) u_x + N(h R) u_h + b            mean and variance over all 4 H values
        c' = s(f) c + s(i) f(g)
        h' = s(o) f(N(c') u_c + b_c)                          over the H values of c'

    The paper's two shifts of the gates and its bias are only ever added, so they are one weight. c itself is not normalised.

    Weights: kernel (I, 4 H), recurrent_kernel (H, 4 H), bias b (4 H), kernel_gain u_x (4 H), recurrent_gain u_h (4 H), cell_gain u_c (H), cell_bias b_c (H).

    Parameters
    ----------
    units : int
    epsilon : float, default 1e-3
    **kwargs
        Of :class:`LSTM`, but for recurrent_dropout and zoneout. Without `use_bias` there is neither b nor b_c.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> layers.LayerNormLSTM(4, return_sequences=True)(np.ones((2, 5, 3), np.float32)).shape
    (2, 5, 4)
    """

    cell_bias: Variable | None = None

    def create_weights(self, input_shape: tuple[int | None, ...]) -> None:
        super().create_weights(input_shape)
        self.gains.append(self.add_weight((self.units,), "cell_gain", "ones"))
        if self.use_bias:
            self.cell_bias = self.add_weight((self.units,), "cell_bias", "zeros")

    def stages(self) -> dict[str, Any]:
        return {"gains": self.gains, "shifts": [(self.bias, 0), (None, 0), (self.cell_bias, 0)], "epsilon": self.epsilon}


@register
class LayerNormGRU(Normalised, GRU):
    """GRU with layer normalisation (Ba, Kiros and Hinton 2016, arXiv 1607.06450, equations 23 to 25 of the supplement).

    With N(v) = (v - mean(v)) / sqrt(var(v) + epsilon) over all values of a row, s the recurrent activation and f the activation::

        [z, r] = s(N(x W_zr) u_x + b_x + N(h R_zr) u_h + b_h)          mean and variance over both gates' 2 H values
        n = f(N(x W_n) u_x + b_x + r (N(h R_n) u_h + b_h))             over the H values of the candidate
        h' = z h + (1 - z) n

    u and b stand for the part of the weight that belongs to the gates; z is Keras' (the paper's is 1 - z).

    Weights: kernel (I, 3 H), recurrent_kernel (H, 3 H), bias (2, 3 H) with b_x and b_h, kernel_gain u_x (3 H), recurrent_gain u_h (3 H).

    Parameters
    ----------
    units : int
    epsilon : float, default 1e-3
    **kwargs
        Of :class:`GRU`, but for recurrent_dropout, zoneout and reset_after, which is True.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> layers.LayerNormGRU(4)(np.ones((2, 5, 3), np.float32)).shape
    (2, 4)
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        if not self.reset_after:
            raise ValueError(f"LayerNormGRU '{self.name}': reset_after must be True, got False: the candidate's recurrent product is normalised before its reset.")

    def stages(self) -> dict[str, Any]:
        return {"gains": self.gains, "shifts": [(self.bias, 0), (self.bias, 1)], "epsilon": self.epsilon}
