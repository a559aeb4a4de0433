"""The grid: 60 inference cases and 21 training cases, with their data and their work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CELLS = {"lstm": 4, "gru": 3, "rnn": 1}
INFERENCE = (
    (1, 1, 16, 16), (1, 1, 64, 64), (1, 1, 256, 256), (1, 1, 1024, 1024), (1, 100, 8, 32), (1, 100, 64, 64), (1, 100, 128, 128), (1, 100, 256, 256),
    (1, 100, 512, 512), (1, 50, 1024, 1024), (8, 100, 64, 64), (8, 100, 256, 256), (32, 100, 32, 32), (32, 100, 128, 128), (32, 100, 256, 256),
    (64, 50, 512, 512), (128, 20, 1024, 1024), (256, 100, 16, 64), (1, 1000, 1, 16), (1, 1000, 1, 40),
)  # fmt: skip
TRAINING = (
    (8, 50, 16, 32), (32, 100, 32, 64), (32, 100, 128, 128), (32, 100, 256, 256), (64, 50, 512, 512), (128, 25, 64, 256), (1, 200, 64, 128),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One row of the table: B rows, T steps, I inputs, H units, the whole sequence out.

    Training is one step: forward, mean squared error against a random target, backward, Adam with rate 1e-3.
    """

    mode: str
    cell: str
    batch: int
    time: int
    inputs: int
    units: int

    @property
    def name(self) -> str:
        return f"{self.mode} {self.cell} {self.batch},{self.time},{self.inputs},{self.units}"

    @property
    def flops(self) -> float:
        """Of the products; backward counts twice forward."""
        forward = 2.0 * self.batch * self.time * CELLS[self.cell] * self.units * (self.inputs + self.units)
        return 3 * forward if self.mode == "train" else forward

    @property
    def weight_bytes(self) -> float:
        """Of the recurrent kernel, read once a step, and of the kernel, read once."""
        return 4.0 * CELLS[self.cell] * self.units * (self.units * self.time + self.inputs)

    def data(self) -> dict[str, np.ndarray]:
        """Input, target and weights in Keras' layout, the same in every process."""
        rng = np.random.default_rng([self.batch, self.time, self.inputs, self.units])
        width, scale = CELLS[self.cell] * self.units, 1 / np.sqrt(self.units)
        shapes = {"kernel": (self.inputs, width), "recurrent": (self.units, width), "bias": (2, width) if self.cell == "gru" else (width,)}
        data = {name: rng.uniform(-scale, scale, shape).astype(np.float32) for name, shape in shapes.items()}
        data["x"] = rng.standard_normal((self.batch, self.time, self.inputs), dtype=np.float32)
        data["target"] = rng.standard_normal((self.batch, self.time, self.units), dtype=np.float32)
        return data


GRID = [Case(mode, cell, *shape) for mode, shapes in (("infer", INFERENCE), ("train", TRAINING)) for cell in CELLS for shape in shapes]
