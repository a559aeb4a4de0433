"""Every example runs in its quick mode and reaches its score."""

import importlib
import operator
import pkgutil

import pytest

from rnnfast import examples
from rnnfast.examples._run import main
from tests.peers import require

COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}

# name: {score that run(quick=True) returns: (comparison, bound)}
EXAMPLES: dict[str, dict[str, tuple[str, float]]] = {
    "captions": {"captioner": (">", 0.9), "most frequent name": ("<", 0.2)},
    "char_rnn": {"gain": (">", 0.0)},
    "conv_gru": {"conv + gru": ("<", 0.012), "naive": (">", 0.25), "error ratio": ("<", 1.1)},
    "forecasting": {
        "sines naive mse": ("<", 0.25705),
        "sines direct mse": ("<", 0.012),
        "sines seq2seq mse": ("<", 0.0155),
        "sines recursive / direct": (">", 1),
        "airline recursive rmse": ("<", 30),
        "airline direct rmse": ("<", 30),
        "airline seq2seq rmse": ("<", 30),
    },
    "genome": {"conv + gru": (">", 0.95), "counts of 3-mers": ("<", 0.75)},
    "image_rows": {"rows": (">", 0.92), "repeated": (">", 0.93)},
    "long_memory": {
        "adding_50_LSTM": ("<", 0.03),
        "adding_50_GRU": ("<", 0.03),
        "adding_50_SimpleRNN": (">", 0.1),
        "gradient_SimpleRNN": ("<", 1e-3),
        "gradient_GRU": (">", 1e-2),
        "copying_GRU": (">", 0.2),
    },
    "melody": {"in the scale": (">", 0.97), "end on the tonic": (">", 0.8), "blind in the scale": ("<", 0.8)},
    "next_word": {"ratio": ("<", 1.0)},
    "sentiment": {"accuracy": (">", 0.97), "bag_of_words": ("<", 0.85)},
    "statal": {"Statal 100": (">", 0.97), "SimpleRNN 100": ("<", 0.6)},
    "streams": {"network": (">", 0.82), "threshold": ("<", 0.68), "same as alone": ("==", 1.0), "beam of 4": (">", 0.8), "one text": ("<", 0.9), "full beam": ("==", 1.0)},
    "tagging": {"f1": (">", 0.98), "baseline_f1": ("<", 0.85)},
    "transcription": {"cer_beam": ("<", 0.15), "beam_minus_greedy": ("<=", 0.002), "cer_detector": (">", 0.2)},
    "translation": {"attention": (">", 0.93), "without attention": ("<", 0.6), "nearest string": ("<", 0.1)},
    "video": {"encoder + gru": (">", 0.97), "one frame": ("<", 0.7), "mean of all frames": ("<", 0.7)},
}
PEERS = {"captions": "sklearn", "image_rows": "sklearn"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_quick_mode_reaches_its_bounds(name, capsys, tmp_path, monkeypatch):
    if name in PEERS:
        require(PEERS[name])
    monkeypatch.chdir(tmp_path)  # where an example may write a picture
    scores = importlib.import_module(f"rnnfast.examples.{name}").run(quick=True)
    assert capsys.readouterr().out.strip()
    missed = {key: (scores[key], comparison, bound) for key, (comparison, bound) in EXAMPLES[name].items() if not COMPARE[comparison](scores[key], bound)}
    assert not missed, f"all scores: {scores}"


def test_every_example_is_in_the_table():
    assert {module.name for module in pkgutil.iter_modules(examples.__path__) if not module.name.startswith("_")} == set(EXAMPLES)


@pytest.mark.parametrize("arguments, expected", [([], (False, None)), (["--quick"], (True, None)), (["--plot", "a.png"], (False, "a.png"))])
def test_command_line(arguments, expected):
    calls = []

    def run(quick=False, plot=None):
        calls.append((quick, plot))
        return {}

    run.__module__ = main.__module__
    main(run, arguments)
    assert calls == [expected]


def test_command_line_without_a_picture():
    def run(quick=False):
        return {}

    run.__module__ = main.__module__
    main(run, ["--quick"])
    with pytest.raises(SystemExit):
        main(run, ["--plot", "a.png"])
