"""What a plan's memory is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnnfast.plan.plan import Plan

_TAPES = {"tape", "reset tape", "masked h tape"}
_WORKING = {"input rows", "gate inputs", "h", "memory", "reset h", "masked h", "recurrent masks", "product", "carry", "scratch", "parts"}
KINDS = ("weights", "panels", "tape", "states kept", "working", "gradients", "outputs")


def kind_of(name: str) -> str:
    """Which of `KINDS` a buffer of the arena counts to: the states and gate inputs of the step or chunk at hand are "working", what passes between layers "outputs"."""
    if name in _TAPES:
        return "tape"
    if name == "h tape":
        return "states kept"
    return "working" if name in _WORKING else "gradients" if name.startswith("d ") else "outputs"


def memory_of(plan: Plan) -> dict[str, int]:
    """Bytes by kind. "weights" and "panels" (their packed form) are of the whole vector of parameters, which all plans of a model share."""
    itemsize = 8 if plan.dtype == "float64" else 4
    bytes_of = dict.fromkeys(KINDS, 0)
    if plan.params is not None:
        bytes_of["weights"], bytes_of["panels"] = plan.params.values.nbytes, plan.params.panel_bytes
    for buffer in plan.buffers:
        if buffer.owner is None:
            bytes_of[kind_of(buffer.name)] += buffer.size * itemsize
    return bytes_of
