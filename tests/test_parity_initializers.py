"""Regularizers, constraints and initializers' scales against Keras."""

import numpy as np
import pytest

from rnnfast import constraints, initializers, regularizers, utils
from tests.peers import as_array, require

keras = require("keras")
W = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


@pytest.mark.parametrize("name", ["L1", "L2", "L1L2"])
def test_regularizers(name):
    config = {"L1": {"l1": 0.3}, "L2": {"l2": 0.2}, "L1L2": {"l1": 0.1, "l2": 0.4}}[name]
    expected = getattr(keras.regularizers, name)(**config)(keras.ops.convert_to_tensor(W))
    assert getattr(regularizers, name)(**config)(W) == pytest.approx(float(expected), rel=1e-6)
    assert getattr(regularizers, name)().get_config() == pytest.approx(getattr(keras.regularizers, name)().get_config())


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("MaxNorm", {}),
        ("MaxNorm", {"max_value": 1.0, "axis": 1}),
        ("NonNeg", {}),
        ("UnitNorm", {"axis": [0, 1]}),
        ("MinMaxNorm", {"min_value": 0.5, "max_value": 1.5, "rate": 0.7}),
    ],
)
def test_constraints(name, config):
    expected = as_array(getattr(keras.constraints, name)(**config)(W))
    ours = getattr(constraints, name)(**config)
    np.testing.assert_allclose(ours(W), expected, rtol=1e-6)
    assert getattr(constraints, name)().get_config() == getattr(keras.constraints, name)().get_config()


@pytest.mark.parametrize(
    "name",
    "RandomNormal RandomUniform TruncatedNormal VarianceScaling GlorotUniform GlorotNormal LecunUniform LecunNormal "
    "HeUniform HeNormal Orthogonal Identity Constant Zeros Ones".split(),
)
def test_initializers_have_the_same_arguments_and_distribution(name):
    theirs, ours = getattr(keras.initializers, name), getattr(initializers, name)
    assert ours().get_config() == ({"gain": 1.0} if name == "Identity" else theirs().get_config())
    a, b = ours()((400, 200)), as_array(theirs()((400, 200)))
    # The 5 % quantiles of two normal samples of 80000 differ by a standard error of sqrt(2 0.05 0.95 / 80000) / 0.103 = 0.011 standard deviations.
    np.testing.assert_allclose(
        np.quantile(a, [0.05, 0.5, 0.95]), np.quantile(b, [0.05, 0.5, 0.95]), atol=0.06 * b.std() + 1e-7
    )


def test_to_categorical():
    for labels in ([0, 2, 1], [[1], [2]], [[0, 1], [2, 3]]):
        np.testing.assert_array_equal(utils.to_categorical(labels), keras.utils.to_categorical(labels))
