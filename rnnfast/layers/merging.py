"""Layers that make one tensor of several: Add, Subtract, Multiply, Average, Concatenate."""

from __future__ import annotations

from typing import Any

from rnnfast.errors import ShapeError
from rnnfast.layers.base import Layer, register
from rnnfast.plan import Builder, Tensor

Shape = tuple[int | None, ...]


class Merge(Layer):
    """Base of the layers that take a list of inputs of one shape.

    Where inputs have masks of their own, the output has the first one's; a masked step of another counts as what it shows.
    """

    many = True
    mode = ""
    exactly: int | None = None

    def create_weights(self, input_shape: Any) -> None:
        shapes = input_shape
        if len(shapes) < 2 or (self.exactly and len(shapes) != self.exactly):
            raise ValueError(f"{type(self).__name__} '{self.name}': must have {self.exactly or 'two or more'} inputs, got {len(shapes)}.")
        for shape in shapes[1:]:
            if not self.fits(shapes[0], shape):
                raise ShapeError(f"{type(self).__name__} '{self.name}': inputs must have one shape{self.except_for}, got {list(shapes)}.")

    except_for = ""

    def fits(self, first: Shape, other: Shape) -> bool:
        """Whether two inputs go together."""
        return len(first) == len(other) and all(None in pair or pair[0] == pair[1] for pair in zip(first, other, strict=True))

    def output_shape(self, shape: Any) -> Shape:
        first: Shape = tuple(shape[0])
        return first

    def describe(self, b: Builder, x: Any) -> Tensor:
        self.check_times(x)
        if len({t.features for t in x}) > 1:
            raise ShapeError(f"{type(self).__name__} '{self.name}': inputs must have one shape, got {[t.shape for t in x]}.")
        y: Tensor = x[0]
        for i, other in enumerate(x[1:], 2):
            y = b.merge(y, other, self.mode, i)
        return y

    def check_times(self, tensors: list[Tensor]) -> None:
        """Raise where inputs that may vary differ in this call."""
        if len({(t.timed, t.rows.time) for t in tensors}) > 1:
            raise ShapeError(f"{type(self).__name__} '{self.name}': inputs must have one number of steps, got shapes {[t.shape for t in tensors]}.")


@register
class Add(Merge):
    """The sum of its inputs.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> layers.Add()([np.ones((1, 2), np.float32), np.ones((1, 2), np.float32)])
    array([[2., 2.]], dtype=float32)
    """

    mode = "sum"
    streams = True


@register
class Subtract(Merge):
    """The first of two inputs minus the second."""

    mode, exactly = "sub", 2
    streams = True


@register
class Multiply(Merge):
    """The product of its inputs, value by value."""

    mode = "mul"
    streams = True


@register
class Average(Merge):
    """The mean of its inputs."""

    mode = "ave"
    streams = True


@register
class Concatenate(Merge):
    """Its inputs side by side on the last axis.

    Parameters
    ----------
    axis : int, default -1
        Only the last one.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> layers.Concatenate()([np.zeros((2, 5, 3), np.float32), np.zeros((2, 5, 4), np.float32)]).shape
    (2, 5, 7)
    """

    streams = True
    except_for = " but for the last axis"

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def create_weights(self, input_shape: Any) -> None:
        super().create_weights(input_shape)
        if self.axis not in (-1, len(input_shape[0]) - 1):
            raise ValueError(f"Concatenate '{self.name}': axis must be the last one, -1, got {self.axis!r}.")

    def fits(self, first: Shape, other: Shape) -> bool:
        return super().fits(first[:-1], other[:-1])

    def output_shape(self, shape: Any) -> Shape:
        widths = [one[-1] for one in shape]
        return (*shape[0][:-1], None if None in widths else sum(widths))

    def describe(self, b: Builder, x: Any) -> Tensor:
        self.check_times(x)
        if any(len(t.features) != 1 for t in x):
            raise ShapeError(f"Concatenate '{self.name}': inputs must have one axis of features, got shapes {[t.shape for t in x]}.")
        return b.concat(x)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"axis": self.axis}
