"""Zoneout keeps single units at single steps, by noise that belongs to the caller's row and step; inference takes the expectation."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast
from tests import cases, reference
from tests.conftest import max_rel_error
from tests.gradients import central_differences

KINDS = {
    "SimpleRNN": ("SimpleRNN", {"zoneout": 0.4}),
    "GRU": ("GRU", {"zoneout": 0.4}),
    "GRU-before": ("GRU", {"zoneout": 0.4, "reset_after": False}),
    "LSTM": ("LSTM", {"zoneout": 0.4, "zoneout_cell": 0.2}),
    "LSTM-cell": ("LSTM", {"zoneout_cell": 0.3}),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def made(kind, units, features, rng, dtype="float64", **options):
    name, given = KINDS[kind]
    layer = getattr(rnnfast.layers, name)(units, return_sequences=True, seed=3, dtype=dtype, **given, **options)
    layer.build((None, None, features))
    layer.set_weights([rng.normal(0, 0.5, w.shape) for w in layer.get_weights()])
    return layer


def trained(layer, x, **how):
    """A training pass with always the same noise."""
    layer.seeds.set_state((3, 0))
    return layer(x, training=True, **how)


@kinds
def test_cells_and_states_at_inference_match_the_oracle(kind, dtype, rng):
    spec = (KINDS[kind][0], {"units": 9, "return_sequences": True, "return_state": True, "zoneout": 0.0, **KINDS[kind][1]})
    p = cases.problem(spec, (5, 6, 4), rng, "holes", initial_state=True)
    cases.assert_close(p.build(rnnfast, dtype).vjp(**p.cast(dtype)), p.expected, *cases.bound(dtype))


@kinds
def test_gradients_in_training(kind, rng):
    layer, x, lengths = made(kind, 5, 3, rng), rng.normal(size=(5, 6, 3)), np.array([6, 0, 3, 5, 1])
    dy = rng.normal(size=(5, 6, 5))
    layer.seeds.set_state((3, 0))
    got = layer.vjp(x, dy, lengths=lengths, training=True)
    weights = layer.get_weights()

    def total():
        layer.set_weights(weights)
        return float((trained(layer, x, lengths=lengths) * dy).sum())

    assert max_rel_error(got["x"], central_differences(total, x)) < 1e-7
    for w, grad in zip(weights, got["weights"], strict=True):
        assert max_rel_error(grad, central_differences(total, w)) < 1e-7


@pytest.mark.parametrize("kind", ["SimpleRNN", "GRU", "GRU-before", "LSTM"])
def test_each_unit_keeps_its_value_with_the_given_probability(kind, rng):
    y = trained(made(kind, 40, 3, rng, "float32"), rng.normal(size=(50, 30, 3)).astype(np.float32))
    kept = y[:, 1:] == y[:, :-1]
    assert abs(kept.mean() - 0.4) < 0.01
    assert kept.any(axis=2).mean() > 0.99
    assert not kept.all(axis=2).any()


@kinds
def test_noise_belongs_to_the_row_and_step(kind, rng):
    layer, x = made(kind, 33, 4, rng, "float32"), rng.normal(size=(7, 6, 4)).astype(np.float32)
    lengths = np.array([3, 6, 0, 5, 6, 1, 2])
    full, cut = trained(layer, x), trained(layer, x, lengths=lengths)
    valid = reference.length_mask(lengths, 6)
    assert np.array_equal(full[valid], cut[valid])


@kinds
def test_threads_do_not_change_the_noise(kind, rng):
    layer, x = made(kind, 40, 4, rng, "float32"), rng.normal(size=(9, 20, 4)).astype(np.float32)
    kept, found = rnnfast.get_num_threads(), []
    for threads in (1, 2):
        rnnfast.set_num_threads(threads)
        found.append(trained(layer, x))
    rnnfast.set_num_threads(kept)
    assert np.array_equal(*found)


@kinds
def test_a_stream_is_the_whole_sequence(kind, rng):
    model = rnnfast.Sequential([rnnfast.Input((None, 4)), made(kind, 17, 4, rng, "float32")])
    x = rng.normal(size=(1, 9, 4)).astype(np.float32)
    stream = model.stream()
    assert np.array_equal(np.stack([stream.step(x_t).copy() for x_t in x[0]]), model.predict(x)[0])


def test_configuration_and_bad_rates():
    layer = rnnfast.layers.LSTM(3, zoneout=0.1, zoneout_cell=0.2)
    again = rnnfast.layers.deserialize(rnnfast.layers.serialize(layer))
    assert (again.zoneout, again.zoneout_cell) == (0.1, 0.2)
    with pytest.raises(ValueError, match=r"GRU '.*': zoneout must be a number in \[0, 1\), got 1"):
        rnnfast.layers.GRU(3, zoneout=1)
    with pytest.raises(TypeError, match="unknown argument 'zoneout_cell'"):
        rnnfast.layers.GRU(3, zoneout_cell=0.1)
