from rnnfast._engine.buffers import Buffer, Op, Rows

class BatchNormOp(Op):
    def __init__(
        self, dtype: str, rows: Rows, buffers: dict[str, Buffer], n: int, numbers: tuple[float, float], training: bool, backward: bool
    ) -> None: ...
