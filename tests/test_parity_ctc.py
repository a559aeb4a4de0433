"""The CTC loss against PyTorch (value and gradient) and Keras (value, decoding)."""

import numpy as np
import pytest

from rnnfast import decoding, losses
from tests import ctc_op
from tests.peers import require

torch = require("torch")
RNG = np.random.default_rng(5)


def torch_ctc(x, labels, lengths, counts, reduction, **options):
    logits = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    log_p = torch.log_softmax(logits, -1).transpose(0, 1)
    given = [torch.tensor(each) for each in (labels, lengths, counts)]
    value = torch.nn.functional.ctc_loss(log_p, *given, reduction=reduction, **options)
    value.sum().backward()
    return value.detach().numpy(), logits.grad.numpy()


def problem(seed, dtype):
    """Repeats are likely (few classes), targets may be empty, and steps may be too few or just enough."""
    rng = np.random.default_rng(seed)
    B, T, C, L = 6, int(rng.integers(1, 40)), int(rng.integers(2, 12)), int(rng.integers(1, 14))
    blank = int(rng.integers(0, C))
    labels = rng.choice([c for c in range(C) if c != blank], (B, L))
    counts, lengths = rng.integers(0, L + 1, B), rng.integers(1, T + 1, B)
    repeats = sum(labels[0, 1 : counts[0]] == labels[0, : max(0, counts[0] - 1)])
    lengths[0] = np.clip(counts[0] + repeats, 1, T)
    return (3 * rng.normal(size=(B, T, C))).astype(dtype), labels, lengths, counts, blank


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(12))
def test_value_and_gradient_of_torch(seed, dtype):
    x, labels, lengths, counts, blank = problem(seed, dtype)
    expected, slope = torch_ctc(x, labels, lengths, counts, "none", blank=blank, zero_infinity=True)
    y = losses.CTC(blank=blank, padding=-1).padded(labels, counts, x.shape[-1])
    values, dx = ctc_op.run(x, y, lengths, blank=blank, padding=-1, zero_infinity=True)
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dx, slope, atol=1e-7 if dtype == "float32" else 1e-11)


def test_reductions_of_torch():
    x, labels, lengths, counts, blank = problem(3, "float64")
    for reduction, ours in (("sum", losses.CTC("sum", blank=blank, zero_infinity=True)), ("mean", losses.CTC(blank=blank, zero_infinity=True, per_label=True))):
        expected, _ = torch_ctc(x, labels, lengths, counts, reduction, blank=blank, zero_infinity=True)
        assert ours(labels, x, lengths=lengths, label_lengths=counts) == pytest.approx(float(expected), rel=1e-12)


def test_loss_and_decoding_of_keras():
    keras = require("keras")
    x, labels = RNG.normal(size=(5, 20, 6)), np.where(np.arange(4) < RNG.integers(1, 5, (5, 1)), RNG.integers(1, 6, (5, 4)), 0)
    assert losses.CTC()(labels, x) == pytest.approx(float(keras.losses.CTC()(labels, x.astype("float32"))), rel=1e-5)
    lengths = np.full(5, 20)
    best, _ = keras.ops.ctc_decode(x.astype("float32"), lengths, strategy="greedy", mask_index=0)
    found = [[int(label) for label in row if label >= 0] for row in best[0]]
    assert [path.labels for path in decoding.ctc_greedy(x)] == found
