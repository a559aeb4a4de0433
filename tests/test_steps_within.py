"""What has no steps, or makes them, is refused within the steps of TimeDistributed; windows need steps."""

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, layers

WITHIN = {
    "recurrent": lambda: layers.GRU(2), "both directions": lambda: layers.Bidirectional(layers.GRU(2)), "pooling": lambda: layers.MaxPooling1D(2),
    "cropping": lambda: layers.Cropping1D(1), "all steps": layers.GlobalAveragePooling1D, "repeated": lambda: layers.RepeatVector(2),
}  # fmt: skip


@pytest.mark.parametrize("make", WITHIN.values(), ids=WITHIN.keys())
def test_a_step_has_no_steps(make):
    with pytest.raises(ValueError, match=r"TimeDistributed|must have shape"):
        Sequential([Input((4, 3)), layers.TimeDistributed(make())]).predict(np.zeros((2, 4, 3)), verbose=0)


@pytest.mark.parametrize("shape", [(), (5,)])
@pytest.mark.parametrize("make", [lambda: layers.ZeroPadding1D(1), lambda: layers.MaxPooling1D(2), lambda: layers.TimeDistributed(layers.Cropping1D(1))])
def test_windows_need_steps(make, shape):
    with pytest.raises(rnnfast.errors.ShapeError, match="must have shape"):
        Sequential([Input(shape), make()]).runner()


def test_a_gate_of_unknown_width():
    assert Sequential([Input((None,)), layers.Activation("glu")]).output_shape == (None, None)
