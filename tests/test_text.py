"""Vocabularies turn text into numbers and back, unknown and padding included; windows of tokens leave nothing out and go on where the last ended."""

import json

import numpy as np
import pytest

from rnnfast.data import Vocabulary, token_streams, token_windows
from rnnfast.data.text import PADDING, UNKNOWN, UNKNOWN_SIGN
from rnnfast.errors import NotBuiltError, ShapeError

TEXT = "def f(x_1):\n    return x_1 + 2  # año, 二\n"


def test_characters_round_trip():
    vocabulary = Vocabulary().fit(TEXT)
    assert len(vocabulary) == len(set(TEXT)) + 2
    numbers = vocabulary.encode(TEXT)
    assert numbers.dtype == np.int64
    assert numbers.min() == 2
    assert vocabulary.decode(numbers) == TEXT


def test_words_punctuation_and_lines_are_tokens():
    vocabulary = Vocabulary("word").fit(TEXT)
    assert vocabulary.split("x_1 = f(año)\n\n") == ["x_1", "=", "f", "(", "año", ")", "\n", "\n"]
    assert vocabulary.decode(vocabulary.encode("return x_1 +\n2")) == "return x_1 +\n2"


def test_numbers_fall_with_frequency_and_ties_are_alphabetical():
    assert Vocabulary().fit("ccbbad").tokens == ["b", "c", "a", "d"]
    assert Vocabulary("word").fit(["b a", "b c"]).tokens == ["b", "a", "c"]


@pytest.mark.parametrize(("options", "tokens"), [({"max_size": 4}, ["a", "b"]), ({"min_count": 2}, ["a", "b"]), ({"min_count": 3}, ["a"]), ({"max_size": 3, "min_count": 2}, ["a"])])
def test_rare_tokens_are_left_out(options, tokens):
    assert Vocabulary(**options).fit("aaabbc").tokens == tokens


@pytest.mark.parametrize("level", ["character", "word"])
def test_unknown_and_padding_are_defined(level):
    vocabulary = Vocabulary(level).fit("a b")
    numbers = vocabulary.encode("a z")
    assert numbers[-1] == UNKNOWN
    assert vocabulary.decode([*numbers, PADDING, PADDING]) == f"a {UNKNOWN_SIGN}"
    assert vocabulary.encode(UNKNOWN_SIGN).tolist() == [UNKNOWN]
    assert vocabulary.encode("").shape == (0,)
    assert vocabulary.decode([]) == ""
    assert UNKNOWN_SIGN not in Vocabulary(level).fit(f"a {UNKNOWN_SIGN}")


def test_configuration_round_trips_through_json():
    first = Vocabulary("word", max_size=9, min_count=1).fit(TEXT)
    again = Vocabulary.from_config(json.loads(json.dumps(first.get_config())))
    assert again.get_config() == first.get_config()
    np.testing.assert_array_equal(again.encode(TEXT), first.encode(TEXT))


def test_every_token_is_a_target_once():
    x, y = token_windows(np.arange(13), 4)
    assert x.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    np.testing.assert_array_equal(y, x + 1)
    x, y = token_windows(np.arange(6), 3, stride=1)
    assert x.tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert y[:, -1].tolist() == [3, 4, 5]


def test_streams_go_on_from_batch_to_batch():
    x, y = token_streams(np.arange(100), length=5, batch_size=3)
    batches = x.reshape(-1, 3, 5)
    assert batches.shape == (6, 3, 5)
    np.testing.assert_array_equal(batches[1:, :, 0], batches[:-1, :, -1] + 1)
    np.testing.assert_array_equal(y, x + 1)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Vocabulary("words"), ValueError, "unknown level 'words'. Did you mean 'word'"),
        (lambda: Vocabulary(max_size=2), ValueError, "max_size must be at least 3"),
        (lambda: Vocabulary(min_count=0), ValueError, "min_count must be an integer > 0"),
        (lambda: Vocabulary(tokens=["a", "a"]), ValueError, "tokens must be texts that differ"),
        (lambda: Vocabulary(tokens=[1]), ValueError, "tokens must be texts that differ"),
        (lambda: Vocabulary().fit(""), ValueError, "at least one character, got an empty text"),
        (lambda: Vocabulary("word").fit("  "), ValueError, "at least one word, got an empty text"),
        (lambda: Vocabulary(min_count=2).fit("ab"), ValueError, "none of 2 seen 2 times"),
        (lambda: Vocabulary().fit(b"ab"), TypeError, "text must be a str, got int"),
        (lambda: Vocabulary().encode("a"), NotBuiltError, "not fitted"),
        (lambda: Vocabulary(tokens="ab").decode([4]), ValueError, r"numbers must be in \[0, 4\), got values from 4 to 4"),
        (lambda: Vocabulary(tokens="ab").decode([[2]]), ShapeError, "shape"),
        (lambda: Vocabulary(tokens="ab").decode([0.5]), ShapeError, "integers"),
        (lambda: token_windows([1, 2, 3], 3), ValueError, "at least 4 tokens, got 3"),
        (lambda: token_windows([1, 2, 3], 2, stride=0), ValueError, "stride must be an integer > 0"),
        (lambda: token_windows([[1, 2, 3]], 2), ShapeError, r"shape \(1, 3\)"),
        (lambda: token_streams([1, 2, 3], 2, 2), ValueError, "at least 5 tokens, got 3"),
        (lambda: token_streams([1, 2, 3], 2, 0), ValueError, "batch_size must be an integer > 0"),
    ],
)
def test_bad_input(call, error, text):
    with pytest.raises(error, match=text):
        call()
