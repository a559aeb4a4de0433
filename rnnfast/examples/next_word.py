"""Next word: many to many, each word of a text predicts the one after it.

The text is the source of Python's standard library, cut into words, punctuation marks and line ends; rare words count as one unknown word. The model is scored
by its perplexity on modules that it has not seen, exp of the mean of -log p, beside a bigram model (interpolated Kneser-Ney) over the same words.
"""

from __future__ import annotations

import numpy as np

import rnnfast
from rnnfast.builders import language_model
from rnnfast.data import Vocabulary, token_streams
from rnnfast.examples import _source
from rnnfast.examples._ngrams import kneser_ney, witten_bell
from rnnfast.examples._run import main

SEED, STEPS = 0, 20


def run(quick: bool = False) -> dict[str, float]:
    """Train, score and complete some lines; returns perplexities on the held-out modules."""
    rnnfast.utils.set_random_seed(SEED)
    train, held_out = _source.read(_source.TRAIN, 200_000 if quick else None), _source.read(_source.HELD_OUT, 20_000 if quick else None)
    vocabulary = Vocabulary("word", max_size=500 if quick else 2_000).fit(train)
    tokens, unseen = vocabulary.encode(train), vocabulary.encode(held_out)

    epochs, units, batch = (3, 64, 8) if quick else (3, 160, 16)
    model = language_model(vocabulary, cell="gru", units=units, embedding=64, dropout=0.0 if quick else 0.3, stateful=True)
    x, y = token_streams(tokens, STEPS, batch)
    steps = epochs * len(x) // batch
    rate = rnnfast.schedules.CosineDecay(0.0, steps - 50, warmup_target=0.015 if quick else 0.005, warmup_steps=50)
    model.compile(rnnfast.optimizers.Adam(rate, global_clipnorm=1.0), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=batch, epochs=epochs, shuffle=False, verbose=0 if quick else 1)

    scores = {"gru": model.perplexity(held_out), "bigram": float(np.exp(-np.log(kneser_ney(tokens, unseen, len(vocabulary))).mean()))}
    scores["unigram"] = float(np.exp(-np.log(witten_bell(tokens, unseen, len(vocabulary), 0)).mean()))
    print(f"Trained on {len(tokens):,} words, {len(vocabulary):,} kinds. Perplexity on {len(unseen):,} unseen ones, {(unseen == 1).mean():.1%} of them unknown:")
    for name, key in ((f"GRU({units})", "gru"), ("bigrams (Kneser-Ney)", "bigram"), ("unigrams", "unigram")):
        print(f"  {name:<22}{scores[key]:7.1f}")
    print("\nThe likeliest next words:")
    for prompt in ("import", "for i in", "if not isinstance (", "raise", "def __init__ ("):
        print(f"  {prompt} ... {model.generate(prompt, 6, temperature=0)!r}")
    return {**scores, "ratio": scores["gru"] / scores["bigram"]}


if __name__ == "__main__":
    main(run)
