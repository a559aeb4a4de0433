"""What layers keep of how their matrices are stored for inference."""

from __future__ import annotations

from typing import Any

from rnnfast.errors import suggest
from rnnfast.plan.schedule import MODES


class Quantizable:
    """Mixin of layers, most of which have no matrices that can be stored in fewer bits."""

    quantizable = False
    _quantization: str | None = None

    @property
    def stored(self: Any) -> list[Any]:
        """Those of itself and its sublayers whose matrices can be stored in fewer bits."""
        return ([self] if self.quantizable else []) + [one for layer in self.sublayers() for one in layer.stored]

    @property
    def quantization_mode(self) -> str | None:
        """What its matrices, or those of its first sublayer that is quantized, are stored as for inference; None if all are as they are."""
        return next((layer._quantization for layer in self.stored if layer._quantization), None)

    def quantize(self: Any, mode: str | None) -> None:
        """Store the matrices for inference in fewer bits, or (None) as they are again. The weights themselves stay as they are.

        Parameters
        ----------
        mode : {"int8", "bfloat16", None}

        Raises
        ------
        ValueError
            If the mode is unknown, the layer has no matrices that can be stored so, or its dtype is not float32.
        """
        owner = f"{type(self).__name__} '{self.name}'"
        if mode not in MODES:
            raise ValueError(f"{owner}: unknown quantization mode {mode!r}. {suggest(mode, [str(one) for one in MODES])}")
        if not self.stored:
            raise ValueError(f"{owner}: cannot be quantized; Dense and the recurrent layers of one fused step can.")
        if mode is not None and self.dtype != "float32":
            raise ValueError(f"{owner}: only float32 layers can be quantized, this one is {self.dtype}.")
        for layer in self.stored:
            layer._quantization = mode
        for variable in self.weights:
            variable.detach()
