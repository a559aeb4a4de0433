"""What the diagnostics say is true: against the NumPy oracle, and against what is built to vanish, explode or die."""

import sys

import numpy as np
import pytest

from rnnfast import Input, Model, Sequential, diagnostics, layers, optimizers
from rnnfast.errors import ShapeError
from tests import reference
from tests.conftest import max_rel_error
from tests.peers import require

B, T, F, H = 3, 7, 2, 4
CELLS = {"SimpleRNN": {}, "LSTM": {}, "GRU": {}, "GRU-before": {"reset_after": False}}
LENGTHS = np.array([7, 4, 1])


def recurrent(cell, **options):
    return getattr(layers, cell.split("-")[0])(H, dtype="float64", **CELLS[cell], **options)


def oracle(cell, layer):
    spec = (cell.split("-")[0], {"units": H, "return_sequences": True, "return_state": True, **CELLS[cell]})
    return reference.make(spec, [w.astype(np.float64) for w in layer.get_weights()])


def made(*inner):
    return Sequential([Input((None, F), dtype="float64"), *inner])


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("sequence", [False, True])
def test_state_gradients_are_those_of_the_rest_of_the_sequence(cell, sequence, lengths, rng):
    layer = recurrent(cell, return_sequences=sequence)
    model = made(layer)
    x = rng.standard_normal((B, T, F))
    y = rng.standard_normal((B, T, H) if sequence else (B, H))
    norms = diagnostics.gradient_flow(model, x, y, lengths=lengths, loss="mse").layers[0].norms
    ends = np.full(B, T) if lengths is None else lengths
    for b in range(B):
        assert np.isnan(norms[b, ends[b] :]).all()
        h, *_ = oracle(cell, layer).forward(x[b : b + 1, : ends[b]])[0]
        dy = np.zeros((1, ends[b], H))
        if sequence:
            dy[:] = 2 * (h - y[b, : ends[b]]) / (ends.sum() * H)
        else:
            dy[:, -1] = 2 * (h[:, -1] - y[b]) / (B * H)
        for t in range(ends[b]):
            states = oracle(cell, layer).forward(x[b : b + 1, : t + 1])[0][1:]
            later = reference.vjp(oracle(cell, layer), x[b : b + 1, t + 1 : ends[b]], dy[:, t + 1 :], initial_state=states, dstates=[None] * len(states))
            expected = dy[:, t] + (later["initial_state"][0] if t + 1 < ends[b] else 0)
            assert norms[b, t] == pytest.approx(np.linalg.norm(expected), rel=1e-10, abs=1e-15)


def test_backward_direction_is_read_against_time(rng):
    model = made(layers.Bidirectional(layers.GRU(H, dtype="float64", name="g")), layers.Dense(1, dtype="float64"))
    found = diagnostics.gradient_flow(model, rng.standard_normal((B, T, F)), np.ones((B, 1)), loss="mse").layers
    assert [one.name.split("/")[-1] for one in found] == ["forward_g", "backward_g"]
    forward, backward = (np.nanmean(one.norms, axis=0) for one in found)
    assert forward.argmax() == T - 1 and backward.argmax() == 0
    np.testing.assert_allclose(found[1].by_distance, backward)


@pytest.mark.parametrize(("scale", "verdict"), [(0.5, "vanishing"), (1.0, "healthy"), (1.5, "exploding")])
def test_verdicts_and_rates(scale, verdict):
    layer = layers.SimpleRNN(H, activation=None, dtype="float64", recurrent_initializer="identity")
    model = made(layer)
    weights = model.get_weights()
    model.set_weights([weights[0], scale * np.eye(H), weights[2]])
    model.compile("sgd", "mse")
    before = model.get_weights()
    found = diagnostics.gradient_flow(model, np.ones((B, 60, F)), np.zeros((B, H)))
    assert found.verdict == verdict and found.layers[0].rate == pytest.approx(scale)
    assert verdict in str(found) and model.optimizer.iterations == 0
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_no_gradient_and_no_finite_gradient():
    model = made(layers.SimpleRNN(H, dtype="float64", kernel_initializer="zeros"))
    x = np.ones((B, T, F))
    assert diagnostics.gradient_flow(model, x, model.predict_on_batch(x), loss="mse").verdict == "no gradient"
    x[0, 0, 0] = np.nan
    assert diagnostics.gradient_flow(model, x, np.ones((B, H)), loss="mse").verdict == "exploding"


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_states_are_those_of_the_layer(lengths, sequence, backwards, rng):
    layer = recurrent("GRU", return_sequences=sequence, go_backwards=backwards, name="memory")
    x = rng.standard_normal((B, T, F))
    found = diagnostics.hidden_states(made(layer), x, lengths=lengths).states["memory"]
    ends = np.full(B, T) if lengths is None else lengths
    for b in range(B):
        part = x[b : b + 1, : ends[b]]
        h = oracle("GRU", layer).forward(part[:, ::-1] if backwards else part)[0][0][0]
        assert max_rel_error(found[b, : ends[b]], h[::-1] if backwards else h) < 1e-12
        assert np.isnan(found[b, ends[b] :]).all()


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def test_gates_are_those_of_the_equations(rng):
    layer = recurrent("LSTM", return_sequences=True, name="memory")
    model = made(layer)
    x = rng.standard_normal((B, T, F))
    (found,) = diagnostics.gate_activity(model, x).layers
    h = np.concatenate([np.zeros((B, 1, H)), model.predict_on_batch(x)[:, :-1]], axis=1)
    kernel, recurrent_kernel, bias = layer.get_weights()
    a = np.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=-1)
    for gate, expected in zip(("input", "forget", "candidate", "output"), (sigmoid(a[0]), sigmoid(a[1]), np.tanh(a[2]), sigmoid(a[3])), strict=True):
        assert max_rel_error(found.values[gate], expected) < 1e-12
    assert (found.name, found.cell) == ("memory", "lstm")


@pytest.mark.parametrize("cell", CELLS)
def test_gates_of_every_cell_and_of_activations_that_keep_their_input(cell, rng):
    layer = recurrent(cell, activation="gelu")
    (found,) = diagnostics.gate_activity(made(layer), rng.standard_normal((B, T, F)), lengths=LENGTHS).layers
    inner = found.values["output" if cell == "SimpleRNN" else "candidate"]
    assert np.nanmin(inner) > -0.2  # gelu's least value, which its input has not
    assert np.isnan(found.low["output" if cell == "SimpleRNN" else "candidate"])
    assert all(np.isnan(v[1, 4:]).all() and np.isfinite(v[1, :4]).all() for v in found.values.values())


def test_saturated_gates_and_dead_units(rng):
    layer = recurrent("GRU")
    model = made(layer)
    kernel, recurrent_kernel, bias = model.get_weights()
    bias[0, :2], bias[0, 2:4] = 20.0, -20.0  # half of the update gates keep all, half take all
    model.set_weights([kernel, recurrent_kernel, bias])
    found = diagnostics.gate_activity(model, rng.standard_normal((B, T, F)))
    (one,) = found.layers
    assert one.high["update"] == one.low["update"] == 0.5
    assert one.dead.tolist() == [0, 1] and "2 of 4" in str(found)
    assert one.mean("update").tolist() == pytest.approx([0.5] * T)


def test_profile_adds_up(rng):
    model = made(recurrent("LSTM", return_sequences=True, name="memory"), layers.Dense(3, dtype="float64", name="head"))
    x = rng.standard_normal((B, T, F))
    found = diagnostics.profile(model, x, lengths=LENGTHS, repeats=3)
    assert found.milliseconds == pytest.approx(sum(one.milliseconds for one in found.ops)) == pytest.approx(sum(found.by_layer().values()))
    assert all(one.milliseconds >= 0 and one.megabytes > 0 for one in found.ops)
    assert {"memory", "head"} <= set(found.by_layer()) and "GFLOP/s" in str(found)
    with pytest.raises(ValueError, match="repeats must be a positive integer, got 0"):
        diagnostics.profile(model, x, repeats=0)


def test_models_without_recurrence_and_without_a_loss():
    x = np.zeros((B, T, F))
    for look in (diagnostics.gate_activity, diagnostics.hidden_states, lambda m, x: diagnostics.gradient_flow(m, x, np.zeros((B, T, 1)), loss="mse")):
        with pytest.raises(ValueError, match="has no recurrent layer to look into"):
            look(made(layers.Dense(1, dtype="float64")), x)
    with pytest.raises(ValueError, match="gradient_flow needs a loss: compile the model or give loss="):
        diagnostics.gradient_flow(made(recurrent("GRU")), x, np.zeros((B, H)))


def test_gradient_flow_leaves_training_as_it_is(rng):
    models = []
    for looks in (False, True):
        model = made(layers.GRU(H, dtype="float64", kernel_initializer="ones", recurrent_initializer="identity", kernel_constraint="max_norm"))
        model.compile(optimizers.Adam(0.01), "mse")
        for step in range(4):
            x = np.random.default_rng(step).standard_normal((B, T, F))
            model.train_on_batch(x, np.zeros((B, H)))
            if looks:
                diagnostics.gradient_flow(model, x, np.zeros((B, H)))
        models.append(model.get_weights())
    assert all((a == b).all() for a, b in zip(*models, strict=True))


def test_pictures(tmp_path, rng):
    require("matplotlib")
    inputs = [Input((None, F), name="a", dtype="float64"), Input((3,), name="b", dtype="float64")]
    joined = layers.Concatenate(dtype="float64")([recurrent("LSTM")(inputs[0]), inputs[1]])
    model = Model(inputs, layers.Dense(1, dtype="float64")(joined))
    x = [rng.standard_normal((B, T, F)), rng.standard_normal((B, 3))]
    diagnostics.plot_model(model, tmp_path / "model.png")
    diagnostics.gradient_flow(model, x, np.zeros((B, 1)), loss="mse").plot(tmp_path / "flow.png")
    diagnostics.gate_activity(model, x).plot(tmp_path / "gates.png")
    states = diagnostics.hidden_states(model, x, lengths=[LENGTHS, None])
    states.plot(tmp_path / "states.png", row=1)
    diagnostics.plot_attention(rng.random((1, 3, 5)), path=tmp_path / "attention.png")
    diagnostics.plot_forecast(np.arange(5.0), [1.0, 2.0], truth=[2.0], path=tmp_path / "forecast.png")
    assert all(path.stat().st_size > 3000 for path in tmp_path.iterdir()) and len(list(tmp_path.iterdir())) == 6
    with pytest.raises(ValueError, match=r"row must be in \[0, 3\), got 3"):
        states.plot(row=3)


def test_bad_pictures():
    with pytest.raises(ShapeError, match=r"scores must have shape \(Tq, Tv\) or \(B, Tq, Tv\), got \(3,\)"):
        diagnostics.plot_attention([1, 2, 3])
    with pytest.raises(ValueError, match="key must have a label for each of the 2 steps, got 3"):
        diagnostics.plot_attention(np.eye(2), key="abc")
    with pytest.raises(ShapeError, match=r"history must be one series of shape \(T,\), got \(0,\)"):
        diagnostics.plot_forecast([], [1.0])


def test_pictures_need_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'rnnfast\[plot\]'"):
        diagnostics.plot_attention(np.eye(2))


SLOW = {
    "softmax": lambda **k: layers.GRU(H, activation="softmax", **k),
    "both": lambda **k: layers.Bidirectional(layers.LSTM(H, recurrent_activation="softmax", **k)),
    "python": lambda **k: layers.RNN(Doubled(), **k),
    "staged": lambda **k: layers.LayerNormLSTM(H, **k),
}


class Doubled(layers.Cell):
    """A cell without weights."""

    state_size = output_size = F

    def call(self, inputs, states):
        return 2 * inputs, [2 * inputs]


@pytest.mark.parametrize("kind", SLOW)
def test_layers_that_the_fused_engine_does_not_run(kind, rng):
    model, x = Sequential([Input((None, F)), SLOW[kind](return_sequences=True)]), rng.standard_normal((B, T, F))
    shown = diagnostics.hidden_states(model, x, lengths=LENGTHS).states
    valid, wide = np.arange(T) < LENGTHS[:, None], model.predict(x, lengths=LENGTHS, verbose=0)
    assert np.array_equal(np.concatenate(list(shown.values()), axis=-1)[valid], wide[valid])
    assert diagnostics.profile(model, x, repeats=1).milliseconds > 0
    with pytest.raises(ValueError, match=r"gate_activity: the gates of '.*' .* are not kept"):
        diagnostics.gate_activity(model, x)
    with pytest.raises(ValueError, match=r"gradient_flow cannot look into '.*' .*, whose steps are not the fused engine's"):
        diagnostics.gradient_flow(model, x, wide, loss="mse")
    if kind != "staged":
        with pytest.raises(ValueError, match=r"hidden_states: '.*' .* keeps its states with return_sequences=True alone"):
            diagnostics.hidden_states(Sequential([Input((None, F)), SLOW[kind]()]), x)


def test_what_statal_shows_at_its_end(rng):
    with pytest.raises(ValueError, match=r"hidden_states: 'statal.*' .* keeps its states with return_sequences=True alone"):
        diagnostics.hidden_states(Sequential([Input((None, F)), layers.Statal(H)]), rng.standard_normal((B, T, F)))
