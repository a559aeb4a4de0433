"""Graphs of layers: the same numbers and gradients as Keras' functional models, shared weights, several inputs with masks of their own."""

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Model, Sequential, layers
from tests.conftest import max_rel_error
from tests.gradients import central_differences, keras_floatx
from tests.peers import as_array, require

LENGTHS = [np.array([7, 2, 0, 5]), np.array([1, 4, 4, 3])]


def encoder_decoder(made, kind="LSTM", **options):
    """An encoder whose states start a decoder, with the decoder's output joined to a second branch; `made` is rnnfast or Keras."""
    source, target = made.Input((7, 3), name="source", **options), made.Input((4, 2), name="target", **options)
    dtype = options or {"dtype": "float64"}
    _, *states = getattr(made.layers, kind)(5, return_state=True, name="encoder", **dtype)(source)
    decoded = getattr(made.layers, kind)(5, return_sequences=True, name="decoder", **dtype)(target, initial_state=states if len(states) > 1 else states[0])
    side = made.layers.Dense(5, activation="tanh", name="side", **dtype)(target)
    joined = made.layers.Concatenate(name="joined", **dtype)([made.layers.Add(name="sum", **dtype)([decoded, side]), decoded])
    return made.Model([source, target], made.layers.Dense(2, name="out", **dtype)(joined))


def data(rng):
    return [rng.standard_normal((4, 7, 3)), rng.standard_normal((4, 4, 2))]


def randomised(model, rng):
    model.set_weights([rng.standard_normal(w.shape) * 0.5 for w in model.get_weights()])
    return model


@pytest.mark.parametrize("kind", ["SimpleRNN", "GRU", "LSTM"])
def test_encoder_decoder_as_in_keras(kind, rng):
    require("keras")
    ours = randomised(encoder_decoder(rnnfast, kind, dtype="float64"), rng)
    xs = data(rng)
    with keras_floatx("float64") as keras:
        theirs = encoder_decoder(keras, kind, dtype="float64")
        places = {layer.name: layer for layer in ours.layers}
        for layer in theirs.layers:
            if layer.weights:
                layer.set_weights(places[layer.name].get_weights())
        expected = as_array(theirs(xs))
    assert max_rel_error(ours.predict(xs, verbose=0), expected) < 1e-12


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_inputs_and_weights(masked, rng):
    model = randomised(encoder_decoder(rnnfast, dtype="float64"), rng)
    xs, lengths = data(rng), LENGTHS if masked else None
    dy, weights = rng.standard_normal((4, 4, 2)), model.get_weights()
    got = model.vjp(xs, dy, lengths=lengths)

    def total():
        model.set_weights(weights)
        return float((model(xs, lengths=lengths) * dy).sum())

    for w, grad in zip(weights, got["weights"], strict=True):
        assert max_rel_error(grad, central_differences(total, w)) < 1e-7
    for x, grad in zip(xs, got["x"], strict=True):
        assert max_rel_error(grad, central_differences(total, x)) < 1e-7


def test_rows_do_not_depend_on_each_other_or_on_padding(rng):
    model = randomised(encoder_decoder(rnnfast, dtype="float64"), rng)
    xs = data(rng)
    whole = model.predict_on_batch(xs, lengths=LENGTHS)
    for row, (n, m) in enumerate(zip(*LENGTHS, strict=True)):
        noisy = [np.where(np.arange(x.shape[1])[:, None] < count, x[row], 9.0)[None] for x, count in zip(xs, (n, m), strict=True)]
        alone = model.predict_on_batch(noisy, lengths={"source": np.array([n]), "target": np.array([m])})
        assert np.array_equal(alone[0, :m], whole[row, :m])


def test_a_layer_used_twice_sums_its_gradients(rng):
    x = Input((None, 3), name="x", dtype="float64")
    shared = layers.LSTM(4, return_sequences=True, dtype="float64")
    dense = layers.Dense(4, dtype="float64")
    model = Model(x, layers.Multiply(dtype="float64")([shared(x), dense(shared(x))]))
    randomised(model, rng)
    assert len(model.weights) == 5
    value, dy, weights = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 5, 4)), model.get_weights()
    got = model.vjp(value, dy)

    def total():
        model.set_weights(weights)
        return float((model(value) * dy).sum())

    for w, grad in zip(weights, got["weights"], strict=True):
        assert max_rel_error(grad, central_differences(total, w)) < 1e-7


@pytest.mark.parametrize(
    ("kind", "function"),
    [("Add", sum), ("Subtract", lambda p: p[0] - p[1]), ("Multiply", np.prod), ("Average", lambda p: np.mean(p, axis=0)), ("Concatenate", lambda p: np.concatenate(p, -1))],
)
@pytest.mark.parametrize("count", [2, 3])
def test_merging_layers(kind, function, count, rng):
    if kind == "Subtract":
        count = 2
    parts = [rng.standard_normal((2, 3, 4)) for _ in range(count)]
    expected = np.prod(parts, axis=0) if kind == "Multiply" else function(parts)
    layer = getattr(layers, kind)(dtype="float64")
    assert max_rel_error(layer(parts), expected) < 1e-15
    got = layer.vjp(parts, np.ones_like(expected))["x"]
    for i, part in enumerate(parts):
        assert max_rel_error(got[i], central_differences(lambda: float(layer(parts).sum()), part)) < 1e-7


def test_training_saving_and_streaming(tmp_path, rng):
    x = Input((None, 3), name="x")
    h = layers.GRU(8, return_sequences=True)(x)
    model = Model(x, layers.Dense(1)(layers.Concatenate()([h, x])))
    model.compile(rnnfast.optimizers.Adam(0.02), "mse")
    value = rng.standard_normal((16, 6, 3)).astype(np.float32)
    target = value.cumsum(axis=1)[..., :1]
    history = model.fit(value, target, epochs=60, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]
    model.save(tmp_path / "m.rnnf")
    loaded = rnnfast.load(tmp_path / "m.rnnf")
    assert type(loaded) is Model
    whole = loaded.predict_on_batch(value[:1])
    stream = loaded.stream()
    assert np.array_equal([stream.step(step) for step in value[0]], whole[0])
    assert model.fit(value, target, verbose=0, shuffle=False).history == loaded.fit(value, target, verbose=0, shuffle=False).history


def test_models_that_share_layers_share_weights_and_keep_the_optimizer(rng):
    x = Input((5, 3))
    gru, dense = layers.GRU(4), layers.Dense(1)
    h = gru(x)
    encoder, model = Model(x, h), Model(x, dense(h))
    twin = Sequential.from_config(Sequential([Input((5, 3)), gru, dense]).get_config())
    twin.set_weights(model.get_weights())
    value, target = rng.standard_normal((8, 5, 3)).astype(np.float32), rng.standard_normal((8, 1)).astype(np.float32)
    for one in (model, twin):
        one.compile("adam", "mse")
    for _ in range(3):
        assert model.train_on_batch(value, target) == twin.train_on_batch(value, target)
        assert np.array_equal(encoder.predict_on_batch(value), Sequential(twin.layers[:1]).predict_on_batch(value))
    assert encoder.runner().params is model.runner().params


def test_an_output_that_another_layer_reads(rng):
    x = Input((None, 3))
    h = layers.LSTM(4, return_sequences=True)(x)
    y = layers.Dense(2)(h)
    value = rng.standard_normal((3, 5, 3)).astype(np.float32)
    both = Model(x, [h, y]).predict_on_batch(value)
    assert np.array_equal(both[0], Model(x, h).predict_on_batch(value))
    assert np.array_equal(both[1], Model(x, y).predict_on_batch(value))


@pytest.mark.parametrize("steps", [{}, {"lengths": [5, 2, 4]}, {"mask": [[1, 0, 1, 1, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 1]]}], ids=["whole", "lengths", "mask"])
@pytest.mark.parametrize("same", [layers.Dropout(0.3), layers.Activation("linear")], ids=["Dropout", "linear"])
def test_an_output_that_a_layer_hands_on_as_it_is(same, steps, rng):
    """A layer that does nothing in inference gives its input's own memory, which others read too."""
    x = Input((5, 3))
    h = layers.LSTM(4, return_sequences=True)(x)
    y = layers.Dense(2)(h)
    value, steps = rng.standard_normal((3, 5, 3)).astype(np.float32), {name: np.array(given) for name, given in steps.items()}
    h_alone, y_alone = (Model(x, one).predict_on_batch(value, **steps) for one in (h, y))
    for outputs in ([h, same(h)], [same(h), y], [y, same(same(h)), h], [same(h), same(h)]):
        for found, symbol in zip(Model(x, outputs).predict_on_batch(value, **steps), outputs, strict=True):
            assert np.array_equal(found, y_alone if symbol is y else h_alone)
    if not steps:
        stream = Model(x, [same(h), y, h]).stream()
        for found, wanted in zip(stream.process(value[0]), (h_alone, y_alone, h_alone), strict=True):
            assert np.array_equal(found, wanted[0])


def test_the_gradient_of_an_input_that_is_an_output(rng):
    x = Input((None, 2))
    model = Model(x, [layers.Dropout(0.2)(x), layers.Dense(2)(x)])
    value, dy = rng.standard_normal((3, 4, 2)).astype(np.float32), [rng.standard_normal((3, 4, 2)).astype(np.float32) for _ in range(2)]
    expected = dy[0] + dy[1] @ model.layers[-1].get_weights()[0].T
    np.testing.assert_allclose(model.vjp(value, dy)["x"], expected, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_states_that_are_outputs(rng):
    x = Input((None, 2))
    y, h = layers.GRU(3, return_sequences=True, return_state=True)(x)
    value, dy, dh = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 4, 2), (2, 4, 3), (2, 3)))
    found, last = Model(x, [y, h]).vjp(value, [dy, dh])["x"], dy.copy()
    last[:, -1] += dh
    np.testing.assert_allclose(found, Model(x, y).vjp(value, last)["x"], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="dy must be a list of 1 arrays, for the outputs, got 3"):
        Model(x, [y, h]).vjp(value, [dy, dh, dh])


def test_threads_do_not_change_bits(rng):
    model = randomised(encoder_decoder(rnnfast, dtype="float32"), rng)
    xs = [x.astype(np.float32) for x in data(rng)]
    before, found = rnnfast.get_num_threads(), []
    for n in (1, 2):
        rnnfast.set_num_threads(n)
        found.append(model.vjp(xs, np.ones((4, 4, 2), np.float32), lengths=LENGTHS))
    rnnfast.set_num_threads(before)
    for a, b in zip([*found[0]["weights"], *found[0]["x"], found[0]["y"]], [*found[1]["weights"], *found[1]["x"], found[1]["y"]], strict=True):
        assert np.array_equal(a, b)


def two():
    a, b = Input((None, 3), name="a"), Input((None, 3), name="b")
    return Model([a, b], layers.Add()([a, b]))


A = np.zeros((2, 4, 3), np.float32)


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda: two().predict_on_batch(A), "x must be a list of 2|input must be a list of 2, for a, b"),
        (lambda: two().predict_on_batch({"a": A, "c": A}), "no input called 'c'"),
        (lambda: two().predict_on_batch([A, A[:1]]), "'b' must have 2"),
        (lambda: two().predict_on_batch([A, A[:, :2]]), "one number of steps"),
        (lambda: two().predict_on_batch([A, A[..., :2]]), r"must have shape \(B, T, 3\)"),
        (lambda: two().predict_on_batch([A, A], mask=[np.array([2, 1]), None], lengths=[np.array([2, 1]), None]), "lengths are given twice"),
        (lambda: two().predict_on_batch([A, A], lengths=[np.array([9, 1]), None]), r"lengths must be in \[0, 4\]"),
        (lambda: Model(Input((3,)), layers.Dense(1)(Input((3,)))), "must be among inputs"),
        (lambda: Model([Input((3,), name="x"), Input((3,), name="y")], layers.Dense(1)(Input((3,)))), "must be among inputs|leads to none"),
        (lambda: Model(3, 4), "inputs must be"),
        (lambda: layers.Add()([Input((3,)), Input((4,))]), "inputs must have one shape"),
        (lambda: layers.Subtract()([Input((3,))] * 3), "must have 2 inputs, got 3"),
        (lambda: layers.Concatenate(axis=1)([Input((3, 2)), Input((3, 2))]), "axis must be the last one"),
        (lambda: Sequential([Input((3,)), layers.Add()]), "takes several inputs"),
        (lambda: layers.Dense(1)([Input((3,)), Input((3,))]), "takes one input, got 2"),
        (lambda: layers.Dense(1)(Input((3,)), initial_state=[Input((3,))]), "initial_state"),
    ],
)
def test_bad_input(act, text):
    with pytest.raises((ValueError, TypeError), match=text):
        act()
