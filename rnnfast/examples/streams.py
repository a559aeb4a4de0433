"""Streams: many live sequences at once.

1. Who is talking? A thousand microphones send a frame each 10 ms, as the energies of eight bands. A network hears whether there is speech, over noise of any level and colour that comes and goes. All
   frames of a moment are one step of a pool, whose streams come and go.
2. Beam search over a transducer (Graves 2012, arXiv 1211.3711): at each frame it writes a symbol or none, with probabilities of the frame and of what it has written, which a prediction network
   reads. Hypotheses that grow from the same one go on from copies of its stream. The search is compared with the best text of all that there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf

import numpy as np

import rnnfast
from rnnfast import Input, Sequential, layers
from rnnfast.examples._run import main
from rnnfast.models.stream_pool import StreamPool

BANDS = 8
SOUNDS = np.array([[3, 4, 2, 1, 0, 0, 0, 0], [1, 2, 3, 2, 3, 2, 0, 0], [0, 1, 0, 1, 2, 3, 4, 3]], float) / 3  # vowels and a hiss, as powers of the bands
SYMBOLS, WIDTH, FULL = 4, 12, 2000
BLANK = 0
Text = tuple[int, ...]


# -- speech ------------------------------------------------------------------------------------------------------------------------


def microphones(count: int, frames: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the bands' energies (count, frames, BANDS), and whether somebody speaks (count, frames)."""
    speaks = np.zeros((count, frames), bool)
    speaks[:, 0] = random.random(count) < 0.5
    for t in range(1, frames):
        speaks[:, t] = speaks[:, t - 1] ^ (random.random(count) < 0.05)
    level = random.uniform(-2, 2, (count, 1)) + np.cumsum(random.normal(0, 0.03, (count, frames)), axis=1)
    colour = random.normal(0, 0.7, (count, 1, BANDS))
    gusts = np.where(random.random((count, frames)) < 0.05, random.uniform(1, 3, (count, frames)), 0.0)  # doors, coughs
    syllable = 0.55 + 0.45 * np.sin(random.uniform(0, 6, (count, 1)) + np.arange(frames) * random.uniform(0.5, 0.9, (count, 1)))
    sound = SOUNDS[random.integers(0, len(SOUNDS), (count, frames // 6 + 1)).repeat(6, axis=1)[:, :frames]]
    loudness = np.exp(level.mean(axis=1, keepdims=True) + 2.0)
    power = np.exp(level + gusts)[..., None] * np.exp(colour) + (speaks * syllable * loudness)[..., None] * sound
    return np.log(power * random.gamma(4, 0.25, power.shape)).astype(np.float32), speaks


def threshold(x: np.ndarray, y: np.ndarray) -> float:
    """The mean energy from which on frames are best called speech."""
    energy = x.mean(axis=-1)
    borders = np.quantile(energy, np.linspace(0.01, 0.99, 99))
    return float(max(borders, key=lambda border: ((energy > border) == y).mean()))


def detector(x: np.ndarray, y: np.ndarray, epochs: int) -> Sequential:
    """A small network, trained."""
    model = Sequential([Input((None, BANDS)), layers.GRU(24, return_sequences=True), layers.Dense(1, activation="sigmoid")])
    model.compile(rnnfast.optimizers.Adam(1e-2, clipnorm=1.0), "binary_crossentropy")
    model.fit(x, y[..., None].astype(np.float32), batch_size=32, epochs=epochs, verbose=0)
    return model


def listen(model: Sequential, x: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, float]:
    """What a pool hears: each microphone joins at a frame of its own, and misses some; its outputs (count, frames), NaN where it was not there, and microseconds a frame."""
    count, frames = x.shape[:2]
    pool, heard, seconds, steps = model.stream_pool(count), np.full((count, frames), np.nan, np.float32), 0.0, 0
    joins, ids = random.integers(0, frames // 4, count), np.full(count, -1)
    for t in range(frames):
        for one in np.flatnonzero(joins == t):
            ids[one] = pool.open()
        here = np.flatnonzero((joins <= t) & (random.random(count) < 0.9))
        now = np.ascontiguousarray(x[here, t])
        start = time.perf_counter()
        y = pool.step(ids[here], now)
        seconds, steps = seconds + time.perf_counter() - start, steps + len(here)
        heard[here, t] = y[:, 0]
    return heard, 1e6 * seconds / steps


def speech(quick: bool) -> dict[str, float]:
    """Accuracies of the pool and of a threshold, and what a frame costs."""
    random = np.random.default_rng(0)
    (x, y), (x_live, y_live) = microphones(192 if quick else 512, 150, random), microphones(1000, 150, random)
    model = detector(x, y, 12 if quick else 25)
    heard, microseconds = listen(model, x_live, random)
    there = ~np.isnan(heard)
    one = int(np.argmax(there.sum(axis=1)))
    alone = model.stream().process(x_live[one, there[one]])[:, 0]
    loud = x_live.mean(axis=-1) > threshold(x, y)
    return {
        "network": float(((heard > 0.5) == y_live)[there].mean()), "threshold": float((loud == y_live)[there].mean()),
        "microseconds a frame": microseconds, "same as alone": float((heard[one, there[one]] == alone).mean()),
    }  # fmt: skip


# -- a transducer ------------------------------------------------------------------------------------------------------------------


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(axis=-1, keepdims=True)
    found: np.ndarray = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return found


class Transducer:
    """A prediction network and what joins it with the frames (T, WIDTH) of an encoder; its weights are drawn, since only the search matters here."""

    def __init__(self, random: np.random.Generator) -> None:
        stack = [layers.Embedding(SYMBOLS + 1, 8), layers.GRU(16, return_sequences=True), layers.Dense(WIDTH)]
        self.network = Sequential([Input((None,)), *stack])
        self.network.set_weights([random.normal(0, 1.5, w.shape) for w in self.network.get_weights()])
        self.out = random.normal(0, 1.0, (WIDTH, SYMBOLS + 1))

    def log_probabilities(self, frame: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Of nothing (BLANK) and of each symbol, after what the network has read."""
        return log_softmax(np.tanh(frame + predicted) @ self.out)


def grown(beam: dict[Text, float], logs: np.ndarray) -> dict[Text, float]:
    """All texts one frame later; a text's probability is the sum over the ways to it."""
    found: dict[Text, float] = {}
    for (text, before), row in zip(beam.items(), logs, strict=True):
        for symbol, log in enumerate(row):
            longer = text if symbol == BLANK else (*text, symbol)
            found[longer] = float(np.logaddexp(found.get(longer, -inf), before + log))
    return found


def beam_search(net: Transducer, frames: np.ndarray, width: int, pool: StreamPool) -> tuple[Text, float]:
    """The best text that a search finds which keeps `width` of them at each frame."""
    beam: dict[Text, float] = {(): 0.0}
    streams: dict[Text, int] = {(): pool.open()}
    predicted: dict[Text, np.ndarray] = {(): pool.step({streams[()]: BLANK})[streams[()]]}
    for frame in frames:
        found = grown(beam, net.log_probabilities(frame, np.stack([predicted[text] for text in beam])))
        beam = {text: found[text] for text in sorted(found, key=lambda text: -found[text])[:width]}
        new = {text: pool.copy(streams[text[:-1]]) for text in beam if text not in streams}
        outputs = pool.step({stream: text[-1] for text, stream in new.items()})
        for text in set(streams) - set(beam):
            pool.close(streams.pop(text))
        streams |= new
        predicted = {text: predicted[text] if text in predicted else outputs[streams[text]] for text in beam}
    for stream in streams.values():
        pool.close(stream)
    return next(iter(beam.items()))


def exhaustive(net: Transducer, frames: np.ndarray, predict: Callable[[Text], np.ndarray]) -> tuple[Text, float]:
    """The best of all texts."""
    beam: dict[Text, float] = {(): 0.0}
    for frame in frames:
        beam = grown(beam, net.log_probabilities(frame, np.stack([predict(text) for text in beam])))
    return max(beam.items(), key=lambda item: item[1])


def transducer(quick: bool) -> dict[str, float]:
    """How often searches of several widths find the best text."""
    random = np.random.default_rng(1)
    net, steps, utterances = Transducer(random), 4 if quick else 5, 20 if quick else 100
    stream, known = net.network.stream(), {}

    def predict(text: Text) -> np.ndarray:
        if text not in known:
            stream.reset()
            known[text] = stream.process([BLANK, *text])[-1]
        row: np.ndarray = known[text]
        return row

    pool = net.network.stream_pool(2 * FULL)
    hits = {"one text": 0, "beam of 4": 0, "full beam": 0}
    for _ in range(utterances):
        frames = random.normal(0, 1.5, (steps, WIDTH))
        best, log = exhaustive(net, frames, predict)
        for name, width in zip(hits, (1, 4, FULL), strict=True):
            text, found = beam_search(net, frames, width, pool)
            hits[name] += text == best and (width < FULL or abs(found - log) < 1e-4)
    return {name: count / utterances for name, count in hits.items()}


def run(quick: bool = False) -> dict[str, float]:
    """Accuracies and microseconds of the first, shares of best texts found of the second."""
    rnnfast.utils.set_random_seed(0)
    scores = speech(quick)
    print(f"1000 live streams    network {scores['network']:.2%}  threshold {scores['threshold']:.2%}  {scores['microseconds a frame']:.2f} us a frame")
    scores |= transducer(quick)
    print("best text found      " + "  ".join(f"{name} {scores[name]:.0%}" for name in ("one text", "beam of 4", "full beam")))
    return scores


if __name__ == "__main__":
    main(run)
