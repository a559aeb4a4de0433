"""Translation: written dates and numbers, in Spanish and in English, become the form that computers sort.

    el 3 de marzo de 1998      1998-03-03
    March 3rd, 1998            1998-03-03
    treinta y uno              31
    two hundred and five       205

An encoder reads the letters in both directions; a decoder writes the digits one by one, and at each of them looks back at the letters through attention
(Luong, Pham and Manning 2015). No test string was seen in training. Beside it stand the same network without attention, and the answer of the training string
that is nearest by edit distance.

With ``--plot FILE`` the attention of a few translations is drawn (needs the extra `plot`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import rnnfast
from rnnfast.builders import EncoderDecoder, encoder_decoder
from rnnfast.examples._run import main

MONTHS = {
    "en": "January February March April May June July August September October November December".split(),
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre".split(),
}
EN = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
EN_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
ES = (
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete dieciocho diecinueve veinte veintiuno "
    "veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete veintiocho veintinueve"
).split()
ES_TENS = "treinta cuarenta cincuenta sesenta setenta ochenta noventa".split()
ES_HUNDREDS = "ciento doscientos trescientos cuatrocientos quinientos seiscientos setecientos ochocientos novecientos".split()
DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

Pair = tuple[str, str]


def english(n: int) -> str:
    """A number below 1000 in English words.

    >>> english(205), english(99)
    ('two hundred and five', 'ninety-nine')
    """
    if n >= 100:
        return f"{EN[n // 100]} hundred" + (f" and {english(n % 100)}" if n % 100 else "")
    if n < 20:
        return EN[n]
    return EN_TENS[n // 10 - 2] + (f"-{EN[n % 10]}" if n % 10 else "")


def spanish(n: int) -> str:
    """A number below 1000 in Spanish words.

    >>> spanish(131), spanish(700)
    ('ciento treinta y uno', 'setecientos')
    """
    if n == 100:
        return "cien"
    if n > 100:
        return ES_HUNDREDS[n // 100 - 1] + (f" {spanish(n % 100)}" if n % 100 else "")
    if n < 30:
        return ES[n]
    return ES_TENS[n // 10 - 3] + (f" y {ES[n % 10]}" if n % 10 else "")


def ordinal(day: int) -> str:
    """3rd, 11th, 21st."""
    return f"{day}{'th' if day in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')}"


def written_date(rng: np.random.Generator) -> Pair:
    """A date from 1900 to 2099 in one of eight forms."""
    year, month = int(rng.integers(1900, 2100)), int(rng.integers(12))
    day = int(rng.integers(1, DAYS[month] + 1))
    en, es = MONTHS["en"][month], MONTHS["es"][month]
    forms = (
        f"{en} {ordinal(day)}, {year}", f"{en} {day}, {year}", f"{day} {en} {year}", f"the {ordinal(day)} of {en} {year}",
        f"el {day} de {es} de {year}", f"{day} de {es} de {year}", f"{day} {es} {year}", f"{es} {day}, {year}",
    )  # fmt: skip
    return forms[rng.integers(len(forms))], f"{year}-{month + 1:02d}-{day:02d}"


def written_number(rng: np.random.Generator) -> Pair:
    """A number below 1000 in words of one of the languages."""
    n = int(rng.integers(1000))
    return (english if rng.random() < 0.5 else spanish)(n), str(n)


def pairs(count: int, seed: int) -> list[Pair]:
    """Different pairs, about a third of them numbers."""
    rng = np.random.default_rng(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        source, target = (written_number if rng.random() < 0.4 and len(found) < 0.8 * count else written_date)(rng)
        found[source] = target
    return list(found.items())


def distances(text: str, others: Sequence[str]) -> np.ndarray:
    """Edit distances (Levenshtein 1966) of a text to many others at once."""
    length = max(map(len, others))
    letters = np.array([[ord(c) for c in other.ljust(length, "\0")] for other in others])
    row = np.tile(np.arange(length + 1), (len(others), 1))
    for i, letter in enumerate(text, 1):
        before, row = row, np.empty_like(row)
        row[:, 0] = i
        swap = np.minimum(before[:, 1:] + 1, before[:, :-1] + (letters != ord(letter)))
        for j in range(length):
            row[:, j + 1] = np.minimum(swap[:, j], row[:, j] + 1)
    return row[np.arange(len(others)), [len(other) for other in others]]


def nearest(train: list[Pair], texts: Sequence[str]) -> list[str]:
    """The baseline: the answer of the nearest training string."""
    sources = [source for source, _ in train]
    return [train[int(distances(text, sources).argmin())][1] for text in texts]


def accuracy(found: Sequence[str], test: Sequence[Pair]) -> float:
    """The share of exact matches."""
    return sum(text == target for text, (_, target) in zip(found, test, strict=True)) / len(test)


def trained(train: list[Pair], attention: str | None, epochs: int, units: int) -> EncoderDecoder:
    """An encoder-decoder, trained."""
    rnnfast.utils.set_random_seed(1)
    sources, targets = [source for source, _ in train], [target for _, target in train]
    model = encoder_decoder(sources, targets, cell="gru", units=units, attention=attention)
    steps = epochs * -(-len(train) // 32)
    rate = rnnfast.schedules.CosineDecay(1e-2, steps)
    model.compile(rnnfast.optimizers.Adam(rate, global_clipnorm=1.0), "sparse_categorical_crossentropy")
    model.fit(sources, targets, batch_size=32, epochs=epochs, verbose=0)
    return model


def draw(model: EncoderDecoder, texts: Sequence[str], path: str) -> None:
    """Draw which letters each written digit looked at."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("The picture needs matplotlib: pip install 'rnnfast[plot]'.") from error
    figure, axes = plt.subplots(1, len(texts), figsize=(4.2 * len(texts), 6), layout="constrained")
    for axis, (source, (found, weights)) in zip(axes, zip(texts, model.translate(list(texts), return_attention=True), strict=True), strict=True):
        image = axis.imshow(weights.T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(len(found)), list(found))
        axis.set_yticks(range(len(source)), list(source.replace(" ", "␣")))
        axis.set(title=source, xlabel="written")
    axes[0].set_ylabel("read")
    figure.colorbar(image, ax=axes, label="attention", shrink=0.6)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def run(quick: bool = False, plot: str | None = None) -> dict[str, float]:
    """Train, translate unseen strings, and print the share of exact matches beside the baselines."""
    size, epochs, units = (3000, 8, 48) if quick else (10000, 15, 64)
    found = pairs(size + 500, seed=0)
    order = np.random.default_rng(0).permutation(len(found))
    train, test = [found[i] for i in order[500:]], [found[i] for i in order[:500]]
    texts = [source for source, _ in test]
    model = trained(train, "luong", epochs, units)
    answers = model.translate(texts)
    some = test[:100]
    scores = {
        "attention": accuracy(answers, test),
        "beam of 4": accuracy(model.translate(texts, beam=4), test),
        "without attention": accuracy(trained(train, None, epochs, units).translate(texts), test),
        "nearest string": accuracy(nearest(train, [source for source, _ in some]), some),
    }
    for (source, target), answer in list(zip(test, answers, strict=True))[:6]:
        print(f"  {source:<40}{answer:<14}{'' if answer == target else f'(is {target})'}")
    print(f"Exact matches on {len(test)} strings that were not in training:")
    for name, score in scores.items():
        print(f"  {name:<20}{score:7.1%}")
    if plot is not None:
        draw(model, ["el 3 de marzo de 1998", "March 3rd, 1998", "doscientos treinta y uno"], plot)
    return scores


if __name__ == "__main__":
    main(run)
