"""Melody: a key and a mode condition a melody, which is drawn note by note.

The teacher composes by rule: a walk over the notes of the key's scale, mostly by steps, seldom by leaps that are then filled, which begins and ends on the
tonic. A recurrent network sees melodies in most keys; the key (one of twelve) and the mode (one of four) make its first state, and it is then asked for new
melodies. All notes should belong to the scale, of which nobody told it. Beside it stand notes drawn as often as in all training melodies, which do not know the
key, and notes of the right scale at random, which know nothing of melody: how often does a melody end on its tonic, and how far does it leap?
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

import rnnfast
from rnnfast.builders import Captioner, captioner
from rnnfast.examples._run import main

KEYS = "C Db D Eb E F Gb G Ab A Bb B".split()
MODES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10), "dorian": (0, 2, 3, 5, 7, 9, 10), "blues": (0, 3, 5, 6, 7, 10)}
LOWEST = 60  # middle C, as MIDI counts


def scale(key: int, mode: str) -> list[int]:
    """The notes of a scale over an octave and a half, as MIDI numbers.

    >>> scale(0, "major")
    [60, 62, 64, 65, 67, 69, 71, 72, 74, 76, 77, 79]
    """
    steps = MODES[mode]
    return [LOWEST + key + 12 * octave + step for octave in range(2) for step in steps if 12 * octave + step < 20]


def compose(key: int, mode: str, rng: np.random.Generator) -> str:
    """A melody of 12 to 20 notes by the teacher's rules, as a text of MIDI numbers."""
    notes = scale(key, mode)
    place, moves, melody = 0, np.array([-1, 1, -2, 2, -4, 4]), [notes[0]]
    for _ in range(int(rng.integers(10, 18))):
        move = int(rng.choice(moves, p=[0.3, 0.34, 0.12, 0.14, 0.05, 0.05]))
        place = abs(place + move)
        place = min(place, 2 * (len(notes) - 1) - place)  # what would go too high turns back
        melody.append(notes[place])
    while place > 1:
        place -= 1
        melody.append(notes[place])
    return " ".join(map(str, [*melody, notes[0]]))


def condition(key: int, mode: str) -> np.ndarray:
    """Key and mode as one vector of zeros and two ones."""
    vector = np.zeros(len(KEYS) + len(MODES), np.float32)
    vector[[key, len(KEYS) + list(MODES).index(mode)]] = 1
    return vector


def judge(melodies: list[str], conditions: list[tuple[int, str]]) -> tuple[float, float, float]:
    """Share of notes in the scale, share of melodies that end on the tonic, mean leap in semitones."""
    inside, ends, leaps = [], [], []
    for melody, (key, mode) in zip(melodies, conditions, strict=True):
        notes = [int(note) for note in melody.split()]
        inside += [note in scale(key, mode) for note in notes]
        ends.append(bool(notes) and (notes[-1] - LOWEST - key) % 12 == 0)
        leaps += [abs(a - b) for a, b in pairwise(notes)]
    return float(np.mean(inside)), float(np.mean(ends)), float(np.mean(leaps))


def trained(quick: bool, rng: np.random.Generator) -> tuple[Captioner, list[str]]:
    """The network, and the melodies that it learned from."""
    all_conditions = [(key, mode) for key in range(12) for mode in MODES]
    chosen = [all_conditions[int(i)] for i in rng.integers(len(all_conditions), size=3000 if quick else 12000)]
    melodies = [compose(*one, rng) for one in chosen]
    model = captioner(len(KEYS) + len(MODES), melodies, level="word", cell="gru", units=96, hidden=64)
    epochs = 12
    rate = rnnfast.schedules.CosineDecay(1e-2, epochs * -(-len(chosen) // 64))
    model.compile(rnnfast.optimizers.Adam(rate, global_clipnorm=1.0), "sparse_categorical_crossentropy")
    model.fit(np.stack([condition(*one) for one in chosen]), melodies, batch_size=64, epochs=epochs, verbose=0)
    return model, melodies


def run(quick: bool = False) -> dict[str, float]:
    """Train, write four melodies in every key and mode, and print how many notes are in the scale."""
    rnnfast.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model, melodies = trained(quick, rng)
    asked = [(key, mode) for key in range(12) for mode in MODES for _ in range(4)]
    written = model.describe(np.stack([condition(*one) for one in asked]), temperature=0.5, seed=0, max_length=60)
    pool = " ".join(melodies).split()
    blind = [" ".join(rng.choice(pool, 14)) for _ in asked]
    scaled = [" ".join(map(str, rng.choice(scale(*one), 14))) for one in asked]
    found = {"captioner": judge(written, asked), "drawn from all keys": judge(blind, asked), "drawn from the scale": judge(scaled, asked)}
    for (key, mode), melody in list(zip(asked, written, strict=True))[::50]:
        names = " ".join(KEYS[int(note) % 12] for note in melody.split())
        print(f"  {KEYS[key]} {mode:<8}{names}")
    print(f"{len(asked)} melodies            in the scale   end on the tonic   mean leap")
    for name, (inside, ends, leap) in found.items():
        print(f"  {name:<24}{inside:9.1%}{ends:16.1%}{leap:14.1f}")
    inside, ends, leap = found["captioner"]
    return {"in the scale": inside, "end on the tonic": ends, "mean leap": leap, "blind in the scale": found["drawn from all keys"][0], "same as one heard": len(set(written) & set(melodies)) / len(written)}


if __name__ == "__main__":
    main(run)
