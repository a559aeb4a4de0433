"""IndRNN, minGRU, the LSTM with peepholes and Statal: the float64 oracle, forward and backward, with every option and mask, in either direction."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast
from tests import cases, reference
from tests.conftest import max_rel_error
from tests.gradients import central_differences

CELLS = {
    "IndRNN": ("IndRNN", {}),
    "IndRNN-tanh": ("IndRNN", {"activation": "tanh"}),
    "MinGRU": ("MinGRU", {}),
    "MinGRU-tanh": ("MinGRU", {"activation": "tanh", "recurrent_activation": "hard_sigmoid"}),
    "Peephole": ("PeepholeLSTM", {}),
    "Peephole-other": ("PeepholeLSTM", {"activation": "softsign", "recurrent_activation": "hard_sigmoid"}),
    "Statal-value": ("Statal", {"activation": "tanh", "threshold": 0.1}),
    "Statal-value-soft": ("Statal", {"activation": "tanh", "firing": "soft", "output": "both"}),
    "Statal-binary": ("Statal", {"state": "binary", "threshold": 0.2, "output": "state"}),
    "Statal-binary-soft": ("Statal", {"state": "binary", "firing": "soft", "activation": "silu", "output": "both"}),
    "Statal-probability": ("Statal", {"state": "probability", "sharpness": 2.5, "output": "both"}),
    "Statal-trace": ("Statal", {"state": "trace", "activation": "tanh"}),
    "Statal-trace-3": ("Statal", {"state": "trace", "slots": 3, "activation": "tanh", "decays": [0.5, 0.9, 1.0], "output": "both"}),
    "Statal-trace-2-soft": ("Statal", {"state": "trace", "slots": 2, "activation": "tanh", "firing": "soft", "output": "state"}),
}
OPTIONS = {
    name: cases.OPTIONS[name]
    for name in ("last", "sequence", "sequence-states", "backwards", "backwards-sequence", "zero", "zero-sequence-states", "no-bias")
}
SMOOTH = ["IndRNN-tanh", "MinGRU", "MinGRU-tanh", "Peephole", "Statal-value-soft", "Statal-binary-soft", "Statal-trace-2-soft"]


def spec_of(cell: str, units: int, **options):
    kind, fixed = CELLS[cell]
    return kind, {"units": units, **fixed, **options}


def started(cell: str, units: int, shape, rng, mask: str = "none", **options) -> cases.Problem:
    """A problem with initial states, of "binary" and "probability" from 0 to 1, as they are by their rules."""
    p = cases.problem(spec_of(cell, units, **options), shape, rng, mask, initial_state=True)
    if p.spec[1].get("state") in ("binary", "probability"):
        p.initial_state[:] = [np.abs(np.tanh(s)) for s in p.initial_state]
        p.initial_state[:] = [cases.single(s) for s in p.initial_state]
    return p


def check(p: cases.Problem, dtype: str, steps: int = 1) -> None:
    """Output and all gradients."""
    want = dict(p.expected)
    if p.initial_state is None:
        want["initial_state"] = None
    layer, given = p.build(rnnfast, dtype), p.cast(dtype)
    cases.assert_close(layer.vjp(**given), want, *cases.bound(dtype, steps))
    states = {} if p.initial_state is None else {"initial_state": given["initial_state"]}
    for got, ref in zip(cases.as_list(layer(given["x"], mask=p.mask, **states)), cases.as_list(want["y"]), strict=True):
        assert max_rel_error(got, ref) <= cases.bound(dtype, steps)[0]


@pytest.mark.parametrize("mask", ["none", "holes", "empty-rows"])
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_every_option(cell, option, mask, dtype, rng):
    check(cases.problem(spec_of(cell, 9, **OPTIONS[option]), (5, 6, 4), rng, mask), dtype)


@pytest.mark.parametrize("option", ["sequence-states", "backwards"])
@pytest.mark.parametrize("cell", CELLS)
def test_initial_states(cell, option, dtype, rng):
    check(started(cell, 19, (4, 5, 3), rng, "leading", **OPTIONS[option]), dtype)


@pytest.mark.parametrize("merge", ["concat", "sum", None])
@pytest.mark.parametrize("option", ["last", "sequence-states"])
@pytest.mark.parametrize("cell", CELLS)
def test_bidirectional(cell, option, merge, rng):
    spec = ("Bidirectional", {"layer": spec_of(cell, 5, **OPTIONS[option]), "merge_mode": merge})
    check(cases.problem(spec, (5, 6, 4), rng, "trailing"), "float64")


@pytest.mark.parametrize("cell", CELLS)
def test_gradient_of_the_states_alone(cell, rng):
    p = started(cell, 9, (4, 5, 3), rng, return_sequences=True, return_state=True)
    check(cases.Problem(p.spec, p.oracle, p.x, p.mask, p.initial_state, None, p.dstates), "float64")


@pytest.mark.parametrize("cell", CELLS)
def test_long_sequences(cell, rng):
    check(cases.problem(spec_of(cell, 24, return_sequences=True), (2, 100, 8), rng), "float64", 100)


@pytest.mark.parametrize("mask", ["none", "holes"])
@pytest.mark.parametrize("cell", SMOOTH)
def test_central_differences(cell, mask, rng):
    p = cases.problem(spec_of(cell, 3, return_sequences=True, return_state=True), (3, 4, 2), rng, mask, initial_state=True)
    layer = p.build(rnnfast, "float64")
    weights, given = layer.get_weights(), p.cast("float64")
    got = layer.vjp(**given)

    def total():
        layer.set_weights(weights)
        outputs = cases.as_list(layer(p.x, mask=p.mask, initial_state=p.initial_state))
        return sum(float((o * d).sum()) for o, d in zip(outputs, cases.as_list(p.dy) + p.dstates, strict=True))

    found = [*got["weights"], got["x"], *got["initial_state"]]
    for array, grad in zip([*weights, p.x, *p.initial_state], found, strict=True):
        assert max_rel_error(grad, central_differences(total, array)) < 1e-7


@pytest.mark.parametrize("cell", CELLS)
def test_lengths_padding_and_row_order_change_no_bit(cell, rng):
    p = cases.problem(spec_of(cell, 21, return_sequences=True), (6, 7, 4), rng)
    layer, lengths = cases.build(rnnfast, p.spec, "float32"), np.array([7, 0, 3, 1, 5, 7])
    layer.build((None, None, 4))
    layer.set_weights(p.oracle.weights)
    x, order = p.x.astype("float32"), rng.permutation(6)
    whole = layer(x, lengths=lengths)
    assert np.array_equal(layer(x[order], lengths=lengths[order]), whole[order])
    assert np.array_equal(layer(x, mask=reference.length_mask(lengths, 7)), whole)
    for row, n in enumerate(lengths):
        if n:
            assert np.array_equal(layer(x[row : row + 1, :n])[0], whole[row, :n])


@pytest.mark.parametrize("shape", [(1, 60, 64, 160), (4, 40, 16, 128)])
@pytest.mark.parametrize("cell", CELLS)
def test_threads_change_no_bit(cell, shape, rng):
    batch, steps, inputs, units = shape
    p = cases.problem(spec_of(cell, units, return_sequences=True, return_state=True), (batch, steps, inputs), rng)
    layer, found = p.build(rnnfast, "float32"), []
    before = rnnfast.get_num_threads()
    try:
        for threads in (1, 2):
            rnnfast.set_num_threads(threads)
            found.append(layer.vjp(**p.cast("float32")))
    finally:
        rnnfast.set_num_threads(before)
    for (_, a), (_, b) in zip(*map(cases.named, found), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("cell", CELLS)
def test_a_stream_gives_the_bits_of_the_whole(cell, rng):
    kind, config = spec_of(cell, 10, return_sequences=True)
    model = rnnfast.Sequential([rnnfast.Input((None, 3)), getattr(rnnfast.layers, kind)(**config), rnnfast.layers.Dense(2)])
    x = rng.normal(size=(1, 9, 3)).astype("float32")
    stream = model.stream()
    parts = [stream.step(x[0, 0])[None], stream.process(x[0, 1:6]), stream.process(x[0, 6:])]
    assert np.array_equal(np.concatenate(parts), model.predict(x, verbose=0)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_saving_and_stateful_batches(cell, rng, tmp_path):
    kind, config = spec_of(cell, 6, return_sequences=True, stateful=True)
    model = rnnfast.Sequential([rnnfast.Input((None, 3), batch_size=2), getattr(rnnfast.layers, kind)(**config)])
    model.compile(optimizer="adam", loss="mse")
    x = rng.normal(size=(2, 8, 3)).astype("float32")
    model.fit(x, np.zeros((2, 8, model.output_shape[-1]), "float32"), batch_size=2, epochs=2, verbose=0)
    model.layers[-1].reset_state()
    model.save(tmp_path / "m.rnnf")
    again = rnnfast.load(tmp_path / "m.rnnf")
    assert again.layers[-1].get_config() == model.layers[-1].get_config()
    for one in (model, again):
        one.layers[-1].reset_state()
    halves = [again.predict_on_batch(x[:, :3]), again.predict_on_batch(x[:, 3:])]
    assert np.array_equal(np.concatenate(halves, axis=1), model.predict_on_batch(x))


@pytest.mark.parametrize("cell", [name for name in CELLS if not name.startswith(("IndRNN", "MinGRU"))])
def test_recurrent_dropout_has_the_gradient_of_its_own_draw(cell, rng):
    """In training with a fixed seed the layer is a fixed function; a small step along the gradient moves it as the gradient says."""
    kind, config = spec_of(cell, 4, return_sequences=True, recurrent_dropout=0.4, dropout=0.2, seed=5)
    if kind == "Statal":
        config["firing"] = "soft"
    x, layers = rng.normal(size=(3, 5, 2)), []

    def fresh(weights=None):
        layer = getattr(rnnfast.layers, kind)(**config, dtype="float64")
        layer.build(x.shape)
        if weights is not None:
            layer.set_weights(weights)
        layers.append(layer)
        return layer

    first = fresh()
    weights = [rng.normal(0, 0.4, w.shape) for w in first.get_weights()]
    dy = rng.normal(size=fresh(weights)(x, training=True).shape)
    got = fresh(weights).vjp(x, dy, training=True)["weights"]
    for array, grad in zip(weights, got, strict=True):
        numeric = central_differences(lambda: float((fresh(weights)(x, training=True) * dy).sum()), array)
        assert max_rel_error(grad, numeric) < 1e-7
