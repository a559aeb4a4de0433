"""Writing a sequence token by token: the likeliest token each time, a drawn one, or the best of a beam. Pure NumPy around one step of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rnnfast.data.checks import count

# tokens (N,), states -> log-probabilities (N, V), states, attention (N, S); row i of all belongs to sequence i
Step = Callable[[np.ndarray, list[np.ndarray]], tuple[np.ndarray, list[np.ndarray], np.ndarray]]


@dataclass
class Written:
    """One sequence: its tokens without start and end, its log-probability, and for each token the attention over the source's steps."""

    tokens: list[int]
    log_probability: float
    attention: np.ndarray


@dataclass
class Limits:
    """How a sequence begins and ends.

    Attributes
    ----------
    start, end : int
        Tokens.
    length : int
        At most so many tokens are written.
    """

    start: int
    end: int
    length: int


def one_by_one(step: Step, states: list[np.ndarray], rows: int, limits: Limits, temperature: float = 0.0, rng: np.random.Generator | None = None) -> list[Written]:
    """The likeliest token at each step; with a temperature, one drawn from softmax(log p / temperature). Ends when every row has."""
    tokens, going = np.full(rows, limits.start), np.ones(rows, bool)
    written, total, seen = [Written([], 0.0, np.zeros((0, 0))) for _ in range(rows)], np.zeros(rows), []
    for _ in range(limits.length):
        if not going.any():
            break
        scores, states, attention = step(tokens, states)
        drawn = scores if rng is None else scores / temperature + rng.gumbel(size=scores.shape)  # the largest is a draw (Gumbel 1954)
        tokens = drawn.argmax(-1)
        total += np.where(going, scores[np.arange(rows), tokens], 0.0)
        seen.append(attention)
        going &= tokens != limits.end
        for i in np.flatnonzero(going).tolist():
            written[i].tokens.append(int(tokens[i]))
    history = np.stack(seen, 1) if seen else np.zeros((rows, 0, 0))
    for i, one in enumerate(written):
        one.log_probability, one.attention = float(total[i]), history[i, : len(one.tokens)]
    return written


def length_penalty(length: int | np.ndarray, alpha: float) -> float | np.ndarray:
    """``((5 + length) / 6) ** alpha`` (Wu et al. 2016, arXiv 1609.08144, equation 14): a hypothesis' log-probability is divided by it.

    Examples
    --------
    >>> float(length_penalty(1, 0.6)), float(length_penalty(7, 1.0))
    (1.0, 2.0)
    """
    return ((5.0 + length) / 6.0) ** alpha


class _Beam:
    """The hypotheses of all sequences: rows [sequence, place in the beam]."""

    def __init__(self, sequences: int, width: int, limits: Limits, alpha: float) -> None:
        self.sequences, self.width, self.limits, self.alpha = sequences, width, limits, alpha
        self.scores = np.full((sequences, width), -np.inf)
        self.scores[:, 0] = 0.0
        self.tokens = np.zeros((sequences * width, 0), np.int64)
        self.history: np.ndarray | None = None
        self.ended: list[list[tuple[float, Written]]] = [[] for _ in range(sequences)]

    def grow(self, scores: np.ndarray, attention: np.ndarray) -> np.ndarray:
        """Each hypothesis goes on by the likeliest tokens; those that end are put aside. Returns the rows that the kept ones came from."""
        size, width = scores.shape[-1], self.width
        attention = attention[:, None]
        self.history = attention if self.history is None else np.concatenate([self.history, attention], 1)
        total = (self.scores[:, :, None] + scores.reshape(self.sequences, width, size)).reshape(self.sequences, -1)
        likeliest = np.argsort(-total, axis=1, kind="stable")[:, : 2 * width]
        parents, new = np.zeros((self.sequences, width), np.int64), np.full((self.sequences, width), self.limits.end)
        kept = np.full((self.sequences, width), -np.inf)
        for i, places in enumerate(likeliest):
            found = 0
            for rank, place in enumerate(places):
                row, token, score = i * width + int(place) // size, int(place) % size, float(total[i, place])
                if token == self.limits.end and rank < width and np.isfinite(score):
                    self._end(i, row, score)
                elif token != self.limits.end and found < width:
                    parents[i, found], new[i, found], kept[i, found] = row, token, score
                    found += 1
            parents[i, found:] = i * width
        self.scores, rows = kept, parents.reshape(-1)
        self.tokens = np.concatenate([self.tokens[rows], new.reshape(-1, 1)], 1)
        self.history = self.history[rows]
        return rows

    def _end(self, sequence: int, row: int, score: float) -> None:
        assert self.history is not None
        tokens = self.tokens[row].tolist()
        made = Written(tokens, score, self.history[row, : len(tokens)])
        self.ended[sequence].append((score / float(length_penalty(len(tokens) + 1, self.alpha)), made))
        self.ended[sequence].sort(key=lambda pair: -pair[0])

    def done(self) -> bool:
        """Whether no hypothesis that goes on can still become better than those that ended."""
        most = float(length_penalty(self.limits.length + 1, self.alpha if self.alpha > 0 else 0.0))
        bound = self.scores.max(1) / most
        return all(len(ended) >= self.width and ended[self.width - 1][0] >= best for ended, best in zip(self.ended, bound, strict=True))

    def best(self) -> list[Written]:
        """The best of each sequence; where none has ended, the likeliest so far."""
        for i, ended in enumerate(self.ended):
            if not ended and self.history is not None:
                row = i * self.width + int(self.scores[i].argmax())
                ended.append((0.0, Written(self.tokens[row].tolist(), float(self.scores[i].max()), self.history[row])))
        return [ended[0][1] if ended else Written([], 0.0, np.zeros((0, 0))) for ended in self.ended]


def beam_search(step: Step, states: list[np.ndarray], sequences: int, width: int, limits: Limits, alpha: float) -> list[Written]:
    """The hypothesis of the largest ``log p / length_penalty`` among those that a beam of `width` finds.

    Parameters
    ----------
    step : function
        Of rows [sequence, place in the beam]; states have as many rows.
    alpha : float
        Exponent of :func:`length_penalty`; 0 for none.
    """
    beam = _Beam(sequences, count("beam search", "beam", width), limits, alpha)
    tokens = np.full(sequences * width, limits.start)
    for _ in range(limits.length):
        scores, states, attention = step(tokens, states)
        rows = beam.grow(scores, attention)
        tokens, states = beam.tokens[:, -1], [state[rows] for state in states]
        if beam.done():
            break
    return beam.best()
