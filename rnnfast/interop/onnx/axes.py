"""What the axes of a graph's tensors are, followed through the operators that move numbers.

An axis is a group of atoms: "B" the batch, "T" the time, and the features of the layer that gave the tensor, "F", or "D" and "H" where two directions lie apart. A group without
atoms is an axis of size 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Axes = list[tuple[str, ...]]
BATCH, TIME, WAY = ("B",), ("T",), ("D",)
FEATURES = ("F",)
BOTH_WAYS = ("D", "H")


class UnfitError(ValueError):
    """What no layer computes."""


@dataclass
class Value:
    """A tensor that depends on the inputs.

    Attributes
    ----------
    symbol : symbol of a layer
        Batch first, then the time if there is one, features last.
    axes : list of tuple of str
    sizes : dict of str to int
        Of the atoms, in the run that is followed.
    features : tuple of str
        The atoms of the symbol's last axis.
    kernel : ndarray, optional
        A product with it that is still to be made, since a bias may follow.
    came : (int, str), optional
        Which result of which recurrent node it is.
    way : int, optional
        Which of two directions' features it has, where the symbol has both.
    turned : bool
        Whether the symbol's steps are in the other order.
    """

    symbol: Any
    axes: Axes
    sizes: dict[str, int]
    features: tuple[str, ...] = FEATURES
    kernel: np.ndarray | None = None
    came: tuple[int, str] | None = None
    way: int | None = None
    turned: bool = False

    def place(self, axis: tuple[str, ...]) -> int | None:
        """Where an axis is."""
        return self.axes.index(axis) if axis in self.axes else None

    def regrouped(self, shape: tuple[int, ...], without: str = "") -> Value:
        """The same numbers in the same order under another shape; `without` is an atom that is gone."""
        left = [atom for axis in self.axes for atom in axis if atom != without]
        axes: Axes = []
        for n in shape:
            group: list[str] = []
            size = 1
            while left and (size < n or (n == 1 == self.sizes[left[0]] and not group)):
                size *= self.sizes[left[0]]
                group.append(left.pop(0))
            if size != n:
                raise UnfitError(f"the shape {shape} does not part the axes where they meet")
            axes.append(tuple(group))
        return replace(self, axes=axes)

    def arranged(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """An array of these axes as one of the symbol's shape."""
        atoms = [atom for axis in self.axes for atom in axis]
        order = [atom for atom in ("B", "T", *self.features) if atom in atoms]
        sizes = self.sizes | dict(zip(("B", "T") if "T" in atoms else ("B",), shape, strict=False))
        return array.reshape([sizes[atom] for atom in atoms]).transpose([atoms.index(atom) for atom in order]).reshape(shape)
