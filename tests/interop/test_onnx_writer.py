"""ONNX files of rnnfast models: onnxruntime computes the same numbers on random weights, for every layer, option, length and state."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast
from rnnfast import FormatError, Input, Model, Sequential, interop, layers
from tests import cases
from tests.conftest import max_rel_error
from tests.peers import require

onnx, ort = require("onnx"), require("onnxruntime")
ort.set_default_logger_severity(4)

BATCH, STEPS, FEATURES, UNITS = 4, 6, 4, 5
LENGTHS = np.array([STEPS, 3, 1, 4], np.int32)
# of whole sequences: no activation of the engine's that ONNX's recurrent operators lack, no mask that only data says
SPECS = dict(cases.recurrent_specs(UNITS)) | dict(cases.bidirectional_specs(UNITS)) | cases.PLAIN | cases.STACKS
PEEPHOLE = {"Peephole": ("PeepholeLSTM", {"units": UNITS, "return_sequences": True}), "Peephole-last": ("PeepholeLSTM", {"units": UNITS, "return_state": True, "go_backwards": True})}
BATCH_NORMALIZATION = {"BatchNormalization": ("BatchNormalization", {}), "BatchNormalization-plain": ("BatchNormalization", {"center": False, "scale": False})}
ALL = SPECS | PEEPHOLE | BATCH_NORMALIZATION
REFUSED = {name for name in ALL if "softplus-gates" in name}  # hard_tanh
MASKED = {"Masking", "Embedding-mask", "tagger", "classifier"}
WITHOUT_LENGTHS = REFUSED | {name for name in ALL if name.endswith("-zero")} | {"Flatten", "Reshape", "RepeatVector", "Masking", "Embedding", "Embedding-mask", "backwards-first"}
WITHOUT_LENGTHS |= set(cases.PLAIN) - {"GlobalAveragePooling1D", "GlobalAveragePooling1D-keepdims", "GlobalMaxPooling1D"}


def randomize(model, rng):
    """Random weights, of which variances are positive."""
    model.set_weights([np.abs(rng.normal(0, 0.7, v.shape)) + 0.1 if "variance" in v.name else rng.normal(0, 0.5, v.shape) for v in model.weights])
    return model


def run(path, feed):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feed)


def outputs(model, x, **kwargs):
    found = model.predict_on_batch(x, **kwargs)
    return found if isinstance(found, list) else [found]


def check(model, feed, path, lengths=None, **options):
    """Write, run in onnxruntime, compare with the model."""
    interop.to_onnx(model, path, lengths=lengths is not None, **options)
    names = [inlet.name for inlet in model.runner().inlets]
    x = [feed[name] for name in names] if len(names) > 1 else feed[names[0]]
    want = outputs(model, x, **({} if lengths is None else {"lengths": lengths}))
    got = run(path, feed | ({} if lengths is None else {"lengths": lengths}))
    assert len(got) == len(want)
    for mine, theirs in zip(want, got, strict=True):
        assert max_rel_error(theirs, mine) < 2e-6


def made(name, rng):
    """A model of one line of the tables, and an input without masked steps."""
    spec = ALL[name]
    x = cases.input_for(spec, BATCH, STEPS, FEATURES, rng)
    x = np.where(x == 0, 1, x) if x.dtype.kind == "i" else np.where(x == 0.5, 1, x).astype(np.float32)
    built = cases.build(rnnfast, spec, "float32")
    shape = x.shape[1:] if (x.ndim == 2 and x.dtype.kind == "f") or name in ("Flatten", "Reshape") else (None, *x.shape[2:])
    chain = built.layers if isinstance(built, Sequential) else [built]
    return randomize(Sequential([Input(shape, name="x"), *chain]), rng), x


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("name", sorted(set(ALL) - REFUSED - MASKED))
def test_every_layer_and_option(name, opset, rng, tmp_path):
    model, x = made(name, rng)
    check(model, {"x": x}, tmp_path / "m.onnx", opset=opset)


@pytest.mark.parametrize("name", sorted(set(ALL) - WITHOUT_LENGTHS))
def test_lengths(name, rng, tmp_path):
    model, x = made(name, rng)
    check(model, {"x": x}, tmp_path / "m.onnx", lengths=LENGTHS)


def test_steps_behind_a_row_show_what_the_model_shows(rng, tmp_path):
    """Also where they reach the output past the recurrent layer, and behind layers that give zeros there."""
    for wrap in (lambda one: one, layers.Bidirectional):
        tokens = Input((None,), name="x")
        embedded = layers.Embedding(7, 3)(tokens)
        both = layers.Concatenate()([embedded, wrap(layers.GRU(3, return_sequences=True))(embedded)])
        model = randomize(Model(tokens, layers.Dense(2)(both)), rng)
        check(model, {"x": rng.integers(0, 7, (BATCH, STEPS))}, tmp_path / "m.onnx", lengths=LENGTHS)


@pytest.mark.parametrize("name", [*sorted(set(rnnfast._engine.ACTIVATIONS) - {"sparsemax"}), "glu"])
def test_activations(name, rng, tmp_path):
    model = Sequential([Input((6,), name="x"), layers.Activation(name)])
    check(model, {"x": rng.normal(0, 3, (20, 6)).astype(np.float32)}, tmp_path / "m.onnx")


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "softplus", "softsign", "hard_sigmoid", "sparse_sigmoid", "elu", "celu", "leaky_relu", "leaky_relu_001", "leaky_relu_03", "linear"])
@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_recurrent_activations(kind, name, rng, tmp_path):
    """As the activation beside hard gates, and as the gates': alpha and beta belong to the right ones."""
    for options in ({"activation": name, "recurrent_activation": "hard_sigmoid"}, {"activation": "leaky_relu", "recurrent_activation": name}):
        if kind == "SimpleRNN":
            options.pop("recurrent_activation")
        model = randomize(Sequential([Input((None, 3), name="x"), getattr(layers, kind)(4, return_sequences=True, **options)]), rng)
        check(model, {"x": rng.normal(0, 0.5, (2, 4, 3)).astype(np.float32)}, tmp_path / "m.onnx")


WINDOWS = [
    layers.Conv1D(4, 3), layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="gelu"), layers.Conv1D(6, 2, strides=3, padding="causal", groups=2, use_bias=False),
    layers.Conv1D(4, 4, padding="same"), layers.Conv1D(4, 3, padding="same", strides=2), layers.Conv1D(4, 2, padding="same", strides=3),
    layers.MaxPooling1D(2), layers.MaxPooling1D(3, strides=2, padding="same"), layers.AveragePooling1D(3, strides=1, padding="same"), layers.AveragePooling1D(3, padding="same"),
    layers.AveragePooling1D(2, strides=3), layers.ZeroPadding1D((1, 2)), layers.Cropping1D((1, 2)), layers.Cropping1D((2, 0)),
]  # fmt: skip


@pytest.mark.parametrize("layer", WINDOWS, ids=lambda layer: layer.name)
def test_windows(layer, rng, tmp_path):
    config = layer.get_config()
    for steps in (7, 8, 9):
        model = randomize(Sequential([Input((None, 4), name="x"), type(layer).from_config(config)]), rng)
        check(model, {"x": rng.normal(size=(2, steps, 4)).astype(np.float32)}, tmp_path / "m.onnx")


ATTENTION = [
    layers.Attention(), layers.Attention(use_scale=True, score_mode="scaled", return_attention_scores=True), layers.Attention(score_mode="general", use_causal_mask=True),
    layers.Attention(use_scale=True, score_mode="concat"), layers.Attention(window=1), layers.Attention(window=2, use_causal_mask=True), layers.AdditiveAttention(),
    layers.AdditiveAttention(units=3), layers.AdditiveAttention(use_scale=False),
]  # fmt: skip


@pytest.mark.parametrize("layer", ATTENTION, ids=lambda layer: layer.name)
@pytest.mark.parametrize("keyed", [False, True])
def test_attention(layer, keyed, rng, tmp_path):
    ends = [Input((None, 4), name="q"), Input((None, 4), name="v"), Input((None, 4), name="k")][: 3 if keyed else 2]
    found = type(layer).from_config(layer.get_config())(ends)
    model = randomize(Model(ends, found), rng)
    feed = {name: rng.normal(size=(2, 8 if name == "q" else 5, 4)).astype(np.float32) for name in model.input_names}
    check(model, feed, tmp_path / "m.onnx")


@pytest.mark.parametrize("units", [None, 3])
def test_attention_pooling(units, rng, tmp_path):
    x = Input((None, 4), name="x")
    model = randomize(Model(x, layers.AttentionPooling1D(units, return_attention_scores=True)(x)), rng)
    check(model, {"x": rng.normal(size=(2, 5, 4)).astype(np.float32)}, tmp_path / "m.onnx")


def test_graphs(rng, tmp_path):
    """Two inputs, states that one layer gives another, merging layers, several outputs, a layer that is used twice."""
    source, target = Input((None, 3), name="source"), Input((None, 4), name="target")
    _, h, c = layers.LSTM(5, return_state=True)(source)
    decoded = layers.LSTM(5, return_sequences=True)(target, initial_state=[h, c])
    twin = layers.Dense(5, activation="tanh")
    merged = [layers.Add()([decoded, twin(decoded)]), layers.Multiply()([decoded, decoded, decoded]), layers.Subtract()([decoded, twin(decoded)])]
    mean = layers.Average()([*merged, decoded])
    both = layers.Concatenate()([mean, layers.TimeDistributed(layers.LayerNormalization())(decoded)])
    model = randomize(Model([source, target], [layers.Dense(2, name="scores")(both), h]), rng)
    feed = {"source": rng.normal(size=(3, 7, 3)).astype(np.float32), "target": rng.normal(size=(3, 4, 4)).astype(np.float32)}
    path = tmp_path / "m.onnx"
    check(model, feed, path)
    session = ort.InferenceSession(path)
    assert [one.name for one in session.get_inputs()] == ["source", "target"] and session.get_outputs()[0].name == "scores"
    assert session.get_inputs()[0].shape == ["batch", "source_time", 3]


def test_nested_time(rng, tmp_path):
    inner = layers.GRU(3)
    model = randomize(Sequential([Input((None, 4, 2), name="x"), layers.TimeDistributed(inner), layers.SimpleRNN(2)]), rng)
    check(model, {"x": rng.normal(size=(2, 3, 4, 2)).astype(np.float32)}, tmp_path / "m.onnx")


def test_trained_initial_states(rng, tmp_path):
    chain = [layers.LSTM(4, return_sequences=True, trained_initial_state=True), layers.Bidirectional(layers.GRU(3, trained_initial_state=True), merge_mode="sum")]
    model = randomize(Sequential([Input((None, 3), name="x"), *chain]), rng)
    check(model, {"x": rng.normal(size=(2, 5, 3)).astype(np.float32)}, tmp_path / "m.onnx")


def test_a_stream_in_onnxruntime(rng, tmp_path):
    """States and a convolution's last inputs go in and out, so that chunks give what the whole sequence does."""
    chain = [
        layers.Conv1D(4, 3, padding="causal", dilation_rate=2, name="conv"), layers.LSTM(5, return_sequences=True, name="lstm", trained_initial_state=True),
        layers.GRU(3, return_sequences=True, name="gru"), layers.SimpleRNN(3, return_sequences=True, name="rnn", stateful=True), layers.Dense(2, name="y"),
    ]  # fmt: skip
    model = randomize(Sequential([Input((None, 3), name="x"), *chain]), rng)
    interop.to_onnx(model, tmp_path / "m.onnx", states=True)
    session = ort.InferenceSession(tmp_path / "m.onnx")
    names = ["conv_inputs", "lstm_h", "lstm_c", "gru_h", "rnn_h"]
    assert [one.name for one in session.get_inputs()] == ["x", *(f"{name}_in" for name in names)]
    assert [one.name for one in session.get_outputs()] == ["y", *(f"{name}_out" for name in names)]
    x = rng.normal(size=(2, 11, 3)).astype(np.float32)
    want = model.predict_on_batch(x)
    states = [np.zeros((2, 4, 3), np.float32), *chain[1].initial_values(2), np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)]
    got = []
    for piece in np.split(x, [1, 2, 5, 6], axis=1):
        y, *states = session.run(None, {"x": piece} | {f"{name}_in": state for name, state in zip(names, states, strict=True)})
        got.append(y)
    assert max_rel_error(np.concatenate(got, axis=1), want) < 2e-6


def test_written_twice_is_the_same_file(rng, tmp_path):
    model, _ = made("tagger", rng)
    for name in "ab":
        interop.to_onnx(model, tmp_path / name, lengths=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def recurrent(**options):
    return lambda: Sequential([Input((None, 3)), layers.LSTM(4, **options)])


REFUSALS = {
    "hard_tanh": (recurrent(activation="hard_tanh"), {}),
    "zoneout": (recurrent(zoneout=0.1), {}),
    "stateful": (recurrent(stateful=True), {}),
    "IndRNN": (lambda: Sequential([Input((None, 3)), layers.IndRNN(4)]), {}),
    "ProjectedLSTM": (lambda: Sequential([Input((None, 3)), layers.Bidirectional(layers.ProjectedLSTM(4, 2))]), {}),
    "sparsemax": (lambda: Sequential([Input((3,)), layers.Dense(4, activation="sparsemax")]), {}),
    "mask has no place": (lambda: Sequential([Input((None, 3)), layers.Masking(), layers.LSTM(4)]), {}),
    "masks by values that are computed": (lambda: Sequential([Input((None, 3)), layers.Dense(2), layers.Masking(), layers.LSTM(4)]), {"lengths": True}),
    "cannot be written with lengths": (lambda: Sequential([Input((None, 3)), layers.Conv1D(4, 3), layers.LSTM(4)]), {"lengths": True}),
    "go_backwards": (lambda: Sequential([Input((None, 3)), layers.LSTM(4, go_backwards=True, return_sequences=True), layers.LSTM(4)]), {"lengths": True}),
    "without lengths": (lambda: Sequential([Input((None, 3)), layers.Dense(4)]), {"lengths": True}),
    "opset": (recurrent(), {"opset": 16}),
    "built": (lambda: Sequential([layers.LSTM(4)]), {}),
}


@pytest.mark.parametrize("word", REFUSALS)
def test_refusals_name_the_reason_and_leave_no_file(word, tmp_path):
    make, options = REFUSALS[word]
    with pytest.raises(FormatError, match=word):
        interop.to_onnx(make(), tmp_path / "m.onnx", **options)
    assert not list(tmp_path.iterdir())
