"""Gradients of the package are those of its own forward pass: central differences in float64 at 1e-7, no oracle involved."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast
from tests import cases
from tests.conftest import max_rel_error
from tests.gradients import central_differences

ALL = [*cases.recurrent_specs(3), *cases.bidirectional_specs(2), *cases.PLAIN.items(), *cases.UNLIKE_KERAS.items(), *cases.STACKS.items()]
SPECS = [pytest.param(spec, id=name) for name, spec in ALL]


def call(layer, p):
    kwargs = {} if p.initial_state is None else {"initial_state": p.initial_state}
    return cases.as_list(layer(p.x, mask=p.mask, **kwargs))


@pytest.mark.parametrize("mask", ["none", "holes"])
@pytest.mark.parametrize("spec", SPECS)
def test_every_layer_direction_mask_and_option(spec, mask, rng):
    if mask != "none" and spec[0] in ("RepeatVector", "Flatten", "Reshape"):
        pytest.skip("no time axis comes out")
    p = cases.problem(spec, (3, 4, 2), rng, mask, initial_state=cases.takes_state(spec) and mask != "none")
    layer = p.build(rnnfast, "float64")
    ups = cases.as_list(p.dy) + (p.dstates or [])
    weights = layer.get_weights()

    def total():
        return sum(float((o * d).sum()) for o, d in zip(call(layer, p), ups, strict=True))

    def total_of_weights():
        layer.set_weights(weights)
        return total()

    given = p.cast("float64")
    if spec[0] == "Sequential":
        given = {k: given[k] for k in ("x", "dy", "mask")}
    got = layer.vjp(**given)
    for w, grad in zip(weights, got["weights"], strict=True):
        assert max_rel_error(grad, central_differences(total_of_weights, w)) < 1e-7
    layer.set_weights(weights)
    for state, grad in zip(p.initial_state or [], got["initial_state"], strict=False):
        assert max_rel_error(grad, central_differences(total, state)) < 1e-7
    masks_by_value = "Masking" in str(spec)
    if p.x.dtype == np.float64 and not masks_by_value:
        assert max_rel_error(got["x"], central_differences(total, p.x)) < 1e-7
