"""Which layer a graph's stored arrays went to. Nodes with the same arrays share one layer; an array that only some of a layer's are is refused, since it would be untied."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.interop.onnx.axes import UnfitError


class Owners:
    """The layers made so far, with the graph's arrays that their weights are made of."""

    def __init__(self) -> None:
        self.made: list[tuple[Any, list[np.ndarray]]] = []

    def layer(self, layer: Any, stored: list[np.ndarray]) -> Any:
        """This layer, or the one before it that is the same and has the same arrays."""
        for other, arrays in self.made:
            shared = [one for one in stored if any(_tied(one, array) for array in arrays)]
            if not shared:
                continue
            same = len(stored) == len(arrays) and all(_place(a) == _place(b) for a, b in zip(stored, arrays, strict=True))
            if same and _settings(layer) == _settings(other):
                return other
            raise UnfitError(f"it shares an array of shape {shared[0].shape} with {type(other).__name__} '{other.name}', and layers of their own would train it apart")
        self.made.append((layer, stored))
        return layer


def _tied(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same weights. Writers store equal arrays once: one of a single number over and over, as a fresh bias is, says nothing."""
    return bool(np.shares_memory(a, b)) and bool((a != a.flat[0]).any())


def _place(array: np.ndarray) -> tuple[Any, ...]:
    return array.__array_interface__["data"], array.shape, array.strides


def _settings(layer: Any) -> Any:
    """A layer's configuration without the names in it."""
    def nameless(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: nameless(one) for key, one in value.items() if key != "name"}
        return [nameless(one) for one in value] if isinstance(value, list | tuple) else value

    return type(layer), nameless(layer.get_config())
