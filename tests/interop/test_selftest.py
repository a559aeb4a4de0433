"""A conversion that does not give its source's numbers is refused; those that it gives stand in its file."""

import numpy as np
import pytest

import rnnfast
from rnnfast import FormatError, Input, Sequential, layers
from rnnfast.interop.selftest import prove
from rnnfast.models.saving import load_archive

X = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)


def made():
    return Sequential([Input((None, 3)), layers.GRU(5)])


def test_other_numbers_and_shapes_are_refused():
    model = made()
    y = model.predict_on_batch(X)
    with pytest.raises(FormatError, match=r"somewhere: output 0: the converted model differs from its source by 0\.0(1|0999)"):
        prove(model, [X], [y + np.float32(0.01)], "somewhere")
    with pytest.raises(FormatError, match=r"in shape: \(2, 5\), not \(2, 4\)"):
        prove(model, [X], [y[:, :4]], "somewhere")
    assert model.proof is None


def test_the_sources_numbers_stand_in_the_file_as_long_as_they_hold(tmp_path):
    model = made()
    theirs = model.predict_on_batch(X) + np.float32(1e-6)  # a source rounds otherwise
    prove(model, [X], [theirs], "somewhere")
    model.save(tmp_path / "m.rnnf")
    np.testing.assert_array_equal(load_archive(tmp_path / "m.rnnf")[1]["selftest/output"], theirs)
    rnnfast.load(tmp_path / "m.rnnf")
    model.set_weights([w + 1 for w in model.get_weights()])
    model.save(tmp_path / "m.rnnf")
    assert not np.array_equal(load_archive(tmp_path / "m.rnnf")[1]["selftest/output"], theirs)
    rnnfast.load(tmp_path / "m.rnnf")
