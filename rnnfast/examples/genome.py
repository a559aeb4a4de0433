"""Genome: tell active strands of DNA by the order and the distance of two motifs.

A protein that switches a gene on often needs two partners, which bind to two short words of the DNA: one must come first, and not too far before the other. Here a strand of 120 bases is
active if the first word stands 4 to 12 bases before the second. In the others the order is the other one, or the distance is 24 to 48, or one word is missing; and in every
word one base may have changed. Counts of short words (k-mers) tell whether both are there, and no more. A network sees the words with convolutions, and remembers with a recurrence when.
"""

from __future__ import annotations

import numpy as np

import rnnfast
from rnnfast.builders import conv_gru
from rnnfast.examples._run import main

LENGTH, WORD = 120, 8
WORDS = np.array([[3, 1, 4, 1, 1, 4, 2, 3], [2, 2, 4, 3, 1, 4, 4, 1]])  # the bases A, C, G and T are 1 to 4
ACTIVE, SWAPPED, FAR, WITHOUT_FIRST, WITHOUT_SECOND = range(5)


def strands(count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bases (count, LENGTH), and whether each strand is active."""
    bases = random.integers(1, 5, (count, LENGTH))
    kinds = random.choice(5, count, p=[0.5, 0.15, 0.15, 0.1, 0.1])
    for strand, kind in zip(bases, kinds, strict=True):
        gap = int(random.integers(24, 49) if kind == FAR else random.integers(4, 13))
        first = int(random.integers(0, LENGTH - 2 * WORD - gap))
        for i, start in enumerate((first, first + WORD + gap)):
            if kind - WITHOUT_FIRST != i:
                strand[start : start + WORD] = WORDS[1 - i if kind == SWAPPED else i]
                strand[start + random.integers(WORD)] = random.integers(1, 5)
    return bases, kinds == ACTIVE


def kmer_counts(bases: np.ndarray, k: int) -> np.ndarray:
    """How often each word of k bases occurs in each strand."""
    words = sum((bases[:, i : LENGTH - k + 1 + i] - 1) * 4**i for i in range(k))
    return np.stack([np.bincount(row, minlength=4**k) for row in words])


def logistic_regression(x: np.ndarray, y: np.ndarray, test: np.ndarray, steps: int = 200) -> np.ndarray:
    """Classes of `test`, by gradient descent on standardised columns with a little weight decay."""
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    x, test = ((each - mean) / deviation for each in (x, test))
    weights, bias = np.zeros(x.shape[1]), 0.0
    for _ in range(steps):
        error = 1 / (1 + np.exp(-(x @ weights + bias))) - y
        weights -= 0.1 * (x.T @ error / len(x) + 1e-2 * weights)
        bias -= 0.1 * error.mean()
    return test @ weights + bias > 0


def run(quick: bool = False) -> dict[str, float]:
    """Accuracies on strands that no model has seen."""
    random = np.random.default_rng(0)
    (x, y), (x_test, y_test) = strands(8000 if quick else 12000, random), strands(2000, random)
    scores = {"majority": float(max(y_test.mean(), 1 - y_test.mean()))}
    for k in (3,) if quick else (3, 4):
        scores[f"counts of {k}-mers"] = float((logistic_regression(kmer_counts(x, k), y, kmer_counts(x_test, k)) == y_test).mean())
    rnnfast.utils.set_random_seed(0)
    model = conv_gru(
        vocabulary=5, outputs=1, embedding=4, mask_zero=False, activation="sigmoid", filters=32, kernel_size=WORD, strides=1, pool_size=4, normalize=True, units=32
    )
    epochs = 8 if quick else 10
    rate = rnnfast.schedules.CosineDecay(5e-3, epochs * len(x) // 32)
    model.compile(rnnfast.optimizers.Adam(rate, clipnorm=1.0), "binary_crossentropy")
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    scores["conv + gru"] = float(((model.predict(x_test)[:, 0] > 0.5) == y_test).mean())
    for name, score in scores.items():
        print(f"{name:<20}{score:>8.2%}")
    return scores


if __name__ == "__main__":
    main(run)
