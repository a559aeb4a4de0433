"""A language model writes text step by step through a stream, scores text as its definition says, and keeps its vocabulary in its file."""

import math

import numpy as np
import pytest

import rnnfast
from rnnfast.builders import LanguageModel, language_model
from rnnfast.builders._sampling import Sampler
from rnnfast.data import Vocabulary, token_streams, token_windows
from rnnfast.data.text import UNKNOWN_SIGN

TEXT = "she sells sea shells by the sea shore, " * 6


@pytest.fixture(scope="module")
def model():
    rnnfast.utils.set_random_seed(1)
    made = language_model(TEXT, cell="gru", units=24, layers=2, dropout=0.1, embedding=8)
    made.compile(rnnfast.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    x, y = token_windows(made.vocabulary.encode(TEXT), 26, stride=3)
    made.fit(x, y, epochs=25, verbose=0)
    return made


def by_hand(model, prompt, length):
    """Greedy text with the whole text so far read anew for every token."""
    tokens = list(model.vocabulary.encode(prompt))
    for _ in range(length):
        tokens.append(2 + int(model.predict_on_batch(np.array([tokens]))[0, -1, 2:].argmax()))
    return model.vocabulary.decode(tokens[-length:])


def test_learns_and_goes_on(model):
    assert model.generate("she sells ", 10, temperature=0) == "sea shells"
    assert model.perplexity(TEXT) < 1.6


def test_greedy_text_is_that_of_whole_predictions(model):
    assert model.generate("sea", 30, temperature=0) == by_hand(model, "sea", 30)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5}, {"top_k": 3}, {"nucleus": 0.8}, {"temperature": 2.0, "top_k": 5, "nucleus": 0.9}])
def test_a_seed_fixes_the_text(model, options):
    first = model.generate("the ", 40, seed=3, **options)
    assert len(first) == 40
    assert first == model.generate("the ", 40, seed=3, **options)


def test_seeds_differ_and_the_global_seed_counts(model):
    assert model.generate("the ", 40, 1.5, seed=3) != model.generate("the ", 40, 1.5, seed=4)
    texts = []
    for _ in range(2):
        rnnfast.utils.set_random_seed(5)
        texts.append(model.generate("the ", 40, 1.5))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("options", [{"top_k": 1}, {"nucleus": 1e-9}, {"temperature": 1e-300}])
def test_the_narrowest_choice_is_greedy(model, options):
    assert model.generate("by", 20, seed=0, **options) == model.generate("by", 20, temperature=0)


def test_scores_are_those_of_the_definition(model):
    text = TEXT[:270] + "?!"  # more than one chunk, and characters that are unknown
    tokens = model.vocabulary.encode(text)
    p = model.predict_on_batch(tokens[None, :-1])[0].astype(np.float64)
    nats = -np.log(p[np.arange(len(p)), tokens[1:]]).mean()
    assert model.perplexity(text) == pytest.approx(math.exp(nats), rel=1e-5)
    assert model.bits_per_character(text) == pytest.approx(nats / math.log(2), rel=1e-5)


def test_bits_of_words_are_divided_by_their_characters():
    model = language_model("aa bbb aa cc aa", "word", units=4)
    tokens = model.vocabulary.encode("aa bbb cc")
    p = model.predict_on_batch(tokens[None, :-1])[0]
    assert model.bits_per_character("aa bbb cc") == pytest.approx(-np.log2(p[[0, 1], tokens[1:]]).sum() / 5, rel=1e-5)


def test_logits_give_the_same_text_and_scores(model):
    rnnfast.utils.set_random_seed(1)
    logits = language_model(model.vocabulary, cell="gru", units=24, layers=2, dropout=0.1, embedding=8, activation=None)
    logits.set_weights(model.get_weights())
    assert logits.perplexity(TEXT) == pytest.approx(model.perplexity(TEXT), rel=1e-5)
    assert logits.generate("sh", 30, seed=2) == model.generate("sh", 30, seed=2)


def test_file_keeps_the_vocabulary(model, tmp_path):
    model.save(tmp_path / "m.rnnf")
    again = rnnfast.load(tmp_path / "m.rnnf")
    assert type(again) is LanguageModel
    assert again.vocabulary.get_config() == model.vocabulary.get_config()
    assert again.generate("sea ", 30, seed=9) == model.generate("sea ", 30, seed=9)
    assert again.perplexity(TEXT) == model.perplexity(TEXT)


def test_a_wrong_vocabulary_is_refused(model):
    config = model.get_config()
    config["vocabulary"] = Vocabulary(tokens="ab").get_config()
    with pytest.raises(ValueError, match="the vocabulary has 4 tokens, the model reads 14 and predicts 14"):
        LanguageModel.from_config(config)


def test_unknown_prompts_are_read_and_never_written(model):
    text = model.generate("二年", 200, temperature=5.0, seed=0)
    assert len(text) == 200  # no padding
    assert UNKNOWN_SIGN not in text


def test_words():
    model = language_model("a cat and a dog saw a cat", "word", cell="rnn", units=8, max_size=5)
    assert len(model.vocabulary) == 5
    assert len(model.generate("a bird", 6, seed=0).split()) == 6


def test_stateful_training_carries_the_state_from_batch_to_batch():
    model = language_model("ab" * 50, units=8, stateful=True)
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = token_streams(model.vocabulary.encode("ab" * 50), length=5, batch_size=4)
    model.fit(x[:4], y[:4], batch_size=4, shuffle=False, verbose=0)
    carried = model.layers[1].state_values[0].copy()
    assert carried.any()
    model.fit(x[4:8], y[4:8], batch_size=4, shuffle=False, verbose=0)
    assert not np.array_equal(model.layers[1].state_values[0], carried)


def test_sampler_follows_temperature_top_k_and_nucleus():
    p = np.array([0.5, 0.25, 0.15, 0.1])
    chosen = lambda **options: Sampler(**options).probabilities(np.log(p) + 3)
    np.testing.assert_allclose(chosen(), p, rtol=1e-12)
    np.testing.assert_allclose(chosen(temperature=0.5), p**2 / (p**2).sum(), rtol=1e-12)
    np.testing.assert_allclose(chosen(top_k=2), [2 / 3, 1 / 3, 0, 0], rtol=1e-12)
    np.testing.assert_allclose(chosen(top_k=9), p, rtol=1e-12)
    np.testing.assert_allclose(chosen(nucleus=0.7), [2 / 3, 1 / 3, 0, 0], rtol=1e-12)
    np.testing.assert_allclose(chosen(nucleus=0.76), np.array([0.5, 0.25, 0.15, 0]) / 0.9, rtol=1e-12)
    np.testing.assert_allclose(chosen(nucleus=1.0), p, rtol=1e-12)
    np.testing.assert_allclose(chosen(top_k=3, nucleus=0.6), [2 / 3, 1 / 3, 0, 0], rtol=1e-12)  # 0.5 of 0.9 is less than 0.6
    np.testing.assert_allclose(chosen(temperature=0), [1, 0, 0, 0])


def test_sampler_draws_what_it_says():
    p = np.array([0.5, 0.3, 0.2, 0.0])
    sampler = Sampler(seed=0)
    with np.errstate(divide="ignore"):
        drawn = np.bincount([sampler(np.log(p)) for _ in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(drawn, p, atol=0.025)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"prompt": ""}, "prompt must have at least one character, got ''"),
        ({"length": 0}, "length must be an integer > 0, got 0"),
        ({"temperature": -0.1}, "temperature must be a finite number >= 0, got -0.1"),
        ({"temperature": float("nan")}, "temperature must be a finite number"),
        ({"top_k": 0}, "top_k must be an integer > 0, got 0"),
        ({"top_k": 2.5}, "top_k must be an integer > 0"),
        ({"nucleus": 0.0}, r"nucleus must be a number in \(0, 1\], got 0.0"),
        ({"nucleus": 1.1}, r"nucleus must be a number in \(0, 1\], got 1.1"),
        ({"seed": -1}, "seed must be an integer"),
    ],
)
def test_bad_arguments_of_generate(model, arguments, text):
    with pytest.raises(ValueError, match=text):
        model.generate(**({"prompt": "a", "length": 1} | arguments))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: language_model(""), "at least one character, got an empty text"),
        (lambda: language_model("ab", "sentence"), "unknown level 'sentence'"),
        (lambda: language_model("ab", activation="relu"), "activation must be 'softmax' or None"),
        (lambda: language_model("ab", cell="lsmt"), "cell: unknown name 'lsmt'. Did you mean 'lstm'"),
        (lambda: language_model("ab").perplexity("a"), "at least two characters to be scored, got 1"),
        (lambda: language_model("ab").bits_per_character(""), "at least two characters to be scored, got 0"),
    ],
)
def test_bad_input(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_a_model_that_diverged_says_so():
    model = language_model("ab", units=4)
    model.set_weights([np.full(w.shape, np.nan) for w in model.weights])
    with pytest.raises(ValueError, match="output is not finite"):
        model.generate("a", 1)
