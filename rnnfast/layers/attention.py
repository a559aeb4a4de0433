"""Attention, AdditiveAttention and AttentionPooling1D. The engine computes them a block of query steps at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast import activations
from rnnfast.errors import ShapeError, suggest
from rnnfast.layers.base import Layer, positive, rate, register
from rnnfast.layers.graph import symbols_of
from rnnfast.plan import Builder, Tensor, Variable
from rnnfast.plan.attention import Score, add_attention, learnt_query, packed_inputs, window_of_stream
from rnnfast.random import SeedGenerator

SCORE_MODES = ("dot", "scaled", "general", "concat")
Shape = tuple[int | None, ...]


class _Scored(Layer):
    """What the attention layers share: dropout of the softmax, and whether it is returned."""

    timed = uses_mask = True

    def __init__(self, dropout: float = 0.0, seed: int | None = None, *, return_attention_scores: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dropout, self.seed, self.seeds = rate(self, "dropout", dropout), seed, SeedGenerator(seed)
        self.return_attention_scores = bool(return_attention_scores)

    def attend(self, b: Builder, query: Tensor, value: Tensor, key: Tensor, score: Score) -> Any:
        score.dropout, score.seeds = self.dropout, self.seeds
        if b.live is not None and self.name in b.live.states:
            value, key, score.seen = window_of_stream(b, value, key, b.live.states[self.name])
        y, shown = add_attention(b, query, value, key, score, self.return_attention_scores)
        return y if shown is None else [y, shown]

    def scores_shape(self, shape: Any) -> Shape:
        raise NotImplementedError

    def output_shapes(self, shape: Any) -> list[Shape]:
        return [self.output_shape(shape)] + ([self.scores_shape(shape)] if self.return_attention_scores else [])

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """As of any layer. Keras' call arguments `return_attention_scores` and `use_causal_mask` go before the layer's own: for one call on arrays, in a graph for good."""
        given: dict[str, bool] = {name: bool(kwargs.pop(name)) for name in ("return_attention_scores", "use_causal_mask") if name in kwargs and hasattr(self, name)}
        kept: dict[str, bool] = {name: getattr(self, name) for name in given}
        self._set(given)
        try:
            return super().__call__(x, *args, **kwargs)
        finally:
            if symbols_of(x) is None:
                self._set(kept)

    def _set(self, flags: dict[str, bool]) -> None:
        if any(getattr(self, name) != value for name, value in flags.items()):
            vars(self).update(flags)
            self._runner = None

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"dropout": self.dropout, "seed": self.seed, "return_attention_scores": self.return_attention_scores}


@register
class Attention(_Scored):
    """Each step of a query sequence reads a weighted mean of a value sequence (Luong, Pham and Manning 2015, arXiv 1508.04025).

    ``y_i = sum_j a_ij v_j`` with ``a_i = softmax_j(score(q_i, k_j))``; the key k is the value where no third input is given.

    ============  ==========================================  =====================================================================
    score_mode    score(q, k)                                 source
    ============  ==========================================  =====================================================================
    "dot"         ``s q . k``                                 Luong et al. 2015; s = 1 without `use_scale`
    "scaled"      ``s q . k / sqrt(width)``                   Vaswani et al. 2017, arXiv 1706.03762
    "general"     ``s q W . k``                               Luong et al. 2015; query and key may differ in width
    "concat"      ``w sum(tanh(s (q + k)))``                  Keras; Luong's own, with weights, is :class:`AdditiveAttention` with `units`
    ============  ==========================================  =====================================================================

    Masked steps of the value are not seen, masked steps of the query give zeros, and so does a query step that sees nothing.

    Parameters
    ----------
    use_scale : bool
        Whether s is learnt; it starts at 1.
    score_mode : {"dot", "scaled", "general", "concat"}
    dropout : float in [0, 1)
        Of the softmax, in training.
    seed : int, optional
    window : int, optional
        Step i sees only the keys i - window to i + window; the cost is then that of the window, not of the whole sequence.
    use_causal_mask : bool
        Whether step i sees only the keys up to i.
    return_attention_scores : bool
        Whether the softmax (B, Tq, Tv) is a second output.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> query, value = np.ones((2, 3, 4), np.float32), np.ones((2, 7, 4), np.float32)
    >>> layers.Attention()([query, value]).shape
    (2, 3, 4)
    """

    many = True

    def __init__(
        self, use_scale: bool = False, score_mode: str = "dot", dropout: float = 0.0, seed: int | None = None, *, window: int | None = None,
        use_causal_mask: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(dropout, seed, **kwargs)
        if score_mode not in SCORE_MODES:
            raise ValueError(f"{self._owner()}: score_mode must be one of {SCORE_MODES}, got {score_mode!r}. {suggest(str(score_mode), SCORE_MODES)}")
        self.use_scale, self.score_mode, self.use_causal_mask = bool(use_scale), score_mode, bool(use_causal_mask)
        if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 0):
            raise ValueError(f"{self._owner()}: window must be an integer of at least 0, got {window!r}.")
        self.window = window
        self.scale: Variable | None = None
        self.kernel: Variable | None = None
        self.concat_score_weight: Variable | None = None

    @property
    def streams(self) -> bool:  # type: ignore[override]
        return self.use_causal_mask and self.window is not None and not self.return_attention_scores

    @property
    def waits_for(self) -> str:  # type: ignore[override]
        if self.return_attention_scores:
            return "its scores are as wide as the whole value sequence"
        return "its steps read the whole value sequence. Let them read the last ones, with window= and use_causal_mask=True"

    def stream_start(self) -> list[np.ndarray]:
        """A stream keeps the last values, the last keys where they are not the same, and how many of them there are yet."""
        if not self.window:
            return []
        shapes: Any = self.input_shape
        widths = [shapes[1][-1], self._key_width()][: 2 if len(shapes) > 2 or self._projects_keys() else 1]
        return [*(np.zeros((1, self.window, n), self.dtype) for n in widths), np.zeros((1, 1), self.dtype)]

    def _key_width(self) -> int:
        """Of the keys that are scored."""
        shapes: Any = self.input_shape
        return int((*shapes, shapes[1])[2][-1])

    def _projects_keys(self) -> bool:
        return False

    def _owner(self) -> str:
        return f"{type(self).__name__} '{self.name}'"

    def _widths(self, shapes: list[Shape]) -> tuple[int, int]:
        """Of query and key; the shapes are checked."""
        if len(shapes) not in (2, 3) or not all(isinstance(shape, (list, tuple)) for shape in shapes):
            raise ValueError(f"{self._owner()}: input must be a list [query, value] or [query, value, key], got shapes {shapes}.")
        if any(len(shape) != 3 or shape[-1] is None for shape in shapes):
            raise ShapeError(f"{self._owner()}: inputs must have shapes (B, T, F), got {shapes}.")
        query, value, key = (*shapes, shapes[1])[:3]
        if key[1] != value[1]:
            raise ShapeError(f"{self._owner()}: value and key must have the same number of steps, got {value} and {key}.")
        if not self._projects() and query[-1] != key[-1]:
            raise ShapeError(f"{self._owner()}: query and key must have the same width, got {query} and {key}. {self._remedy()}")
        return query[-1], key[-1]  # type: ignore[return-value]

    def _projects(self) -> bool:
        return self.score_mode == "general"

    def _remedy(self) -> str:
        return "Use score_mode='general', or a Dense layer on one of them."

    def create_weights(self, input_shape: Any) -> None:
        query, key = self._widths(input_shape)
        if self.score_mode == "general":
            self.kernel = self.add_weight((query, key), "kernel")
        if self.use_scale:
            self.scale = self.add_weight((), "scale", "ones")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight((), "concat_score_weight", "ones")

    def output_shape(self, shape: Any) -> Shape:
        return (*shape[0][:-1], shape[1][-1])

    def scores_shape(self, shape: Any) -> Shape:
        return (*shape[0][:-1], shape[1][1])

    def describe(self, b: Builder, x: Any) -> Any:
        self._widths([t.shape for t in x])
        query, value, key = packed_inputs(b, x)
        if self.kernel is not None:
            query = b.dense(query, self.kernel, None, "linear")
        return self.attend(b, query, value, key, self.score(key.width))

    def score(self, width: int) -> Score:
        if self.score_mode == "concat":
            return self._seen(Score(additive=True, scale=self.concat_score_weight, inner=self.scale))
        return self._seen(Score(scale=self.scale, constant=width**-0.5 if self.score_mode == "scaled" else 1.0))

    def _seen(self, score: Score) -> Score:
        score.causal, score.window = self.use_causal_mask, self.window
        return score

    def get_config(self) -> dict[str, Any]:
        names = ("use_scale", "score_mode", "window", "use_causal_mask")
        return super().get_config() | {name: getattr(self, name) for name in names}


@register
class AdditiveAttention(Attention):
    """Attention with the score of Bahdanau, Cho and Bengio 2015 (arXiv 1409.0473).

    ``score(q, k) = v . tanh(q + k)``, or with `units` the paper's ``v . tanh(q W + k U)``, which is also Luong's "concat".

    Parameters
    ----------
    use_scale : bool
        Whether v (called scale, as in Keras) is learnt; else it is ones.
    dropout, seed, window, use_causal_mask, return_attention_scores
        As of :class:`Attention`.
    units : int, optional
        Width of the projections W and U; without it there are none, as in Keras, and query and key must have one width.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> query, value = np.ones((2, 3, 4), np.float32), np.ones((2, 7, 6), np.float32)
    >>> layers.AdditiveAttention(units=8)([query, value]).shape
    (2, 3, 6)
    """

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, *, units: int | None = None, **kwargs: Any) -> None:
        super().__init__(use_scale, dropout=dropout, **kwargs)
        self.units = None if units is None else positive(self, "units", units)
        self.query_kernel: Variable | None = None
        self.key_kernel: Variable | None = None

    def _projects(self) -> bool:
        return self.units is not None

    _projects_keys = _projects

    def _key_width(self) -> int:
        return self.units or super()._key_width()

    def _remedy(self) -> str:
        return "Give units=, or use a Dense layer on one of them."

    def create_weights(self, input_shape: Any) -> None:
        query, key = self._widths(input_shape)
        if self.units is not None:
            self.query_kernel = self.add_weight((query, self.units), "query_kernel")
            self.key_kernel = self.add_weight((key, self.units), "key_kernel")
        if self.use_scale:
            self.scale = self.add_weight((self.units or query,), "scale", "glorot_uniform")

    def describe(self, b: Builder, x: Any) -> Any:
        self._widths([t.shape for t in x])
        query, value, key = packed_inputs(b, x)
        if self.query_kernel is not None and self.key_kernel is not None:
            query, key = b.dense(query, self.query_kernel, None, "linear"), b.dense(key, self.key_kernel, None, "linear")
        return self.attend(b, query, value, key, self._seen(Score(additive=True, weight=self.scale)))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"units": self.units}
        del config["score_mode"]
        return config


@register
class AttentionPooling1D(_Scored):
    """The steps of a sequence become one vector, their mean weighted by a learnt score: [B, T, F] becomes [B, F].

    ``y = sum_t a_t x_t`` with ``a = softmax_t(u . x_t)``, or with `units` ``a = softmax_t(u . f(x_t W + b))`` (Yang et al. 2016, "Hierarchical attention networks
    for document classification", section 2.2). A sequence without a valid step gives zeros.

    Parameters
    ----------
    units : int, optional
        Width of the hidden layer; without it u is compared with the steps themselves.
    activation : str, default "tanh"
        f.
    dropout, seed, return_attention_scores
        As of :class:`Attention`; the scores are (B, T).

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> layers.AttentionPooling1D()(np.ones((2, 7, 4), np.float32)).shape
    (2, 4)
    """

    def __init__(self, units: int | None = None, activation: Any = "tanh", dropout: float = 0.0, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(dropout, seed, **kwargs)
        self.units = None if units is None else positive(self, "units", units)
        self.activation = activations.name_of(f"AttentionPooling1D '{self.name}'", "activation", activation)
        self.kernel: Variable | None = None
        self.bias: Variable | None = None
        self.query: Variable

    def create_weights(self, input_shape: Shape) -> None:
        width = input_shape[-1]
        if len(input_shape) != 3 or width is None:
            raise ShapeError(f"AttentionPooling1D '{self.name}': input must have shape (B, T, F), got {input_shape}.")
        if self.units is not None:
            self.kernel, self.bias = self.add_weight((width, self.units), "kernel"), self.add_weight((self.units,), "bias", "zeros")
        self.query = self.add_weight((1, self.units or width), "query")

    def output_shape(self, shape: Any) -> Shape:
        return (shape[0], shape[2])

    def scores_shape(self, shape: Any) -> Shape:
        return (shape[0], shape[1])

    def describe(self, b: Builder, x: Tensor) -> Any:
        x = b.packed(x)
        key = b.dense(x, self.kernel, self.bias, self.activation) if self.kernel is not None else x
        return self.attend(b, learnt_query(b, x.rows, self.query), x, key, Score())

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"units": self.units, "activation": self.activation}
