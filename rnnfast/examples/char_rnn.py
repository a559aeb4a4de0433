"""Next character, and text written by the model.

A language model reads the source of Python's standard library character by character. It is scored in bits per character on modules that it has not seen,
beside models that count: the order-k model interpolates what was seen behind the last k, k - 1, ... characters (Witten and Bell 1991).
Training runs on contiguous streams of text with the state carried from batch to batch.
"""

from __future__ import annotations

import numpy as np

import rnnfast
from rnnfast.builders import language_model
from rnnfast.data import Vocabulary, token_streams
from rnnfast.examples import _source
from rnnfast.examples._ngrams import witten_bell
from rnnfast.examples._run import main

SEED, PROMPT = 0, "    def get("


def run(quick: bool = False) -> dict[str, float]:
    """Train, score and write; returns bits per character on the held-out modules."""
    rnnfast.utils.set_random_seed(SEED)
    train, held_out = _source.read(_source.TRAIN, 120_000 if quick else None), _source.read(_source.HELD_OUT, 20_000 if quick else 120_000)
    vocabulary = Vocabulary("character", min_count=10).fit(train)
    tokens, unseen = vocabulary.encode(train), vocabulary.encode(held_out)

    units, batch, steps, epochs = (96, 8, 40, 2) if quick else (192, 16, 50, 1)
    model = language_model(vocabulary, cell="gru", units=units, embedding=32, stateful=True)
    x, y = token_streams(tokens, steps, batch)
    rate = rnnfast.schedules.CosineDecay(0.0, epochs * len(x) // batch - 50, warmup_target=0.01 if quick else 0.006, warmup_steps=50)
    model.compile(rnnfast.optimizers.Adam(rate, global_clipnorm=1.0), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=batch, epochs=epochs, shuffle=False, verbose=0 if quick else 1)

    scores = {f"GRU({units})": model.bits_per_character(held_out)}
    scores |= {f"order-{k} counts": float(-np.log2(witten_bell(tokens, unseen, len(vocabulary), k)).mean()) for k in (3, 2, 1, 0)}
    print(f"Trained on {len(tokens):,} characters. Bits per character on {len(unseen):,} unseen ones, {len(vocabulary)} kinds:")
    for name, bits in scores.items():
        print(f"  {name:<16}{bits:6.3f}")
    for temperature in (0.4, 0.7, 1.0):
        print(f"\nTemperature {temperature}:\n{PROMPT}{model.generate(PROMPT, 300, temperature, seed=SEED)}")
    bits, order_3 = scores[f"GRU({units})"], scores["order-3 counts"]
    return {"bits": bits, "order_3": order_3, "gain": order_3 - bits}


if __name__ == "__main__":
    main(run)
