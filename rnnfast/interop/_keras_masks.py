"""Masks in a converted graph: where Keras' rules and rnnfast's would give other numbers, the mask is dropped as Keras drops it, or the model is refused.

In Keras a mask travels with a tensor and some layers lose it; here it is the input's, and all that is computed of the input's steps has it.
"""

from __future__ import annotations

from typing import Any

from rnnfast import layers
from rnnfast.interop._keras_layers import Maker
from rnnfast.layers.convolution import Windowed
from rnnfast.layers.graph import Graph, Node, Symbol
from rnnfast.layers.merging import Merge
from rnnfast.layers.recurrent import OverTime

Mask = Any  # (what is compared, with which value), or "reversed" and one; None where there is none
_READ_MASKS = (OverTime, layers.Bidirectional, layers.GlobalAveragePooling1D, layers.Attention)
_LOSE_MASKS = (layers.Masking, Windowed, layers.GlobalMaxPooling1D, layers.Flatten, layers.Reshape, layers.RepeatVector)
_SHOW = (layers.Flatten, layers.Reshape)
_EMPTY, _ALL = "no step", ("every step",)
_LOST = (
    "that Keras 3 hands on past a layer called with an initial_state, but does not compute that layer with. "
    "Give that layer mask= in Keras, if the mask is meant, or mask nothing in front of it"
)


class Masks:
    """What is known of the masks of a graph that grows.

    Parameters
    ----------
    maker : Maker
        Refuses.
    """

    def __init__(self, maker: Maker) -> None:
        self.maker = maker
        self.read: set[Mask] = set()
        self.of_keras: dict[Symbol, Mask] = {}
        self.of_rows: dict[Symbol, Mask] = {}
        self.roots: dict[Symbol, Symbol] = {}  # the symbol, mostly an input, whose steps a symbol has
        # What a masked step shows: the step before ("hold"), what the layers make of nothing ("pad", or "zeros" where that is 0), or what rnnfast cannot show:
        # of one input this and of another that ("mixed"), or zeros behind a product of anything else ("product").
        self.shown: dict[Symbol, str] = {}
        self.setters: dict[Node, tuple[Symbol, str]] = {}
        self.displays: list[tuple[Symbol, str, str]] = []
        self.dropped: dict[Symbol, Symbol] = {}

    def before(self, layer: layers.Layer, inputs: list[Symbol], blind: bool = False) -> list[Symbol]:
        """The inputs as the layer must read them; `blind` is one that Keras runs without the mask."""
        member = f"{type(layer).__name__} '{layer.name}'"
        if blind:
            return [self.drop(s) for s in inputs]
        if isinstance(layer, Merge):
            return self._merged(layer, member, inputs)
        if isinstance(layer, _SHOW):
            self.show(inputs[0], layer.name)
            return inputs
        if isinstance(layer, _LOSE_MASKS):
            return [self.drop(s) for s in inputs]
        if isinstance(layer, _READ_MASKS):
            inputs = [self.drop(s) if self.of_keras.get(s) is None else s for s in inputs]
            self.read |= {self.of_keras.get(s) for s in inputs}
            if any(self.of_keras.get(s) is not None and self.of_rows.get(s) is None for s in inputs):
                self.maker.refuse(member, f"its input has a mask {_LOST}")
            if any(self.of_keras.get(s) != self.of_rows.get(s) for s in inputs):
                self.maker.refuse(member, "its input is a masked sequence in reversed order, of which Keras does not reverse the mask and rnnfast does. Reverse the sequence back, or mask nothing")
            if isinstance(layer, layers.Attention) and layer.return_attention_scores and self.of_rows.get(inputs[0]) is not None:
                self.maker.refuse(member, "attention scores of masked query steps are zeros in rnnfast and not in Keras. Return no scores, or mask no query")
        return inputs

    def _merged(self, layer: Merge, member: str, inputs: list[Symbol]) -> list[Symbol]:
        found, rows = {self.of_keras.get(s) for s in inputs}, {self.of_rows.get(s) for s in inputs}
        if self._fills(layer) and found != {None}:
            self.read |= found
            if found != rows or len(found) > 1:
                self.maker.refuse(member, "has inputs with different masks or none, of which Keras 3 takes masked steps as 1 and rnnfast as they show. Mask nothing before it")
        if len(found) == len(rows) == 1:
            return inputs
        if None not in found and None in rows:
            self.maker.refuse(member, f"one of its inputs has a mask {_LOST}")
        if None not in found or len(found - {None}) > 1 or (self.maker.old and isinstance(layer, layers.Concatenate) and found != {None}):
            self.maker.refuse(member, "its inputs have different masks, of which Keras makes one and rnnfast takes the first")
        return [self.drop(s) for s in inputs]

    def drop(self, symbol: Symbol) -> Symbol:
        """The symbol without its mask: a sequence of all steps, the masked ones as they are shown."""
        if self.of_rows.get(symbol) is None:
            return symbol
        if symbol not in self.dropped:
            made = symbol.layer
            assert made is not None
            self.show(symbol, made.name)
            plain = layers.Reshape((-1, *(n or 0 for n in symbol.shape[2:])), name=f"{made.name}_unmasked", dtype=made.dtype)
            self.dropped[symbol] = plain(symbol)
        return self.dropped[symbol]

    def show(self, symbol: Symbol, name: str) -> None:
        """Note that the masked steps of a symbol are seen."""
        if self.of_rows.get(symbol) is None:
            return
        self.displays.append((self.roots[symbol], self.shown[symbol], name))

    def after(self, layer: layers.Layer, inputs: list[Symbol], outputs: list[Symbol], handed: Mask = None) -> None:
        """Follow the masks through a layer that has been called; `handed` is one that Keras hands on past it."""
        first, source = outputs[0], inputs[0]
        root = self.roots.get(source, source)
        if isinstance(layer, layers.Masking):
            root = first  # whose steps are its own
        shown = self._shows(layer)
        if shown is not None:
            self.setters[first.node] = (root, shown)  # type: ignore[index]
        self.roots |= {one: root if len(one.shape) == len(source.shape) or isinstance(layer, layers.Embedding) else one for one in outputs if not isinstance(layer, _SHOW)}
        rows = self.of_rows.get(source)
        if isinstance(layer, layers.Masking) or (isinstance(layer, layers.Embedding) and layer.mask_zero):
            plain = next((symbol for symbol, made in self.dropped.items() if made is source), source)
            mask = (plain, float(getattr(layer, "mask_value", 0)))
            self._set(first, mask, mask, shown)
        elif rows is not None and isinstance(layer, OverTime | layers.Bidirectional):
            rows = ("reversed", rows) if getattr(layer, "go_backwards", False) else rows
            for one in outputs[: 2 if getattr(layer, "merge_mode", "") is None else 1] if layer.return_sequences else []:
                self._set(one, self.of_keras[source], rows, shown)
        elif rows is not None and not isinstance(layer, (layers.GlobalAveragePooling1D, *_LOSE_MASKS)):
            self._set(first, self.of_keras.get(source), rows, shown or self._keeps(layer, inputs))
        elif rows is None and isinstance(layer, OverTime | layers.Bidirectional):
            self.of_keras |= dict.fromkeys(outputs[: 2 if getattr(layer, "merge_mode", "") is None else 1] if layer.return_sequences else [], handed)
        elif rows is None and not isinstance(layer, (layers.GlobalAveragePooling1D, *_LOSE_MASKS)):
            masks = {self.of_keras.get(s) for s in inputs}
            self.of_keras[first] = masks.pop() if len(masks) == 1 else None

    def _shows(self, layer: layers.Layer) -> str | None:
        """What masked steps show behind a layer, and in front of it on the same steps, if it says so."""
        if isinstance(layer, OverTime | layers.Bidirectional):
            return "zeros" if getattr(layer, "zero_output_for_mask", layer.return_sequences) else "hold"
        if isinstance(layer, layers.Attention | layers.Masking):
            return "zeros"
        return "pad" if isinstance(layer, layers.Embedding | Windowed) else None

    def _keeps(self, layer: layers.Layer, inputs: list[Symbol]) -> str:
        """What masked steps show behind a layer that leaves it to its inputs."""
        found = {self.shown[s] for s in inputs}
        if self._fills(layer):
            return "zeros" if "zeros" in found else "product"
        found = {"pad" if one == "zeros" else one for one in found}
        return found.pop() if len(found) == 1 else "mixed"

    def _fills(self, layer: layers.Layer) -> bool:
        """Whether Keras puts 1 in the masked steps of a layer's inputs, and 0 in those of its output."""
        return isinstance(layer, layers.Multiply) and not self.maker.old

    def _set(self, symbol: Symbol, of_keras: Mask, of_rows: Mask, shown: str | None) -> None:
        self.of_keras[symbol], self.of_rows[symbol], self.shown[symbol] = of_keras, of_rows, shown or "hold"

    def operation(self, member: str, kind: str, values: list[Any]) -> Mask:
        """The mask that an operation of Keras makes; in a graph of Keras 3 the layers' masks stand there as tensors of their own."""
        first = values[0]
        if kind == "NotEqual" and isinstance(first, Symbol) and isinstance(values[1], int | float):
            return (first, float(values[1]))
        if kind in ("ZerosLike", "OnesLike"):
            return _EMPTY if kind == "ZerosLike" else _ALL
        if kind in ("Any", "ConvertToTensor", "ExpandDims", "Cast", "LogicalOr", "Concatenate"):
            parts = first if isinstance(first, list) else [one for one in values if not isinstance(one, bool | int | float | str | None)]
            found = {one for one in parts if one is not _EMPTY}
            if not any(isinstance(one, Symbol) for one in parts) and (_ALL in found or len(found) == 1):
                return _ALL if _ALL in found else found.pop()
        return self.maker.refuse(member, "an operation outside a layer is not supported; use a layer, as layers.Add() for +")

    def check_given(self, called: list[layers.Layer], member: str, given: Any, inputs: list[Symbol]) -> None:
        """A mask that stands in a call of a layer that reads it must be the one that comes with the input."""
        if called and not isinstance(called[0], _READ_MASKS):
            return
        found = given if isinstance(given, list) else [given]
        own = [self.of_keras.get(s) or _ALL for s in inputs]
        if any(one is not None and (i >= len(own) or one != own[i]) for i, one in enumerate(found)):
            self.maker.refuse(member, "a mask given in the call is not supported; give mask= or lengths= to predict and fit")

    def finish(self, graph: Graph) -> None:
        """Refuse what would show, or mask, other steps than Keras does."""
        for symbol in graph.outputs:
            self.show(symbol, symbol.layer.name if symbol.layer else "output")
        for symbol in graph.inputs:
            readers = [node for node in graph.nodes if symbol in node.inputs and isinstance(node.layer, layers.Embedding)]
            found = {self.of_rows.get(node.outputs[0]) for node in readers}
            if len(found) > 1:
                names = ", ".join(f"'{node.layer.name}'" for node in readers)
                self.maker.refuse(f"input '{symbol.layer.name if symbol.layer else ''}'", f"is read by {names}, of which not all mask the same steps. rnnfast masks tokens for all; use two inputs")
        shown: dict[Symbol, str] = dict(self.setters[node] for node in graph.nodes if node in self.setters)
        for root, wanted, name in self.displays:
            if wanted == "product":
                self.maker.refuse(f"layer '{name}'", "shows masked steps of a Multiply, which Keras 3 sets to 0. Set zero_output_for_mask=True in a recurrent layer right in front of it")
            if wanted == "mixed" or (wanted == "hold") != (shown[root] == "hold"):
                self.maker.refuse(f"layer '{name}'", "shows its masked steps, while another layer on the same steps shows them in another way. Make two models, or set zero_output_for_mask alike")
