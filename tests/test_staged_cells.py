"""Projected and layer-normalised cells: the oracle's numbers and PyTorch's, their own derivatives, and the promises of every recurrent layer."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast
from tests import cases
from tests.conftest import max_rel_error
from tests.gradients import central_differences
from tests.peers import require

SIZES = {"ProjectedLSTM": {"units": 9, "projection": 4}, "LayerNormLSTM": {"units": 9}, "LayerNormGRU": {"units": 9}}
WIDE = {"ProjectedLSTM": {"units": 33, "projection": 17}, "LayerNormLSTM": {"units": 33}, "LayerNormGRU": {"units": 33}}
OPTIONS = {
    "last": {},
    "sequence-states": {"return_sequences": True, "return_state": True},
    "backwards": {"go_backwards": True, "return_state": True},
    "zero-backwards-sequence": {"zero_output_for_mask": True, "return_sequences": True, "go_backwards": True},
    "no-bias": {"use_bias": False, "return_sequences": True},
    "other-activations": {"activation": "elu", "recurrent_activation": "hard_sigmoid", "return_sequences": True},
    "input-keeping": {"activation": "silu", "recurrent_activation": "hard_silu", "return_sequences": True},
}
SPECS = {f"{kind}-{name}": (kind, size | option) for kind, size in SIZES.items() for name, option in OPTIONS.items()}
SPECS |= {
    f"Bidirectional-{kind}-{merge}": ("Bidirectional", {"layer": (kind, size | OPTIONS["sequence-states"]), "merge_mode": merge})
    for kind, size in SIZES.items()
    for merge in ("concat", "mul")
}
specs = pytest.mark.parametrize("spec", [pytest.param(spec, id=name) for name, spec in SPECS.items()])
kinds = pytest.mark.parametrize("kind", SIZES)


@pytest.mark.parametrize("mask", ["none", "leading", "holes", "empty-rows", "all-masked"])
@specs
def test_outputs_states_and_gradients_match_the_oracle(spec, mask, dtype, rng):
    p = cases.problem(spec, (5, 6, 4), rng, mask, initial_state=mask in ("none", "leading"))
    got, want = p.build(rnnfast, dtype).vjp(**p.cast(dtype)), dict(p.expected)
    if p.initial_state is None:
        want["initial_state"] = None
    forward, backward = cases.bound(dtype)
    if dtype == "float32":  # normalising a row of little variance makes its roundings larger
        backward = max(backward, cases.ROUNDINGS * cases.sensitivity(p, rng, gradients=True))
    cases.assert_close(got, want, forward, backward)


@kinds
def test_long_sequences(kind, dtype, rng):
    p = cases.problem((kind, WIDE[kind] | OPTIONS["sequence-states"]), (3, 100, 8), rng)
    got, want = p.build(rnnfast, dtype).vjp(**p.cast(dtype)), p.expected | {"initial_state": None}
    cases.assert_close(got, want, *cases.bound(dtype, 100))


@pytest.mark.parametrize("mask", ["none", "leading"])
@specs
def test_gradients_of_the_package_and_of_the_oracle_match_central_differences(spec, mask, rng):
    p = cases.problem(spec, (2, 3, 2), rng, mask, initial_state=True)
    ups = cases.as_list(p.dy) + (p.dstates or [])

    def total():
        return sum((o * d).sum() for o, d in zip(p.oracle.forward(p.x, p.mask, p.initial_state)[0], ups, strict=True))

    assert max_rel_error(p.expected["x"], central_differences(total, p.x)) < 1e-8
    for kept, grad in zip(p.initial_state, p.expected["initial_state"], strict=True):
        assert max_rel_error(grad, central_differences(total, kept)) < 1e-8
    layer = p.build(rnnfast, "float64")
    weights, found = layer.get_weights(), layer.vjp(**p.cast("float64"))

    def of_weights():
        layer.set_weights(weights)
        return sum(float((o * d).sum()) for o, d in zip(cases.as_list(layer(p.x, mask=p.mask, initial_state=p.initial_state)), ups, strict=True))

    for weight, grad in zip(weights, found["weights"], strict=True):
        assert max_rel_error(grad, central_differences(of_weights, weight)) < 1e-7


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("units, projection", [(8, 3), (33, 17), (64, 48)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_projection_matches_pytorch(bidirectional, units, projection, dtype, rng):
    torch = require("torch")
    inner = ("ProjectedLSTM", {"units": units, "projection": projection, "return_sequences": True, "return_state": True})
    p = cases.problem(("Bidirectional", {"layer": inner}) if bidirectional else inner, (4, 7, 5), rng, initial_state=True)
    module = torch.nn.LSTM(5, units, proj_size=projection, batch_first=True, bidirectional=bidirectional, dtype=getattr(torch, dtype))
    halves = [p.oracle.weights[i : i + 4] for i in range(0, len(p.oracle.weights), 4)]
    tensors = [torch.tensor(np.ascontiguousarray(a.T), dtype=getattr(torch, dtype), requires_grad=True)
               for W, R, b, P in halves for a in (W, R, b, np.zeros_like(b), P)]  # fmt: skip
    x, *states = [torch.tensor(a, dtype=getattr(torch, dtype), requires_grad=True) for a in [p.x, *p.initial_state]]
    named = dict(zip([name for name, _ in module.named_parameters()], tensors, strict=True))
    out, (h, c) = torch.func.functional_call(module, named, (x, (torch.stack(states[::2]), torch.stack(states[1::2]))))
    outs = [out] + [s[d] for d in range(len(halves)) for s in (h, c)]
    ups = [torch.tensor(u, dtype=getattr(torch, dtype)) for u in [p.dy, *p.dstates]]
    sum((o * u).sum() for o, u in zip(outs, ups, strict=True)).backward()
    weights = [t.grad.numpy().T for i, t in enumerate(tensors) if i % 5 != 3]
    want = {"y": [o.detach().numpy() for o in outs], "x": x.grad.numpy(), "weights": weights, "initial_state": [s.grad.numpy() for s in states]}
    cases.assert_close(p.build(rnnfast, dtype).vjp(**p.cast(dtype)), want, *((2e-6, 4e-6) if dtype == "float32" else (1e-12, 1e-11)))


def test_normalised_lstm_is_its_equations_in_pytorch(rng):
    torch = require("torch")
    p = cases.problem(("LayerNormLSTM", {"units": 9, "epsilon": 1e-5, "return_sequences": True}), (4, 6, 5), rng)
    x, W, R, b, ux, uh, uc, bc = (torch.tensor(a, requires_grad=True) for a in [p.x, *p.oracle.weights])
    norm = torch.nn.functional.layer_norm
    h = c = torch.zeros(4, 9, dtype=torch.float64)
    ys = []
    for t in range(6):
        i, f, g, o = (norm(x[:, t] @ W, (36,), ux, b) + norm(h @ R, (36,), uh)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(norm(c, (9,), uc, bc))
        ys.append(h)
    (torch.stack(ys, dim=1) * torch.tensor(p.dy)).sum().backward()
    want = {"y": torch.stack(ys, dim=1).detach().numpy(), "x": x.grad.numpy(), "weights": [w.grad.numpy() for w in (W, R, b, ux, uh, uc, bc)]}
    cases.assert_close(p.build(rnnfast, "float64").vjp(**p.cast("float64")), want | {"initial_state": None}, 1e-12, 1e-11)


@kinds
def test_same_bits_for_threads_order_and_padding(kind, rng):
    layer = getattr(rnnfast.layers, kind)(**WIDE[kind], return_sequences=True)
    layer.build((None, None, 11))
    x = rng.normal(size=(19, 8, 11)).astype(np.float32)
    lengths, order = rng.integers(0, 7, 19), rng.permutation(19)
    dy = rng.normal(size=(19, 8, layer.output_size)).astype(np.float32)
    kept, found = rnnfast.get_num_threads(), []
    for threads in (1, 2, 3):
        rnnfast.set_num_threads(threads)
        result = layer.vjp(x, dy, lengths=lengths)
        found.append([layer(x), layer(x, lengths=lengths), result["x"], *result["weights"]])
    rnnfast.set_num_threads(kept)
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))
    full = found[0][1]
    assert np.array_equal(layer(x[order], lengths=lengths[order]), full[order])
    assert np.array_equal(layer(x[:, :6], lengths=lengths), full[:, :6])
    assert np.array_equal(layer(x[3:4], lengths=lengths[3:4]), full[3:4])
    dirty = np.where((np.arange(8) < lengths[:, None])[..., None], x, np.float32(np.nan))
    assert np.array_equal(layer(dirty, lengths=lengths), full)


@kinds
def test_streams_stateful_layers_training_and_files(kind, rng, tmp_path):
    layer = getattr(rnnfast.layers, kind)(**SIZES[kind], return_sequences=True)
    model = rnnfast.Sequential([rnnfast.Input((None, 4)), layer, rnnfast.layers.Dense(2)])
    x, y = rng.normal(size=(8, 6, 4)).astype(np.float32), rng.normal(size=(8, 6, 2)).astype(np.float32)
    model.compile(optimizer="adam", loss="mse")
    losses = model.fit(x, y, epochs=20, batch_size=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    stream = model.stream()
    steps = np.stack([stream.step(x_t).copy() for x_t in x[0]])
    assert np.array_equal(steps, model.predict(x[:1])[0])
    model.save(tmp_path / "model.rnnf")
    assert np.array_equal(rnnfast.load(tmp_path / "model.rnnf").predict(x), model.predict(x))
    keeping = getattr(rnnfast.layers, kind)(**SIZES[kind], return_sequences=True, stateful=True)
    keeping.build((8, None, 4))
    keeping.set_weights(layer.get_weights())
    halves = [keeping(x[:, :2]), keeping(x[:, 2:])]
    assert np.array_equal(np.concatenate(halves, axis=1), layer(x))


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda L: L.ProjectedLSTM(4, 0), ValueError, "projection must be a positive integer, got 0"),
        (lambda L: L.LayerNormLSTM(4, epsilon=0), ValueError, "epsilon must be a positive number, got 0"),
        (lambda L: L.LayerNormGRU(4, reset_after=False), ValueError, "reset_after must be True"),
        (lambda L: L.LayerNormLSTM(4, recurrent_dropout=0.1), ValueError, "recurrent_dropout must be 0, got 0.1"),
        (lambda L: L.ProjectedLSTM(4, 2, zoneout_cell=0.1), ValueError, "zoneout_cell must be 0, got 0.1"),
        (lambda L: L.LayerNormGRU(4, epsilom=0.1), TypeError, "unknown argument 'epsilom'. Did you mean 'epsilon'"),
    ],
)
def test_bad_arguments(make, error, text):
    with pytest.raises(error, match=text):
        make(rnnfast.layers)
