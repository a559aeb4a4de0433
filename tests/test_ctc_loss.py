"""The CTC loss: value and gradient against the enumeration of all alignments, published numbers, and defined results where nothing can be aligned."""

import numpy as np
import pytest

from rnnfast import losses
from rnnfast.errors import ShapeError
from tests import ctc_op
from tests.gradients import central_differences
from tests.reference import ctc

RNG = np.random.default_rng(3)


def padded(rows, width):
    return np.array([list(row) + [-1] * (width - len(row)) for row in rows], np.int64).reshape(len(rows), width)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("blank", [0, 1, 2])
def test_all_alignments(blank, dtype):
    labels = [c for c in range(3) if c != blank]
    a, b = labels
    targets, lengths = [(), (a,), (b, a), (a, a), (a, b, a), (b, b, b), (a, b, a, b, a)], [3, 1, 5, 3, 4, 5, 5]
    x = RNG.normal(size=(7, 5, 3)).astype(dtype) * 2
    expected = [ctc.loss(row[:n].astype("float64"), t, blank) for row, t, n in zip(x, targets, lengths, strict=True)]
    y = padded(targets, 5)
    values, _ = ctc_op.run(x, y, lengths, blank=blank, padding=-1)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    readable = losses.CTC("none", blank=blank, padding=-1)
    np.testing.assert_allclose(readable(y, x, lengths=lengths), expected, rtol=1e-12)


@pytest.mark.parametrize("from_logits", [True, False])
def test_central_differences(from_logits):
    x = RNG.normal(size=(4, 7, 4)) if from_logits else RNG.uniform(0.1, 1.0, (4, 7, 4))
    y, lengths, weight = padded([(1, 1, 2), (), (0, 2), (2, 0, 2)], 3), [7, 4, 2, 5], [1.0, 0.5, 2.0, 0.0]
    options = {"blank": -1, "padding": -1, "from_logits": from_logits, "per_label": True}
    _, dx = ctc_op.run(x, y, lengths, weight, **options)
    numeric = central_differences(lambda: ctc_op.run(x, y, lengths, weight, gradient=False, **options)[0].sum(), x)
    np.testing.assert_allclose(dx, numeric, atol=1e-7)
    assert (dx[3] == 0).all()


WARP_CTC = np.array(
    [[[0.633766, 0.221185, 0.0917319, 0.0129757, 0.0142857, 0.0260553], [0.111121, 0.588392, 0.278779, 0.0055756, 0.00569609, 0.010436],
      [0.0357786, 0.633813, 0.321418, 0.00249248, 0.00272882, 0.0037688], [0.0663296, 0.643849, 0.280111, 0.00283995, 0.0035545, 0.00331533],
      [0.458235, 0.396634, 0.123377, 0.00648837, 0.00903441, 0.00623107]],
     [[0.30176, 0.28562, 0.0831517, 0.0862751, 0.0816851, 0.161508], [0.24082, 0.397533, 0.0557226, 0.0546814, 0.0557528, 0.19549],
      [0.230246, 0.450868, 0.0389607, 0.038309, 0.0391602, 0.202456], [0.280884, 0.429522, 0.0326593, 0.0339046, 0.0326856, 0.190345],
      [0.423286, 0.315517, 0.0338439, 0.0393744, 0.0339315, 0.154046]]]
)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_published_vectors_of_warp_ctc(dtype):
    """Probabilities, costs and gradients of tests/test_cpu.cpp (options_test) in baidu-research/warp-ctc; the only alignment of each step's label is certain."""
    values, dx = ctc_op.run(np.log(WARP_CTC).astype(dtype), padded([(0, 1, 2, 1, 0), (0, 1, 1, 0)], 5), blank=5, padding=-1)
    np.testing.assert_allclose(values, [3.34211, 5.42262], atol=5e-6)
    expected = WARP_CTC.copy()
    for row, labels in enumerate([(0, 1, 2, 1, 0), (0, 1, 5, 1, 0)]):
        expected[row, range(5), labels] -= 1
    np.testing.assert_allclose(dx, expected, atol=2e-6)


@pytest.mark.parametrize(("target", "steps"), [((1, 2, 3), 2), ((1, 1), 2), ((1,), 0), (tuple([1, 2] * 40), 3)])
def test_what_cannot_be_aligned(target, steps):
    x = RNG.normal(size=(2, 5, 4))
    y, lengths = padded([target, (1,)], len(target)), [steps, 5]
    for zero, expected in ((False, np.inf), (True, 0.0)):
        values, dx = ctc_op.run(x, y, lengths, padding=-1, zero_infinity=zero)
        assert values[0] == expected
        assert np.isfinite(values[1])
        assert (dx[0] == 0).all()
        assert np.isfinite(dx).all()
        np.testing.assert_allclose(losses.CTC("none", padding=-1, zero_infinity=zero)(y, x, lengths=lengths), values, rtol=1e-12)


def test_no_steps_and_no_labels_is_certain():
    values, _ = ctc_op.run(np.zeros((1, 3, 4)), np.zeros((1, 0)), [0])
    assert values[0] == 0.0


def test_nan_stays_in_its_sequence():
    x = RNG.normal(size=(3, 4, 3))
    x[1, 2, 0] = np.nan
    values, dx = ctc_op.run(x, padded([(1,)] * 3, 1), padding=-1)
    assert np.isnan(values).tolist() == [False, True, False]
    assert np.isnan(dx[1]).all()
    assert np.isfinite(dx[[0, 2]]).all()
    values, dx = ctc_op.run(x, padded([(1,)] * 3, 1), weight=[1.0, 0.0, 1.0], padding=-1)
    assert np.isfinite(values).all()
    assert np.isfinite(dx).all()


def test_an_impossible_class_is_no_nan():
    x = RNG.normal(size=(1, 4, 3))
    x[..., 2] = -np.inf
    values, dx = ctc_op.run(np.repeat(x, 2, 0), padded([(1, 1), (2,)], 2), padding=-1)
    assert values[0] == pytest.approx(ctc.loss(x[0, :, :2], (1, 1), 0))
    assert values[1] == np.inf
    assert np.isfinite(dx).all()


def test_long_sequences_do_not_underflow():
    x, y = RNG.normal(size=(1, 3000, 5)) * 20, RNG.integers(1, 5, (1, 300))
    values, dx = ctc_op.run(x, y)
    assert values[0] == pytest.approx(losses.CTC()(y, x), rel=1e-11)
    assert values[0] > 5000
    np.testing.assert_allclose(dx.sum(-1), 0, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits(dtype):
    """For threads, padding of steps and of labels, and order of rows."""
    x, y, lengths = RNG.normal(size=(6, 30, 11)).astype(dtype), RNG.integers(1, 11, (6, 9)), np.array([30, 7, 19, 30, 25, 9])
    values, dx = ctc_op.run(x, y, lengths)
    wide = np.concatenate([x, np.full((6, 5, 11), 9, dtype)], 1)
    order = [3, 5, 0, 1, 4, 2]
    for case in (
        ctc_op.run(x, y, lengths, threads=2),
        ctc_op.run(x, np.pad(y, ((0, 0), (0, 20))), lengths),
        [part[:, :30] for part in (v[:, None] if v.ndim == 1 else v for v in ctc_op.run(wide, y, lengths))],
        [part[np.argsort(order)] for part in ctc_op.run(x[order], y[order], lengths[order])],
    ):
        np.testing.assert_array_equal(np.squeeze(case[0]), values)
        np.testing.assert_array_equal(case[1], dx)
    np.testing.assert_array_equal(ctc_op.run(x, y, lengths, gradient=False)[0], values)


def test_reduction_weights_and_label_lengths():
    x, y = RNG.normal(size=(3, 6, 4)), np.array([[1, 2, 0], [3, 0, 0], [1, 1, 2]])
    each = losses.CTC("none")(y, x)
    assert losses.CTC()(y, x, [1.0, 2.0, 0.0]) == pytest.approx((each * [1, 2, 0]).sum() / 3)
    assert losses.CTC("sum")(y, x) == pytest.approx(each.sum())
    assert losses.CTC(per_label=True)(y, x) == pytest.approx((each / [2, 1, 3]).mean())
    assert losses.CTC()(np.where(y == 0, 9, y), x, label_lengths=[2, 1, 3]) == pytest.approx(each.mean())
    mask = np.array([[1, 0, 1, 1, 0, 1]] * 3, bool)
    assert losses.CTC()(y, x, mask=mask) == pytest.approx(losses.CTC()(y, x[:, mask[0]]))


def test_configuration():
    loss = losses.CTC("sum", blank=-1, zero_infinity=True, padding=-1, per_label=True, from_logits=False)
    assert losses.deserialize(losses.serialize(loss)).get_config() == loss.get_config()
    assert losses.get("ctc").get_config() == losses.CTC().get_config()


BAD = [
    (lambda c: c([[4]], np.zeros((1, 2, 4))), ValueError, r"ctc: y_true must hold class numbers in \[0, 4\), got 4 to 4"),
    (lambda c: c([[-1]], np.zeros((1, 2, 4))), ValueError, r"got -1 to -1"),
    (lambda c: c([[1, 0, 2]], np.zeros((1, 5, 4))), ValueError, "labels, then padding; got 0, the blank, before a label"),
    (lambda c: losses.CTC(padding=-1)([[1, -1, 2]], np.zeros((1, 5, 4))), ValueError, "got -1 before a label"),
    (lambda c: losses.CTC(padding=-1)([[1, 0, 2]], np.zeros((1, 5, 4))), ValueError, "must not hold the blank, 0, as a label"),
    (lambda c: c([[1.5]], np.zeros((1, 2, 4))), ValueError, "class numbers, got dtype float64"),
    (lambda c: c([[np.nan]], np.zeros((1, 2, 4))), ValueError, "class numbers"),
    (lambda c: c([["a"]], np.zeros((1, 2, 4))), ValueError, "class numbers, got dtype <U1"),
    (lambda c: c([1], np.zeros((1, 2, 4))), ShapeError, r"must have shape \(1, L\), labels, got \(1,\)"),
    (lambda c: c([[1], [1]], np.zeros((1, 2, 4))), ShapeError, r"got \(2, 1\)"),
    (lambda c: c([[1]], np.zeros((2, 4))), ShapeError, r"y_pred must have shape \(B, T, classes\), got \(2, 4\)"),
    (lambda c: losses.CTC(blank=4)([[1]], np.zeros((1, 2, 4))), ValueError, r"blank must be in \[-4, 4\), the classes, got 4"),
    (lambda c: losses.CTC(blank=1.0), ValueError, "CTC: blank must be an integer, got 1.0"),
    (lambda c: losses.CTC(padding="x"), ValueError, "CTC: padding must be an integer"),
    (lambda c: c([[1, 2]], np.zeros((1, 5, 4)), label_lengths=[3]), ValueError, r"label_lengths must be in \[0, 2\], got 3 to 3"),
    (lambda c: c([[1, 2]], np.zeros((1, 5, 4)), label_lengths=[1.0]), ShapeError, "label_lengths must be integers"),
    (lambda c: c([[1, 0]], np.zeros((1, 5, 4)), label_lengths=[2]), ValueError, "must not hold 0, the padding or blank"),
    (lambda c: c([[1]], np.zeros((1, 2, 4)), [[1.0, 1.0]]), ShapeError, r"sample_weight must have shape \(1,\)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(losses.CTC())
