"""Images as sequences: a digit read row by row, and a digit shown again at every step.

An 8 x 8 image is a sequence of eight rows of eight pixels. The same recurrent network also reads the whole image of 64 pixels eight times over.
Training sees every image at its place and moved by one pixel. The baseline is logistic regression on the 64 pixels, of the images at their place, where it does best.
"""

from __future__ import annotations

import numpy as np

import rnnfast
from rnnfast import Input, Sequential, layers
from rnnfast.builders import many_to_one, recurrent_stack
from rnnfast.examples import _digits
from rnnfast.examples._run import main

SEED, CLASSES = 0, 10


def moved(x: np.ndarray) -> np.ndarray:
    """The images, and each moved by a pixel to the left, to the right, up and down."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    return np.concatenate([padded[:, 1 + i : 9 + i, 1 + j : 9 + j] for i, j in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))])


def accuracy(model: Sequential, data: tuple[np.ndarray, ...], epochs: int) -> float:
    """Train a model and score it."""
    x, y, x_test, y_test = data
    steps = epochs * -(-len(x) // 64)
    rate = rnnfast.schedules.CosineDecay(0.004, steps)
    model.compile(rnnfast.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return float(model.evaluate(x_test, y_test, verbose=0)[1])


def run(quick: bool = False) -> dict[str, float]:
    """Train the three; returns their accuracies on images that were not in training."""
    rnnfast.utils.set_random_seed(SEED)
    images, digits, x_test, y_test = _digits.load(SEED)
    x, y = moved(images), np.tile(digits, 5)
    flat, flat_test = x.reshape(-1, 64), x_test.reshape(-1, 64)
    epochs, recurrent = (3, 48) if quick else (20, 96)

    by_rows = many_to_one(features=8, outputs=CLASSES, activation="softmax", cell="lstm", units=recurrent, bidirectional=True, dropout=0.2)
    repeated = Sequential([
        Input((64,)),
        layers.RepeatVector(8),
        *recurrent_stack("lstm", recurrent, bidirectional=True, dropout=0.2),
        layers.Dense(CLASSES, activation="softmax"),
    ])  # fmt: skip
    regression = Sequential([Input((64,)), layers.Dense(CLASSES, activation="softmax")])
    scores = {"rows": accuracy(by_rows, (x, y, x_test, y_test), epochs), "repeated": accuracy(repeated, (flat, y, flat_test, y_test), epochs)}
    scores["regression"] = accuracy(regression, (images.reshape(-1, 64), digits, flat_test, y_test), 10 * epochs)
    print(f"Trained on {len(images)} images at five places; accuracy on {len(x_test)} others:")
    for name, key in (("row by row", "rows"), ("repeated image", "repeated"), ("logistic regression", "regression")):
        print(f"  {name:<21}{scores[key]:8.2%}")
    return scores


if __name__ == "__main__":
    main(run)
