"""Attention and AdditiveAttention give what Keras' give: values, scores and gradients, through torch's autograd."""

import numpy as np
import pytest

import rnnfast
from tests.conftest import max_rel_error
from tests.gradients import keras_floatx
from tests.peers import require

KERAS = {
    "dot": ("Attention", {}), "scale": ("Attention", {"use_scale": True}), "concat": ("Attention", {"score_mode": "concat"}),
    "concat-scale": ("Attention", {"score_mode": "concat", "use_scale": True}), "additive": ("AdditiveAttention", {}),
    "additive-plain": ("AdditiveAttention", {"use_scale": False}),
}  # fmt: skip


@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])
@pytest.mark.parametrize("own_key", [False, True], ids=["value", "key"])
@pytest.mark.parametrize("name", KERAS)
def test_values_scores_and_gradients(name, own_key, masked, causal, rng, dtype):
    require("keras")
    torch = require("torch")
    kind, options = KERAS[name]
    xs = [(0.5 * rng.standard_normal(shape)).astype(dtype) for shape in ((3, 5, 4), (3, 6, 4), (3, 6, 4))[: 3 if own_key else 2]]
    ups = [rng.standard_normal(shape).astype(dtype) for shape in ((3, 5, 4), (3, 5, 6))]
    masks = [np.arange(5) < [[5], [3], [2]], rng.random((3, 6)) < 0.6] if masked else None
    if masks:
        masks[1][:, 0] = True  # Keras shows the mean of all values where none is seen
        ups[1] *= masks[0][:, :, None]  # and the scores of masked queries, which are zeros here
    own = getattr(rnnfast.layers, kind)(dtype=dtype, return_attention_scores=True, use_causal_mask=causal, **options)
    own.build([(None, None, 4)] * len(xs))
    weights = [rng.standard_normal(w.shape) for w in own.weights]
    own.set_weights(weights)
    with keras_floatx(dtype) as keras:
        theirs = getattr(keras.layers, kind)(dtype=dtype, **options)
        tensors = [torch.tensor(x, requires_grad=True) for x in xs]
        theirs.build([tuple(x.shape) for x in xs])
        theirs.set_weights([w.astype(dtype) for w in weights])
        given = None if masks is None else [torch.tensor(m) for m in masks]
        outs = theirs(tensors, mask=given, return_attention_scores=True, use_causal_mask=causal)
        total = sum((out * torch.tensor(up)).sum() for out, up in zip(outs, ups, strict=True))
        grads = torch.autograd.grad(total, [*tensors, *(w.value for w in theirs.weights)])
    found = own.vjp(xs, ups, mask=None if masks is None else [*masks, *([masks[1]] if own_key else [])])
    bound = 1e-11 if dtype == "float64" else 5e-6
    assert max_rel_error(found["y"][0], outs[0].detach().numpy()) < bound
    scores = outs[1].detach().numpy() * (1 if masks is None else masks[0][:, :, None])
    assert max_rel_error(found["y"][1], scores) < bound
    for got, ref in zip([*found["x"], *found["weights"]], grads, strict=True):
        assert max_rel_error(got, ref.numpy()) < bound


def test_keras_call_arguments(rng):
    query, value = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 5, 4))
    layer = rnnfast.layers.Attention(dtype="float64")
    y, scores = layer([query, value], return_attention_scores=True, use_causal_mask=True)
    assert scores.shape == (2, 3, 5) and not scores[:, 0, 1:].any()
    assert layer([query, value]).shape == y.shape  # one call's arguments are that call's
