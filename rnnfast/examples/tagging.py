"""Who does what to whom, when and where: a label for every word of a sentence.

The same words play different parts: in "the dog saw the cat" the dog acts, in "the dog was seen by the cat" it does not, and "watch", "fish" and "book" are
things or deeds. Sentences of different length are padded and masked. The baseline gives each word the label that it has most often.
"""

from __future__ import annotations

import numpy as np

import rnnfast
from rnnfast.builders import many_to_many
from rnnfast.data import Vocabulary
from rnnfast.examples._grammar import Choice, encode
from rnnfast.examples._run import main

SEED = 0
LABELS = ["other", "agent", "action", "patient", "place", "time"]
BEINGS = "dog cat child farmer judge nurse pilot cook poet guard baker singer"
THINGS = "watch fish book train play drink".split()
SEEN = "seen watched fished booked trained followed helped drawn painted called".split()
SAW = "saw watched fished booked trained followed helped drew painted called".split()

Tagged = list[tuple[str, str]]


def noun(choose: Choice, label: str, beings: bool) -> Tagged:
    """A noun with its article and adjectives, all of one label."""
    words = [choose.of("the a every")] + [choose.of("old young tall quiet clever small")] * choose.chance(0.4)
    return [(word, label) for word in [*words, choose.of(BEINGS) if beings else choose.of([*BEINGS.split(), *THINGS])]]


def aside(choose: Choice) -> Tagged:
    """Where or when."""
    if choose.chance(0.5):
        return [(word, "place") for word in [choose.of("in near behind"), "the", choose.of("garden kitchen station house train book play")]]
    return [(word, "time") for word in choose.of(["yesterday", "last night", "every morning", "after the play", "before the train"]).split()]


def sentence(choose: Choice) -> Tagged:
    """An active, a passive or a commanding sentence."""
    kind = choose.of("active passive command active passive relative")
    front = [*aside(choose), (",", "other")] if choose.chance(0.3) else []
    back = aside(choose) if choose.chance(0.4) else []
    if kind == "command":
        body = [("please", "other"), (choose.of(THINGS), "action"), *noun(choose, "patient", False)]
    elif kind == "passive":
        body = [*noun(choose, "patient", False), ("was", "other"), (choose.of(SEEN), "action"), ("by", "other"), *noun(choose, "agent", True)]
    elif kind == "relative":
        body = [*noun(choose, "patient", False), ("that", "other"), *noun(choose, "agent", True), (choose.of(SAW), "action"), ("was", "other"), ("gone", "other")]
    else:
        body = [*noun(choose, "agent", True), (choose.of(SAW), "action"), *noun(choose, "patient", False)]
    return [*front, *body, *back]


def sentences(count: int, seed: int) -> list[Tagged]:
    """Different sentences."""
    choose = Choice(seed)
    found: dict[str, Tagged] = {}
    while len(found) < count:
        tagged = sentence(choose)
        found[" ".join(word for word, _ in tagged)] = tagged
    return list(found.values())


def most_frequent(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, size: int) -> np.ndarray:
    """The label that each word has most often in training."""
    counts = np.zeros((size, len(LABELS)))
    np.add.at(counts, (x[x > 0], y[x > 0]), 1)
    return counts.argmax(-1)[x_test]


def macro_f1(truth: np.ndarray, found: np.ndarray) -> float:
    """The mean over labels of 2 hits / (labelled so + found so)."""
    return float(np.mean([2 * ((truth == i) & (found == i)).sum() / ((truth == i).sum() + (found == i).sum()) for i in range(len(LABELS))]))


def run(quick: bool = False) -> dict[str, float]:
    """Train and score; returns the macro-averaged F1 of words and the share of sentences without an error."""
    rnnfast.utils.set_random_seed(SEED)
    train, test = (2_000, 500) if quick else (6_000, 2_000)
    tagged = sentences(train + test, SEED)
    texts = [" ".join(word for word, _ in each) for each in tagged]
    vocabulary = Vocabulary("word").fit(texts[:train])
    x = encode(vocabulary, texts)
    y = np.zeros_like(x)
    for row, each in zip(y, tagged, strict=True):
        row[: len(each)] = [LABELS.index(label) for _, label in each]
    x_test, y_test = x[train:], y[train:]

    model = many_to_many(vocabulary=len(vocabulary), outputs=len(LABELS), activation="softmax", cell="gru", units=32, bidirectional=True, dropout=0.2)
    model.compile(rnnfast.optimizers.Adam(0.005), "sparse_categorical_crossentropy")
    model.fit(x[:train], y[:train], batch_size=50, epochs=4 if quick else 10, verbose=0)

    valid, found = x_test > 0, model.predict(x_test, verbose=0).argmax(-1)
    scores = {"f1": macro_f1(y_test[valid], found[valid]), "sentences": float(((found == y_test) | ~valid).all(-1).mean())}
    plain = most_frequent(x[:train], y[:train], x_test, len(vocabulary))
    scores |= {"baseline_f1": macro_f1(y_test[valid], plain[valid]), "baseline_sentences": float(((plain == y_test) | ~valid).all(-1).mean())}
    print(f"Trained on {train:,} sentences; on {test:,} others:      F1   all right")
    print(f"  bidirectional GRU                       {scores['f1']:.4f}   {scores['sentences']:8.2%}")
    print(f"  most frequent label of the word         {scores['baseline_f1']:.4f}   {scores['baseline_sentences']:8.2%}\n")
    for row, labels in zip(x_test[:3], found, strict=False):
        words = vocabulary.decode(row).split()
        print("  " + " ".join(f"{word}/{LABELS[label]}" for word, label in zip(words, labels, strict=False)))
    return scores


if __name__ == "__main__":
    main(run)
