"""PyTorch's side of what converters are compared with."""

import warnings

from tests.peers import require

torch = require("torch")


def random_weights(module, seed=0):
    """Every parameter drawn anew, so that biases and norms are not at their start."""
    generator = torch.Generator().manual_seed(seed)
    for name, one in [*module.named_parameters(), *module.named_buffers()]:
        if one.is_floating_point():
            with torch.no_grad():
                one.copy_(torch.rand(one.shape, generator=generator) * (1 if "running_var" in name else 1.2) - (-0.5 if "running_var" in name else 0.6))
    return module


def run(module, x):
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, of its own speed
        return module.eval()(torch.as_tensor(x))
