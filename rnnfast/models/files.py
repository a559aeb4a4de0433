"""Models in files: what is written, how it comes back, and the classes that a file may name."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Self

import numpy as np

from rnnfast.errors import FormatError, ShapeError, suggest
from rnnfast.layers.base import given_weights
from rnnfast.layers.runner import Runner

MAX_EXAMPLE = 1 << 25  # numbers that a self-test may take in memory
_MODELS: dict[str, type[Saved]] = {}
_BROKEN = (KeyError, TypeError, ValueError, AttributeError, IndexError, MemoryError, OverflowError)


def _archive() -> Any:
    """The file format, imported at its first use: a service that only builds a model does not wait for zip and checksums."""
    from rnnfast.models import saving

    return saving


def register_model(cls: type[Any]) -> type[Any]:
    """Make a class of models known by name to files."""
    _MODELS[cls.__name__] = cls
    return cls


class Saved:
    """Mixin of models that are written to files and come back."""

    proof: tuple[list[np.ndarray], list[np.ndarray]] | None = None  # of a converted model: inputs and the source's own outputs
    origin: dict[str, Any] | None = None  # what a converted model's file says of it beside layers and weights, as JSON holds it
    _saved_slots: list[np.ndarray] = []  # noqa: RUF012 - the optimizer's state from a file, until the first step takes it; never altered in place

    def save(self: Any, path: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Write the model to one file, atomically: layers, weights, optimizer, random states and a self-test that loading repeats.

        The self-test is left out where the sizes that the model fixes, such as `Input((10**9, 3))`, make it too large.

        Parameters
        ----------
        path : str or path-like
            By convention ending in ".rnnf".
        overwrite : bool
            Whether a file that is there is replaced.

        Raises
        ------
        FileExistsError
        """
        arrays = {f"weights/{i:04d}": v.numpy() for i, v in enumerate(self.weights)}
        xs, expected = self._proof()
        for what, values in (("input", xs), ("output", expected)):
            arrays |= dict(zip(selftest_names(what, len(values)), values, strict=True))
        config: dict[str, Any] = {"class_name": type(self).__name__, "config": self.get_config(), "seeds": [list(s.get_state()) for s in self._seeds()]}
        config["shuffle"] = self.get_random_state()
        if not xs:
            config["selftest"] = False
        if self.origin:
            config["origin"] = self.origin
        if self.compiled:
            config["compile"] = self.get_compile_config()
            config["iterations"] = self.optimizer.iterations
            arrays |= {f"optimizer/{name}": slot for name, slot in zip(self.optimizer.slot_names, self._slots(), strict=False)}
        _archive().save_archive(path, config, arrays, overwrite)

    def save_weights(self: Any, path: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Write the weights alone to one file, atomically; without `overwrite` FileExistsError is raised if one is there."""
        _archive().save_archive(path, {"class_name": "weights"}, {f"weights/{i:04d}": v.numpy() for i, v in enumerate(self.weights)}, overwrite)

    def load_weights(self: Any, path: str | os.PathLike[str]) -> None:
        """Set the weights from a file of :meth:`save_weights` or :meth:`save`, or from one of Keras (".weights.h5", ".h5", ".keras") or PyTorch (".pt",
        ".safetensors", ".npz")."""
        from rnnfast import interop  # whose readers are imported when they are needed

        if interop.recognize(path) != "rnnf":
            interop.read_weights(path, self)
            return
        _, arrays = _archive().load_archive(path)
        self.set_weights([arrays[name] for name in sorted(arrays) if name.startswith("weights/")])

    def _seeds(self: Any) -> list[Any]:
        return [one.seeds for layer in self.layers for one in (layer.sublayers() or [layer]) if hasattr(one, "seeds")]

    def _proof(self: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Inputs and what the model makes of them: the source's own numbers, as long as a converted model still gives them."""
        if self.proof is not None and agree(self._test_outputs(self.proof[0]), self.proof[1]):
            return self.proof
        xs = self.test_inputs()
        return xs, self._test_outputs(xs) if xs else []

    def test_inputs(self: Any) -> list[np.ndarray]:
        """An array for each input, drawn from a fixed seed: of few rows, and of as few steps as the model's windows allow. None where its own sizes ask for too many."""
        inlets, graph = self.runner().inlets, self.runner().graph
        for steps in (5, 50, 500, 5000):
            shapes = [tuple(2 if i == 0 and n is None else steps if n is None else n for i, n in enumerate(inlet.shape)) for inlet in inlets]
            with contextlib.suppress(ShapeError):
                if graph.numbers(shapes) > MAX_EXAMPLE:
                    break
                xs = [self._random_input(inlet, seed, shape) for seed, (inlet, shape) in enumerate(zip(inlets, shapes, strict=True))]
                self._test_outputs(xs)
                return xs
        return []

    def _test_outputs(self: Any, xs: list[np.ndarray]) -> list[np.ndarray]:
        """What the model makes of some inputs from its first states; those that stateful layers keep stay as they are."""
        keepers = [one for layer in self.layers for one in (layer.sublayers() or [layer]) if hasattr(one, "state_values")]
        kept = [one.state_values for one in keepers]
        for one in keepers:
            one.state_values = None
        try:
            result = Runner(self.graph(), self._label).predict(xs)  # whose plans point at no kept states
        finally:
            for one, values in zip(keepers, kept, strict=True):
                one.state_values = values
        return result if isinstance(result, list) else [result]

    def _random_input(self: Any, inlet: Any, seed: int, shape: tuple[int, ...]) -> np.ndarray:
        rng = np.random.default_rng(seed)
        if inlet.tokens:
            return rng.integers(0, min(layer.input_dim for layer in inlet.embeddings), shape)
        return rng.standard_normal(shape).astype(self.runner().dtype)

    @classmethod
    def _from_archive(cls: Any, path: Any, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
        try:
            with given_weights([arrays.pop(name) for name in sorted(arrays) if name.startswith("weights/")]) as left:
                model = cls.from_config(config["config"])
            if left:
                raise ValueError(f"{len(left)} weights are left over")
            for seeds, state in zip(model._seeds(), config["seeds"], strict=True):
                seeds.set_state(tuple(state))
            model.set_random_state(tuple(config["shuffle"]) if config.get("shuffle") else None)
            model.origin = config.get("origin")
            if config.get("compile"):
                model.compile_from_config(config["compile"])
                model.optimizer.iterations = int(config["iterations"])
                names = [f"optimizer/{name}" for name in model.optimizer.slot_names]
                model._saved_slots = [arrays.pop(name) for name in names if name in arrays]
            xs = [arrays.pop(name) for name in selftest_names("input", len(model.runner().inlets))] if config.get("selftest", True) else []
            if xs and model.runner().graph.numbers([x.shape for x in xs]) > MAX_EXAMPLE:  # as `test_inputs` does not make them
                xs, arrays = [], {name: array for name, array in arrays.items() if not name.startswith("selftest/")}
            found = model._test_outputs(xs) if xs else []
            if "selftest/output" in arrays:
                del found[1:]  # an older file has the first output alone
            expected = [arrays.pop(name) for name in selftest_names("output", len(found))]
        except _BROKEN as error:
            raise FormatError(f"{path}: config.json does not describe a model: {error}") from error
        if arrays:
            raise FormatError(f"{path}: members without a use: {sorted(arrays)}.")
        if not agree(found, expected):
            raise FormatError(f"{path}: self-test failed: the model does not reproduce the outputs it was saved with.")
        return model

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a model, with new weights, from `get_config`'s result."""
        raise NotImplementedError


def agree(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    """Whether a model still gives the numbers of its self-test."""
    return len(found) == len(expected) and all(
        one.shape == other.shape and np.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True) for one, other in zip(found, expected, strict=True)
    )


def selftest_names(what: str, count: int) -> list[str]:
    """What a file calls the arrays of its self-test."""
    return [f"selftest/{what}"] if count == 1 else [f"selftest/{what}{i}" for i in range(count)]


def read(path: str | os.PathLike[str]) -> Any:
    """The model that `save` wrote."""
    config, arrays = _archive().load_archive(path)
    name = config.get("class_name")
    if name not in _MODELS:
        import rnnfast.builders
        import rnnfast.interop.onnx.model  # noqa: F401 - whose classes are known once they are imported
    if name not in _MODELS:
        raise FormatError(f"{os.fspath(path)}: holds {name!r}, not a model. {suggest(str(name), _MODELS)}")
    return _MODELS[name]._from_archive(path, config, arrays)
