"""The CTC recognizer: text in and out, its file, the ways it decodes, bad input."""

import numpy as np
import pytest

import rnnfast
from rnnfast import losses, optimizers
from rnnfast.builders import CTCRecognizer, ctc_recognizer

RNG = np.random.default_rng(13)


@pytest.fixture(scope="module")
def trained():
    """A model that reads one-hot frames, one to three a character and as many for the pause behind."""
    rnnfast.utils.set_random_seed(3)
    texts = ["".join(RNG.choice(list("añ b"), RNG.integers(1, 6))) for _ in range(96)]
    model = ctc_recognizer(features=5, alphabet="añ b", cell="gru", units=24, optimizer=optimizers.Adam(0.02))
    rows = [_frames(labels) for labels in model.encode(texts)]
    lengths = np.array([len(row) for row in rows])
    x = np.zeros((len(rows), lengths.max(), 5), np.float32)
    for target, row in zip(x, rows, strict=True):
        target[: len(row)] = row
    model.fit(x, model.encode(texts), lengths=lengths, epochs=30, batch_size=16, verbose=0)
    return model, x, lengths, texts


def _frames(labels):
    parts = [np.repeat(np.eye(5)[[label - 1, 4]], RNG.integers(1, 4, 2), 0) for label in labels if label]
    return np.concatenate(parts)


def test_learns_to_transcribe(trained):
    model, x, lengths, texts = trained
    assert np.mean([a == b for a, b in zip(model.transcribe(x, lengths), texts, strict=True)]) > 0.9
    assert np.mean([a == b for a, b in zip(model.transcribe(x, lengths, beam_width=8), texts, strict=True)]) > 0.9


def test_alphabet_and_loss_are_in_the_file(trained, tmp_path):
    model, x, lengths, _ = trained
    model.save(tmp_path / "m.rnnf")
    again = rnnfast.load(tmp_path / "m.rnnf")
    assert type(again) is CTCRecognizer
    assert again.alphabet == "añ b"
    assert isinstance(again.loss, losses.CTC)
    assert again.transcribe(x, lengths, beam_width=4) == model.transcribe(x, lengths, beam_width=4)
    assert again.get_config() == model.get_config()


def test_a_scorer_sees_text(trained):
    model, x, lengths, _ = trained
    seen = set()

    def never_b(text):
        seen.add(text)
        return [0.0, 0.0, 0.0, -100.0]

    assert all("b" not in text for text in model.transcribe(x[:8], lengths[:8], beam_width=4, scorer=never_b))
    assert "" in seen
    assert set().union(*seen) <= set("añ b")


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_the_stack_is_as_asked(cell):
    model = ctc_recognizer(features=3, alphabet="xyz", cell=cell, units=[4, 5], layers=2, bidirectional=False, dropout=0.1)
    assert model.output_shape == (None, None, 4)
    assert len(model.layers) == 5
    assert model.transcribe(np.zeros((0, 4, 3), np.float32)) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: ctc_recognizer(features=3, alphabet="aa"), "alphabet must be a text of characters that differ from each other, got 'aa'"),
        (lambda m: ctc_recognizer(features=3, alphabet=""), "alphabet must be a text"),
        (lambda m: CTCRecognizer(alphabet=["a", "b"]), "alphabet must be a text"),
        (lambda m: m.encode(["axe", "ñ?"]), r"texts must be of the characters 'añ b', got '\?ex' too"),
        (lambda m: m.transcribe(np.zeros((1, 4, 5)), beam_width=0), "beam_width must be a positive integer, got 0"),
        (lambda m: m.transcribe(np.zeros((1, 4, 5)), scorer=len), "scorer needs a beam search; give beam_width too"),
    ],
)
def test_bad_use_is_named(trained, call, message):
    with pytest.raises(ValueError, match=message):
        call(trained[0])


def test_encode_pads_and_takes_one_text():
    model = ctc_recognizer(features=2, alphabet="ab", units=2)
    np.testing.assert_array_equal(model.encode("ba"), [[2, 1]])
    np.testing.assert_array_equal(model.encode(["", "b"]), [[0], [2]])
    assert model.encode([]).shape == (0, 0)
