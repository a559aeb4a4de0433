"""Model: a graph of layers that is compiled, fitted, asked for predictions, streamed and saved."""

from __future__ import annotations

import copy
import copyreg
import os
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnfast import _engine
from rnnfast.errors import suggest
from rnnfast.layers import Layer
from rnnfast.layers import graph as graphs
from rnnfast.layers.base import assign_all, unique_name
from rnnfast.layers.graph import Graph, Node
from rnnfast.layers.runner import Runner
from rnnfast.models import graph_config
from rnnfast.models.files import Saved, register_model
from rnnfast.models.heads import unique_names
from rnnfast.models.quantizing import Quantized
from rnnfast.models.steps import Steps
from rnnfast.models.training import Trainer
from rnnfast.models.truncated import train_windows
from rnnfast.plan import Plan, Variable

if TYPE_CHECKING:
    from rnnfast.models.stream import Stream
    from rnnfast.models.stream_pool import StreamPool

_MAKING = RLock()  # one runner a model, also where several threads ask for the first prediction


def _in_child() -> None:
    """A forked child does not have the thread that may hold the lock."""
    global _MAKING
    _MAKING = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class Runnable(Quantized, Saved, _engine.Predictor, Trainer):
    """What all models do: run a graph of layers. A subclass says which graph.

    Attributes
    ----------
    built : bool
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.built = False
        self.stop_training = False
        self._runner: Runner | None = None
        self._steps: Steps | None = None
        self.forget()

    def graph(self) -> Graph:
        """The layers and how they are connected."""
        raise NotImplementedError

    @property
    def layers(self) -> list[Layer]:
        """The layers, each once, without the inputs'."""
        return list(dict.fromkeys(node.layer for node in self.graph().nodes))

    @property
    def output_names(self) -> list[str]:  # type: ignore[override]
        """The names of the layers that the outputs are of; a layer's second output gets ``_1`` behind it, and so on."""
        return unique_names([s.layer.name if s.layer else "input" for s in self.graph().outputs])

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """A layer by its name or place."""
        if index is not None:
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(f"{self._label}: no layer is called {name!r}. {suggest(str(name), [layer.name for layer in self.layers])}")

    def _changed(self) -> None:
        """The graph is another one."""
        if self._runner is not None:
            self._runner.params.age.now += 1  # so that live streams look at it
        self._runner = None
        self.forget()

    def runner(self, alone: bool = False) -> Runner:
        """What runs the layers; `alone` with a parameter vector of this model's own, as training needs it."""
        runner = self._runner
        if runner is None or not runner.current(alone):
            with _MAKING:
                runner = self._runner
                if runner is None or not runner.current(alone):
                    runner = self._runner = Runner(self.graph(), self._label, alone)
                    self.forget(runner.params.age)
        return runner

    # -- steps -----------------------------------------------------------------------------------------------------------------

    def _compiled(self) -> None:
        self._steps = None

    def _stepper(self) -> Steps:
        runner, steps = self.runner(alone=True), self._steps
        if steps is None or steps.runner is not runner or steps.predictions != self._needs_predictions:
            self._steps = Steps(runner, self._heads.list, self.optimizer, self._needs_predictions, steps, self._log_norm)
            for slot, value in zip(self._steps.slots, self._saved_slots, strict=False):
                slot[: len(value)] = value
            self._saved_slots = []
        return self._steps  # type: ignore[return-value]

    def _slots(self) -> list[np.ndarray]:
        """The optimizer's state, as a vector of this model's own lays it out."""
        return self._saved_slots if self._steps is None else self._stepper().slots

    def _train_step(self, x: Any, y: Any, sample_weight: Any, mask: Any, resets: Any = None) -> tuple[float, Any]:
        if self._truncate is not None:
            return train_windows(self._stepper(), self._truncate, x, y, sample_weight, mask, resets)
        if sample_weight is None and resets is None:
            loss = self._train_again(x, y, mask)
            if loss is not None:
                return loss, None
        return self._stepper().run(x, y, sample_weight, mask, True, resets)

    def _train_again(self, x: Any, y: Any, lengths: Any) -> float | None:
        steps = self._steps
        return steps.again(x, y, lengths) if steps is not None and steps.runner is self._runner and steps.runner.current(alone=True) else None

    def _test_step(self, x: Any, y: Any, sample_weight: Any, mask: Any, resets: Any = None) -> tuple[float, Any]:
        return self._stepper().run(x, y, sample_weight, mask, False, resets)

    def _predict_step(self, x: Any, mask: Any, resets: Any = None) -> Any:
        return self.runner().predict(x, mask=mask, resets=resets)

    # What the last step left; no check of the layers, which the step made.

    def _gradient_norm(self) -> float | None:
        return None if self._steps is None else self._steps.gradient_norm

    def _output_losses(self) -> list[float]:
        return [] if self._steps is None else self._steps.losses

    def _output_mask(self) -> Any:
        masks = [None] if self._steps is None else self._steps.output_masks
        return masks if len(masks) > 1 else masks[0]

    def careful_predict(self, x: Any, lengths: Any, mask: Any, resets: Any) -> Any:
        """As predict_on_batch, for whatever a caller gives."""
        self._build_for(x)
        runner = self.runner()
        result = runner.predict(x, mask=mask, lengths=lengths, resets=resets)
        shown = self._shown(result)
        if resets is None and shown is result and isinstance(x, np.ndarray):
            channel = runner.direct_channel(x, lengths if mask is None else mask)
            if channel is not None:
                self.remember(channel, runner.params.age)
        return shown

    def __call__(self, x: Any, mask: Any = None, training: bool = False, lengths: Any = None) -> Any:
        """The output for x; `training` turns dropout on."""
        self._build_for(x)
        return self._shown(self.runner().predict(x, mask=mask, lengths=lengths, training=training))

    def vjp(self, x: Any, dy: Any, mask: Any = None, lengths: Any = None, training: bool = False, resets: Any = None) -> dict[str, Any]:
        """Gradients of sum(dy * y): "y", "x" and "weights", in the order of :meth:`get_weights`."""
        return self.runner().vjp(x, dy, mask=mask, lengths=lengths, training=training, resets=resets)

    def plan(self, batch: int, time: int | None = None) -> Plan:
        """The plan that one prediction of this size runs; print it."""
        runner = self.runner()
        xs = [self._example(inlet.shape, inlet.tokens, batch, time) for inlet in runner.inlets]
        return runner.predict_plan(xs, [None] * len(xs), [None] * len(xs), False, 0).builder.plan

    def _example(self, shape: graphs.Shape, tokens: bool, batch: int, time: int | None) -> np.ndarray:
        sizes: Any = [batch, *(time if n is None else n for n in shape[1:])]
        return np.zeros(sizes, np.int64 if tokens else self.runner().dtype)

    def stream(self) -> Stream:
        """One live sequence: step by step with the state kept."""
        from rnnfast.models.stream import Stream  # imported with the first stream

        return Stream(self)

    def stream_pool(self, capacity: int) -> StreamPool:
        """Up to `capacity` live sequences, of which any step together."""
        from rnnfast.models.stream_pool import StreamPool

        return StreamPool(self, capacity)

    def reset_states(self) -> None:
        """Let stateful layers start from zeros again."""
        for layer in self.layers:
            if hasattr(layer, "reset_state"):
                layer.reset_state()

    reset_state = reset_states

    # -- copies ----------------------------------------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles and copies: layers, weights, optimizer, its state and random states; plans are made anew."""
        return copyreg.__newobj__, (type(self),), self.__dict__ | {"_runner": None, "_steps": None, "_saved_slots": self._slots()}  # type: ignore[attr-defined]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.forget()

    def __copy__(self) -> Runnable:
        """A model with layers and weights of its own, as `copy.deepcopy` gives it."""
        return copy.deepcopy(self)

    # -- weights ---------------------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> list[Variable]:
        return list(dict.fromkeys(v for layer in self.layers for v in layer.weights))

    variables = weights

    @property
    def trainable_variables(self) -> list[Variable]:
        return [v for v in self.weights if v.trainable]

    trainable_weights = trainable_variables

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all weights, layer by layer, in Keras' order."""
        return [v.numpy() for v in self.weights]

    def set_weights(self, weights: list[Any]) -> None:
        """Set all weights from a list in the order of :meth:`get_weights`."""
        assign_all(self._label, self.weights, weights)

    def count_params(self) -> int:
        """Number of weights."""
        return sum(int(np.prod(v.shape, dtype=object)) for v in self.weights)

    def summary(self, print_fn: Any = print) -> None:
        """Print a table of the layers."""
        nodes = self.graph().nodes if self.built else [Node(layer, [], []) for layer in self.layers]
        many = any(len(node.inputs) + len(node.states) > 1 for node in nodes)
        lines = [f'Model: "{self.name}"', f"{'Layer (type)':<44}{'Output shape':<24}{'Params':>12}" + ("  Connected to" if many else ""), "=" * 80]
        for node in nodes:
            layer = node.layer
            shape, count = (str(node.outputs[0].shape), f"{layer.count_params():,}") if self.built else ("?", "?")
            kind = ", ".join([type(layer).__name__, *([layer.quantization_mode] if layer.quantization_mode else [])])
            line = f"{f'{layer.name} ({kind})':<44}{shape:<24}{count:>12}"
            lines.append(line + ("  " + ", ".join(s.layer.name for s in [*node.inputs, *node.states] if s.layer) if many else ""))
        trainable = sum(int(np.prod(v.shape)) for v in self.trainable_variables)
        lines += ["=" * 80, f"Total params: {self.count_params():,}. Trainable: {trainable:,}."]
        print_fn("\n".join(lines))


@register_model
class Model(Runnable):
    """A model of any graph of layers (Keras' functional form).

    Parameters
    ----------
    inputs : Input or list of them
    outputs : symbol, or list or dict of them
        What layers gave when they were called on inputs and on each other's outputs.
    name : str, optional

    Attributes
    ----------
    input_names, output_names : list of str
        By which dicts of arrays, losses and metrics are given: of the inputs' layers and of the layers that the outputs are of. Where a layer gives several
        outputs, the later ones' names end in ``_1``, ``_2``...; outputs given as a dict have its keys as names, sorted.

    Notes
    -----
    Arrays for several inputs are given as a list in their order or as a dict by the inputs' names; `lengths` and `mask` likewise. Targets and sample weights
    of several outputs too; predictions come as a list, or as a dict if `outputs` was one. Models that share layers share their weights; the one that is
    trained owns the vector that they lie in.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import Input, Model, layers
    >>> source, target = Input((None, 8), name="source"), Input((None, 4), name="target")
    >>> _, h = layers.GRU(16, return_state=True)(source)
    >>> decoded = layers.GRU(16, return_sequences=True)(target, initial_state=h)
    >>> model = Model([source, target], layers.Dense(4)(decoded))
    >>> x = {"source": np.zeros((2, 9, 8), np.float32), "target": np.zeros((2, 5, 4), np.float32)}
    >>> model.predict_on_batch(x, lengths={"source": np.array([9, 3])}).shape
    (2, 5, 4)
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None) -> None:
        super().__init__(name or unique_name("model"))
        self._keys = sorted(outputs) if isinstance(outputs, dict) else None
        ends = [graphs.symbols_of(inputs), graphs.symbols_of(outputs if self._keys is None else [outputs[key] for key in self._keys])]
        for what, found in zip(("inputs", "outputs"), ends, strict=True):
            if found is None:
                raise TypeError(f"{self._label}: {what} must be Input(...) or what layers give when they are called on one.")
        self._graph = graphs.between(*ends)  # type: ignore[arg-type]
        names = [s.layer.name if s.layer else "" for s in self._graph.inputs] + [layer.name for layer in self._graph.layers if not hasattr(layer, "symbol")]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(f"{self._label}: layer names must be unique, got '{repeated}' twice.")
        self.input_names = names[: len(self._graph.inputs)]
        self.built = True

    def graph(self) -> Graph:
        """The layers and how they are connected."""
        return self._graph

    @property
    def output_names(self) -> list[str]:  # type: ignore[override]
        return self._keys or super().output_names

    def _shown(self, result: Any) -> Any:
        return result if self._keys is None else dict(zip(self._keys, result if isinstance(result, list) else [result], strict=True))

    def build(self, input_shape: Any) -> None:
        """A model of a graph is built with it."""

    @property
    def input_shape(self) -> Any:
        shapes = [s.shape for s in self._graph.inputs]
        return shapes if len(shapes) > 1 else shapes[0]

    @property
    def output_shape(self) -> Any:
        shapes = [s.shape for s in self._graph.outputs]
        return shapes if len(shapes) > 1 else shapes[0]

    def get_config(self) -> dict[str, Any]:
        """The layers and connections, as JSON can hold them."""
        config = graph_config.to_config(self._graph)
        if self._keys is not None:
            config["outputs"] = dict(zip(self._keys, config["outputs"], strict=True))
        return {"name": self.name, **config}

    graph_from_config = staticmethod(graph_config.from_config)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Model:
        """Make a model, with new weights, from :meth:`get_config`'s result."""
        keys = config["outputs"]
        return cls.from_graph(cls.graph_from_config(config), config.get("name"), list(keys) if isinstance(keys, dict) else None)

    @classmethod
    def from_graph(cls, graph: Graph, name: str | None = None, keys: list[str] | None = None) -> Model:
        """Make a model of a graph as it stands, with its own order of nodes, and so of layers and weights; with `keys` its outputs are a dict."""
        model = cls(graph.inputs, graph.outputs if keys is None else dict(zip(keys, graph.outputs, strict=True)), name)
        model._graph = graph
        return model
