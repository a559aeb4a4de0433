"""CTC decoding against the enumeration of all alignments; how the beam and the scorer behave; bad input."""

import numpy as np
import pytest

from rnnfast.decoding import ctc_beam_search, ctc_greedy
from rnnfast.errors import ShapeError
from tests.reference import ctc

RNG = np.random.default_rng(11)


@pytest.mark.parametrize("seed", range(20))
def test_a_wide_beam_is_exact(seed):
    rng = np.random.default_rng(seed)
    T, C = int(rng.integers(1, 7)), int(rng.integers(2, 4))
    blank = int(rng.integers(-C, C))
    logits = 2 * rng.normal(size=(T, C))
    known = ctc.all_labels(ctc.log_softmax(logits), blank % C)
    expected = sorted(known.values(), reverse=True)[:3]
    [found] = ctc_beam_search(logits[None], beam_width=1000, top_paths=3, blank=blank)
    np.testing.assert_allclose([path.log_probability for path in found], expected, rtol=1e-12)
    np.testing.assert_allclose([known[tuple(path.labels)] for path in found], expected, rtol=1e-12)


def test_the_best_path_is_the_best_alignment():
    steps = np.eye(4)[[1, 1, 0, 1, 2, 2, 0, 3]] * 5
    [path] = ctc_greedy(steps[None])
    assert path.labels == [1, 1, 2, 3]
    assert path.log_probability == pytest.approx(ctc.log_softmax(steps).max(-1).sum())
    assert ctc_greedy(steps[None], blank=-1)[0].labels == [1, 0, 1, 2, 0]


def test_a_beam_is_not_worse_than_greedy_on_average():
    logits = 1.5 * RNG.normal(size=(60, 6, 3))
    gains = []
    for steps, greedy, [beam] in zip(logits, ctc_greedy(logits), ctc_beam_search(logits, beam_width=3), strict=True):
        known = ctc.all_labels(ctc.log_softmax(steps), 0)
        assert beam.log_probability <= known[tuple(beam.labels)] + 1e-12
        gains.append(known[tuple(beam.labels)] - known[tuple(greedy.labels)])
    assert np.mean(gains) > 0.01


def test_probabilities_lengths_and_masks():
    logits = RNG.normal(size=(4, 9, 5))
    p = np.exp(ctc.log_softmax(logits))
    lengths = np.array([9, 4, 0, 6])
    mask = np.arange(9) < lengths[:, None]
    for decode in (ctc_greedy, lambda *a, **k: [paths[0] for paths in ctc_beam_search(*a, beam_width=4, **k)]):
        cut = [decode(row[None, :n])[0] for row, n in zip(logits, lengths, strict=True)]
        noisy = np.where(mask[..., None], logits, np.nan)
        assert decode(noisy, lengths) == decode(noisy, mask) == cut
        assert cut[2] == ([], 0.0)
        same = decode(p, lengths, from_logits=False)
        assert [path.labels for path in same] == [path.labels for path in cut]
        np.testing.assert_allclose([path.log_probability for path in same], [path.log_probability for path in cut], rtol=1e-9)


def test_a_scorer_is_asked_for_prefixes_and_added_once_a_label():
    logits = RNG.normal(size=(1, 6, 3))
    asked = set()

    def scorer(prefix):
        asked.add(prefix)
        return np.array([0.0, -0.5, 0.25 * len(prefix)])

    known = ctc.all_labels(ctc.log_softmax(logits[0]), 0)
    gain = lambda labels: sum(scorer(labels[:i])[label] for i, label in enumerate(labels))
    best = max(known, key=lambda labels: known[labels] + gain(labels))
    [[path]] = ctc_beam_search(logits, beam_width=500, scorer=scorer)
    assert tuple(path.labels) == best
    assert path.log_probability == pytest.approx(known[best] + gain(best), rel=1e-12)
    assert () in asked


def test_ties_and_impossible_classes_have_one_result():
    flat = np.zeros((1, 4, 3))
    assert ctc_beam_search(flat, beam_width=5, top_paths=5) == ctc_beam_search(flat, beam_width=5, top_paths=5)
    flat[..., 1] = -np.inf
    assert all(1 not in path.labels for path in ctc_beam_search(flat, beam_width=50, top_paths=9)[0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: ctc_beam_search(x, beam_width=0), ValueError, "beam_width must be a positive integer, got 0"),
        (lambda x: ctc_beam_search(x, beam_width=2.0), ValueError, "beam_width must be a positive integer, got 2.0"),
        (lambda x: ctc_beam_search(x, top_paths=-1), ValueError, "top_paths must be a positive integer"),
        (lambda x: ctc_beam_search(x, beam_width=2, top_paths=3), ValueError, "top_paths must be at most beam_width, 2, got 3"),
        (lambda x: ctc_beam_search(x, blank=3), ValueError, r"ctc_beam_search: blank must be in \[-3, 3\)"),
        (lambda x: ctc_greedy(x, blank=-4), ValueError, r"ctc_greedy: blank must be in \[-3, 3\), the classes, got -4"),
        (lambda x: ctc_greedy(x[0]), ShapeError, r"y_pred must have shape \(B, T, classes\), got \(5, 3\)"),
        (lambda x: ctc_greedy(x, [6, 1]), ValueError, r"lengths must be in \[0, 5\], got 1 to 6"),
        (lambda x: ctc_greedy(x, [1]), ShapeError, r"lengths must be integers of shape \(2,\) or a mask"),
        (lambda x: ctc_greedy(x * np.nan), ValueError, "must hold numbers, got NaN"),
        (lambda x: ctc_beam_search(x, scorer=lambda prefix: [0.0]), ShapeError, r"scorer must return an array of shape \(3,\), got \(1,\)"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((2, 5, 3)))
