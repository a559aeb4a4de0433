"""A case: what is computed, on which data, and the least work that it takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

CELLS = {"lstm": 4, "gru": 3, "rnn": 1}
TAPE = {"lstm": 5, "gru": 4, "rnn": 1}
Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One row of a table: a stack of recurrent layers over B rows of T steps of I inputs, H units, the whole sequence out.

    Parameters
    ----------
    mode : {"infer", "train", "backward"}
        A training step is forward, mean squared error against a random target, backward, and Adam with rate 1e-3; "backward" is forward and backward for a given gradient.
    cell : {"lstm", "gru", "rnn"}
    batch, time, inputs, units : int
        B, T, I, H.
    layers : int
    bidirectional : bool
    outputs : int
        Of a Dense layer at the end; 0 for none.
    lengths : bool
        Rows have lengths uniform in 1..T, instead of T all.
    resets : bool
        At one step of twenty a row starts a new episode.
    live : bool
        The state goes on from call to call: a stream, or a pool of B streams.
    alone : bool
        One step of a cell by itself, as `torch.nn.LSTMCell` is called.
    values : {"normal", "subnormal", "saturated", "nan"}
        What the inputs are.
    label : str
        Whose shape this is.
    base : Case, optional
        What the case is measured beside; `work` says how many times its work the case has, and the case's cost is its time over `work` times the base's.
    """

    mode: str
    cell: str
    batch: int
    time: int
    inputs: int
    units: int
    layers: int = 1
    bidirectional: bool = False
    outputs: int = 0
    lengths: bool = False
    resets: bool = False
    live: bool = False
    alone: bool = False
    values: str = "normal"
    label: str = ""
    base: Case | None = field(default=None, compare=False)
    work: float = field(default=1.0, compare=False)

    @property
    def name(self) -> str:
        """Mode, cell, B,T,I,H and what is special."""
        words = [f"x{self.layers}"] if self.layers > 1 else []
        words += [word for word in ("bidirectional", "lengths", "resets", "live", "alone") if getattr(self, word)]
        words += [f"dense {self.outputs}"] if self.outputs else []
        words += [self.values] if self.values != "normal" else []
        words += [f"({self.label})"] if self.label else []
        return " ".join([self.mode, self.cell, f"{self.batch},{self.time},{self.inputs},{self.units}", *words])

    def packed(self) -> dict[str, Any]:
        """The case without its base, for another process."""
        return asdict(self) | {"base": None}

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def widths(self) -> list[int]:
        """Inputs of each layer."""
        return [self.inputs] + [self.units * self.directions] * (self.layers - 1)

    @property
    def row_lengths(self) -> np.ndarray:
        """Steps of each row."""
        if not self.lengths:
            return np.full(self.batch, self.time)
        return np.random.default_rng([self.batch, self.time]).integers(1, self.time + 1, self.batch)

    @property
    def steps(self) -> int:
        """Of all rows."""
        return int(self.row_lengths.sum())

    @property
    def valid(self) -> np.ndarray:
        """(B, T) of bool: where rows have steps."""
        return np.arange(self.time) < self.row_lengths[:, None]

    @property
    def flops(self) -> float:
        """Of the products; backward counts twice forward."""
        width = CELLS[self.cell] * self.units
        forward = sum(2.0 * self.steps * self.directions * width * (inputs + self.units) for inputs in self.widths)
        forward += 2.0 * self.steps * self.units * self.directions * self.outputs
        return forward if self.mode == "infer" else 3 * forward

    @property
    def kernel_bytes(self) -> float:
        """Of all kernels: what a step reads."""
        return sum(4.0 * self.directions * CELLS[self.cell] * self.units * (inputs + self.units) for inputs in self.widths)

    @property
    def weight_bytes(self) -> float:
        """The recurrent kernels, read once a step, and the kernels, read once; backward reads both once more."""
        width = 4.0 * CELLS[self.cell] * self.units * self.directions
        forward = sum(width * (self.units * int(self.row_lengths.max()) + inputs) for inputs in self.widths)
        return forward if self.mode == "infer" else 2 * forward

    @property
    def touched_bytes(self) -> float:
        """Weights as they are read, inputs and outputs of each layer once; of training the tape written and read, gradients, and what Adam reads and writes."""
        forward = 4.0 * self.steps * sum(inputs + self.units * self.directions for inputs in self.widths)
        if self.mode == "infer":
            return self.weight_bytes + forward
        tape = 8.0 * self.steps * TAPE[self.cell] * self.units * self.directions * self.layers
        return self.weight_bytes + 2 * forward + tape + 7 * self.kernel_bytes

    def data(self) -> dict[str, np.ndarray]:
        """Input, target (of a given gradient: the gradient) and resets, the same in every process."""
        rng = np.random.default_rng([self.batch, self.time, self.inputs, self.units])
        x = rng.standard_normal((self.batch, self.time, self.inputs), dtype=np.float32)
        factor = {"normal": 1.0, "subnormal": 1e-40, "saturated": 1e4, "nan": np.nan}[self.values]
        target = rng.standard_normal((self.batch, self.time, self.outputs or self.units * self.directions), dtype=np.float32)
        return {"x": (x * factor).astype(np.float32), "target": target, "resets": rng.random((self.batch, self.time)) < 0.05}

    def weights(self) -> list[list[Weights]]:
        """Kernel, recurrent kernel and bias in Keras' layout, of each direction of each layer."""
        return [[self._direction(layer, direction, inputs) for direction in range(self.directions)] for layer, inputs in enumerate(self.widths)]

    def _direction(self, layer: int, direction: int, inputs: int) -> Weights:
        rng = np.random.default_rng([self.units, inputs, layer, direction])
        width, scale = CELLS[self.cell] * self.units, 1 / np.sqrt(self.units)
        shapes = {"kernel": (inputs, width), "recurrent": (self.units, width), "bias": (2, width) if self.cell == "gru" else (width,)}
        made = {name: rng.uniform(-scale, scale, shape).astype(np.float32) for name, shape in shapes.items()}
        if self.values == "subnormal":
            made["bias"] *= 0
        return made

    def head(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel (H, outputs) and bias of the Dense layer."""
        rng = np.random.default_rng([self.units, self.outputs])
        return rng.uniform(-0.1, 0.1, (self.units * self.directions, self.outputs)).astype(np.float32), np.zeros(self.outputs, np.float32)
