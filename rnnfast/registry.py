"""Names for objects: one closed table a kind, from which strings and saved configurations are resolved.

Nothing is ever imported by name, so a file can only ask for what stands in a table.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from rnnfast.errors import suggest

__all__ = ["Registry"]

T = TypeVar("T")


def _key(name: str) -> str:
    return name.replace("_", "").lower()


class Registry(Generic[T]):
    """The known classes of one kind, by name, alias and class name; case and underscores do not matter.

    Parameters
    ----------
    kind : str
        What the objects are called in errors, as in ``"optimizer"``.
    table : mapping of str to type
        Names in the form a user writes them, several for one class where it has aliases.
    """

    def __init__(self, kind: str, table: Mapping[str, type[T]]) -> None:
        self.kind = kind
        self.table = dict(table)
        self._by_key = {_key(cls.__name__): cls for cls in table.values()}
        self._by_key |= {_key(name): cls for name, cls in table.items()}

    def find(self, name: str) -> type[T]:
        """Return the class called `name`; raise ValueError with the nearest known name when there is none."""
        try:
            return self._by_key[_key(name)]
        except KeyError:
            raise ValueError(f"Unknown {self.kind} {name!r}. {suggest(name, self.table)}") from None

    def serialize(self, obj: Any) -> dict[str, Any] | None:
        """Return ``{"class_name", "config"}``, from which :meth:`deserialize` makes an equal object."""
        if obj is None:
            return None
        known: Any = self._by_key.get(_key(type(obj).__name__))
        if known is not type(obj):
            raise ValueError(f"{self.kind} {obj!r} cannot be saved: only those of this package can. {self._known()}")
        return {"class_name": type(obj).__name__, "config": obj.get_config()}

    def deserialize(self, config: Any) -> T:
        """Make the object that `config`, a mapping with ``class_name`` and ``config``, describes."""
        if not isinstance(config, Mapping) or not isinstance(config.get("class_name"), str):
            raise ValueError(f"{self.kind}: config must be a dict with 'class_name' and 'config', got {config!r}.")
        cls: Any = self.find(config["class_name"])
        try:
            made: T = cls.from_config(dict(config.get("config") or {}))
        except TypeError as error:
            raise ValueError(f"{self.kind} {config['class_name']!r}: config does not fit: {error}.") from error
        return made

    def get(self, identifier: Any) -> Any:
        """Return the object for a name, a class, a config, an object or callable (returned as it is) or None."""
        if identifier is None:
            return None
        if isinstance(identifier, str):
            return self.find(identifier)()
        if isinstance(identifier, Mapping):
            return self.deserialize(identifier)
        if inspect.isclass(identifier):
            return identifier()
        if callable(identifier) or isinstance(identifier, tuple(self.table.values())):
            return identifier
        raise ValueError(
            f"{self.kind} must be a name, an object, a config dict or a callable, got {identifier!r}. {self._known()}"
        )

    def _known(self) -> str:
        return suggest("", self.table)
