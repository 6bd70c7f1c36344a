"""What several tables share: labels as JSON, and changing them by field paths."""

from __future__ import annotations

from ...base import errors, jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_LABEL_BYTES = 4096
"""Key and value of a label together (containerd's limit)."""


def dump_labels(labels: Mapping[str, str] | None) -> str:
    """Labels as JSON. InvalidArgument for one that is too long or not text."""
    for key, value in (labels or {}).items():
        if not isinstance(key, str) or not isinstance(value, str) or not key:
            raise errors.InvalidArgument(f"label {key!r}={value!r} is not text")
        if len(key.encode()) + len(value.encode()) > MAX_LABEL_BYTES:
            raise errors.InvalidArgument(f"label {key[:64]!r}: key and value exceed {MAX_LABEL_BYTES} bytes")
    return jsonio.dumps(dict(labels or {}), sort_keys=True)


def load_labels(text: str) -> dict[str, str]:
    """Labels from JSON."""
    return jsonio.loads(text) if text != "{}" else {}


def change_labels(have: Mapping[str, str], wanted: Mapping[str, str], fields: Sequence[str]) -> dict[str, str]:
    """Labels after an update: all of them without fields, else only "labels" or "labels.KEY" ones.

    An empty value removes a label. InvalidArgument for a field that is not about labels.
    """
    if not fields or "labels" in fields:
        return {key: value for key, value in wanted.items() if value != ""}
    out = dict(have)
    for field in fields:
        if not field.startswith("labels."):
            raise errors.InvalidArgument(f"cannot update field {field!r}")
        key = field[len("labels.") :]
        value = wanted.get(key, "")
        if value:
            out[key] = value
        else:
            out.pop(key, None)
    return out
