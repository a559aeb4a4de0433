from typing import Any

from rnnfast._engine.buffers import Buffer, Op, Rows

class WindowRows(Rows):
    def __init__(self, batch: int, time: int, numbers: dict[str, Any]) -> None: ...
    def set_windows_of(self, parent: Rows) -> None: ...

class WindowOp(Op):
    def __init__(
        self, name: str, dtype: str, rows: Rows, to: Rows, buffers: dict[str, Buffer], numbers: dict[str, Any], panels: list[Buffer], biases: list[Buffer | None]
    ) -> None: ...
