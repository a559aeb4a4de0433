"""Is a review good or bad? A bidirectional LSTM on sentences whose words do not tell, because negation and contrast turn them round.

A grammar makes them: "the acting was not bad at all", "although the plot was never dull, the music was quite awful", "nobody could say that the film was good".
The clause that the sentence stands by decides. The baseline, logistic regression on counts of words, sees the same words without their order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import rnnfast
from rnnfast import Input, Sequential, layers
from rnnfast.builders import many_to_one
from rnnfast.data import Vocabulary
from rnnfast.examples._grammar import Choice, encode
from rnnfast.examples._run import main

SEED = 0
GOOD = "good great brilliant moving funny clever charming fresh superb delightful"
BAD = "bad awful boring dull clumsy tedious weak stale dreadful tiresome"


def clause(choose: Choice) -> tuple[str, bool]:
    """Words and whether they praise."""
    praises = choose.chance(0.5)
    words = ["the", choose.of("film plot acting music dialogue ending story cast"), choose.of(["was", "seemed", "felt"])]
    if choose.chance(0.2):
        words += [choose.of(["not", "never", "hardly", "anything but", "far from"])]
        negated = True
    else:
        negated = False
    if choose.chance(0.4):
        words += [choose.of("very really quite so")]
    words += [choose.of(GOOD if praises != negated else BAD)]
    if choose.chance(0.3):
        words += [choose.of(["at all", "to me", "in the end"])]
    return " ".join(words), praises


def sentence(choose: Choice) -> tuple[str, bool]:
    """A sentence and whether the review is good."""
    (first, praises), (second, other) = clause(choose), clause(choose)
    kind = choose.of("plain plain plain plain but although nobody")
    if kind == "but":
        return f"{first} but {second}", other
    if kind == "although":
        return (f"although {first}, {second}", other) if choose.chance(0.5) else (f"{first}, although {second}", praises)
    if kind == "nobody":
        return f"{choose.of(['nobody could say', 'it is wrong'])} that {first}", not praises
    return first, praises


def sentences(choose: Choice, count: int, known: Sequence[str] = ()) -> tuple[list[str], list[bool]]:
    """So many sentences, none of them known, and their labels."""
    seen = set(known)
    found: list[tuple[str, bool]] = []
    while len(found) < count:
        text, good = sentence(choose)
        if text not in seen:
            found.append((text, good))
    return [text for text, _ in found], [good for _, good in found]


def bag_of_words(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, size: int) -> float:
    """Accuracy of logistic regression on how often each word occurs."""
    counts, counts_test = (np.stack([np.bincount(row[row > 0], minlength=size) for row in each]).astype(np.float32) for each in (x, x_test))
    model = Sequential([Input((size,)), layers.Dense(1, activation="sigmoid")])
    model.compile(rnnfast.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    model.fit(counts, y, epochs=20, verbose=0)
    return float(model.evaluate(counts_test, y_test, verbose=0)[1])


def run(quick: bool = False) -> dict[str, float]:
    """Train both; returns their accuracies on sentences that are not in the training set."""
    rnnfast.utils.set_random_seed(SEED)
    train, test = (3_000, 1_000) if quick else (10_000, 3_000)
    choose = Choice(SEED)
    texts, labels = sentences(choose, train)
    others, other_labels = sentences(choose, test, known=texts)
    vocabulary = Vocabulary("word").fit(texts)
    x, y = encode(vocabulary, texts + others), np.array(labels + other_labels, np.float32)[:, None]

    model = many_to_one(vocabulary=len(vocabulary), outputs=1, activation="sigmoid", cell="lstm", units=32, bidirectional=True, dropout=0.2)
    model.compile(rnnfast.optimizers.Adam(0.005), "binary_crossentropy", metrics=["accuracy"])
    model.fit(x[:train], y[:train], batch_size=50, epochs=5 if quick else 8, verbose=0)
    accuracy = float(model.evaluate(x[train:], y[train:], verbose=0)[1])
    baseline = bag_of_words(x[:train], y[:train], x[train:], y[train:], len(vocabulary))

    print(f"Trained on {train:,} sentences; accuracy on {test:,} others:\n  bidirectional LSTM {accuracy:8.2%}\n  bag of words       {baseline:8.2%}\n")
    for text in ("the acting was not bad at all", "the plot was far from clever", "although the music felt awful, the film was never dull", "nobody could say that the cast was good"):
        print(f"  {model.predict_on_batch(encode(vocabulary, [text]))[0, 0]:7.1%} good: {text}")
    return {"accuracy": accuracy, "bag_of_words": baseline}


if __name__ == "__main__":
    main(run)
