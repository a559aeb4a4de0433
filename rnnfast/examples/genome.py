"""Genome: tell apart strands of DNA by the order and the distance of two motifs.

A protein that switches a gene on often needs two partners, which bind to two short words of the DNA: the one must come first, and not too far before the other. Here a strand of
160 bases holds both words, each with one base changed. It is active if the first stands 4 to 16 bases before the second. In the others the order is the other one, or the distance
32 to 60. All strands have the same words, so counting words (k-mers) cannot tell them apart; a network sees the words with convolutions, and remembers with a recurrence when it saw them.
"""

from __future__ import annotations

import numpy as np

import rnnfast
from rnnfast.builders import conv_gru
from rnnfast.examples._run import main

LENGTH = 160
MOTIFS = np.array([[3, 1, 4, 1, 1, 4, 2, 3, 2, 4], [2, 2, 4, 3, 1, 4, 4, 1, 3, 3]])  # the bases A, C, G, T are 1 to 4; 0 is padding
NEAR, FAR = (4, 17), (32, 61)


def strands(count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bases (count, LENGTH), the shorter strands padded with 0, and whether each strand is active."""
    bases = random.integers(1, 5, (count, LENGTH))
    active = random.random(count) < 0.5
    for row, good in zip(bases, active, strict=True):
        swapped = not good and random.random() < 0.5
        gap = int(random.integers(*(NEAR if good or swapped else FAR)))
        first = int(random.integers(0, LENGTH - 20 - gap))
        for start, motif in zip((first, first + 10 + gap), MOTIFS[::-1] if swapped else MOTIFS, strict=True):
            row[start : start + 10] = motif
            row[start + random.integers(10)] = random.integers(1, 5)
    return bases, active


def kmer_counts(bases: np.ndarray, k: int) -> np.ndarray:
    """How often each word of k bases occurs in each strand."""
    words = sum((bases[:, i : bases.shape[1] - k + 1 + i] - 1) * 4**i for i in range(k))
    return np.stack([np.bincount(row, minlength=4**k) for row in words])


def logistic_regression(x: np.ndarray, y: np.ndarray, test: np.ndarray, steps: int = 300) -> np.ndarray:
    """Classes of `test`, by gradient descent on standardised columns with a little weight decay."""
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    x, test = (x - mean) / deviation, (test - mean) / deviation
    weights, bias = np.zeros(x.shape[1]), 0.0
    for _ in range(steps):
        error = 1 / (1 + np.exp(-(x @ weights + bias))) - y
        weights -= 0.1 * (x.T @ error / len(x) + 1e-2 * weights)
        bias -= 0.1 * error.mean()
    return test @ weights + bias > 0


def run(quick: bool = False) -> dict[str, float]:
    """Accuracies on strands that no model has seen."""
    random = np.random.default_rng(0)
    x, y = strands(4000 if quick else 12000, random)
    x_test, y_test = strands(2000, random)
    scores = {"majority": max(y_test.mean(), 1 - y_test.mean())}
    for k in (3, 4):
        found = logistic_regression(kmer_counts(x, k), y, kmer_counts(x_test, k))
        scores[f"counts of {k}-mers"] = float((found == y_test).mean())
    rnnfast.utils.set_random_seed(0)
    model = conv_gru(vocabulary=5, outputs=1, embedding=4, activation="sigmoid", filters=32, kernel_size=10, strides=1, pool_size=4, units=32)
    model.compile(rnnfast.optimizers.Adam(5e-3, clipnorm=1.0), "binary_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=32, epochs=6 if quick else 10, verbose=0)
    scores["conv + gru"] = float(((model.predict(x_test)[:, 0] > 0.5) == y_test).mean())
    for name, score in scores.items():
        print(f"{name:<20}{score:>8.2%}")
    return scores


if __name__ == "__main__":
    main(run)
