from typing import Any

from rnnfast._engine.buffers import Buffer, Op, Rows

class StagedLayer(Op):
    def __init__(self, dtype: str, cell: str, rows: Rows, buffers: dict[str, Buffer], sizes: dict[str, Any], backward: bool) -> None: ...

def row_cell_facts(dtype: str, cell: str) -> tuple[int, int, int]: ...
