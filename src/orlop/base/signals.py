"""Signal names and numbers, as `kill -l` and Docker spell them. May import only the interpreter's C module."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` itself brings enum

from . import errors

NUMBERS: dict[str, int] = {
    name[3:]: getattr(_signal, name)
    for name in dir(_signal)
    if name.startswith("SIG") and name[3:4] not in ("_", "") and isinstance(getattr(_signal, name), int)
}


def parse(text: str) -> int:
    """A signal from its name ("SIGTERM", "term", "RTMIN+3") or number. InvalidArgument otherwise."""
    word = text.strip().upper()
    if word.isascii() and word.isdigit():
        number = int(word)
        if 1 <= number <= 64:
            return number
    else:
        word = word.removeprefix("SIG")
        base, plus, offset = word.partition("+")
        if not plus:
            base, minus, offset = word.partition("-")
            offset = f"-{offset}" if minus else ""
        found = NUMBERS.get(base)
        if found is not None and base not in ("BLOCK", "UNBLOCK", "SETMASK"):
            if not offset:
                return int(found)
            if base in ("RTMIN", "RTMAX") and offset.lstrip("-").isdigit():
                number = int(found) + int(offset)
                if NUMBERS["RTMIN"] <= number <= NUMBERS["RTMAX"]:
                    return number
    raise errors.InvalidArgument(
        f"invalid signal: {text}", advice="use a name such as SIGTERM, or a number from 1 to 64"
    )
