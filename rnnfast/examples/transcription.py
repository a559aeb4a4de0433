"""Transcribe tones: keys dialled on a noisy line become text, without being told when each key sounds.

Each of twelve keys is a pair of tones, as on a telephone. They sound for random times, after random pauses, a little out of tune, in white noise and with two
steady tones that hum at random pitch. The model sees log-magnitude spectra, frame by frame, and the text; CTC finds the alignment. Beside it stands a detector
that is told the keys' tones: in each frame the key whose tones stand out most from what hums all the time, or a pause; smoothed over neighbours, repeats merged.
"""

from __future__ import annotations

import numpy as np

from rnnfast.builders import ctc_recognizer
from rnnfast.examples._run import main
from rnnfast.metrics import CharacterErrorRate
from rnnfast.optimizers import Adam
from rnnfast.schedules import CosineDecay
from rnnfast.utils import set_random_seed

RATE, FRAME, HOP = 8000, 256, 96  # samples a second, in a frame, from frame to frame
ALPHABET = "123456789*0#"
LOW, HIGH = (697.0, 770.0, 852.0, 941.0), (1209.0, 1336.0, 1477.0)  # hertz: a key's row and column
TONES = np.array([(low, high) for low in LOW for high in HIGH])
BINS = slice(18, 56)  # 562 to 1719 hertz


def synthesize(text: str, rng: np.random.Generator) -> np.ndarray:
    """The sound of a text: each key for 40 to 150 ms, after a pause of 20 to 80 ms, in white noise, over two steady tones."""
    parts = []
    for key in text:
        parts.append(np.zeros(int(RATE * rng.uniform(0.02, 0.08))))
        time = np.arange(int(RATE * rng.uniform(0.04, 0.15))) / RATE
        pitch, phases = rng.normal(1.0, 0.004), rng.uniform(0, 2 * np.pi, 2)
        tones = np.sin(2 * np.pi * pitch * TONES[ALPHABET.index(key)] * time[:, None] + phases)
        parts.append(rng.uniform(0.6, 1.2) * tones.sum(1))
    sound = np.concatenate([*parts, np.zeros(FRAME)])
    time = np.arange(len(sound)) / RATE
    for hertz in rng.uniform(600, 1600, 2):
        sound += rng.uniform(0.3, 1.0) * np.sin(2 * np.pi * hertz * time)
    return sound + rng.uniform(0.3, 1.0) * rng.normal(size=len(sound))


def spectra(sound: np.ndarray) -> np.ndarray:
    """Log magnitudes (frames, bins) of the windowed frames."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::HOP]
    return np.log(1e-3 + np.abs(np.fft.rfft(frames * np.hanning(FRAME)))[:, BINS]).astype(np.float32)


def dataset(count: int, longest: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Padded spectra (count, T, bins), their lengths, and the texts of 2 keys to `longest`."""
    texts = ["".join(rng.choice(list(ALPHABET), rng.integers(2, longest + 1))) for _ in range(count)]
    signals = [spectra(synthesize(text, rng)) for text in texts]
    lengths = np.array([len(signal) for signal in signals])
    x = np.zeros((count, lengths.max(), signals[0].shape[1]), np.float32)
    for row, signal in zip(x, signals, strict=True):
        row[: len(signal)] = signal
    return x, lengths, texts


def detector(x: np.ndarray, lengths: np.ndarray, threshold: float, width: int) -> list[str]:
    """The baseline: for each frame the key whose two tones are strongest, if they stand out by `threshold` from the rest; then merged as CTC merges."""
    hertz = np.arange(FRAME // 2 + 1)[BINS] * RATE / FRAME
    near = np.exp(-0.5 * ((hertz - TONES[..., None]) / 25.0) ** 2).sum(1)
    near /= near.sum(1, keepdims=True)
    texts = []
    for signal, n in zip(x, lengths, strict=True):
        signal = signal[:n] - np.median(signal[:n], 0)  # without what hums all the time
        frames = np.lib.stride_tricks.sliding_window_view(np.pad(signal, ((width // 2, width // 2), (0, 0)), mode="edge"), width, axis=0).mean(-1)
        score = frames @ near.T - frames.mean(1, keepdims=True)
        keys = np.where(score.max(1) > threshold, score.argmax(1), -1)
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        texts.append("".join(ALPHABET[keys[i]] for i in starts if keys[i] >= 0))
    return texts


def best_detector(x: np.ndarray, lengths: np.ndarray, texts: list[str]) -> tuple[float, int]:
    """The detector's threshold and smoothing with the least error on the training data."""
    settings = [(threshold, width) for threshold in np.arange(0.3, 1.3, 0.1) for width in (3, 5)]
    return min(settings, key=lambda setting: CharacterErrorRate()(texts, detector(x, lengths, *setting)))


def run(quick: bool = False) -> dict[str, float]:
    """Train, transcribe new sounds by best path and by beam search, and print the character error rates."""
    set_random_seed(1)
    rng = np.random.default_rng(1)
    longest = 4 if quick else 8
    x, lengths, texts = dataset(1200 if quick else 3000, longest, rng)
    unseen, unseen_lengths, truth = dataset(200 if quick else 500, longest, rng)
    mean, deviation = x[x.any(-1)].mean(0), x[x.any(-1)].std(0)

    epochs, batch_size, fastest = (8, 8, 0.015) if quick else (12, 16, 0.008)
    rate = CosineDecay(fastest, epochs * len(x) // batch_size)
    model = ctc_recognizer(x.shape[-1], ALPHABET, cell="gru", units=64, dropout=0.1 if quick else 0.2, optimizer=Adam(rate, clipnorm=1.0))
    model.fit((x - mean) / deviation, model.encode(texts), lengths=lengths, batch_size=batch_size, epochs=epochs, verbose=0)

    scaled = (unseen - mean) / deviation
    found = {
        "cer_beam": model.transcribe(scaled, unseen_lengths, beam_width=16),
        "cer_greedy": model.transcribe(scaled, unseen_lengths),
        "cer_detector": detector(unseen, unseen_lengths, *best_detector(x[:150], lengths[:150], texts[:150])),
    }
    scores = {name: CharacterErrorRate()(truth, guesses) for name, guesses in found.items()}
    for name, what in zip(found, ("CTC, beam search", "CTC, best path", "baseline: detector told the tones"), strict=True):
        print(f"{what:<34} character error rate {100 * scores[name]:6.2f} %   e.g. {found[name][0]!r} for {truth[0]!r}")
    scores["beam_minus_greedy"] = scores["cer_beam"] - scores["cer_greedy"]
    return scores


if __name__ == "__main__":
    main(run)
