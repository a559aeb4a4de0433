"""Sequential: a chain of layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rnnfast.errors import NotBuiltError
from rnnfast.layers import InputLayer, Layer, deserialize, serialize
from rnnfast.layers.base import unique_name
from rnnfast.layers.graph import Graph, chain
from rnnfast.models.files import register_model
from rnnfast.models.heads import unique_names
from rnnfast.models.model import Runnable


@register_model
class Sequential(Runnable):
    """A model of layers one after the other.

    Parameters
    ----------
    layers : list of Layer, optional
        Begin with `Input(shape)` to have the weights at once; without it they are made at the first data.
    name : str, optional

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import Input, Sequential, layers
    >>> model = Sequential([Input((None, 8)), layers.GRU(16), layers.Dense(1)])
    >>> model.predict_on_batch(np.zeros((4, 10, 8), np.float32)).shape
    (4, 1)
    """

    def __init__(self, layers: Any = None, name: str | None = None) -> None:
        super().__init__(name or unique_name("sequential"))
        self._chain: list[Layer] = []
        self.input_shape: tuple[int | None, ...] | None = None
        self._extend(layers or [])

    @property
    def layers(self) -> list[Layer]:
        """The layers, without the input's."""
        return [layer for layer in self._chain if not isinstance(layer, InputLayer)]

    @property
    def output_names(self) -> list[str]:  # type: ignore[override]
        """The name of the last layer; if it returns its states, theirs are that name with ``_1``, ``_2``... behind it."""
        if self.built or not self._chain:
            return super().output_names if self.built else ["output"]
        last: Any = self._chain[-1]
        return unique_names([last.name] * (1 + (last.states if getattr(last, "return_state", False) else 0)))

    def add(self, layer: Layer) -> None:
        """Append a layer."""
        self._extend([layer])

    def _extend(self, layers: Iterable[Layer]) -> None:
        """Append layers, then make the weights of all at once."""
        names = {layer.name for layer in self._chain}
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"Sequential '{self.name}': a layer must be a Layer, got {layer!r}.")
            if layer.many:
                raise ValueError(f"Sequential '{self.name}': {type(layer).__name__} '{layer.name}' takes several inputs; make a rnnfast.Model of it.")
            if layer.name in names:
                raise ValueError(f"Sequential '{self.name}': layer names must be unique, got '{layer.name}' twice.")
            if isinstance(layer, InputLayer) and self._chain:
                raise ValueError(f"Sequential '{self.name}': Input must be the first layer, got it at place {len(self._chain)}.")
            names.add(layer.name)
            self._chain.append(layer)
            self.built = False
            self._changed()
        if not self.built and len(self._chain) > 1 and isinstance(self._chain[0], InputLayer):
            self.build(self._chain[0].batch_shape)

    def pop(self) -> Layer:
        """Remove and return the last layer."""
        if not self._chain:
            raise IndexError(f"Sequential '{self.name}': has no layer to remove.")
        layer = self._chain.pop()
        self._changed()
        self.built = self.built and bool(self.layers)
        if self.built:
            self.build(self.input_shape)
        return layer

    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs of this shape, batch first, None where it may vary."""
        shape: tuple[int | None, ...] = tuple(input_shape)
        if not self.layers:
            raise ValueError(f"Sequential '{self.name}': has no layers to build.")
        self.input_shape = shape
        for layer in self._chain:
            layer.build(shape)
            shape = layer.output_shape(shape)
        self.output_shape = shape
        self.built = True

    def graph(self) -> Graph:
        """The layers and how they are connected."""
        if not self.built:
            raise NotBuiltError(f"Sequential '{self.name}': not built. Call build(input_shape), start with Input(shape), or call it on data.")
        return chain(self._chain)

    def get_config(self) -> dict[str, Any]:
        """The layers' configurations, as JSON can hold them."""
        shape = list(self.input_shape) if self.built and self.input_shape else None
        return {"name": self.name, "layers": [serialize(layer) for layer in self._chain], "build_input_shape": shape}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Sequential:
        """Make a model, with new weights, from :meth:`get_config`'s result."""
        own = {name: value for name, value in config.items() if name not in ("layers", "build_input_shape")}  # a subclass may have arguments of its own
        model = cls([deserialize(saved) for saved in config["layers"]], **own)
        if config.get("build_input_shape") and not model.built:
            model.build(config["build_input_shape"])
        return model
