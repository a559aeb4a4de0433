"""An independent float64 oracle in plain NumPy.

It shares no code with the package: every equation is written out a second time, one time step after the other, with the
backward pass derived by hand. ``tests/test_reference.py`` proves it against central differences, Keras and PyTorch; the
other tests then compare the package with it.

A layer is described by a *spec*: ``("LSTM", {"units": 8, "return_sequences": True})``. Wrappers hold a spec in ``layer``;
a stack is ``("Sequential", [spec, ...])``.
"""

from tests.reference.bptt import vjp
from tests.reference.layers import call, length_mask, make, random_layer, random_weights, valid_mask, weight_shapes

__all__ = ["call", "length_mask", "make", "random_layer", "random_weights", "valid_mask", "vjp", "weight_shapes"]
