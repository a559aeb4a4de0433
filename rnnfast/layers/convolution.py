"""Layers of windows over time: Conv1D, pooling, zero padding and cropping."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rnnfast import activations, constraints, initializers, regularizers
from rnnfast.errors import ShapeError, suggest
from rnnfast.layers.base import Layer, positive, register
from rnnfast.plan import Builder, Tensor, Variable
from rnnfast.plan.convolution import Window, convolution, pooled
from rnnfast.plan.live import history


class Windowed(Layer):
    """Base of layers whose output steps each read a window of input steps."""

    timed = uses_mask = True
    waits_for = "its windows reach steps that come later. Use padding='causal', or windows that are not longer than strides"
    window: Window

    def _one(self, argument: str, value: Any) -> int:
        """A positive int, which Keras also writes as a tuple of one."""
        if isinstance(value, (tuple, list)) and len(value) == 1:
            value = value[0]
        return positive(self, argument, value)

    def _check(self, padding: Any, known: tuple[str, ...], data_format: str | None) -> str:
        if not isinstance(padding, str) or padding.lower() not in known:
            raise ValueError(f"{type(self).__name__} '{self.name}': unknown padding {padding!r}. {suggest(padding, known)}")
        if data_format not in (None, "channels_last"):
            raise ValueError(f"{type(self).__name__} '{self.name}': data_format must be 'channels_last', got {data_format!r}.")
        return padding.lower()

    @property
    def pace(self) -> int:  # type: ignore[override]
        """Input steps for each output step."""
        return self.window.stride

    def input_problem(self, features: tuple[int, ...], timed: bool) -> str | None:
        return None if timed and len(features) == 1 else f"input must have shape (B, T, C), got (B, {'T, ' if timed else ''}{', '.join(map(str, features))})"

    def output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        if len(shape) < 3:
            raise ShapeError(f"{type(self).__name__} '{self.name}': input must have shape (B, T, C), got {shape}.")
        return (shape[0], None if shape[1] is None else self.window.steps(shape[1]), *shape[2:])

    def _check_steps(self, x: Tensor) -> None:
        if not self.window.steps(x.rows.time) and not self.window.steps(1):
            least = 1 + self.window.reach - self.window.left - self.window.right
            raise ShapeError(f"{type(self).__name__} '{self.name}': input must have at least {least} steps, got {x.rows.time}. Use longer sequences or padding='same'.")


@register
class Conv1D(Windowed):
    """``y[s] = activation(sum_k x[s strides + k dilation_rate - left] W[k] + b)``: a convolution over time (as in Waibel et al. 1989; dilated: van den Oord et al. 2016).

    A sequence is followed by nothing and preceded by nothing: steps outside it are zeros. With `lengths` or a mask each row is its own valid steps, one after
    the other, and its output is as long as the rule of `padding` says for that many; further steps of the output are masked and show activation(0).

    Parameters
    ----------
    filters : int
        Channels of the output.
    kernel_size : int
        Steps of a window.
    strides : int
        Steps from a window to the next.
    padding : {"valid", "same", "causal"}
        "valid": windows lie inside the sequence. "same": ceil(T / strides) windows, zeros on both sides. "causal": as many, zeros in front alone, so that no
        output depends on a later input.
    data_format : {None, "channels_last"}
    dilation_rate : int
        Steps between the values of a window.
    groups : int
        The channels in so many groups, each with its own filters.
    activation : str, optional
    use_bias : bool
    kernel_initializer, bias_initializer : default "glorot_uniform", "zeros"
    kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint : optional

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> layers.Conv1D(4, 3, strides=2, padding="causal")(np.ones((2, 9, 5), np.float32)).shape
    (2, 5, 4)
    """

    def __init__(
        self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None, dilation_rate: Any = 1,
        groups: int = 1, activation: Any = None, use_bias: bool = True, kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None,
        bias_constraint: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.filters, self.groups, self.use_bias = positive(self, "filters", filters), positive(self, "groups", groups), bool(use_bias)
        self.kernel_size, self.strides = self._one("kernel_size", kernel_size), self._one("strides", strides)
        self.dilation_rate = self._one("dilation_rate", dilation_rate)
        self.padding = self._check(padding, ("valid", "same", "causal"), data_format)
        if self.filters % self.groups:
            raise ValueError(f"Conv1D '{self.name}': filters must be a multiple of groups, got {filters} filters and {groups} groups.")
        self.window = Window.padded(self.padding, self.kernel_size, self.strides, self.dilation_rate)
        self.activation = activations.name_of(f"Conv1D '{self.name}'", "activation", activation)
        self.kernel_initializer, self.bias_initializer = initializers.get(kernel_initializer), initializers.get(bias_initializer)
        self.kernel_regularizer, self.bias_regularizer = regularizers.get(kernel_regularizer), regularizers.get(bias_regularizer)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.kernel_constraint, self.bias_constraint = constraints.get(kernel_constraint), constraints.get(bias_constraint)
        self.kernel: Variable
        self.bias: Variable | None = None

    @property
    def streams(self) -> bool:  # type: ignore[override]
        return self.padding == "causal" or self.window.reach < self.strides

    def stream_start(self) -> list[np.ndarray]:
        """A stream keeps the inputs that later windows still read."""
        assert self.input_shape is not None
        shape = (1, self.window.reach, int(self.input_shape[-1] or 0))
        return [np.zeros(shape, self.dtype)] if self.padding == "causal" and self.window.reach else []

    def create_weights(self, input_shape: tuple[int | None, ...]) -> None:
        channels = input_shape[-1]
        if len(input_shape) != 3 or channels is None:
            raise ShapeError(f"Conv1D '{self.name}': input must have shape (B, T, C) with a known C, got {input_shape}.")
        if channels % self.groups:
            raise ValueError(f"Conv1D '{self.name}': the input's channels must be a multiple of groups, got {channels} channels and {self.groups} groups.")
        shape = (self.kernel_size, channels // self.groups, self.filters)
        self.kernel = self.add_weight(shape, "kernel", self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint)
        if self.use_bias:
            self.bias = self.add_weight((self.filters,), "bias", self.bias_initializer, self.bias_regularizer, self.bias_constraint)

    def output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*super().output_shape(shape)[:-1], self.filters)

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        self._check_steps(x)
        window = self.window
        if b.live is not None and self.name in b.live.states:
            x = history(b, x, b.live.states[self.name][0])
            window = replace(window, left=0)
        y = convolution(b, x, self.kernel, self.bias, window, self.groups, self.activation)
        if self.activity_regularizer is not None:
            b.activities.append((y, self.activity_regularizer))
        return y

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "activation", "use_bias"):
            config[name] = getattr(self, name)
        config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        for role in ("kernel", "bias"):
            config[f"{role}_initializer"] = initializers.serialize(getattr(self, f"{role}_initializer"))
            config[f"{role}_regularizer"] = regularizers.serialize(getattr(self, f"{role}_regularizer"))
            config[f"{role}_constraint"] = constraints.serialize(getattr(self, f"{role}_constraint"))
        return config


class Pooling1D(Windowed):
    """Base of the two poolings."""

    kind = ""

    def __init__(self, pool_size: Any = 2, strides: Any = None, padding: str = "valid", data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pool_size = self._one("pool_size", pool_size)
        self.strides = self.pool_size if strides is None else self._one("strides", strides)
        self.padding = self._check(padding, ("valid", "same"), data_format)
        self.window = Window.padded(self.padding, self.pool_size, self.strides)

    @property
    def streams(self) -> bool:  # type: ignore[override]
        return self.pool_size <= self.strides

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        self._check_steps(x)
        return pooled(b, x, self.window, self.kind)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"pool_size": self.pool_size, "strides": self.strides, "padding": self.padding}


@register
class MaxPooling1D(Pooling1D):
    """The maximum of each window of `pool_size` steps: [B, T, C] becomes [B, T', C]. Ties share its gradient.

    Parameters
    ----------
    pool_size : int
    strides : int, optional
        By default `pool_size`.
    padding : {"valid", "same"}
        "same" gives ceil(T / strides) windows, of which those at the ends are shorter.
    data_format : {None, "channels_last"}

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> layers.MaxPooling1D(2)(np.arange(5, dtype=np.float32).reshape(1, 5, 1)).ravel()
    array([1., 3.], dtype=float32)
    """

    kind = "maximum"


@register
class AveragePooling1D(Pooling1D):
    """The mean of each window of `pool_size` steps: [B, T, C] becomes [B, T', C]. Padding does not count.

    Parameters
    ----------
    pool_size : int
    strides : int, optional
        By default `pool_size`.
    padding : {"valid", "same"}
        "same" gives ceil(T / strides) windows, of which those at the ends are shorter.
    data_format : {None, "channels_last"}

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> layers.AveragePooling1D(2)(np.arange(5, dtype=np.float32).reshape(1, 5, 1)).ravel()
    array([0.5, 2.5], dtype=float32)
    """

    kind = "mean"


class _Ends(Windowed):
    """Base of layers that lengthen or shorten a row at its ends."""

    argument, sign = "", 1

    def _set_ends(self, value: Any, data_format: str | None) -> None:
        self._check("valid", ("valid",), data_format)
        ends = (value, value) if isinstance(value, int) else value
        if not isinstance(ends, (tuple, list)) or len(ends) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in ends):
            raise ValueError(f"{type(self).__name__} '{self.name}': {self.argument} must be an integer of at least 0 or two of them, got {value!r}.")
        self.ends = tuple(ends)
        self.window = Window(1, left=self.sign * ends[0], right=self.sign * ends[1])

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        self._check_steps(x)
        return pooled(b, x, self.window, "mean")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {self.argument: list(self.ends)}


@register
class ZeroPadding1D(_Ends):
    """Zeros before and after each row's own steps.

    Parameters
    ----------
    padding : int or (int, int)
        Steps before and after.
    data_format : {None, "channels_last"}
    """

    argument = "padding"

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._set_ends(padding, data_format)


@register
class Cropping1D(_Ends):
    """Each row without its first and last steps.

    Parameters
    ----------
    cropping : int or (int, int)
        Steps taken from the front and from the end.
    data_format : {None, "channels_last"}
    """

    argument, sign = "cropping", -1

    def __init__(self, cropping: Any = (1, 1), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._set_ends(cropping, data_format)
