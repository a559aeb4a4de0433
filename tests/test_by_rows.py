"""SimpleRNN, LSTM and GRU with activations over all units of a gate: oracle, Keras, central differences, and all that the fused layers can do around a step."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, layers
from tests import cases
from tests.conftest import max_rel_error
from tests.gradients import central_differences, keras_vjp
from tests.peers import require

PAIRS = {
    "softmax": ("softmax", "sigmoid"),
    "softmax-gates": ("tanh", "softmax"),
    "log": ("log_softmax", "softmax"),
    "sparse": ("mish", "sparsemax"),
    "log-gates": ("sparsemax", "log_softmax"),
}
OPTIONS = {
    "last": {},
    "sequence-states": {"return_sequences": True, "return_state": True},
    "backwards": {"go_backwards": True, "return_state": True},
    "zero": {"zero_output_for_mask": True, "return_sequences": True},
    "no-bias": {"use_bias": False, "return_sequences": True},
}
MADE = {
    "SimpleRNN": lambda **k: layers.SimpleRNN(5, activation="softmax", **k),
    "LSTM": lambda **k: layers.LSTM(5, activation="softmax", recurrent_activation="softmax", **k),
    "GRU": lambda **k: layers.GRU(5, recurrent_activation="sparsemax", **k),
    "GRU-before": lambda **k: layers.GRU(5, activation="log_softmax", reset_after=False, **k),
}


def spec_of(cell, pair, units=9, **options):
    inner, gates = PAIRS[pair]
    if cell == "SimpleRNN":
        return cases.recurrent(cell, units, activation=gates if inner in ("tanh", "mish") else inner, **options)
    return cases.recurrent(cell, units, activation=inner, recurrent_activation=gates, **options)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("cell", cases.CELLS)
def test_outputs_states_and_gradients(cell, pair, options, dtype, rng):
    for mask in ("none", "holes", "empty-rows"):
        spec = spec_of(cell, pair, **OPTIONS[options])
        steps = 2 if pair == "log-gates" else 3  # gates beyond 1 carry roundings far
        p = cases.problem(spec, (4, steps, 5), rng, mask, initial_state=mask == "none")
        want = dict(p.expected)
        cases.assert_close(p.build(rnnfast, dtype).vjp(**p.cast(dtype)), want if mask == "none" else want | {"initial_state": None}, *cases.bound(dtype))


@pytest.mark.parametrize("mask", ["none", "trailing"])
@pytest.mark.parametrize("pair", ["softmax", "softmax-gates", "log"])
@pytest.mark.parametrize("cell", cases.CELLS)
def test_keras(cell, pair, mask, rng):
    require("keras"), require("torch")
    for options in ("last", "sequence-states"):
        p = cases.problem(spec_of(cell, pair, **OPTIONS[options]), (4, 5, 3), rng, mask)
        cases.assert_close(p.build(rnnfast, "float64").vjp(**p.cast("float64")), keras_vjp(p), 1e-12, 1e-11)


@pytest.mark.parametrize("merge", ["concat", "sum", None])
@pytest.mark.parametrize("cell", cases.CELLS)
def test_both_directions(cell, merge, dtype, rng):
    for own in ({}, {"backward_layer": cases.recurrent("GRU", 9, return_sequences=True, go_backwards=True)}):
        given = {"layer": spec_of(cell, "softmax", return_sequences=True, return_state=not own), "merge_mode": merge, **own}
        p = cases.problem(("Bidirectional", given), (4, 3, 5), rng, "holes")
        cases.assert_close(p.build(rnnfast, dtype).vjp(**p.cast(dtype)), dict(p.expected) | {"initial_state": None}, *cases.bound(dtype))


@pytest.mark.parametrize("pair", ["softmax", "softmax-gates", "log"])
@pytest.mark.parametrize("cell", cases.CELLS)
def test_central_differences(cell, pair, rng):
    p = cases.problem(spec_of(cell, pair, 3, return_sequences=True, return_state=True), (3, 3, 2), rng, "holes", initial_state=True)
    layer = p.build(rnnfast, "float64")
    ups, weights, got = [p.dy, *p.dstates], layer.get_weights(), layer.vjp(**p.cast("float64"))

    def total():
        layer.set_weights(weights)
        return sum(float((o * d).sum()) for o, d in zip(layer(p.x, mask=p.mask, initial_state=p.initial_state), ups, strict=True))

    for array, grad in zip([*weights, p.x, *p.initial_state], [*got["weights"], got["x"], *got["initial_state"]], strict=True):
        assert max_rel_error(grad, central_differences(total, array)) < 1e-7


@pytest.mark.parametrize("name", sorted(set(rnnfast._engine.ACTIVATIONS)))
def test_the_derivative_of_every_activation(name, rng):
    x, dy = rng.normal(size=(4, 7)), rng.normal(size=(4, 7))
    y = rnnfast._engine.elementwise(name, x)
    found = central_differences(lambda: float((rnnfast._engine.elementwise(name, x) * dy).sum()), x)
    assert max_rel_error(rnnfast._engine.elementwise_back(name, x, y, dy), found) < 1e-6


@pytest.mark.parametrize("cell", MADE)
def test_a_row_alone_streamed_and_in_a_batch(cell, dtype, rng):
    model = Sequential([Input((None, 3), dtype=dtype), MADE[cell](return_sequences=True, dtype=dtype), layers.Dense(2, dtype=dtype)])
    x = rng.normal(size=(6, 7, 3)).astype(dtype)
    whole = model.predict(x, verbose=0)
    lengths = np.array([7, 2, 0, 5, 7, 1])
    cut = model.predict(x, lengths=lengths, verbose=0)
    stream, pool = model.stream(), model.stream_pool(4)
    slots = [pool.open() for _ in range(3)]
    shown = np.stack([pool.step(slots, x[:3, t]) for t in range(7)], axis=1)
    assert np.array_equal(shown, whole[:3])
    for row in range(6):
        assert np.array_equal(model.predict(x[row : row + 1], verbose=0)[0], whole[row])
        assert np.array_equal(cut[row, : lengths[row]], whole[row, : lengths[row]])
    assert np.array_equal(np.stack([stream.step(x[0, t]) for t in range(7)]), whole[0])


@pytest.mark.parametrize("cell", MADE)
def test_training_saving_and_carried_states(cell, tmp_path, rng):
    rnnfast.utils.set_random_seed(3)
    first = MADE[cell](return_sequences=True, trained_initial_state=True, dropout=0.1)
    model = Sequential([Input((None, 3)), first, layers.Bidirectional(MADE[cell](), merge_mode="concat"), layers.Dense(1)])
    model.compile("adam", "mse")
    x = rng.normal(size=(32, 6, 3)).astype(np.float32)
    losses = model.fit(x, x.mean(axis=(1, 2))[:, None], epochs=15, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "rows.rnnf")
    assert np.array_equal(rnnfast.load(tmp_path / "rows.rnnf").predict(x, verbose=0), model.predict(x, verbose=0))
    stateful = Sequential([Input((None, 3), batch_size=4), MADE[cell](stateful=True, return_sequences=True)])
    plain = Sequential([Input((None, 3)), MADE[cell](return_sequences=True)])
    plain.set_weights(stateful.get_weights())
    halves = [stateful.predict(x[:4, part], verbose=0) for part in (slice(0, 3), slice(3, 6))]
    assert np.array_equal(np.concatenate(halves, axis=1), plain.predict(x[:4], verbose=0))


NOISE = {"dropout": {"recurrent_dropout": 0.4}, "zoneout": {"zoneout": 0.3}, "all": {"recurrent_dropout": 0.3, "zoneout": 0.2, "dropout": 0.2}}


def noisy(cell, noise, dtype, **options):
    given = NOISE[noise] | ({"zoneout_cell": 0.25} if cell == "LSTM" and "zoneout" in NOISE[noise] else {})
    layer = MADE[cell](seed=3, dtype=dtype, return_sequences=True, **given, **options)
    layer.build((None, None, 3))
    return layer


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("cell", MADE)
def test_noise_is_the_fused_layers_own(cell, noise, training, rng):
    """The same activations and seed by the fused engine and by rows: the same numbers up to rounding, outputs, states and gradients."""
    x, lengths = rng.normal(size=(5, 6, 3)), np.array([6, 0, 3, 5, 1])
    for backwards in (False, True):
        pair = [noisy(cell, noise, "float64", return_state=True, go_backwards=backwards) for _ in range(2)]
        weights = [rng.normal(0, 0.5, w.shape) for w in pair[0].get_weights()]
        found = []
        for layer, by_rows in zip(pair, (True, False), strict=True):
            layer.activation = "tanh"
            layer.recurrent_activation = "linear" if cell == "SimpleRNN" else "sigmoid"
            layer.by_rows = by_rows
            layer.set_weights(weights)
            dy = np.linspace(-1, 1, 5 * 6 * 5).reshape(5, 6, 5)
            found.append(layer.vjp(x, dy, lengths=lengths, training=training))
        got, want = found
        for key in ("y", "weights"):
            for a, b in zip(got[key], want[key], strict=True):
                assert max_rel_error(a, b) < 1e-12
        assert max_rel_error(got["x"], want["x"]) < 1e-12


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("cell", MADE)
def test_noise_has_the_gradients_of_its_own_draw(cell, noise, rng):
    layer, x, lengths = noisy(cell, noise, "float64"), rng.normal(size=(3, 4, 3)), np.array([4, 0, 2])
    layer.set_weights([rng.normal(0, 0.5, w.shape) for w in layer.get_weights()])
    dy, weights = rng.normal(size=(3, 4, 5)), layer.get_weights()
    layer.seeds.set_state((3, 0))
    got = layer.vjp(x, dy, lengths=lengths, training=True)

    def total():
        layer.set_weights(weights)
        layer.seeds.set_state((3, 0))
        return float((layer(x, lengths=lengths, training=True) * dy).sum())

    assert max_rel_error(got["x"], central_differences(total, x)) < 1e-7
    for array, grad in zip(weights, got["weights"], strict=True):
        assert max_rel_error(grad, central_differences(total, array)) < 1e-7


def test_noise_belongs_to_the_row(rng):
    x, lengths = rng.normal(size=(7, 6, 3)).astype(np.float32), np.array([3, 6, 0, 5, 6, 1, 2])
    for cell in MADE:
        layer = noisy(cell, "all", "float32")
        shown = []
        for given in (None, lengths):
            layer.seeds.set_state((3, 0))
            shown.append(layer(x, lengths=given, training=True))
        valid = np.arange(6) < lengths[:, None]
        assert np.array_equal(shown[0][valid], shown[1][valid])
        assert np.array_equal(layer(x), layer(x))
        assert not np.array_equal(layer(x, training=True), layer(x, training=True))


def test_what_they_cannot_do(rng):
    for layer in (layers.PeepholeLSTM, layers.LayerNormGRU, layers.MinGRU, layers.IndRNN):
        with pytest.raises(ValueError, match="must work on each unit by itself"):
            layer(3, activation="softmax")
    layer = layers.GRU(3, activation="softmax")
    with pytest.raises(ValueError, match="cannot be quantized"):
        layer.quantize("int8")
    x = rng.normal(size=(2, 4, 3))
    for slow in (layer, layers.LayerNormLSTM(3)):
        with pytest.raises(ValueError, match=r"resets cannot be used with .* whose steps are not the fused engine's"):
            Sequential([Input((None, 3)), slow]).predict(x, resets=np.zeros((2, 4), bool), verbose=0)




def test_a_loud_cell_is_silent(rng):
    """Overflow gives inf or NaN without NumPy's warnings, as in the engine."""
    layer = layers.GRU(4, activation="log_softmax", recurrent_activation="log_softmax")
    assert layer(1e30 * rng.normal(size=(2, 30, 3)).astype(np.float32)).shape == (2, 4)
    assert layer.vjp(1e30 * rng.normal(size=(2, 30, 3)).astype(np.float32), np.ones((2, 4)))["x"].shape == (2, 30, 3)
