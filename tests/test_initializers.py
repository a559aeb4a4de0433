"""Initializers, regularizers, constraints, seeds and the name tables they share."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnfast import config, constraints, initializers, regularizers, utils
from rnnfast.random import SeedGenerator, generator

RANDOM = (
    "random_normal random_uniform truncated_normal variance_scaling glorot_uniform glorot_normal lecun_uniform "
    "lecun_normal he_uniform he_normal orthogonal"
).split()


@pytest.mark.parametrize("name", [*RANDOM, "zeros", "ones", "constant", "identity"])
def test_shape_dtype_and_config_round_trip(name):
    made = initializers.get(name)
    for dtype in ("float32", "float64"):
        w = made((5, 7), dtype)
        assert w.shape == (5, 7)
        assert w.dtype == dtype
        assert w.flags.c_contiguous
        assert w.flags.writeable
    assert made((2, 3)).dtype == config.floatx()
    again = initializers.deserialize(initializers.serialize(made))
    assert type(again) is type(made)
    assert again.get_config() == made.get_config()


@pytest.mark.parametrize("name", RANDOM)
def test_seed_fixes_values_and_precision_only_rounds(name):
    cls = type(initializers.get(name))
    a = cls(seed=3)((6, 4), "float64")
    np.testing.assert_array_equal(a, cls(seed=3)((6, 4), "float64"))
    np.testing.assert_array_equal(a.astype("float32"), cls(seed=3)((6, 4), "float32"))
    assert np.any(a != cls(seed=4)((6, 4), "float64"))
    stream = cls(seed=SeedGenerator(3))
    assert np.any(stream((6, 4)) != stream((6, 4)))


def test_unseeded_initializer_keeps_its_values_and_differs_from_the_next():
    a, b = initializers.GlorotUniform(), initializers.GlorotUniform()
    np.testing.assert_array_equal(a((3, 3)), a((3, 3)))
    assert np.any(a((3, 3)) != b((3, 3)))


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_uniform", 2 / 700),
        ("glorot_normal", 2 / 700),
        ("lecun_uniform", 1 / 400),
        ("lecun_normal", 1 / 400),
        ("he_uniform", 2 / 400),
        ("he_normal", 2 / 400),
        ("random_normal", 0.05**2),
        ("random_uniform", 0.1**2 / 12),
        ("truncated_normal", (0.05 * 0.8796256610342398) ** 2),
    ],
)
def test_moments(name, variance):
    w = type(initializers.get(name))(seed=1)((400, 300), "float64")
    assert abs(w.mean()) < 5 * math.sqrt(variance / w.size)
    assert w.var() == pytest.approx(variance, rel=0.02)
    if name == "truncated_normal":
        assert np.abs(w).max() <= 0.1


def test_fans_of_convolution_kernels_and_given_axes():
    w = initializers.HeUniform(seed=0)((3, 50, 100), "float64")
    assert np.abs(w).max() == pytest.approx(math.sqrt(6 / 150), rel=1e-3)
    w = initializers.HeUniform(seed=0, input_axes=[0], output_axes=[1, 2])((300, 10, 10), "float64")
    assert np.abs(w).max() == pytest.approx(math.sqrt(6 / 300), rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 8), min_size=2, max_size=3), st.integers(0, 2**63))
def test_orthogonal(shape, seed):
    q = initializers.Orthogonal(gain=2.0, seed=seed)(shape, "float64").reshape(-1, shape[-1])
    if q.shape[0] < q.shape[1]:
        q = q.T
    np.testing.assert_allclose(q.T @ q, 4.0 * np.eye(q.shape[1]), atol=1e-12)


def test_constant_takes_an_array_and_copies_it():
    given_array = np.arange(3, dtype="float32")
    w = initializers.get(given_array)((3,))
    w[:] = 9
    np.testing.assert_array_equal(given_array, [0, 1, 2])
    with pytest.raises(ValueError, match=r"Constant: value must broadcast to shape \(2,\), got shape \(3,\)"):
        initializers.Constant(given_array)((2,))
    assert initializers.serialize(initializers.Constant(given_array))["config"] == {"value": [0.0, 1.0, 2.0]}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: initializers.get("glorot_unifrom"), "Unknown initializer 'glorot_unifrom'. Did you mean 'glorot_un"),
        (lambda: initializers.get(3), "initializer must be a name"),
        (
            lambda: initializers.deserialize({"class_name": "os.system", "config": {}}),
            "Unknown initializer 'os.system'",
        ),
        (lambda: initializers.deserialize({"class_name": "Zeros", "config": {"a": 1}}), "config does not fit"),
        (lambda: initializers.VarianceScaling(scale=0.0), "scale must be greater than 0, got 0.0"),
        (lambda: initializers.VarianceScaling(mode="fan"), "mode must be 'fan_in'"),
        (lambda: initializers.VarianceScaling(distribution="cauchy"), "distribution must be"),
        (lambda: initializers.Orthogonal()((3,)), "at least 2 dimensions"),
        (lambda: initializers.Identity()((3,)), "must have 2 dimensions"),
        (lambda: initializers.HeNormal(seed=1.5), "HeNormal: seed must be an integer"),
        (lambda: initializers.serialize(np.zeros), "cannot be saved"),
        (lambda: regularizers.L2(-1.0), "L2: l2 must be a finite float of at least 0, got -1.0"),
        (lambda: regularizers.get("l3"), "Unknown regularizer 'l3'"),
        (lambda: constraints.get("maxnrm"), "Did you mean 'max_norm'"),
        (lambda: config.set_floatx("float16"), "value must be 'float32' or 'float64', got 'float16'"),
        (lambda: config.set_epsilon(0), "set_epsilon"),
        (lambda: utils.set_random_seed("1"), "set_random_seed: seed must be an integer"),
        (lambda: utils.set_random_seed(2**32), "2\\*\\*32"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["he_normal", "HeNormal", "henormal", initializers.HeNormal, initializers.HeNormal()])
def test_get_takes_names_classes_and_objects(name):
    assert isinstance(initializers.get(name), initializers.HeNormal)
    assert initializers.get(None) is None


def test_regularizers_and_their_gradients():
    w = np.array([[0.5, -2.0], [3.0, -0.25]])
    for made in (regularizers.L1(0.3), regularizers.L2(0.2), regularizers.L1L2(0.3, 0.2)):
        numeric = np.zeros_like(w)
        for index in np.ndindex(w.shape):
            step = np.zeros_like(w)
            step[index] = 1e-6
            numeric[index] = (made(w + step) - made(w - step)) / 2e-6
        np.testing.assert_allclose(made.gradient(w), numeric, rtol=1e-8)
        again = regularizers.deserialize(regularizers.serialize(made))
        assert again(w) == made(w)
    assert regularizers.L1L2(0.3, 0.2)(w) == pytest.approx(0.3 * 5.75 + 0.2 * 13.3125)


def test_constraints_reach_their_norms():
    w = np.random.default_rng(0).normal(size=(20, 5)) * 3
    np.testing.assert_allclose(np.linalg.norm(constraints.UnitNorm()(w), axis=0), 1, rtol=1e-6)
    assert np.linalg.norm(constraints.MaxNorm(2.0)(w), axis=0).max() <= 2.0
    between = np.linalg.norm(constraints.MinMaxNorm(1.0, 1.5, axis=1)(w), axis=1)
    assert between.min() > 0.999
    assert between.max() <= 1.5
    assert constraints.NonNeg()(w).min() == 0
    for name in ("max_norm", "non_neg", "unit_norm", "min_max_norm"):
        made = constraints.get(name)
        again = constraints.deserialize(constraints.serialize(made))
        np.testing.assert_array_equal(again(w), made(w))
        assert made(w.astype("float32")).dtype == "float32"


def test_seed_generator_repeats_and_restores():
    a = SeedGenerator(5)
    first = [a.next() for _ in range(3)]
    state = a.get_state()
    later = [a.next() for _ in range(3)]
    a.set_state(state)
    assert [a.next() for _ in range(3)] == later
    b = SeedGenerator(5)
    assert [b.next() for _ in range(3)] == first
    assert len(set(first + later)) == 6
    assert all(0 <= seed < 2**63 for seed in first + later)
    assert SeedGenerator.from_config(a.get_config()).next() == first[0]


def test_splitmix64_reference_values():
    # First outputs of the published C code for state 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    made = SeedGenerator(1234567)
    assert [made.next() for _ in range(3)] == [value >> 1 for value in expected]


def test_set_random_seed_fixes_everything():
    drawn = []
    for _ in range(2):
        utils.set_random_seed(11)
        drawn.append((SeedGenerator().next(), np.random.rand(), generator(SeedGenerator().next()).random()))
    assert drawn[0] == drawn[1]


def test_to_categorical():
    np.testing.assert_array_equal(utils.to_categorical([[1], [0]], 3), [[0, 1, 0], [1, 0, 0]])
    assert utils.to_categorical([[1, 0]]).shape == (1, 2, 2)
    assert utils.to_categorical([]).shape == (0, 0)
    with pytest.raises(ValueError, match=r"x must lie in \[0, 2\), got values 0 to 2"):
        utils.to_categorical([0, 2], 2)
    with pytest.raises(ValueError, match="whole numbers"):
        utils.to_categorical([0.5])
