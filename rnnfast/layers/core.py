"""Layers without a state: Input, Dense, Embedding, Masking, Dropout, shapes, normalisation and pooling."""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from rnnfast import activations, constraints, initializers, regularizers
from rnnfast.errors import ShapeError
from rnnfast.layers.base import Layer, assign_all, positive, rate, register
from rnnfast.layers.graph import Symbol
from rnnfast.plan import Builder, Tensor, Variable
from rnnfast.plan.gating import add_glu
from rnnfast.plan.masking import add_masking
from rnnfast.random import SeedGenerator


@register
class InputLayer(Layer):
    """The shape of a model's input. :func:`Input` makes one.

    Parameters
    ----------
    shape : tuple of int or None
        Without the batch axis; None where it may vary.
    batch_size : int, optional
        Fixed number of rows.
    dtype : str, optional
        That of the layers if not given; an integer type, as "int32", says that the input is tokens for Embedding.
    """

    streams = True

    def __init__(self, shape: Any = None, batch_size: int | None = None, dtype: str | None = None, batch_shape: Any = None, **kwargs: Any) -> None:
        self.tokens = dtype in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
        super().__init__(dtype=None if self.tokens else dtype, **kwargs)
        self.given_dtype = dtype
        if batch_shape is not None:
            batch_size, *shape = batch_shape
        if shape is None:
            raise ValueError(f"InputLayer '{self.name}': shape must be given, as in Input((None, 8)).")
        self.shape = tuple(shape)
        for n in self.shape:
            if n is not None:
                positive(self, "shape", n)
        self.batch_size = batch_size

    @cached_property
    def symbol(self) -> Symbol:
        """What layers of a graph are called on."""
        return Symbol(self.batch_shape, self)

    @property
    def batch_shape(self) -> tuple[int | None, ...]:
        return (self.batch_size, *self.shape)

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        return x

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"dtype": self.given_dtype, "shape": list(self.shape), "batch_size": self.batch_size}


def Input(shape: Any = None, batch_size: int | None = None, **kwargs: Any) -> InputLayer:  # noqa: N802 - Keras' name
    """The first entry of a Sequential: the shape of its input.

    Examples
    --------
    >>> Input((None, 8)).batch_shape
    (None, None, 8)
    """
    return InputLayer(shape, batch_size, **kwargs)


@register
class Dense(Layer):
    """``y = activation(x W + b)`` on the last axis.

    Parameters
    ----------
    units : int
    activation : str, optional
    use_bias : bool
    kernel_initializer, bias_initializer : default "glorot_uniform", "zeros"
    kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint : optional

    Examples
    --------
    >>> import numpy as np
    >>> Dense(2)(np.ones((4, 3), np.float32)).shape
    (4, 2)
    """

    streams = True
    quantizable = True

    def __init__(
        self, units: int, activation: Any = None, use_bias: bool = True, kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None,
        bias_constraint: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.units = positive(self, "units", units)
        self.activation = activations.name_of(f"Dense '{self.name}'", "activation", activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer, self.bias_initializer = initializers.get(kernel_initializer), initializers.get(bias_initializer)
        self.kernel_regularizer, self.bias_regularizer = regularizers.get(kernel_regularizer), regularizers.get(bias_regularizer)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.kernel_constraint, self.bias_constraint = constraints.get(kernel_constraint), constraints.get(bias_constraint)
        self.kernel: Variable
        self.bias: Variable | None = None

    def create_weights(self, input_shape: tuple[int | None, ...]) -> None:
        inputs = input_shape[-1]
        if inputs is None:
            raise ValueError(f"Dense '{self.name}': the last dimension of the input must be known, got {input_shape}.")
        self.kernel = self.add_weight((inputs, self.units), "kernel", self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint)
        if self.use_bias:
            self.bias = self.add_weight((self.units,), "bias", self.bias_initializer, self.bias_regularizer, self.bias_constraint)

    def output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*shape[:-1], self.units)

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        y = b.dense(x, self.kernel, self.bias, self.activation, self._quantization)
        if self.activity_regularizer is not None:
            b.activities.append((y, self.activity_regularizer))
        return y

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"units": self.units, "activation": self.activation, "use_bias": self.use_bias}
        config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        for role in ("kernel", "bias"):
            config[f"{role}_initializer"] = initializers.serialize(getattr(self, f"{role}_initializer"))
            config[f"{role}_regularizer"] = regularizers.serialize(getattr(self, f"{role}_regularizer"))
            config[f"{role}_constraint"] = constraints.serialize(getattr(self, f"{role}_constraint"))
        return config


@register
class Embedding(Layer):
    """Rows of a table, by integer tokens [B, T], or [B, T, ...]. The tokens are an input of the model.

    Parameters
    ----------
    input_dim : int
        Number of tokens V; valid ones are 0 to V - 1.
    output_dim : int
    embeddings_initializer, embeddings_regularizer, embeddings_constraint : default "uniform", None, None
    mask_zero : bool
        Whether token 0 is padding: such steps are masked for the layers behind.
    weights : array_like (input_dim, output_dim), or a list of it, optional
        The table to start from, instead of what the initializer draws; it is not a part of the configuration.
    """

    tokens = True
    streams = True

    def __init__(
        self, input_dim: int, output_dim: int, embeddings_initializer: Any = "uniform", embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None, mask_zero: bool = False, weights: Any = None, *, activity_regularizer: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.input_dim, self.output_dim = positive(self, "input_dim", input_dim), positive(self, "output_dim", output_dim)
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer, self.embeddings_constraint = regularizers.get(embeddings_regularizer), constraints.get(embeddings_constraint)
        self.mask_zero = bool(mask_zero)
        self._given = [weights] if isinstance(weights, np.ndarray) else weights
        self.embeddings: Variable

    def create_weights(self, input_shape: tuple[int | None, ...]) -> None:
        if self.mask_zero and len(input_shape) > 2:
            raise ShapeError(f"Embedding '{self.name}': mask_zero needs tokens of shape (B, T), got {input_shape}.")
        roles = (self.embeddings_initializer, self.embeddings_regularizer, self.embeddings_constraint)
        self.embeddings = self.add_weight((self.input_dim, self.output_dim), "embeddings", *roles)
        if self._given is not None:
            assign_all(f"Embedding '{self.name}'", self.weights, list(self._given))
            self._given = None

    def compute_mask(self, x: np.ndarray, mask: np.ndarray | None) -> np.ndarray | None:
        own = x != 0 if self.mask_zero else None
        return mask if own is None else own if mask is None else own & mask

    def check_tokens(self, x: np.ndarray) -> None:
        """Raise if a token is outside the table."""
        if x.size and (x.min() < 0 or x.max() >= self.input_dim):
            raise ValueError(f"Embedding '{self.name}': tokens must be in [0, {self.input_dim}), got values from {x.min()} to {x.max()}.")

    def output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*shape, self.output_dim)

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        b.show_masked(x.rows, False)
        y = b.embedding(x, self.embeddings)
        if self.activity_regularizer is not None:
            b.activities.append((y, self.activity_regularizer))
        return y

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "input_dim": self.input_dim, "output_dim": self.output_dim, "mask_zero": self.mask_zero,
            "embeddings_initializer": initializers.serialize(self.embeddings_initializer),
            "embeddings_regularizer": regularizers.serialize(self.embeddings_regularizer),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
            "embeddings_constraint": constraints.serialize(self.embeddings_constraint),
        }  # fmt: skip


@register
class Masking(Layer):
    """Masks the steps whose features all equal a value: the layers behind it leave them out, and they show zeros.

    As the only reader of an input its mask is known before a run. Elsewhere it is made of the values in the middle of one, by an op in Python. A mask in front of
    it goes on to hold. Live streams, `resets` and `truncate` cannot be used with it.

    Parameters
    ----------
    mask_value : float, default 0.0
    """

    timed = uses_mask = True
    waits_for = "a stream is given the valid steps alone; leave the masked ones out, and the layer"

    def __init__(self, mask_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_value = float(mask_value)

    def compute_mask(self, x: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        own: np.ndarray = (x != self.mask_value).any(axis=tuple(range(2, x.ndim)))
        return own if mask is None else own & mask

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        if self not in x.maskers:
            return add_masking(b, x, self.compute_mask)
        b.show_masked(x.rows, False)
        return x

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"mask_value": self.mask_value}


@register
class Activation(Layer):
    """An activation by itself.

    Parameters
    ----------
    activation : str
        Also "glu", the gated linear unit ``a sigmoid(g)`` of the two halves [a, g] of the last axis (Dauphin et al. 2017, arXiv 1612.08083), which halves its size.

    Examples
    --------
    >>> import numpy as np
    >>> Activation("glu")(np.array([[3.0, 0.0]], np.float32))
    array([[1.5]], dtype=float32)
    """

    streams = True

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        halves = activation in ("glu", activations.glu)
        self.activation = "glu" if halves else activations.name_of(f"Activation '{self.name}'", "activation", activation)

    def input_problem(self, features: tuple[int, ...], timed: bool) -> str | None:
        if self.activation == "glu" and (len(features) != 1 or features[0] % 2):
            return f"glu needs one axis of features, of even size, got {features}"
        return super().input_problem(features, timed)

    def output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*shape[:-1], None if shape[-1] is None else shape[-1] // 2) if self.activation == "glu" else shape

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        return add_glu(b, x) if self.activation == "glu" else b.activation(x, self.activation)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"activation": self.activation}


@register
class Dropout(Layer):
    """Sets features to 0 with a probability in training and scales the others by 1 / (1 - rate) (Srivastava et al. 2014).

    Parameters
    ----------
    rate : float in [0, 1)
    noise_shape : (batch, 1, features), optional
        The same noise at every step.
    seed : int, optional
    """

    over_time = False
    streams = True

    def __init__(self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate, self.seed, self.seeds = _rate(self, rate), seed, SeedGenerator(seed)
        if noise_shape is not None and (len(noise_shape) != 3 or noise_shape[1] != 1 or noise_shape[0] == 1 or noise_shape[2] == 1):
            raise ValueError(f"{type(self).__name__} '{self.name}': noise_shape must be None or (batch, 1, features), the same noise at every step, got {noise_shape!r}.")
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)
        self.over_time = self.over_time or noise_shape is not None

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        return b.dropout(x, self.rate, self.seeds, self.over_time)

    def get_config(self) -> dict[str, Any]:
        noise = None if self.noise_shape is None else list(self.noise_shape)
        return super().get_config() | {"rate": self.rate, "noise_shape": noise, "seed": self.seed}


def _rate(layer: Layer, value: float) -> float:
    return rate(layer, "rate", value)


@register
class SpatialDropout1D(Dropout):
    """Dropout of whole features: the same ones at every step of a sequence (Tompson et al. 2015).

    Parameters
    ----------
    rate : float in [0, 1)
    seed : int, optional
    """

    timed, over_time = True, True

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(rate, seed=seed, **kwargs)


@register
class LayerNormalization(Layer):
    """``y = (x - mean) / sqrt(var + epsilon) * gamma + beta`` over the last axis, or the last ones (Ba, Kiros and Hinton 2016, arXiv 1607.06450).

    Parameters
    ----------
    axis : int or tuple of int, default -1
        The last axes of a step's features: -1, or as many of the last ones as (-2, -1). The time axis cannot be among them.
    epsilon : float, default 1e-3
    center, scale : bool
        Whether there is a beta and a gamma.
    """

    streams = True

    def __init__(
        self, axis: Any = -1, epsilon: float = 1e-3, center: bool = True, scale: bool = True, beta_initializer: Any = "zeros", gamma_initializer: Any = "ones",
        beta_regularizer: Any = None, gamma_regularizer: Any = None, beta_constraint: Any = None, gamma_constraint: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.axis, self.epsilon, self.center, self.scale = axis, float(epsilon), bool(center), bool(scale)
        self.beta_initializer, self.gamma_initializer = initializers.get(beta_initializer), initializers.get(gamma_initializer)
        self.beta_regularizer, self.gamma_regularizer = regularizers.get(beta_regularizer), regularizers.get(gamma_regularizer)
        self.beta_constraint, self.gamma_constraint = constraints.get(beta_constraint), constraints.get(gamma_constraint)
        self.gamma: Variable | None = None
        self.beta: Variable | None = None

    def create_weights(self, input_shape: tuple[int | None, ...]) -> None:
        shape = self._normalized(input_shape)
        if self.scale:
            self.gamma = self.add_weight(shape, "gamma", self.gamma_initializer, self.gamma_regularizer, self.gamma_constraint)
        if self.center:
            self.beta = self.add_weight(shape, "beta", self.beta_initializer, self.beta_regularizer, self.beta_constraint)

    def _normalized(self, input_shape: tuple[int | None, ...]) -> tuple[int, ...]:
        """The sizes of the axes that are normalised together."""
        rank, given = len(input_shape), list(self.axis) if isinstance(self.axis, (list, tuple)) else [self.axis]
        axes = sorted(a + rank if a < 0 else a for a in given if isinstance(a, int))
        shape = input_shape[rank - len(axes) :]
        if not axes or len(axes) < len(given) or axes != list(range(rank - len(axes), rank)) or axes[0] < min(2, rank - 1) or None in shape:
            raise ValueError(f"LayerNormalization '{self.name}': axis must be the last of a step's features, as -1 or (-2, -1), got {self.axis!r} for input {input_shape}.")
        return tuple(n for n in shape if n is not None)

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        return b.normalize(x, self.gamma, self.beta, self.epsilon, prod(self._normalized(self.input_shape or ())))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"axis": self.axis, "epsilon": self.epsilon, "center": self.center, "scale": self.scale}
        for role in ("beta", "gamma"):
            config[f"{role}_initializer"] = initializers.serialize(getattr(self, f"{role}_initializer"))
            config[f"{role}_regularizer"] = regularizers.serialize(getattr(self, f"{role}_regularizer"))
            config[f"{role}_constraint"] = constraints.serialize(getattr(self, f"{role}_constraint"))
        return config


@register
class RepeatVector(Layer):
    """One vector [B, F] as a sequence of n equal steps [B, n, F].

    Parameters
    ----------
    n : int
    """

    timed = False

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = positive(self, "n", n)

    def input_problem(self, features: tuple[int, ...], timed: bool) -> str | None:
        return f"input must have shape (B, F), got (B, T, {', '.join(map(str, features))})" if timed or len(features) != 1 else None

    def output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (shape[0], self.n, *shape[1:])

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        return b.roll(x, self.n, x.features)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"n": self.n}


@register
class Flatten(Layer):
    """All axes but the first as one: [B, T, F] becomes [B, T F].

    Parameters
    ----------
    data_format : "channels_last", optional
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check_format(self, data_format)

    def output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        rest = shape[1:]
        return (shape[0], None if None in rest else prod(n for n in rest if n is not None))

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        return b.unroll(x) if x.timed else b.reshaped(x, (x.width,))


@register
class Reshape(Layer):
    """Another shape of the same size.

    Parameters
    ----------
    target_shape : tuple of int
        Without the batch axis; one entry may be -1.
    """

    def __init__(self, target_shape: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_shape = tuple(int(n) for n in target_shape)

    def output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        size = None if None in shape[1:] else prod(n for n in shape[1:] if n is not None)
        rest = prod(n for n in self.target_shape if n != -1)
        return (shape[0], *(n if n != -1 else size // rest if size else None for n in self.target_shape))

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        size = (x.rows.time if x.timed else 1) * x.width
        rest = prod(n for n in self.target_shape if n != -1)
        shape = tuple(size // rest if n == -1 and rest else n for n in self.target_shape)
        if prod(shape) != size or self.target_shape.count(-1) > 1:
            raise ShapeError(f"Reshape '{self.name}': target_shape must have {size} elements, as the input {x.shape[1:]} has, got {self.target_shape}.")
        flat = b.unroll(x) if x.timed else x
        return b.roll(flat, shape[0], shape[1:]) if len(shape) > 1 else b.reshaped(flat, shape)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"target_shape": list(self.target_shape)}


def _check_format(layer: Layer, data_format: str | None) -> None:
    if data_format not in (None, "channels_last"):
        raise ValueError(f"{type(layer).__name__} '{layer.name}': data_format must be 'channels_last', got {data_format!r}.")


class _Pooling(Layer):
    timed = uses_mask = True
    kind = ""

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check_format(self, data_format)
        self.keepdims = bool(keepdims)

    def output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (shape[0], 1, *shape[2:]) if self.keepdims else (shape[0], *shape[2:])

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        y = b.pool(x, self.kind)
        return b.roll(y, 1, y.features) if self.keepdims else y

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"keepdims": self.keepdims}


@register
class GlobalAveragePooling1D(_Pooling):
    """The mean over valid steps: [B, T, F] becomes [B, F]."""

    kind = "mean"


@register
class GlobalMaxPooling1D(_Pooling):
    """The maximum over valid steps: [B, T, F] becomes [B, F]."""

    kind = "maximum"
