"""Character and word error rates: against a plain recursion, on strings, words, labels and a model's output."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnfast import metrics
from rnnfast.errors import ShapeError


def edits(a, b):
    @cache
    def least(i, j):
        if not i or not j:
            return i + j
        return min(least(i - 1, j) + 1, least(i, j - 1) + 1, least(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return least(len(a), len(b))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text("añ😀 ", max_size=8), st.text("añ😀 ", max_size=8)), min_size=1, max_size=4))
def test_rates_are_edits_over_length(pairs):
    references, hypotheses = zip(*pairs, strict=True)
    for metric, cut in ((metrics.CharacterErrorRate(), str), (metrics.WordErrorRate(), str.split)):
        total = sum(edits(cut(a), cut(b)) for a, b in pairs)
        length = sum(len(cut(a)) for a in references)
        assert metric(references, hypotheses) == (total / length if length else (np.inf if total else 0.0))


def test_words_labels_and_single_strings():
    assert metrics.WordErrorRate()([["a", "b"], ["c"]], [["a"], ["d"]]) == pytest.approx(2 / 3)
    assert metrics.CharacterErrorRate()([[1, 2, 3], np.array([4])], [[1, 3], []]) == 0.5
    assert metrics.CharacterErrorRate()("abc", "abd") == pytest.approx(1 / 3)


def test_batches_add_up_with_weights():
    metric = metrics.get("cer")
    metric.update_state(["ab"], ["ax"])
    metric.update_state(["abcd", "a"], ["abcd", "b"], sample_weight=[0.5, 2.0])
    assert metric.result() == pytest.approx((1 + 2) / (2 + 2 + 2))
    metric.reset_state()
    assert metric.result() == 0.0


@pytest.mark.parametrize("blank", [0, -1])
def test_output_of_a_model(blank):
    space = blank % 4
    a, b, c = (label for label in range(4) if label != space)
    y_pred = np.eye(4)[[[a, a, space, a, b], [c, space, b, b, b]]]
    metric = metrics.CharacterErrorRate(blank=blank)
    assert metric(np.array([[a, a, b], [c, b, space]]), y_pred) == 0.0
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], bool)
    metric.reset_state()
    assert metric(np.array([[a, a, b], [c, b, space]]), y_pred, mask=mask) == pytest.approx(1 / 5)
    padded = metrics.CharacterErrorRate(blank=blank, padding=-1)
    assert padded(np.array([[a, a, b], [c, b, -1]]), y_pred) == 0.0
    assert metrics.deserialize(metrics.serialize(padded)).get_config() == padded.get_config()


def test_unequal_numbers_are_named():
    with pytest.raises(ShapeError, match="character_error_rate: y_pred must have 2 sequences as y_true does, got 1"):
        metrics.CharacterErrorRate()(["a", "b"], ["a"])
