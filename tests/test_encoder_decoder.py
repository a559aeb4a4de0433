"""Encoder-decoders learn, translate by themselves as they were trained to with the truth given, and come back from a file with their vocabularies."""

import numpy as np
import pytest

import rnnfast
from rnnfast.builders import captioner, encoder_decoder
from rnnfast.data.text import Vocabulary

SOURCES, TARGETS = ["ab", "ba", "abc", "c", "cab", "bb"], ["12", "21", "123", "3", "312", "22"]


def small(**options):
    rnnfast.utils.set_random_seed(3)
    return encoder_decoder(SOURCES, TARGETS, units=12, embedding=6, **options)


def compiled(model):
    model.compile(rnnfast.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    return model


KINDS = [
    {}, {"attention": "bahdanau", "layers": 2}, {"attention": "bahdanau"}, {"attention": None}, {"bidirectional": False, "cell": "gru"},
    {"cell": "rnn", "units": [10, 12], "dropout": 0.1}, {"cell": "gru", "layers": 2, "attention": "luong"}, {"cell": "min_gru"}, {"cell": "layer_norm_lstm", "attention": "bahdanau"},
]  # fmt: skip


@pytest.mark.parametrize("options", KINDS, ids=lambda o: "-".join(map(str, o.values())) or "plain")
def test_writing_step_by_step_is_the_training_graph_unrolled(options):
    model = encoder_decoder(SOURCES, TARGETS, **({"units": 12, "embedding": 6} | options))
    found = model.translate(SOURCES, max_length=6)
    reads, _ = model.prepare_targets(found)
    chances = model.predict_on_batch([model.prepare_sources(SOURCES), reads])
    chances[:, :, [0, 1, model.start]] = 0
    for text, each in zip(found, chances, strict=True):
        tokens = model.target.encode(text).tolist()
        assert each.argmax(-1)[: len(tokens)].tolist() == tokens
        assert len(tokens) == 6 or each.argmax(-1)[len(tokens)] == model.end


@pytest.mark.parametrize("options", [{"attention": "luong"}, {"attention": "bahdanau", "layers": 2}, {"cell": "gru", "teacher_forcing": 0.7}])
def test_it_learns(options):
    model = compiled(small(**options))
    model.fit(SOURCES * 4, TARGETS * 4, batch_size=6, epochs=40, verbose=0)
    assert model.translate(SOURCES) == TARGETS
    assert model.translate(SOURCES, beam=3) == TARGETS
    assert model.evaluate(SOURCES, TARGETS, verbose=0) < 0.5


def test_it_comes_back_from_a_file_and_trains_on(tmp_path):
    model = compiled(small(dropout=0.1, teacher_forcing=0.5))
    model.fit(SOURCES, TARGETS, epochs=2, verbose=0)
    model.save(tmp_path / "m.rnnf")
    again = rnnfast.load(tmp_path / "m.rnnf")
    assert type(again) is type(model) and again.source.tokens == model.source.tokens and again.teacher_forcing == 0.5
    assert again.translate(SOURCES, beam=2) == model.translate(SOURCES, beam=2)
    for one in (model, again):
        one.fit(SOURCES, TARGETS, epochs=2, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights(), strict=True))


def test_writing_reads_the_trained_weights_in_place():
    model = compiled(small())
    model.translate("ab")
    model.fit(SOURCES, TARGETS, epochs=1, verbose=0)
    before = model.translate(SOURCES, max_length=8)
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    zeros = model.translate(SOURCES, max_length=8)
    assert len(set(zeros)) == 1 and zeros != before
    assert model._one_step.runner().params is model.runner().params


@pytest.mark.parametrize("ratio", [0.0, 0.4, 1.0])
def test_the_share_of_own_inputs(ratio):
    model = compiled(small(teacher_forcing=ratio))
    x, _ = model.prepare(SOURCES * 200, ["9" * 9] * 1200)  # what the model cannot say, as it is no known token
    own = model._own_inputs(x, None)
    assert (own[:, 0] == model.start).all() and own.shape == x[1].shape
    assert abs((own[:, 1:] == 1).mean() - ratio) < 0.02
    assert not (own[x[1] == 0]).any()


def test_unknown_characters_and_empty_texts():
    model = small()
    texts = model.translate(["?!", "", "ab", "\N{SNOWMAN}"])
    assert len(texts) == 4 and texts[0] == texts[0] and all(isinstance(text, str) for text in texts)
    assert model.translate("?") == model.translate("!")  # one unknown token stands for both
    assert model.translate("") == model.translate([""])[0] == texts[1]
    assert model.translate([]) == []
    text, weights = model.translate("", return_attention=True)
    assert weights.shape == (len(text), 0)


def test_a_text_is_translated_alike_in_any_company():
    model = small()
    alone = [model.translate(text, max_length=7) for text in SOURCES]
    assert model.translate(SOURCES, max_length=7) == alone == model.translate(SOURCES, max_length=7, batch_size=2)


def test_attention_weights():
    model = small()
    for beam in (1, 3):
        for source, (text, weights) in zip(SOURCES, model.translate(SOURCES, beam=beam, return_attention=True, max_length=5), strict=True):
            assert weights.shape == (len(text), len(source))
            assert np.allclose(weights.sum(1), 1, atol=1e-6)


def test_a_source_of_vectors(rng):
    model = compiled(encoder_decoder(4, ["ab", "ba"], units=8, bidirectional=False))
    x = rng.standard_normal((6, 5, 4)).astype(np.float32)
    model.fit(x, ["ab", "ba"] * 3, epochs=1, verbose=0)
    lengths = np.array([5, 2, 1, 0, 3, 5])
    found = model.translate(x, lengths=lengths, return_attention=True)
    assert [weights.shape[1] for _, weights in found] == lengths.tolist()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: small(attention="loung"), "attention must be None or one of.*luong"),
        (lambda: small(cell="lstn"), "lstm"),
        (lambda: small(teacher_forcing=1.5), r"teacher_forcing must be in \[0, 1\], got 1.5"),
        (lambda: small().translate("ab", beam=0), "beam must be an integer > 0, got 0"),
        (lambda: small().translate("ab", max_length=0), "max_length must be an integer > 0, got 0"),
        (lambda: small(attention=None).translate("ab", return_attention=True), "return_attention needs a model with attention"),
        (lambda: captioner(2, ["a"]).describe(np.zeros((1, 2)), temperature=-1), "temperature must be a number of at least 0"),
        (lambda: captioner(2, ["a"]).describe(np.zeros((1, 2)), temperature=1, beam=2), "give one of them"),
        (lambda: captioner(2, ["a"]).describe(np.zeros(2)), r"vectors must have shape \(N, F\), got \(2,\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_captions_are_learned_saved_and_drawn(tmp_path):
    rnnfast.utils.set_random_seed(0)
    names = Vocabulary("word").fit("one fish two fish red fish blue fish")
    model = compiled(captioner(3, names, units=16, layers=2, cell="lstm"))
    texts = ["one fish", "two fish two", "red"]
    model.fit(np.eye(3).repeat(8, 0), [text for text in texts for _ in range(8)], batch_size=8, epochs=40, verbose=0)
    assert model.describe(np.eye(3)) == model.describe(np.eye(3), beam=2) == texts
    model.save(tmp_path / "m.rnnf")
    again = rnnfast.load(tmp_path / "m.rnnf")
    drawn = [one.describe(np.eye(3), temperature=3.0, seed=5, max_length=9) for one in (model, again, model)]
    assert drawn[0] == drawn[1] == drawn[2] and drawn[0] != model.describe(np.eye(3), temperature=3.0, seed=6, max_length=9)
