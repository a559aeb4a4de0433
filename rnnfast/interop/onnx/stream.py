"""OnnxStream: a live sequence of a graph whose states are inputs and outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnfast.errors import ShapeError, suggest

if TYPE_CHECKING:
    from rnnfast.interop.onnx.model import OnnxModel

_WORDS = re.compile(r"[A-Za-z]+|\d+")
_SIDES = {"in", "out", "input", "output", "new", "next", "prev", "previous", "past", "present", "initial", "init", "final", "last", "cur", "current", "y", "n"}


def stem(name: str) -> str:
    """A state's name without what says on which side it stands: "h", "h0", "hn", "h_in", "h_out", "initial_h" and "Y_h" are all "h"."""
    words = [word.lower() for word in _WORDS.findall(re.sub(r"([a-z])([A-Z])", r"\1_\2", name))]
    kept = [word for word in words if word not in _SIDES and word != "0"]
    return "_".join({"hn": "h", "cn": "c"}.get(word, word) for word in kept)


def pair_states(model: OnnxModel) -> dict[str, str]:
    """State inputs and the outputs with their next values.

    First those that start and end the same recurrent nodes, then those whose names have equal stems, each one once.
    """
    pairs = {model.input_names[i]: model.output_names[o] for i, o in model.carried().items()}
    inputs = [name for name in model.input_names if name not in pairs]
    outputs = [name for name in model.output_names if name not in pairs.values()]
    return pairs | _by_name(inputs, outputs)


def _by_name(inputs: list[str], outputs: list[str]) -> dict[str, str]:
    by_stem: dict[str, list[str]] = {}
    for name in outputs:
        by_stem.setdefault(stem(name), []).append(name)
    stems = [stem(name) for name in inputs]
    found = {}
    for name, own in zip(inputs, stems, strict=True):
        if own and stems.count(own) == 1 and len(by_stem.get(own, [])) == 1 and by_stem[own][0] != name:
            found[name] = by_stem[own][0]
    return found


class OnnxStream:
    """A live sequence, made by `model.stream()`. It keeps the values of the state inputs between calls.

    Parameters
    ----------
    model : OnnxModel
    states : mapping of str to str, optional
        State inputs and the outputs with their next values.
    """

    def __init__(self, model: OnnxModel, states: Mapping[str, str] | None = None) -> None:
        self._model, self._label = model, model.label
        self.states = pair_states(model) if states is None else dict(states)
        for name, output in self.states.items():
            for what, one, known in (("input", name, model.input_names), ("output", output, model.output_names)):
                if one not in known:
                    raise ValueError(f"{self._label}: states: no {what} is called {one!r}. {suggest(str(one), known)}")
        if not self.states:
            raise ValueError(
                f"{self._label}: cannot be streamed, because none of its inputs ({', '.join(model.inputs)}) is the state of an output ({', '.join(model.output_names)}) "
                "by its name. Say which: stream(states={input: output}), or export the model with its states as inputs and outputs."
            )
        self.input_names = [name for name in model.input_names if name not in self.states]
        self.output_names = [name for name in model.output_names if name not in self.states.values()]
        self._state: dict[str, np.ndarray] = {}
        self.reset()
        self._whole = self._try_chunks()

    def reset(self) -> None:
        """Start a new sequence: all states are zeros, of one sequence where the batch may vary."""
        for name in self.states:
            dtype, dims = self._model.inputs[name]
            if dims is None:
                raise ValueError(f"{self._label}: cannot be streamed, because the graph does not say what shape its state '{name}' has.")
            self._state[name] = np.zeros([n if isinstance(n, int) else 1 for n in dims], dtype)

    def get_state(self) -> dict[str, np.ndarray]:
        """Copies of the states, by the inputs' names."""
        return {name: state.copy() for name, state in self._state.items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`get_state` gave."""
        if set(state) != set(self._state):
            raise ValueError(f"{self._label}: a stream's state must have {sorted(self._state)}, got {sorted(state)}.")
        arrays = {name: np.array(value, self._state[name].dtype) for name, value in state.items()}
        for name, array in arrays.items():
            if array.shape != self._state[name].shape:
                raise ShapeError(f"{self._label}: state '{name}' must have shape {self._state[name].shape}, got {array.shape}.")
        self._state = arrays

    def copy(self) -> OnnxStream:
        """Another stream that goes on from here."""
        made = object.__new__(OnnxStream)
        made.__dict__ |= self.__dict__ | {"_state": self.get_state()}
        return made

    # -- calls -----------------------------------------------------------------------------------------------------------------

    def step(self, x: Any) -> Any:
        """The outputs for the next inputs of one sequence.

        Parameters
        ----------
        x : array_like of shape (I,), or dict of str to array_like
            The features of one step, without batch and time; several inputs by name.

        Returns
        -------
        ndarray of shape (O,), or dict
            A dict where the graph has several outputs beside the states.
        """
        named = {name: np.asarray(value) for name, value in self._named(x).items()}
        for name, value in named.items() if self._whole is not None else ():
            features = (self._model.inputs[name][1] or ())[2:]
            if value.ndim != len(features):
                raise ShapeError(f"{self._label}: a step's input '{name}' must have the shape {tuple(features)}, got {value.shape}. process() takes several steps.")
        found = self._advance({name: self._framed(name, value) for name, value in named.items()})
        return self._shown({name: _features(found[name]) for name in self.output_names})

    def process(self, chunk: Any) -> Any:
        """The outputs for the next steps: arrays [T, ...] in place of the features alone. A chunk goes through the graph at once where this gives what single
        steps give (tried with random numbers when the stream is made), else step by step.

        Parameters
        ----------
        chunk : array_like of shape (T, I), or dict of str to array_like

        Returns
        -------
        ndarray of shape (T, O), or dict
        """
        named = {name: np.asarray(value) for name, value in self._named(chunk).items()}
        counts = {len(value) if value.ndim else 0 for value in named.values()}
        if counts & {0} or len(counts) != 1:
            raise ShapeError(f"{self._label}: the inputs of a chunk must have the same number of steps, at least one, got {sorted(counts)}.")
        if self._whole is not None:
            return self._shown(self._at_once(named, *self._whole))
        steps = [self.step({name: value[t] for name, value in named.items()}) for t in range(counts.pop())]
        if len(self.output_names) == 1:
            return np.stack(steps)
        return {name: np.stack([one[name] for one in steps]) for name in self.output_names}

    def _named(self, x: Any) -> dict[str, Any]:
        if isinstance(x, Mapping):
            return dict(x)
        if len(self.input_names) != 1:
            raise ValueError(f"{self._label}: a stream with the inputs {', '.join(self.input_names)} must be given a dict.")
        return {self.input_names[0]: x}

    def _framed(self, name: str, value: Any) -> np.ndarray:
        """A step's features in the shape of the graph's input: axes of one in front."""
        array, dims = np.asarray(value), self._model.inputs.get(name, ("", None))[1]
        return array if dims is None else array.reshape((1,) * (len(dims) - array.ndim) + array.shape)

    def _shown(self, found: dict[str, np.ndarray]) -> Any:
        return found if len(found) != 1 else next(iter(found.values()))

    def _advance(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the graph, and go on to its next states."""
        found = self._model.run(feeds | self._state)
        for name, output in self.states.items():
            if found[output].shape != self._state[name].shape:
                raise ShapeError(f"{self._label}: state '{name}' has shape {self._state[name].shape}, its next value '{output}' has {found[output].shape}.")
        self._state = {name: found[output] for name, output in self.states.items()}
        return found

    def _at_once(self, named: dict[str, np.ndarray], axis: int, axes: dict[str, int]) -> dict[str, np.ndarray]:
        """A chunk in one run: time on this axis of the input, and on these of the outputs."""
        found = self._advance({name: np.expand_dims(value, 1 - axis) for name, value in named.items()})
        moved = {name: np.moveaxis(found[name], axes[name], 0) for name in self.output_names}
        return {name: y.reshape(len(y), *_features(y[0]).shape) for name, y in moved.items()}

    def _try_chunks(self) -> tuple[int, dict[str, int]] | None:
        """The axes of time, if three steps at once give the numbers of three single ones."""
        (dtype, dims), *others = [self._model.inputs[name] for name in self.input_names] or [("", None)]
        features = [n for n in (dims or [])[2:] if isinstance(n, int)]
        if others or dims is None or len(dims) != len(features) + 2:
            return None
        rng = np.random.default_rng(0)
        x = rng.standard_normal((3, *features)) if np.dtype(dtype).kind == "f" else rng.integers(0, 2, (3, *features))
        try:
            steps = [self._advance({self.input_names[0]: self._framed(self.input_names[0], one)}) for one in x]
            return next(filter(None, (self._compare(x, steps, axis) for axis in (0, 1))), None)
        except ValueError:
            return None
        finally:
            self.reset()

    def _compare(self, x: np.ndarray, steps: list[dict[str, np.ndarray]], axis: int) -> tuple[int, dict[str, int]] | None:
        self.reset()
        try:
            found = self._advance({self.input_names[0]: np.expand_dims(x, 1 - axis)})
        except ValueError:
            return None
        axes = {}
        for name in self._model.output_names:
            y = found[name]
            if name in self.states.values():
                good = np.allclose(y, steps[-1][name], rtol=1e-4, atol=1e-5)
            else:
                single = np.stack([_features(one[name]) for one in steps])
                same = lambda k, y=y, single=single: np.allclose(np.moveaxis(y, k, 0).reshape(single.shape), single, rtol=1e-4, atol=1e-5)
                places = [k for k in range(y.ndim) if y.shape[k] == 3 and y.size == single.size and same(k)]
                good, axes[name] = bool(places), places[0] if places else 0
            if not good:
                return None
        return axis, axes


def _features(y: np.ndarray) -> np.ndarray:
    """An output without its axes of one in front."""
    lead = next((i for i, n in enumerate(y.shape[:-1]) if n != 1), max(0, y.ndim - 1))
    return y.reshape(y.shape[lead:])
