"""The counting baselines are probability models, and those of their formulae."""

import itertools

import numpy as np
import pytest

from rnnfast.examples._ngrams import kneser_ney, witten_bell

RANDOM = np.random.default_rng(0)
TRAIN, TEXT = RANDOM.integers(0, 5, 60), RANDOM.integers(0, 6, 40)  # a token that was never seen


def counted(context, token=None):
    grams = [tuple(TRAIN[i : i + len(context) + 1]) for i in range(len(TRAIN) - len(context))]
    return sum(g[:-1] == context and token in (None, g[-1]) for g in grams), len({g[-1] for g in grams if g[:-1] == context})


def by_hand(context, token):
    lower = by_hand(context[1:], token) if context else 1 / 6
    seen, different = counted(context)
    return (counted(context, token)[0] + different * lower) / (seen + different) if seen else lower


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_witten_bell_by_hand(order):
    expected = [by_hand(tuple(TEXT[max(0, i - order) : i]), TEXT[i]) for i in range(1, len(TEXT))]
    np.testing.assert_allclose(witten_bell(TRAIN, TEXT, 6, order), expected, rtol=1e-12)


@pytest.mark.parametrize("model", [lambda text: witten_bell(TRAIN, text, 6, 2)[-1], lambda text: kneser_ney(TRAIN, text, 6)[-1]])
def test_probabilities_sum_to_one(model):
    for context in itertools.product(range(6), repeat=2):
        assert sum(model(np.array([*context, token])) for token in range(6)) == pytest.approx(1)


def test_kneser_ney_by_hand():
    pairs = list(itertools.pairwise(TRAIN.tolist()))
    different = set(pairs)
    once, twice = (sum(pairs.count(pair) == n for pair in different) for n in (1, 2))
    d = once / (once + 2 * twice)

    def single(w):
        ends = [sum(pair[1] == v for pair in different) for v in range(6)]
        return (max(ends[w] - d, 0) + d * sum(e > 0 for e in ends) / 6) / len(different)

    def bigram(v, w):
        seen = sum(pair[0] == v for pair in pairs)
        return (max(pairs.count((v, w)) - d, 0) + d * sum(pair[0] == v for pair in different) * single(w)) / seen if seen else single(w)

    np.testing.assert_allclose(kneser_ney(TRAIN, TEXT, 6), [bigram(v, w) for v, w in itertools.pairwise(TEXT.tolist())], rtol=1e-12)
