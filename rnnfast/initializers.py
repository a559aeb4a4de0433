"""First values of weights.

Every initializer is called as ``initializer(shape, dtype=None)`` and returns a new C-ordered array. Random ones draw in
float64 and round, so the same seed gives the same weights in float32 and float64. As in Keras, an initializer keeps
its seed: calling it twice gives the same values, unless the seed is a :class:`rnnfast.random.SeedGenerator`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnnfast import config
from rnnfast.random import SeedGenerator, check_seed, generator, global_seed_generator
from rnnfast.registry import Registry

Shape = Sequence[int]

# Standard deviation of a standard normal cut at +-2: sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)).
_TRUNCATED_STDDEV = 0.87962566103423978


class Initializer:
    """Base class: subclasses define ``_values(shape)``, in float64."""

    def __call__(self, shape: Shape, dtype: Any = None) -> np.ndarray:
        """Return an array of `shape` and `dtype` (:func:`rnnfast.config.floatx` when None)."""
        shape = tuple(int(size) for size in shape)
        return np.array(self._values(shape), dtype=dtype or config.floatx(), order="C").reshape(shape)

    def _values(self, shape: tuple[int, ...]) -> np.ndarray:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Initializer:
        """Make one from :meth:`get_config`'s result."""
        return cls(**config)


class Constant(Initializer):
    """One value everywhere, or an array that broadcasts to the shape.

    Examples
    --------
    >>> Constant(3.0)((2,))
    array([3., 3.], dtype=float32)
    """

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def _values(self, shape: tuple[int, ...]) -> np.ndarray:
        value = np.asarray(self.value)
        try:
            return np.broadcast_to(value, shape)
        except ValueError:
            raise ValueError(f"Constant: value must broadcast to shape {shape}, got shape {value.shape}.") from None

    def get_config(self) -> dict[str, Any]:
        return {"value": self.value.tolist() if isinstance(self.value, np.ndarray | np.generic) else self.value}


class Zeros(Initializer):
    """All zeros."""

    def _values(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape)


class Ones(Initializer):
    """All ones."""

    def _values(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.ones(shape)


class Identity(Initializer):
    """`gain` on the main diagonal of a matrix, zeros elsewhere.

    Examples
    --------
    >>> Identity(2.0)((2, 3))
    array([[2., 0., 0.],
           [0., 2., 0.]], dtype=float32)
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def _values(self, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) != 2:
            raise ValueError(f"Identity: shape must have 2 dimensions, got {shape}.")
        return self.gain * np.eye(*shape)

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain}


class RandomInitializer(Initializer):
    """Base of the random ones: `seed` is None (one is drawn now), an integer or a SeedGenerator."""

    def __init__(self, seed: int | SeedGenerator | Mapping[str, Any] | None = None) -> None:
        if isinstance(seed, Mapping):
            seed = SeedGenerator.from_config(dict(seed["config"]))
        elif seed is not None and not isinstance(seed, SeedGenerator):
            seed = check_seed(type(self).__name__, seed)
        self._config_seed = seed
        self.seed: int | SeedGenerator = global_seed_generator().next() if seed is None else seed

    def _generator(self) -> np.random.Generator:
        return generator(self.seed.next() if isinstance(self.seed, SeedGenerator) else self.seed)

    def get_config(self) -> dict[str, Any]:
        seed: Any = self._config_seed
        if isinstance(seed, SeedGenerator):
            seed = {"class_name": "SeedGenerator", "config": seed.get_config()}
        return {"seed": seed}


class RandomNormal(RandomInitializer):
    """Normal values with the given mean and standard deviation."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None) -> None:
        self.mean, self.stddev = mean, stddev
        super().__init__(seed)

    def _values(self, shape: tuple[int, ...]) -> np.ndarray:
        return self._generator().normal(self.mean, self.stddev, shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mean": self.mean, "stddev": self.stddev}


class TruncatedNormal(RandomNormal):
    """Normal values, those further than two standard deviations from the mean drawn again."""

    def _values(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.mean + self.stddev * _truncated_normal(self._generator(), shape)


class RandomUniform(RandomInitializer):
    """Uniform values in [minval, maxval)."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None) -> None:
        self.minval, self.maxval = minval, maxval
        super().__init__(seed)

    def _values(self, shape: tuple[int, ...]) -> np.ndarray:
        return self._generator().uniform(self.minval, self.maxval, shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "minval": self.minval, "maxval": self.maxval}


class VarianceScaling(RandomInitializer):
    """Random values whose variance is ``scale / n``, n the fan in, the fan out or their mean.

    Parameters
    ----------
    scale : float
        Greater than zero.
    mode : {"fan_in", "fan_out", "fan_avg"}
    distribution : {"truncated_normal", "untruncated_normal", "uniform"}
        ``"normal"`` is another name of the first.
    seed : int or SeedGenerator, optional
    input_axes, output_axes : sequence of int, optional
        Axes of the shape whose sizes multiply to the fans; by default the last two axes times the sizes before them.

    Notes
    -----
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010;
    He et al., "Delving deep into rectifiers", ICCV 2015.

    Examples
    --------
    >>> w = VarianceScaling(scale=2.0, mode="fan_out", distribution="uniform", seed=0)((100, 200))
    >>> round(float(w.var()), 3)
    0.01
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        if not scale > 0.0:
            raise ValueError(f"VarianceScaling: scale must be greater than 0, got {scale!r}.")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(f"VarianceScaling: mode must be 'fan_in', 'fan_out' or 'fan_avg', got {mode!r}.")
        distribution = {"normal": "truncated_normal"}.get(distribution.lower(), distribution.lower())
        if distribution not in ("truncated_normal", "untruncated_normal", "uniform"):
            raise ValueError(
                "VarianceScaling: distribution must be 'truncated_normal', 'untruncated_normal' or 'uniform', "
                f"got {distribution!r}."
            )
        self.scale, self.mode, self.distribution = scale, mode, distribution
        self.input_axes, self.output_axes = input_axes, output_axes
        super().__init__(seed)

    def _values(self, shape: tuple[int, ...]) -> np.ndarray:
        fan_in, fan_out = _fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2.0}[self.mode]
        stddev = math.sqrt(self.scale / max(1.0, fan))
        rng = self._generator()
        if self.distribution == "truncated_normal":
            return stddev / _TRUNCATED_STDDEV * _truncated_normal(rng, shape)
        if self.distribution == "untruncated_normal":
            return rng.normal(0.0, stddev, shape)
        limit = math.sqrt(3.0) * stddev
        return rng.uniform(-limit, limit, shape)

    def get_config(self) -> dict[str, Any]:
        own = {"scale": self.scale, "mode": self.mode, "distribution": self.distribution}
        return {**super().get_config(), **own, "input_axes": self.input_axes, "output_axes": self.output_axes}


class _Preset(VarianceScaling):
    """A VarianceScaling whose first three arguments are fixed."""

    preset: tuple[float, str, str]

    def __init__(
        self, seed: Any = None, input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
    ) -> None:
        super().__init__(*self.preset, seed=seed, input_axes=input_axes, output_axes=output_axes)

    def get_config(self) -> dict[str, Any]:
        full = super().get_config()
        return {name: full[name] for name in ("seed", "input_axes", "output_axes")}


class GlorotUniform(_Preset):
    """Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""

    preset = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Preset):
    """Truncated normal of variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010)."""

    preset = (1.0, "fan_avg", "truncated_normal")


class LecunUniform(_Preset):
    """Uniform in +-sqrt(3 / fan_in) (LeCun et al., "Efficient BackProp", 1998)."""

    preset = (1.0, "fan_in", "uniform")


class LecunNormal(_Preset):
    """Truncated normal of variance 1 / fan_in (LeCun et al. 1998)."""

    preset = (1.0, "fan_in", "truncated_normal")


class HeUniform(_Preset):
    """Uniform in +-sqrt(6 / fan_in) (He et al. 2015)."""

    preset = (2.0, "fan_in", "uniform")


class HeNormal(_Preset):
    """Truncated normal of variance 2 / fan_in (He et al. 2015)."""

    preset = (2.0, "fan_in", "truncated_normal")


class Orthogonal(RandomInitializer):
    """A random matrix with orthonormal rows or columns, whichever are fewer, times `gain`.

    Notes
    -----
    The Q of the QR decomposition of a normal matrix, its columns' signs those of R's diagonal, which makes it uniform
    over the orthogonal matrices (Saxe, McClelland and Ganguli, ICLR 2014; Mezzadri, Notices of the AMS 54(5), 2007).
    More than two dimensions are taken as a matrix of the last one and the product of the others.

    Examples
    --------
    >>> q = Orthogonal(seed=0)((3, 3), "float64")
    >>> bool(abs(q @ q.T - np.eye(3)).max() < 1e-12)
    True
    """

    def __init__(self, gain: float = 1.0, seed: Any = None) -> None:
        self.gain = gain
        super().__init__(seed)

    def _values(self, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: shape must have at least 2 dimensions, got {shape}.")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(self._generator().standard_normal((max(rows, columns), min(rows, columns))))
        q *= np.where(np.diag(r) < 0.0, -1.0, 1.0)
        return self.gain * (q.T if rows < columns else q)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gain": self.gain}


def _truncated_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    values = rng.standard_normal(shape)
    while (outside := np.abs(values) > 2.0).any():
        values[outside] = rng.standard_normal(int(outside.sum()))
    return values


def _fans(
    shape: tuple[int, ...], input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
) -> tuple[int, int]:
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[axis] for axis in input_axes), math.prod(shape[axis] for axis in output_axes)
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    receptive_field = math.prod(shape[:-2])
    return shape[-2] * receptive_field, shape[-1] * receptive_field


_REGISTRY: Registry[Initializer] = Registry(
    "initializer",
    {
        "zeros": Zeros,
        "zero": Zeros,
        "ones": Ones,
        "one": Ones,
        "constant": Constant,
        "identity": Identity,
        "identity_initializer": Identity,
        "random_normal": RandomNormal,
        "normal": RandomNormal,
        "random_uniform": RandomUniform,
        "uniform": RandomUniform,
        "truncated_normal": TruncatedNormal,
        "variance_scaling": VarianceScaling,
        "glorot_uniform": GlorotUniform,
        "glorot_normal": GlorotNormal,
        "lecun_uniform": LecunUniform,
        "lecun_normal": LecunNormal,
        "he_uniform": HeUniform,
        "he_normal": HeNormal,
        "orthogonal": Orthogonal,
        "orthogonal_initializer": Orthogonal,
    },
)

serialize = _REGISTRY.serialize
deserialize = _REGISTRY.deserialize


def get(identifier: Any) -> Any:
    """Return the initializer for a name, class, config, callable, array (taken as a Constant) or None.

    Examples
    --------
    >>> type(get("he_normal")).__name__
    'HeNormal'
    """
    return Constant(identifier) if isinstance(identifier, np.ndarray | np.generic) else _REGISTRY.get(identifier)
