"""OnnxModel: a graph as a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rnnfast.errors import FormatError, ShapeError, suggest
from rnnfast.interop.bounds import BROKEN
from rnnfast.interop.onnx.parsing import DTYPES
from rnnfast.interop.onnx.program import Program
from rnnfast.interop.onnx.stream import OnnxStream
from rnnfast.models.files import agree, register_model, selftest_names

if TYPE_CHECKING:
    from rnnfast.models.model import Model
    from rnnfast.models.sequential import Sequential


@register_model
class OnnxModel:
    """A model from an ONNX graph, made by :func:`rnnfast.from_onnx` or :func:`rnnfast.load`.

    RNN, LSTM and GRU run on the engine, what stands between them in NumPy. It may be called from many Python threads at once.

    Attributes
    ----------
    input_names, output_names : list of str
        In the graph's order.
    inputs : dict of str to (str, list or None)
        Type of elements and dimensions of each input: an int, or a name or None where it may vary; None where the graph does not say.

    Examples
    --------
    See :func:`rnnfast.from_onnx`.
    """

    def __init__(self, description: dict[str, Any], arrays: list[np.ndarray], label: str = "OnnxModel") -> None:
        self._description, self._arrays = description, arrays
        self._program = Program(description, arrays, label)
        self.label = label
        self.inputs: dict[str, tuple[str, list[int | str | None] | None]] = {name: (dtype, dims) for name, dtype, dims in description["inputs"]}
        self.input_names = list(self.inputs)
        self._types = [(name, np.dtype(dtype)) for name, (dtype, _) in self.inputs.items()]
        self.output_names: list[str] = list(description["outputs"])
        self.proof: tuple[list[np.ndarray], list[np.ndarray]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles and copies: the description and the arrays; the program is made anew."""
        return type(self), (self._description, [array.copy() for array in self._arrays], self.label), {"proof": self.proof}

    # -- running ---------------------------------------------------------------------------------------------------------------

    def run(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """All outputs by name.

        Parameters
        ----------
        feeds : mapping of str to array_like
            Every input by its name. Floats are converted to the input's float type, integers to its integer type.

        Returns
        -------
        dict of str to ndarray
            New arrays.

        Raises
        ------
        ValueError
            If an input is missing, unknown or of another kind of numbers.
        ShapeError
            If a shape does not fit; the text names the input or the node.
        """
        found = self._again(feeds)
        return dict(zip(self.output_names, self._program.run(self._feed(feeds)) if found is None else found, strict=True))

    def _again(self, feeds: Mapping[str, Any]) -> list[np.ndarray] | None:
        """The outputs for arrays that need no check, since such came before; else None."""
        if len(feeds) != len(self._types):
            return None
        given = []
        for name, dtype in self._types:
            array = feeds.get(name)
            if type(array) is not np.ndarray or array.dtype is not dtype:
                return None
            given.append(array)
        return self._program.again(given)

    def _feed(self, feeds: Mapping[str, Any]) -> list[np.ndarray]:
        for name in feeds:
            if name not in self.inputs:
                raise ValueError(f"{self.label}: no input is called {name!r}. {suggest(str(name), self.inputs)}")
        missing = [name for name in self.inputs if name not in feeds]
        if missing:
            raise ValueError(f"{self.label}: input {missing[0]!r} must be given. Inputs: {', '.join(self.inputs)}.")
        return [self._check(name, feeds[name]) for name in self.inputs]

    def _check(self, name: str, value: Any) -> np.ndarray:
        """An input as an array of its type and shape."""
        dtype, dims = self.inputs[name]
        array = np.asarray(value)
        if array.dtype != dtype:
            kinds = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}[np.dtype(dtype).kind]
            if array.dtype.kind not in kinds:
                raise TypeError(f"{self.label}: input '{name}' must be {dtype}, got {array.dtype}.")
            array = array.astype(dtype)
        if dims is not None and (array.ndim != len(dims) or any(isinstance(n, int) and n != m for n, m in zip(dims, array.shape, strict=True))):
            wanted = ", ".join("?" if n is None else str(n) for n in dims)
            raise ShapeError(f"{self.label}: input '{name}' must have shape ({wanted}), got {array.shape}.")
        return array

    def predict_on_batch(self, x: Any) -> Any:
        """The output for an array; with several inputs for a list in the order of `input_names` or a dict. Several outputs come as a list."""
        if not isinstance(x, Mapping):
            several = isinstance(x, list | tuple) and (len(self.inputs) > 1 or (len(x) == 1 and isinstance(x[0], np.ndarray)))
            given = list(x) if several else [x]
            if len(given) != len(self.inputs):
                raise ValueError(f"{self.label}: must be given {len(self.inputs)} inputs ({', '.join(self.inputs)}), got {len(given)}.")
            x = dict(zip(self.inputs, given, strict=True))
        found = list(self.run(x).values())
        return found if len(found) > 1 else found[0]

    def predict(self, x: Any, **_: Any) -> Any:
        """As :meth:`predict_on_batch`, all rows at once; Keras' other arguments change nothing."""
        return self.predict_on_batch(x)

    __call__ = predict_on_batch

    def stream(self, states: Mapping[str, str] | None = None) -> OnnxStream:
        """One live sequence; the graph's state inputs and outputs become its state.

        Parameters
        ----------
        states : mapping of str to str, optional
            For each state input the output with its next value. By default they are found by their names (see `docs/onnx.md`).
        """
        return OnnxStream(self, states)

    def to_layers(self) -> Sequential | Model:
        """The same model made of layers, which trains, streams, takes `lengths` and can be written to every format; inputs and outputs are batch first.

        Recurrent nodes, products with constant matrices, convolutions, embeddings, normalisations, activations, sums and joined features become layers; transpositions and
        reshapes that only undo each other vanish. The model's numbers are compared with the graph's before it is returned.

        Returns
        -------
        Sequential or Model
            A Sequential where every layer takes what the one before it gives. State inputs and outputs are (B, H), without the axis of directions.

        Raises
        ------
        FormatError
            If a node has no layer; the text names it. The graph itself still runs.

        Examples
        --------
        >>> import tempfile, numpy as np, rnnfast  # doctest: +SKIP
        >>> model = rnnfast.from_onnx("tagger.onnx").to_layers()  # doctest: +SKIP
        >>> model.compile("adam", "mse")  # doctest: +SKIP
        """
        from rnnfast.interop.onnx.lifting import to_layers

        return to_layers(self)

    def carried(self) -> dict[int, int]:
        """Places of state inputs and outputs, as the recurrent nodes say."""
        return self._program.carried()

    # -- files -----------------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Write the model to one ".rnnf" file, atomically. Loading it needs neither onnx nor the ONNX file."""
        from rnnfast.models.saving import save_archive

        arrays = {f"weights/{i:06d}": a for i, a in enumerate(self._arrays)}
        xs, expected = self._proof()
        arrays |= dict(zip(selftest_names("input", len(xs)), xs, strict=True)) | dict(zip(selftest_names("output", len(expected)), expected, strict=True))
        save_archive(path, {"class_name": type(self).__name__, "config": self._description}, arrays, overwrite)

    def _proof(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Inputs and what comes out: the source's own numbers if there are any. A graph that takes none of the inputs tried has no self-test."""
        if self.proof is not None:
            return self.proof
        for xs in (self.sample(0), self.sample(1)):
            try:
                return xs, self._program.run(xs)
            except ValueError:
                continue
        return [], []

    def sample(self, attempt: int = 0) -> list[np.ndarray]:
        """Random inputs of sizes that the graph may take: 2, 3, ... for each name of a dimension, or (attempt 1) all 1."""
        rng, sizes, made = np.random.default_rng(0), dict[str, int](), []
        for dtype, dims in self.inputs.values():
            shape = [n if isinstance(n, int) else 1 if attempt or n is None else sizes.setdefault(n, 2 + len(sizes)) for n in dims or ()]
            random = rng.standard_normal(shape) if np.dtype(dtype).kind == "f" else rng.integers(0, 2, shape)
            made.append(np.asarray(random).astype(dtype))
        return made

    @classmethod
    def _from_archive(cls, path: Any, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        label = os.fspath(path)
        try:
            _check_description(config["config"])
            weights = [arrays.pop(name) for name in sorted(arrays) if name.startswith("weights/")]
            model = cls(config["config"], weights, label)
            tested, expected = ([arrays.pop(name) for name in selftest_names(what, n) if name in arrays] for what, n in (("input", len(model.inputs)), ("output", len(model.output_names))))
            found = model._program.run(model._feed(dict(zip(model.inputs, tested, strict=True)))) if expected else []
            good = agree(found, expected)
        except BROKEN as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"{label}: config.json does not describe a model: {error}") from error
        if arrays:
            raise FormatError(f"{label}: members without a use: {sorted(arrays)}.")
        if not good:
            raise FormatError(f"{label}: self-test failed: the model does not reproduce the outputs it was saved with.")
        model.proof = (tested, expected) if expected else None
        return model

    def __repr__(self) -> str:
        return f"<OnnxModel '{self.label}': {', '.join(self.input_names)} -> {', '.join(self.output_names)}>"


def _check_description(description: Any) -> None:
    """What a file that is not ONNX says of the graph must be as `parsing.parse` gives it; nodes are checked when they are bound."""
    for name, dtype, dims in description["inputs"]:
        good = dims is None or all(n is None or isinstance(n, str) or (isinstance(n, int) and n >= 0) for n in dims)
        if not isinstance(name, str) or dtype not in DTYPES.values() or not good:
            raise ValueError(f"input {name!r}: {dtype!r} of shape {dims!r}")
