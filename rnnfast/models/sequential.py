"""Sequential: a chain of layers that is compiled, fitted, asked for predictions, streamed and saved."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from rnnfast.errors import FormatError, NotBuiltError
from rnnfast.layers import InputLayer, Layer, deserialize, serialize
from rnnfast.layers.base import assign_all, given_weights, unique_name
from rnnfast.layers.runner import Runner
from rnnfast.models import saving
from rnnfast.models.steps import Steps
from rnnfast.models.stream import Stream
from rnnfast.models.training import Trainer
from rnnfast.plan import Plan, Variable


class Sequential(Trainer):
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
        self.name = name or unique_name("sequential")
        self._chain: list[Layer] = []
        self._runner: Runner | None = None
        self._steps: Steps | None = None
        self._direct: dict[Any, Any] = {}
        self.input_shape: tuple[int | None, ...] | None = None
        self.built = False
        self.stop_training = False
        for layer in layers or []:
            self.add(layer)

    # -- layers ----------------------------------------------------------------------------------------------------------------

    @property
    def layers(self) -> list[Layer]:
        """The layers, without the input's."""
        return [layer for layer in self._chain if not isinstance(layer, InputLayer)]

    def add(self, layer: Layer) -> None:
        """Append a layer."""
        if not isinstance(layer, Layer):
            raise TypeError(f"Sequential '{self.name}': a layer must be a Layer, got {layer!r}.")
        if any(layer.name == other.name for other in self._chain):
            raise ValueError(f"Sequential '{self.name}': layer names must be unique, got '{layer.name}' twice.")
        if isinstance(layer, InputLayer) and self._chain:
            raise ValueError(f"Sequential '{self.name}': Input must be the first layer, got it at place {len(self._chain)}.")
        self._chain.append(layer)
        self.built, self._runner = False, None
        if isinstance(self._chain[0], InputLayer) and len(self._chain) > 1:
            self.build(self._chain[0].batch_shape)

    def pop(self) -> Layer:
        """Remove and return the last layer."""
        layer = self._chain.pop()
        self._runner = None
        return layer

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """A layer by its name or place."""
        if index is not None:
            return self.layers[index]
        for layer in self._chain:
            if layer.name == name:
                return layer
        raise ValueError(f"Sequential '{self.name}': no layer is called {name!r}. It has {[layer.name for layer in self.layers]}.")

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

    def runner(self) -> Runner:
        """What runs the layers."""
        if not self.built:
            raise NotBuiltError(f"Sequential '{self.name}': not built. Call build(input_shape), start with Input(shape), or call it on data.")
        if self._runner is None or not self._runner.current():
            self._runner = Runner(self._chain, f"Sequential '{self.name}'")
            self._steps, self._direct = None, {}
        return self._runner

    # -- steps -----------------------------------------------------------------------------------------------------------------

    def _compiled(self) -> None:
        self._steps = None

    def _stepper(self) -> Steps:
        runner = self.runner()
        if self._steps is None or self._steps.runner is not runner or self._steps.predictions != self._needs_predictions:
            self._steps = Steps(runner, self.loss, self.optimizer, self._needs_predictions)
            state = self.__dict__.pop("_saved_slots", None)
            for slot, value in zip(self._steps.slots, state or [], strict=False):
                slot[: len(value)] = value
        return self._steps

    def _train_step(self, x: Any, y: Any, sample_weight: Any, mask: Any) -> tuple[float, np.ndarray | None]:
        return self._stepper().run(x, y, sample_weight, mask, train=True)

    def _test_step(self, x: Any, y: Any, sample_weight: Any, mask: Any) -> tuple[float, np.ndarray]:
        loss, y_pred = self._stepper().run(x, y, sample_weight, mask, train=False)
        assert y_pred is not None
        return loss, y_pred

    def _predict_step(self, x: Any, mask: Any) -> Any:
        return self.runner().predict(x, mask=mask)

    def _output_mask(self, x: Any, mask: Any) -> np.ndarray | None:
        runner = self.runner()
        valid = runner.check_mask(runner.check_input(x), mask, None)
        return valid if valid is not None and len(self.output_shape) > 2 else None

    def predict_on_batch(self, x: Any, *, lengths: Any = None, mask: Any = None) -> Any:
        """Return the outputs for one batch, in one call of the engine."""
        if lengths is None and mask is None and self._runner is not None:
            program = self._direct.get(getattr(x, "shape", None))
            if program is not None and not self._runner.params.stale:
                y = program.call(x)
                if y is not None:
                    return y
        if not self.built:
            self.build((None, *np.shape(x)[1:]))
        runner = self.runner()
        result = runner.predict(x, mask=mask, lengths=lengths)
        if lengths is None and mask is None and isinstance(x, np.ndarray):
            self._direct[x.shape] = runner.direct_program(x)
        return result

    def __call__(self, x: Any, mask: Any = None, training: bool = False, lengths: Any = None) -> Any:
        """The output for x; `training` turns dropout on."""
        x = np.asarray(x)
        if not self.built:
            self.build((None, *x.shape[1:]))
        return self.runner().predict(x, mask=mask, lengths=lengths, training=training)

    def vjp(self, x: Any, dy: Any, mask: Any = None, lengths: Any = None, training: bool = False) -> dict[str, Any]:
        """Gradients of sum(dy * y): "y", "x" and "weights", in the order of :meth:`get_weights`."""
        return self.runner().vjp(x, dy, mask=mask, lengths=lengths, training=training)

    def plan(self, batch: int, time: int | None = None) -> Plan:
        """The plan that one prediction of this size runs; print it."""
        assert self.input_shape is not None
        shape = [batch, *(time if n is None else n for n in self.input_shape[1:])]
        dtype = np.int64 if self.runner().tokens else self.runner().dtype
        return self.runner().predict_plan(np.zeros(shape, dtype), False, False, 0).builder.plan  # type: ignore[arg-type]

    def stream(self) -> Stream:
        """One live sequence: step by step with the state kept."""
        return Stream(self)

    def reset_states(self) -> None:
        """Let stateful layers start from zeros again."""
        for layer in self._chain:
            if hasattr(layer, "reset_state"):
                layer.reset_state()

    reset_state = reset_states

    # -- weights ---------------------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> list[Variable]:
        return [v for layer in self._chain for v in layer.weights]

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
        assign_all(f"Sequential '{self.name}'", self.weights, weights)

    def count_params(self) -> int:
        """Number of weights."""
        return sum(layer.count_params() for layer in self._chain)

    def summary(self, print_fn: Any = print) -> None:
        """Print a table of the layers."""
        shape = self.input_shape or ()
        lines = [f'Model: "{self.name}"', f"{'Layer (type)':<44}{'Output shape':<24}{'Params':>12}", "=" * 80]
        for layer in self.layers:
            shape = layer.output_shape(shape) if self.built else ()
            lines.append(f"{f'{layer.name} ({type(layer).__name__})':<44}{str(shape) if self.built else '?':<24}{layer.count_params() if self.built else '?':>12,}")
        trainable = sum(int(np.prod(v.shape)) for v in self.trainable_variables)
        lines += ["=" * 80, f"Total params: {self.count_params():,}. Trainable: {trainable:,}."]
        print_fn("\n".join(lines))

    # -- configuration and files -----------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """The layers' configurations, as JSON can hold them."""
        shape = list(self.input_shape) if self.built and self.input_shape else None
        return {"name": self.name, "layers": [serialize(layer) for layer in self._chain], "build_input_shape": shape}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Sequential:
        """Make a model, with new weights, from :meth:`get_config`'s result."""
        model = cls([deserialize(saved) for saved in config["layers"]], name=config.get("name"))
        if config.get("build_input_shape") and not model.built:
            model.build(config["build_input_shape"])
        return model

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file, atomically: layers, weights, optimizer, random states and a self-test that loading repeats.

        Parameters
        ----------
        path : str or path-like
            By convention ending in ".rnnf".
        """
        runner = self.runner()
        arrays = {f"weights/{i:04d}": v.numpy() for i, v in enumerate(self.weights)}
        x = self._test_input()
        arrays |= {"selftest/input": x, "selftest/output": np.asarray(_first(runner.predict(x)))}
        config: dict[str, Any] = {"class_name": "Sequential", "config": self.get_config(), "seeds": [list(s.get_state()) for s in self._seeds()]}
        config["shuffle"] = self.get_random_state()
        if self.compiled:
            config["compile"] = self.get_compile_config()
            config["iterations"] = self.optimizer.iterations
            slots = self._steps.slots if self._steps is not None else self.__dict__.get("_saved_slots") or []
            arrays |= {f"optimizer/{name}": slot for name, slot in zip(self.optimizer.slot_names, slots, strict=False)}
        saving.save_archive(path, config, arrays)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write the weights alone to one file, atomically."""
        saving.save_archive(path, {"class_name": "weights"}, {f"weights/{i:04d}": v.numpy() for i, v in enumerate(self.weights)})

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Set the weights from a file of :meth:`save_weights` or :meth:`save`."""
        _, arrays = saving.load_archive(path)
        self.set_weights([arrays[name] for name in sorted(arrays) if name.startswith("weights/")])

    def _seeds(self) -> list[Any]:
        return [one.seeds for layer in self._chain for one in (layer.sublayers() or [layer]) if hasattr(one, "seeds")]

    def _test_input(self) -> np.ndarray:
        assert self.input_shape is not None
        shape = [2 if i == 0 and n is None else 5 if n is None else n for i, n in enumerate(self.input_shape)]
        rng = np.random.default_rng(0)
        if self.runner().tokens:
            return rng.integers(0, self.runner().first.input_dim, shape)  # type: ignore[attr-defined]
        return rng.standard_normal(shape).astype(self.runner().dtype)

    @classmethod
    def _from_archive(cls, path: Any, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Sequential:
        try:
            with given_weights([arrays.pop(name) for name in sorted(arrays) if name.startswith("weights/")]) as left:
                model = cls.from_config(config["config"])
            if left:
                raise ValueError(f"{len(left)} weights are left over")
            for seeds, state in zip(model._seeds(), config["seeds"], strict=True):
                seeds.set_state(tuple(state))
            model.set_random_state(tuple(config["shuffle"]) if config.get("shuffle") else None)
            if config.get("compile"):
                model.compile_from_config(config["compile"])
                model.optimizer.iterations = int(config["iterations"])
                names = [f"optimizer/{name}" for name in model.optimizer.slot_names]
                model.__dict__["_saved_slots"] = [arrays.pop(name) for name in names if name in arrays]
            x, expected = arrays.pop("selftest/input"), arrays.pop("selftest/output")
            found = _first(model.runner().predict(x))
        except (KeyError, TypeError, ValueError, AttributeError, MemoryError, OverflowError) as error:
            raise FormatError(f"{path}: config.json does not describe a model: {error}") from error
        if arrays:
            raise FormatError(f"{path}: members without a use: {sorted(arrays)}.")
        model.reset_states()
        if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True):
            raise FormatError(f"{path}: self-test failed: the model does not reproduce the outputs it was saved with.")
        return model


def _first(result: Any) -> np.ndarray:
    first: np.ndarray = result[0] if isinstance(result, list) else result
    return first


def load(path: str | os.PathLike[str]) -> Sequential:
    """Load a model that :meth:`Sequential.save` wrote.

    Raises
    ------
    FormatError
        If the file is damaged, altered or of another kind.
    """
    config, arrays = saving.load_archive(path)
    if config.get("class_name") != "Sequential":
        raise FormatError(f"{path}: config.json must describe a Sequential, got {config.get('class_name')!r}.")
    return Sequential._from_archive(path, config, arrays)
