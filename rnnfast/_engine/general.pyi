from typing import Any

from rnnfast._engine.buffers import Buffer, Op, Rows

FUNCTIONS: tuple[str, ...]
GENERAL_CELLS: dict[str, tuple[int, int]]

class GeneralLayer(Op):
    def __init__(
        self, dtype: str, cell: str, rows: Rows, buffers: dict[str, Buffer], functions: list[tuple[int, float, float]], sizes: dict[str, Any]
    ) -> None: ...
