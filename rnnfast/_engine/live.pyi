from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from rnnfast._engine.buffers import Buffer, Rows, Version
from rnnfast._engine.program import Program

class Lengths:
    def __init__(self, rows: Rows, derived: Iterable[tuple[Rows, str, Rows]]) -> None: ...

class Intake:
    def __init__(self, buffer: Buffer, shape: tuple[int, ...], dtype: str, vocabulary: int = 0, least: int = 0) -> None: ...

class Outlet:
    def __init__(self, buffer: Buffer, shape: tuple[int, ...], dtype: str) -> None: ...

class Channel:
    program: Program
    def __init__(self, program: Program, intakes: list[Intake], outlets: list[Outlet], brief: bool = False, lengths: Lengths | None = None) -> None: ...

class Lesson:
    program: Program
    def __init__(
        self,
        program: Program,
        source: Buffer,
        target: Buffer,
        shapes: tuple[tuple[int, ...], tuple[int, ...]],
        dtype: str,
        scalars: np.ndarray,
        result: np.ndarray,
        version: Version,
        lengths: Lengths | None = None,
        scored: Rows | None = None,
        weights: np.ndarray | None = None,
        mean: bool = True,
    ) -> None: ...
    def learn(self, x: Any, y: Any, lengths: Any, scalars: tuple[float, ...]) -> float | None: ...

class Predictor:
    version: Version | None
    def forget(self, version: Version | None = None) -> None: ...
    def remember(self, channel: Channel, version: Version) -> None: ...
    def predict_on_batch(self, x: Any, *, lengths: Any = None, mask: Any = None, resets: Any = None) -> Any: ...

class LiveStream:
    single: Channel | None
    chunks: list[Channel]
    version: Version
    def _alone(self, call: Callable[..., Any], *args: Any) -> Any: ...
    def step(self, x: Any, out: Any = None) -> Any: ...
    def process(self, chunk: Any, out: Any = None) -> Any: ...

class PoolPlan:
    program: Program
    def __init__(
        self, program: Program, sources: list[Buffer], targets: list[Buffer], maps: list[Rows], parts: list[tuple[Rows, Rows]], slots: list[Rows], flops: float
    ) -> None: ...

class PoolRows:
    capacity: int
    count: int
    def __init__(self, capacity: int) -> None: ...
    def open(self) -> tuple[int, int] | None: ...
    def close(self, row: int) -> None: ...
    def row_of(self, stream: int) -> int: ...
    def ids(self) -> list[int]: ...
    def find(self, ids: npt.NDArray[np.int64]) -> int | None: ...
    def run(self, plan: PoolPlan, xs: list[npt.NDArray[Any]], outs: list[npt.NDArray[Any]], region: float) -> None: ...
