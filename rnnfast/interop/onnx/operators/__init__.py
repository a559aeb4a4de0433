"""What runs between the recurrences: a table from an operator's name to a small NumPy function."""

from rnnfast.interop.onnx.operators import elementwise, products, reductions, shapes, windows
from rnnfast.interop.onnx.operators.table import OPERATORS, Operator, limited_to

__all__ = ["OPERATORS", "Operator", "elementwise", "limited_to", "products", "reductions", "shapes", "windows"]
