from collections.abc import Sequence

from rnnfast._engine.buffers import Buffer, Op, Rows

class RecurrentLayer(Op):
    split: int
    def __init__(
        self, dtype: str, cell: str, rows: Rows, buffers: dict[str, Buffer], sizes: dict[str, int], order: Sequence[Sequence[int]], backward: bool,
        slots: Rows | None = None,
    ) -> None: ...

def cell_facts(dtype: str, cell: str) -> tuple[int, int, int, list[tuple[int, int]], int]: ...
