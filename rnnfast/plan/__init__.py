"""Plans: a model becomes a flat list of ops over one arena. Pure Python, no arithmetic on data."""

from rnnfast.plan.builder import Builder, Tensor
from rnnfast.plan.params import Params, Variable
from rnnfast.plan.plan import Plan

__all__ = ["Builder", "Params", "Plan", "Tensor", "Variable"]
