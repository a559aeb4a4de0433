"""Decoding finds what it should on a table of probabilities: greedy, drawn, and a beam that an exhaustive search agrees with."""

import itertools

import numpy as np
import pytest

from rnnfast.builders._decoding import Limits, beam_search, length_penalty, one_by_one

START, END, SIZE = 4, 5, 6  # tokens 0 to 3 may be written


def chain(rng, rows):
    """A step whose log-probabilities depend on the token before alone, another table for each sequence; the state counts the steps."""
    tables = rng.dirichlet(np.full(SIZE - 1, 0.7), size=(rows, SIZE))
    scores = np.full((rows, SIZE, SIZE), -np.inf)
    scores[:, :, [0, 1, 2, 3, END]] = np.log(tables)

    def step(tokens, states):
        which, count = states
        return scores[which, tokens], [which, count + 1], np.stack([which, count, tokens], -1).astype(float)

    return scores, step


def states(rows, beam=1):
    return [np.repeat(np.arange(rows), beam), np.zeros(rows * beam, int)]


def exhaustive(scores, longest, alpha):
    """The best ended sequence of up to `longest` tokens, end included."""
    best = (-np.inf, ())
    for n in range(longest):
        for tokens in itertools.product(range(4), repeat=n):
            path = [START, *tokens, END]
            total = sum(scores[a, b] for a, b in itertools.pairwise(path))
            best = max(best, (total / length_penalty(n + 1, alpha), tokens))
    return best[1]


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
def test_a_wide_beam_finds_the_best(alpha, rng):
    scores, step = chain(rng, 5)
    found = beam_search(step, states(5, 300), 5, 300, Limits(START, END, 5), alpha)
    for one, table in zip(found, scores, strict=True):
        assert tuple(one.tokens) == exhaustive(table, 5, alpha)
        path = [START, *one.tokens, END]
        assert one.log_probability == pytest.approx(sum(table[a, b] for a, b in itertools.pairwise(path)))


def test_a_wider_beam_is_not_worse_without_penalty(rng):
    _, step = chain(rng, 20)
    found = [[one.log_probability for one in beam_search(step, states(20, width), 20, width, Limits(START, END, 12), 0.0)] for width in (2, 60)]
    assert all(wide >= narrow - 1e-12 for narrow, wide in zip(*found, strict=True))


def test_greedy_takes_the_likeliest_and_stops_when_all_have_ended(rng):
    scores, step = chain(rng, 8)
    steps = []

    def counted(tokens, now):
        steps.append(len(tokens))
        return step(tokens, now)

    found = one_by_one(counted, states(8), 8, Limits(START, END, 50))
    for i, one in enumerate(found):
        token, tokens, total = START, [], 0.0
        while len(tokens) < 50:
            total += scores[i, token].max()
            token = int(scores[i, token].argmax())
            if token == END:
                break
            tokens.append(token)
        assert one.tokens == tokens and one.log_probability == pytest.approx(total)
        assert one.attention.shape == (len(tokens), 3) and (one.attention[:, 0] == i).all()
    assert len(steps) == min(50, 1 + max(len(one.tokens) for one in found))


def test_attention_follows_the_hypothesis(rng):
    _, step = chain(rng, 3)
    for i, one in enumerate(beam_search(step, states(3, 4), 3, 4, Limits(START, END, 8), 0.6)):
        assert (one.attention[:, 0] == i).all() and one.attention[:, 1].tolist() == list(range(len(one.tokens)))
        assert one.attention[:, 2].tolist() == [START, *one.tokens][: len(one.tokens)]  # what was read at each step


def test_draws_follow_the_probabilities(rng):
    scores, _ = chain(rng, 1)
    rows = 4000

    def same(tokens, now):
        return np.repeat(scores[0][None], len(tokens), 0)[np.arange(len(tokens)), tokens], now, np.zeros((len(tokens), 0))

    found = one_by_one(same, [np.zeros(rows)], rows, Limits(START, END, 1), 1.0, rng)
    shares = [sum(one.tokens == [token] for one in found) / rows for token in range(4)]
    assert np.abs(np.array(shares) - np.exp(scores[0, START, :4])).max() < 0.03


def test_no_rows_and_no_tokens():
    def never(tokens, now):
        raise AssertionError("a step of nothing")

    assert one_by_one(never, [], 0, Limits(START, END, 5)) == []
    with pytest.raises(ValueError, match="beam must be an integer > 0, got 0"):
        beam_search(never, [], 2, 0, Limits(START, END, 5), 0.0)
