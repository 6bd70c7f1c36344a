"""Immutable value types that cost nothing to import.

`Record` is the one record idiom of Orlop's hot path (DESIGN §1.6): `dataclasses` takes 14 ms to import, which is
longer than a container takes to start. A subclass lists annotated fields; it gets slots, an initialiser that takes
them by position or name, equality, hashing, a repr and `replace`. Type checkers see a frozen dataclass.

May import nothing outside the interpreter's core.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_):
        return lambda cls: cls


_set = object.__setattr__


def _fresh(value: Any) -> Any:
    """A default that is a mutable container is copied, so that two records never share it."""
    return value.copy() if isinstance(value, (dict, list, set)) else value


@dataclass_transform(frozen_default=True)
class _RecordType(type):
    _fields: tuple[str, ...]
    _defaults: dict[str, Any]

    def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> _RecordType:
        own = tuple(f for f in body.get("__annotations__", {}) if not f.startswith("_"))
        fields: tuple[str, ...] = ()
        defaults: dict[str, Any] = {}
        for base in bases:
            fields += getattr(base, "_fields", ())
            defaults.update(getattr(base, "_defaults", {}))
        defaults.update({f: body.pop(f) for f in own if f in body})
        body["__slots__"] = own
        body["_fields"] = fields + tuple(f for f in own if f not in fields)
        body["_defaults"] = defaults
        return super().__new__(mcs, name, bases, body)


class Record(metaclass=_RecordType):
    """Base of immutable value types; see the module's docstring."""

    if TYPE_CHECKING:
        _fields: ClassVar[tuple[str, ...]]
        _defaults: ClassVar[dict[str, Any]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        fields = self._fields
        if len(args) > len(fields):
            raise TypeError(f"{type(self).__name__} takes {len(fields)} values, got {len(args)}")
        for name, value in zip(fields, args):
            if name in kwargs:
                raise TypeError(f"{type(self).__name__} got two values for {name!r}")
            _set(self, name, value)
        defaults = self._defaults
        for name in fields[len(args) :]:
            if name in kwargs:
                _set(self, name, kwargs.pop(name))
            elif name in defaults:
                _set(self, name, _fresh(defaults[name]))
            else:
                raise TypeError(f"{type(self).__name__} lacks {name!r}")
        if kwargs:
            raise TypeError(f"{type(self).__name__} has no field {next(iter(kwargs))!r}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; use replace({name}=…)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, f) == getattr(other, f) for f in self._fields)

    def __hash__(self) -> int:
        return hash((type(self), *(_hashable(getattr(self, f)) for f in self._fields)))

    def __repr__(self) -> str:
        inner = ", ".join(f"{f}={getattr(self, f)!r}" for f in self._fields)
        return f"{type(self).__name__}({inner})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), tuple(getattr(self, f) for f in self._fields))

    def replace(self, **changes: Any) -> Self:
        """The same record with the named fields changed."""
        values = {f: getattr(self, f) for f in self._fields}
        values.update(changes)
        return type(self)(**values)

    def as_dict(self) -> dict[str, Any]:
        """Field name → value, in the order of declaration (shallow)."""
        return {f: getattr(self, f) for f in self._fields}


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(sorted((k, _hashable(v)) for k, v in value.items()))
    if isinstance(value, list):
        return tuple(_hashable(v) for v in value)
    return value
