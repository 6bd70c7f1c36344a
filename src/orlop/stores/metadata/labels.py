"""Labels as every table keeps them: a JSON object of strings, checked as containerd checks them. May touch no file.

Source: containerd pkg/labels/validate.go (a key and its value take 4096 bytes at most) and the field masks of its
Update calls ("labels", "labels.KEY"; an empty value removes the label).
"""

from __future__ import annotations

from ...base import errors, jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_BYTES = 4096
_PREFIX = "labels."


def check(labels: Mapping[str, str]) -> None:
    """InvalidArgument when a key is empty, something is not text, or a key and its value exceed 4096 bytes."""
    for key, value in labels.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise errors.InvalidArgument(f"label {key!r}: keys and values are text")
        if not key:
            raise errors.InvalidArgument("a label has an empty key")
        if len(key) + len(value) > MAX_BYTES // 4 and _length(key) + _length(value) > MAX_BYTES:
            raise errors.InvalidArgument(f"label {key[:64]!r}: key and value are longer than {MAX_BYTES} bytes")


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def dump(labels: Mapping[str, str] | None) -> str:
    """Checked labels as the column holds them; a label with an empty value is left out."""
    if not labels:
        return "{}"
    check(labels)
    return jsonio.dumps({key: value for key, value in labels.items() if value}, sort_keys=True, ascii_only=True)


def load(column: str) -> dict[str, str]:
    """What `dump` made."""
    if column == "{}":
        return {}
    found: dict[str, str] = jsonio.loads(column)
    return found


def changed(old: Mapping[str, str], new: Mapping[str, str], fields: Sequence[str] = ()) -> dict[str, str]:
    """The labels after an update: `new` in place of all of `old`, or only the labels that `fields` names.

    fields: "labels" (all) or "labels.KEY". An empty or missing value removes the label. InvalidArgument for any other
    field.
    """
    if not fields or "labels" in fields:
        return {key: value for key, value in new.items() if value}
    result = dict(old)
    for field in fields:
        if not field.startswith(_PREFIX) or field == _PREFIX:
            raise errors.InvalidArgument(f"cannot update field {field!r}", advice='use "labels" or "labels.KEY"')
        key = field[len(_PREFIX) :]
        value = new.get(key, "")
        if value:
            result[key] = value
        else:
            result.pop(key, None)
    return result
