"""Captions: pictures of handwritten digits become the digit's name, written letter by letter.

The 1797 pictures of 8 by 8 points come with scikit-learn (extra `examples`). The picture, as one vector, makes the first state of a recurrent network that then
writes "s", "e", "v", ... until it writes the end (Vinyals et al. 2015). A name counts only if every letter is right. Beside it stands the name of the nearest
training picture.
"""

from __future__ import annotations

import numpy as np

import rnnfast
from rnnfast.builders import captioner
from rnnfast.examples._digits import load
from rnnfast.examples._run import main

NAMES = "zero one two three four five six seven eight nine".split()


def nearest(train: np.ndarray, names: list[str], test: np.ndarray) -> list[str]:
    """The baseline: the name of the nearest training picture."""
    squares = ((test[:, None] - train[None]) ** 2).sum(-1)
    return [names[i] for i in squares.argmin(-1)]


def run(quick: bool = False) -> dict[str, float]:
    """Train on four fifths of the pictures; print the share of exact names on the rest."""
    rnnfast.utils.set_random_seed(0)
    train, digits, rest, held_out = load(seed=0)
    train, rest = train.reshape(len(train), -1), rest.reshape(len(rest), -1)
    told, truth = [NAMES[digit] for digit in digits], [NAMES[digit] for digit in held_out]
    model = captioner(64, NAMES, cell="gru", units=64, hidden=128)
    epochs = 15 if quick else 60
    rate = rnnfast.schedules.CosineDecay(5e-3, epochs * -(-len(train) // 32))
    model.compile(rnnfast.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(train, told, batch_size=32, epochs=epochs, verbose=0)
    written = model.describe(rest)
    scores = {
        "captioner": float(np.mean([a == b for a, b in zip(written, truth, strict=True)])),
        "spelled right": float(np.mean([name in NAMES for name in written])),
        "nearest picture": float(np.mean([a == b for a, b in zip(nearest(train, told, rest), truth, strict=True)])),
        "most frequent name": max(truth.count(name) for name in NAMES) / len(truth),
    }
    for picture, name in zip(rest[:2], written[:2], strict=True):
        print("\n".join("  " + "".join(" .:*#"[int(v * 4)] * 2 for v in row) for row in picture.reshape(8, 8)) + f"   {name}\n")
    print(f"Exact names of {len(rest)} pictures that were not in training:")
    for name, score in scores.items():
        print(f"  {name:<20}{score:7.1%}")
    return scores


if __name__ == "__main__":
    main(run)
