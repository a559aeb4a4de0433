"""A linear model in NumPy with the four steps that the training loop asks of a model."""

import numpy as np

from rnnfast.losses import MeanSquaredError
from rnnfast.models.training import Trainer


class LinearModel(Trainer):
    """``y = x w + b`` on every step; trains on the mean squared error."""

    def __init__(self, units=1, name="linear"):
        self.name, self.units, self.built = name, units, False
        self.calls = []

    def build(self, input_shape):
        self.w = np.full((input_shape[-1], self.units), 0.1)
        self.b = np.zeros(self.units)
        self.built = True

    def _forward(self, x):
        return x @ self.w + self.b

    def _bool_mask(self, x, mask):
        return mask if mask is None or mask.ndim > 1 else np.arange(x.shape[1]) < mask[:, None]

    def _output_mask(self):
        return self.mask_seen

    def _predict_step(self, x, mask):
        return self._forward(x)

    def _test_step(self, x, y, sample_weight, mask):
        p, self.mask_seen = self._forward(x), self._bool_mask(x, mask)
        return self.loss(y, p, sample_weight, self.mask_seen), p

    def _train_step(self, x, y, sample_weight, mask):
        self.calls.append((x.copy(), y.copy(), sample_weight, mask))
        loss, p = self._test_step(x, y, sample_weight, mask)
        if isinstance(self.loss, MeanSquaredError):
            target = self.loss.prepare(y, p.shape)
            c = self.loss.coefficients(p.shape[:-1], sample_weight, self._bool_mask(x, mask))[..., None]
            slope = (c * 2.0 * (p - target) / p.shape[-1]).reshape(-1, self.units)
            grads = [x.reshape(-1, x.shape[-1]).T @ slope, slope.sum(0)]
            self.optimizer.apply([self.w, self.b], grads)
        return loss, p if self._needs_predictions else None

    def get_weights(self):
        return [self.w.copy(), self.b.copy()]

    def set_weights(self, weights):
        self.w[...], self.b[...] = weights

    def save(self, path):
        with open(path, "wb") as file:
            np.savez(file, self.w, self.b)
