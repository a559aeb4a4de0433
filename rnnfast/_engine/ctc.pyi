from rnnfast._engine.buffers import Buffer, Op, Rows

def ctc_scratch_size(time: int, labels: int, classes: int, gradient: bool) -> int: ...

class CTCOp(Op):
    def __init__(
        self,
        dtype: str,
        rows: Rows,
        buffers: dict[str, Buffer | None],
        classes: int,
        blank: int,
        padding: int,
        from_logits: bool,
        zero_infinity: bool,
        per_label: bool,
        epsilon: float,
    ) -> None: ...
