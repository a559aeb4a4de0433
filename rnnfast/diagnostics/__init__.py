"""Seeing what happens inside a model: gradients through time, gates, states, attention, where the time goes, and pictures of models and forecasts.

Every function returns a plain dataclass of arrays that can be printed; pictures need matplotlib (``pip install 'rnnfast[plot]'``).
"""

from rnnfast.diagnostics.flow import GradientFlow, LayerFlow, gradient_flow
from rnnfast.diagnostics.gates import GateActivity, HiddenStates, LayerGates, gate_activity, hidden_states
from rnnfast.diagnostics.pictures import plot_attention, plot_forecast, plot_model
from rnnfast.diagnostics.timing import OpTime, Profile, profile

__all__ = [
    "GateActivity",
    "GradientFlow",
    "HiddenStates",
    "LayerFlow",
    "LayerGates",
    "OpTime",
    "Profile",
    "gate_activity",
    "gradient_flow",
    "hidden_states",
    "plot_attention",
    "plot_forecast",
    "plot_model",
    "profile",
]
