"""The identifiers of containerd: what may name a namespace, a container, a lease. Pure.

They become names of directories, so no identifier can lead out of one. Source: containerd pkg/identifiers.
"""

from __future__ import annotations

from ...base import errors

MAX_LENGTH = 76
_ALPHANUMERIC = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_SEPARATORS = frozenset("._-")


def check(text: str, what: str) -> None:
    """InvalidArgument unless text is alphanumeric words joined by single ".", "_" or "-", 76 characters at most.

    what: the kind of thing it names, for the message ("container id").
    """
    wrong = ""
    if not text:
        wrong = "it is empty"
    elif len(text) > MAX_LENGTH:
        wrong = f"it is longer than {MAX_LENGTH} characters"
    elif text[0] in _SEPARATORS or text[-1] in _SEPARATORS:
        wrong = f"it begins or ends with a separator ({text[0] if text[0] in _SEPARATORS else text[-1]!r})"
    else:
        before = ""
        for character in text:
            if character not in _ALPHANUMERIC and (character not in _SEPARATORS or before in _SEPARATORS):
                wrong = f"{character!r} cannot stand there"
                break
            before = character
    if wrong:
        raise errors.InvalidArgument(
            f"invalid {what} {text[:100]!r}: {wrong}", advice='use letters, digits, and single ".", "_", "-" inside'
        )
