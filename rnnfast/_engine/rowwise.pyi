from typing import Any

import numpy as np
import numpy.typing as npt

from rnnfast._engine.buffers import Buffer, Op, Rows

class RowOp(Op):
    def __init__(
        self, name: str, dtype: str, rows: Rows | None, buffers: dict[str, Buffer], numbers: dict[str, Any], segments: npt.NDArray[np.int64] | None = None
    ) -> None: ...

class PackOp(Op):
    def __init__(self, dtype: str, params: Buffer, jobs: list[tuple[Any, ...]]) -> None: ...
