"""Video: name a shape that can only be told by its motion.

A faint dot runs along an outline that is not drawn, a square or a diamond, in one sense or the other, in frames of 16 x 16 pixels full of noise. The place, the size and where the dot
starts are random, so that one frame tells next to nothing, and neither does the mean of all frames tell the sense. An encoder is applied to each frame by itself (`TimeDistributed`): a
convolution over the frame's rows, then a small vector. A recurrence reads these vectors and names the shape.
"""

from __future__ import annotations

import numpy as np

import rnnfast
from rnnfast import Input, Sequential, layers
from rnnfast.examples._run import main

SIDE, FRAMES, NOISE = 16, 16, 0.25
CLASSES = ("square, clockwise", "square, anticlockwise", "diamond, clockwise", "diamond, anticlockwise")
CORNERS = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1], [-1, -1]])


def films(count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Frames (count, FRAMES, SIDE, SIDE), and the class of each film."""
    labels = random.integers(0, 4, count)
    along = (random.random((count, 1)) + np.where(labels % 2, -1, 1)[:, None] * np.arange(FRAMES) / FRAMES) % 1 * 4  # in sides of the outline
    corner, part = along.astype(int), (along % 1)[..., None]
    outline = CORNERS[corner] * (1 - part) + CORNERS[corner + 1] * part
    turned = np.stack([outline[..., 0] + outline[..., 1], outline[..., 0] - outline[..., 1]], axis=-1) / np.sqrt(2)
    turned[..., 1] *= -1  # a rotation by 45 degrees, not a reflection
    dots = np.where((labels >= 2)[:, None, None], turned, outline) * random.uniform(3.5, 5, (count, 1, 1)) + random.uniform(6.5, 8.5, (count, 1, 2))
    pixels = np.arange(SIDE)
    far = (pixels[:, None] - dots[..., None, None, 0]) ** 2 + (pixels - dots[..., None, None, 1]) ** 2
    return (np.exp(-far / 2) + NOISE * random.standard_normal(far.shape)).astype(np.float32), labels


def encoder() -> list[layers.Layer]:
    """What reads one frame: its rows are steps of a convolution, their pixels the channels."""
    each = [layers.Conv1D(16, 3, padding="same", activation="relu"), layers.Flatten(), layers.Dense(32, activation="relu")]
    return [layers.TimeDistributed(layer) for layer in each]


def accuracy(model: Sequential, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], epochs: int) -> float:
    """Train a model, then the share of test films that it names."""
    rate = rnnfast.schedules.CosineDecay(1e-2, epochs * (len(train[0]) // 32))
    model.compile(rnnfast.optimizers.Adam(rate, clipnorm=1.0), "sparse_categorical_crossentropy")
    model.fit(*train, batch_size=32, epochs=epochs, verbose=0)
    return float((model.predict(test[0]).argmax(axis=-1) == test[1]).mean())


def run(quick: bool = False) -> dict[str, float]:
    """Accuracies on films that no model has seen."""
    random = np.random.default_rng(0)
    (x, y), (x_test, y_test) = films(3000 if quick else 8000, random), films(1000, random)
    epochs = 6 if quick else 10
    scores = {"majority": float(np.bincount(y_test).max() / len(y_test))}
    for name, pick in (("one frame", lambda x: x[:, :1]), ("mean of all frames", lambda x: x.mean(axis=1, keepdims=True)), ("encoder + gru", lambda x: x)):
        rnnfast.utils.set_random_seed(0)
        model = Sequential([Input((None, SIDE, SIDE)), *encoder(), layers.GRU(48), layers.Dense(len(CLASSES), activation="softmax")])
        scores[name] = accuracy(model, (pick(x), y), (pick(x_test), y_test), epochs)
    for name, score in scores.items():
        print(f"{name:<20}{score:>8.2%}")
    return scores


if __name__ == "__main__":
    main(run)
