"""torch.nn.RNN, LSTM and GRU: outputs, states and every gradient, ragged batches, both directions, stacks."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast
from tests import cases, reference
from tests.gradients import torch_recurrent
from tests.peers import require

torch = require("torch")
KINDS = ["SimpleRNN", "LSTM", "GRU"]
# torch rounds too: in float32 the distance of two results is at most the sum of their bounds
BOUNDS = {"float32": (2e-6, 4e-6), "float64": (1e-12, 1e-11)}


def spec_of(kind, units, bidirectional, **options):
    inner = cases.recurrent(kind, units, return_sequences=True, return_state=True, zero_output_for_mask=True, **options)
    return ("Bidirectional", {"layer": inner}) if bidirectional else inner


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("units", [1, 8, 17, 33])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_layers(kind, bidirectional, units, ragged, dtype, rng):
    p = cases.problem(spec_of(kind, units, bidirectional), (5, 7, 6), rng, initial_state=True)
    lengths = np.array([7, 3, 6, 1, 4]) if ragged else None
    got = p.build(rnnfast, dtype).vjp(**p.cast(dtype) | {"lengths": lengths})
    cases.assert_close(got, torch_recurrent(torch, p, lengths, dtype), *BOUNDS[dtype])


@pytest.mark.parametrize("kind", KINDS)
def test_without_initial_states(kind, dtype, rng):
    p = cases.problem(spec_of(kind, 9, False), (4, 6, 5), rng)
    cases.assert_close(p.build(rnnfast, dtype).vjp(**p.cast(dtype)), torch_recurrent(torch, p, None, dtype), *BOUNDS[dtype])


@pytest.mark.parametrize("kind", KINDS)
def test_long_sequences(kind, rng):
    p = cases.problem(spec_of(kind, 16, False), (2, 300, 8), rng, initial_state=True)
    got = p.build(rnnfast, "float32").vjp(**p.cast("float32"))
    cases.assert_close(got, torch_recurrent(torch, p, None, "float32"), 4e-6, 1.2e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_two_layers_are_a_stack(kind, bidirectional, dtype, rng):
    """num_layers=2: each layer of the stack has torch's weights of its level."""
    modules = {"SimpleRNN": torch.nn.RNN, "LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU}
    torch.manual_seed(int(rng.integers(2**31)))
    module = modules[kind](5, 9, num_layers=2, batch_first=True, bidirectional=bidirectional, dtype=getattr(torch, dtype))
    inner = (kind, {"units": 9, "return_sequences": True})
    spec = ("Bidirectional", {"layer": inner}) if bidirectional else inner
    model = cases.build(rnnfast, ("Sequential", [spec, spec]), dtype)
    model.build((None, None, 5))
    suffixes = ["", "_reverse"] if bidirectional else [""]
    weights = [w for level in (0, 1) for s in suffixes for w in from_torch(kind, module, f"l{level}{s}")]
    model.set_weights(weights)
    x = rng.normal(size=(3, 6, 5)).astype(dtype)
    with torch.no_grad():
        want = module(torch.tensor(x))[0].numpy()
    assert cases.max_rel_error(model(x), want) <= BOUNDS[dtype][0]


def from_torch(kind, module, suffix):
    """[W, R, b] of one level: transposed, r and z swapped in a GRU, the two biases summed elsewhere."""
    W, R, bx, bh = (getattr(module, f"{n}_{suffix}").detach().numpy() for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    W, R, b = W.T, R.T, np.stack([bx, bh]) if kind == "GRU" else bx + bh
    if kind == "GRU":
        W, R, b = (np.concatenate([np.split(a, 3, axis=-1)[i] for i in (1, 0, 2)], axis=-1) for a in (W, R, b))
    return [W, R, b]


def test_relu_rnn(dtype, rng):
    module = torch.nn.RNN(5, 9, nonlinearity="relu", batch_first=True, dtype=getattr(torch, dtype))
    layer = rnnfast.layers.SimpleRNN(9, activation="relu", return_sequences=True, dtype=dtype)
    layer.build((None, None, 5))
    layer.set_weights(from_torch("SimpleRNN", module, "l0"))
    x = rng.normal(size=(3, 6, 5)).astype(dtype)
    with torch.no_grad():
        want = module(torch.tensor(x))[0].numpy()
    assert cases.max_rel_error(layer(x), want) <= BOUNDS[dtype][0]


@pytest.mark.parametrize("kind", KINDS)
def test_never_four_times_further_from_the_truth_than_torch(kind, rng):
    """Against the float64 oracle at trained sizes; below 2e-7 both are as good as float32 can be."""
    for units, steps in ((33, 20), (128, 50), (64, 200)):
        p = cases.problem(spec_of(kind, units, False), (4, steps, 32), rng, initial_state=True)
        ours, theirs = p.build(rnnfast, "float32").vjp(**p.cast("float32")), torch_recurrent(torch, p, None, "float32")
        for (name, a), (_, b), (_, ref) in zip(*(cases.named(r) for r in (ours, theirs, p.expected)), strict=True):
            assert cases.max_rel_error(a, ref) <= 4 * max(cases.max_rel_error(b, ref), 2e-7), name


def test_the_reference_mask_is_torchs_packing(rng):
    p = cases.problem(spec_of("GRU", 4, True), (3, 5, 2), rng)
    lengths = np.array([5, 2, 3])
    masked = p.with_mask(reference.length_mask(lengths, 5))
    cases.assert_close(masked.expected, torch_recurrent(torch, p, lengths) | {"initial_state": None}, 1e-12, 1e-11)
