"""How a model stores its matrices for inference."""

from __future__ import annotations

from typing import Any


class Quantized:
    """Mixin of models."""

    def quantize(self: Any, mode: str | None) -> None:
        """Store the matrices of all recurrent and Dense layers for inference in fewer bits, or (None) as they are again.

        Predictions, streams, evaluations and files follow; a file has the float32 weights and the choice. The float32 weights stay what
        :meth:`get_weights` gives, and training needs them: a quantized model refuses to train. A single layer is left out, or chosen, by its own `quantize`.

        Parameters
        ----------
        mode : {"int8", "bfloat16", None}
            "int8": 8-bit integers with a scale for each column, multiplied by inputs and states that are rounded to integers of about 16 bits.
            "bfloat16": the upper half of each float32.

        Raises
        ------
        ValueError
            If the mode is unknown, no layer can be quantized, or a layer's dtype is not float32.

        Notes
        -----
        Matrices with fewer than 64 rows, or columns a gate, stay float32; `print(model.plan(batch, time))` says what each op reads. docs/quantization.md has
        errors, speed and when to use which.

        Examples
        --------
        >>> import numpy as np
        >>> from rnnfast import Input, Sequential, layers
        >>> model = Sequential([Input((None, 64)), layers.LSTM(64), layers.Dense(1)])
        >>> x = np.random.default_rng(0).standard_normal((1, 9, 64), np.float32)
        >>> exact = model.predict_on_batch(x)
        >>> model.quantize("int8")
        >>> bool(abs(model.predict_on_batch(x) - exact).max() < 0.02)
        True
        """
        layers = [layer for layer in self.layers if layer.stored]
        if not layers:
            raise ValueError(f"{self._label}: has no layer that can be quantized.")
        before = [(one, one._quantization) for layer in layers for one in layer.stored]
        try:
            for layer in layers:
                layer.quantize(mode)
        except ValueError:
            for one, old in before:
                one.quantize(old)
            raise
