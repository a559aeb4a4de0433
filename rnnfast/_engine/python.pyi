from collections.abc import Callable, Iterable
from typing import Any

from rnnfast._engine.buffers import Buffer, Op

class PythonOp(Op):
    failure: BaseException | None
    buffers: dict[str, tuple[Buffer, int, int]]
    def __init__(self, function: Callable[[dict[str, Any]], None], dtype: str, buffers: dict[str, tuple[Buffer, int, int]]) -> None: ...

def raise_failure(ops: Iterable[PythonOp]) -> None: ...
