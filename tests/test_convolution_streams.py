"""A live stream through convolutions, pooling and batch normalisation gives the bits of the whole sequence, however it is cut."""

import numpy as np
import pytest

from rnnfast import Input, Sequential, layers

C, T = 5, 24
MODELS = {
    "conv-norm-gru": (1, [("Conv1D", {"filters": 6, "kernel_size": 3, "padding": "causal", "activation": "relu"}), ("BatchNormalization", {}), ("GRU", {"units": 4})]),
    "dilated-stack": (1, [("Conv1D", {"filters": 6, "kernel_size": 2, "dilation_rate": 2**i, "padding": "causal", "groups": 1 + i % 2}) for i in range(4)]),
    "one-tap": (1, [("Conv1D", {"filters": 6, "kernel_size": 1})]),
    "strided-pooled": (4, [("Conv1D", {"filters": 6, "kernel_size": 4, "strides": 2, "padding": "causal"}), ("MaxPooling1D", {}), ("LSTM", {"units": 4})]),
    "patches": (6, [("Conv1D", {"filters": 6, "kernel_size": 3, "strides": 3}), ("AveragePooling1D", {"padding": "same"}), ("GRU", {"units": 4})]),
}


def made(specs):
    stack = [getattr(layers, kind)(**config, **({"return_sequences": True} if "units" in config else {})) for kind, config in specs]
    return Sequential([Input((None, C)), *stack])


@pytest.mark.parametrize("pace, specs", MODELS.values(), ids=MODELS)
def test_streamed_equals_whole(pace, specs, rng):
    model, x = made(specs), rng.standard_normal((T, C)).astype(np.float32)
    model.set_weights([rng.random(w.shape) - 0.3 * (w.ndim > 1) for w in model.get_weights()])
    whole, stream = model.predict_on_batch(x[None])[0], model.stream()
    assert stream.pace == pace
    for chunks in ([T], [pace] * (T // pace), [pace, T - 2 * pace, pace]):
        stream.reset()
        pieces = [stream.process(piece) for piece in np.split(x, np.cumsum(chunks)[:-1])]
        np.testing.assert_array_equal(np.concatenate(pieces), whole)
    stream.reset()
    first = stream.process(x[: 2 * pace])
    kept = stream.get_state()
    stream.process(x[: 2 * pace])
    stream.set_state(kept)
    np.testing.assert_array_equal(np.concatenate([first, stream.process(x[2 * pace :])]), whole)
    assert stream.process(x[:0]).shape == (0, whole.shape[1])
    if pace == 1:
        stream.reset()
        np.testing.assert_array_equal([stream.step(row) for row in x], whole)


def test_frames_are_streamed_through_a_convolution_of_their_own(rng):
    inner = layers.Conv1D(4, 3, padding="same", activation="relu")
    model = Sequential([Input((None, 8, 3)), layers.TimeDistributed(inner), layers.TimeDistributed(layers.Flatten()), layers.GRU(5, return_sequences=True)])
    x = rng.standard_normal((6, 8, 3)).astype(np.float32)
    stream = model.stream()
    np.testing.assert_array_equal([stream.step(frame) for frame in x], model.predict_on_batch(x[None])[0])


def test_a_stream_says_what_chunks_it_takes(rng):
    stream = made(MODELS["strided-pooled"][1]).stream()
    for call in (lambda: stream.step(np.zeros(C, np.float32)), lambda: stream.process(np.zeros((6, C), np.float32))):
        with pytest.raises(ValueError, match="multiple of 4"):
            call()


@pytest.mark.parametrize("kind, config", [("Conv1D", {"filters": 2, "kernel_size": 3}), ("Conv1D", {"filters": 2, "kernel_size": 3, "padding": "same"}), ("MaxPooling1D", {"pool_size": 3, "strides": 2})])
def test_windows_that_reach_ahead_are_refused(kind, config):
    with pytest.raises(ValueError, match=f"{kind} .*cannot be streamed.*causal"):
        made([(kind, config)]).stream()
