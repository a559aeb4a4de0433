"""What Statal promises beside its equations: what its states mean, how far its memory reaches, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast
from rnnfast import layers

STEPS = 1000


def neuron(**options):
    """One neuron that is its input: W = 1, R = 0, b = 0."""
    layer = layers.Statal(1, return_sequences=True, output="state", dtype="float64", **options)
    layer.build((None, None, 1))
    slots = layer.slots
    layer.set_weights([np.ones((1, 1)), np.zeros((slots, 1)), np.zeros(1)])
    return layer


def pulses(*at):
    x = np.full((1, STEPS, 1), -1.0)
    for step, height in at:
        x[0, step] = height
    return x


def test_value_is_the_last_activation_seen_bit_for_bit():
    s = neuron()(pulses((3, 0.7), (500, 0.1)))[0, :, 0]
    assert (s[:3] == 0).all() and (s[3:500] == 0.7).all() and (s[500:] == 0.1).all()


def test_binary_is_whether_it_was_seen():
    s = neuron(state="binary", threshold=0.5)(pulses((3, 0.4), (7, 0.6)))[0, :, 0]
    assert (s[:7] == 0).all() and (s[7:] == 1).all()


def test_probability_grows_towards_one():
    s = neuron(state="probability", threshold=0.5, sharpness=10.0)(pulses((3, 0.5), (7, 0.5)))[0, :, 0]
    assert (np.diff(s) >= 0).all() and abs(s[3] - s[2] - 0.5 * (1 - s[2])) < 1e-12 and s[-1] <= 1


def test_trace_tells_when():
    layer = neuron(state="trace", slots=3)
    s = layer(pulses((10, 2.0)))[0]
    since = np.arange(STEPS - 10)
    assert np.allclose(s[10:], 2.0 * np.array(layer.decays) ** since[:, None], rtol=1e-10)
    for decay, half_life in zip(layer.decays, (10, 100, 1000), strict=True):
        assert abs(decay**half_life - 0.5) < 1e-12


def test_the_gradient_of_what_was_seen_does_not_fade():
    layer = neuron()
    dy = np.zeros((1, STEPS, 1))
    dy[0, -1] = 1.0
    dx = layer.vjp(pulses((3, 0.7)), dy)["x"][0, :, 0]
    sharpness, a = 4.0, 0.7
    p = 1 / (1 + np.exp(-sharpness * a))
    assert abs(dx[3] - (1 + a * sharpness * p * (1 - p))) < 1e-12


def test_outputs_stand_side_by_side(rng):
    x = rng.normal(size=(3, 6, 4)).astype("float32")
    made = {output: layers.Statal(5, state="trace", slots=2, output=output, return_sequences=True) for output in ("activation", "state", "both")}
    for layer in made.values():
        layer.build(x.shape)
        layer.set_weights(made["activation"].get_weights())
    lengths = [6, 2, 0]
    a, s, both = (layer(x, lengths=lengths) for layer in made.values())
    assert np.array_equal(both, np.concatenate([a, s], axis=-1)) and both.shape == made["both"].output_shape((3, 6, 4))
    states = layers.Statal(5, state="trace", slots=2, return_state=True)
    states.build(x.shape)
    states.set_weights(made["activation"].get_weights())
    last, first, second = states(x, lengths=lengths)
    assert np.array_equal(last, a[:, -1]) and np.array_equal(np.hstack([first, second]), s[:, -1])


def test_new_episodes_start_from_nothing_seen(rng):
    model = rnnfast.Sequential([rnnfast.Input((None, 3)), layers.Statal(4, state="trace", slots=2, output="both", return_sequences=True)])
    model.compile(optimizer="sgd", loss="mse")
    model.layers[-1].set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    x, resets = rng.normal(size=(2, 8, 3)).astype("float32"), np.zeros((2, 8), bool)
    resets[0, 5] = True
    weights = model.get_weights()
    target = np.zeros((2, 8, 12), "float32")
    whole = model.train_on_batch(x, target, resets=resets)
    after = model.get_weights()
    parts = [x[:1, :5], x[:1, 5:], x[1:]]
    model.set_weights(weights)
    losses = [model.evaluate(part, target[:1, : part.shape[1]], verbose=0) * part.shape[1] / 16 for part in parts]
    assert abs(whole - sum(losses)) < 1e-5
    model.set_weights(weights)
    layer = model.layers[-1]
    padded, lengths = np.zeros((3, 8, 3), "float32"), [5, 3, 8]
    for row, part in enumerate(parts):
        padded[row, : part.shape[1]] = part[0]
    y = layer(padded, lengths=lengths)
    dy = 2 * y / (2 * 8 * 12) * (np.arange(8)[None, :, None] < np.array(lengths)[:, None, None])
    for before, moved, grad in zip(weights, after, layer.vjp(padded, dy, lengths=lengths)["weights"], strict=True):
        assert np.allclose(before - 0.01 * grad, moved, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"state": "valu"}, "unknown state 'valu'.*value"),
        ({"output": "all"}, "unknown output 'all'"),
        ({"firing": "harder"}, "unknown firing 'harder'.*hard"),
        ({"slots": 2}, "slots must be 1 for state='value'"),
        ({"state": "trace", "slots": 9}, "slots must be at most 8, got 9"),
        ({"state": "trace", "slots": 0}, "slots must be a positive integer, got 0"),
        ({"threshold": float("nan")}, "threshold must be a finite number, got nan"),
        ({"sharpness": 0}, "sharpness must be positive, got 0"),
        ({"decays": [0.5]}, "decays belong to state='trace'"),
        ({"state": "trace", "slots": 2, "decays": [0.5]}, r"decays must be 2 numbers in \(0, 1\]"),
        ({"state": "trace", "decays": [0.0]}, r"decays must be 1 numbers in \(0, 1\]"),
        ({"activation": "softmax"}, "must work on each unit by itself"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"Statal 'statal.*': .*{message}"):
        layers.Statal(4, **arguments)


@pytest.mark.parametrize("kind", ["IndRNN", "MinGRU"])
def test_cells_without_a_product_refuse_recurrent_dropout(kind):
    with pytest.raises(ValueError, match=r"recurrent_dropout must be 0.*Use dropout or zoneout"):
        getattr(layers, kind)(4, recurrent_dropout=0.5)
