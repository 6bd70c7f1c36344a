"""What both ends of the OCI distribution protocol share: routes, header names, errors and the grammar of challenges.

Sources: OCI distribution-spec 1.1; RFC 9110 (fields, challenges), RFC 8288 (Link); the distribution project's token
specification (scopes). Pure data: parses and prints, opens nothing.
"""

from __future__ import annotations

from ...base import jsonio
from ...base.oci import mediatypes
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

ROOT = "/v2"
DIGEST_HEADER = "Docker-Content-Digest"
SUBJECT_HEADER = "OCI-Subject"
FILTERS_HEADER = "OCI-Filters-Applied"
CHUNK_MIN_HEADER = "OCI-Chunk-Min-Length"
MANIFEST_TYPES = (
    mediatypes.INDEX, mediatypes.MANIFEST, mediatypes.DOCKER_LIST, mediatypes.DOCKER_MANIFEST,
)  # fmt: skip
ACCEPT_MANIFESTS = ", ".join((*MANIFEST_TYPES, "*/*;q=0.1"))
OCTETS = "application/octet-stream"
TAG_LIMIT = 128


# ---------------------------------------------------------------- routes (below the API's root, "/v2" as a rule)


def manifest_path(repository: str, reference: str) -> str:
    """reference: a tag or a digest."""
    return f"/{repository}/manifests/{reference}"


def blob_path(repository: str, digest: str) -> str:
    return f"/{repository}/blobs/{digest}"


def uploads_path(repository: str) -> str:
    return f"/{repository}/blobs/uploads/"


def tags_path(repository: str) -> str:
    return f"/{repository}/tags/list"


def referrers_path(repository: str, digest: str) -> str:
    return f"/{repository}/referrers/{digest}"


def referrers_tag(digest: str) -> str:
    """The tag that stands in for the referrers API ("Referrers Tag Schema")."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm[:32]}-{encoded[:64]}"[:TAG_LIMIT]


# ---------------------------------------------------------------- scopes


def scope(repository: str, *actions: str) -> str:
    """A token's scope: "repository:library/alpine:pull,push"."""
    return f"repository:{repository}:{','.join(actions)}"


def merge_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """One scope for each resource with all its actions, sorted, so that equal wishes are equal texts."""
    actions: dict[str, set[str]] = {}
    for text in scopes:
        for each in text.split():
            resource, colon, wanted = each.rpartition(":")
            if colon and resource:
                actions.setdefault(resource, set()).update(a for a in wanted.split(",") if a)
    return tuple(f"{resource}:{','.join(sorted(actions[resource]))}" for resource in sorted(actions))


# ---------------------------------------------------------------- challenges (RFC 9110, 11.6.1)

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TOKEN68 = frozenset("-._~+/0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_UNQUOTED = _TOKEN | frozenset("/:?=@")
"""What some registries leave unquoted in a realm although the grammar asks for quotes."""


class Challenge(Record):
    """One way to authenticate. scheme and the names of parameters are in lower case."""

    scheme: str
    parameters: dict[str, str] = {}

    def get(self, name: str) -> str:
        return self.parameters.get(name, "")

    def __str__(self) -> str:
        inner = ",".join(f'{name}="{_escape(value)}"' for name, value in self.parameters.items())
        return f"{self.scheme.capitalize()} {inner}".rstrip()


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """The challenges of WWW-Authenticate fields, several to a field or one in each.

    What cannot be understood ends that field; what came before it counts. Credentials in token68 form are dropped.
    """
    found: list[Challenge] = []
    for value in values:
        found.extend(_Challenges(value).read())
    return found


class _Challenges:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self) -> list[Challenge]:
        found: list[Challenge] = []
        while True:
            self._skip(" \t,")
            scheme = self._take(_TOKEN)
            if not scheme:
                return found
            self._skip(" \t")
            parameters = {} if self._skip_token68() else self._parameters()
            found.append(Challenge(scheme.lower(), parameters))

    def _parameters(self) -> dict[str, str]:
        """Pairs until a new scheme begins, the field ends, or something is no pair."""
        parameters: dict[str, str] = {}
        while True:
            start = self._at
            name = self._take(_TOKEN)
            self._skip(" \t")
            if not name or not self._accept("="):
                self._at = start
                return parameters
            self._skip(" \t")
            value = self._quoted() if self._peek() == '"' else self._take(_UNQUOTED)
            if value is None:
                return parameters
            parameters.setdefault(name.lower(), value)
            self._skip(" \t")
            if self._peek() != ",":
                return parameters
            self._skip(" \t,")

    def _skip_token68(self) -> bool:
        start = self._at
        if self._take(_TOKEN68):
            self._skip("=")
            self._skip(" \t")
            if self._peek() in ",\0":
                return True
        self._at = start
        return False

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else "\0"

    def _accept(self, character: str) -> bool:
        if self._peek() != character:
            return False
        self._at += 1
        return True

    def _skip(self, characters: str) -> None:
        while self._at < len(self._text) and self._text[self._at] in characters:
            self._at += 1

    def _take(self, characters: frozenset[str]) -> str:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] in characters:
            self._at += 1
        return self._text[start : self._at]

    def _quoted(self) -> str | None:
        self._at += 1
        out: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            self._at += 1
            if character == '"':
                return "".join(out)
            if character == "\\" and self._at < len(self._text):
                character = self._text[self._at]
                self._at += 1
            out.append(character)
        return None


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


# ---------------------------------------------------------------- errors (distribution-spec, "Error Codes")


class RemoteError(Record):
    """One entry of an error body."""

    code: str
    message: str = ""
    detail: str = ""

    def __str__(self) -> str:
        text = f"{self.code}: {self.message}" if self.message else self.code
        return f"{text} ({self.detail})" if self.detail else text


def parse_errors(body: bytes) -> list[RemoteError]:
    """The entries of an error body; also of the two shapes that token servers and proxies answer with. [] if none."""
    try:
        value = jsonio.loads(body)
    except ValueError:
        return []
    if not isinstance(value, dict):
        return []
    found: list[RemoteError] = []
    entries = value.get("errors")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and (entry.get("code") or entry.get("message")):
            detail = entry.get("detail")
            found.append(
                RemoteError(
                    one_line(entry.get("code") or "ERROR"),
                    one_line(entry.get("message") or ""),
                    one_line(detail) if isinstance(detail, str) else "",
                )
            )
    if not found:  # {"details": "…"} (a token server), {"error": "invalid_grant", "error_description": "…"} (OAuth2)
        message = value.get("error_description") or value.get("details") or value.get("message")
        code = value.get("error")
        if isinstance(code, str) and code:
            found.append(RemoteError(one_line(code), one_line(message or "")))
        elif isinstance(message, str) and message:
            found.append(RemoteError(one_line(message)))
    return found


def error_body(*entries: RemoteError) -> bytes:
    """An error body that `parse_errors` reads back."""
    out: list[dict[str, Any]] = []
    for entry in entries:
        item: dict[str, Any] = {"code": entry.code, "message": entry.message}
        if entry.detail:
            item["detail"] = entry.detail
        out.append(item)
    return jsonio.dump_bytes({"errors": out})


def one_line(value: object, limit: int = 300) -> str:
    """Foreign text as it may stand in a message: one line, no control characters, not endless."""
    text = " ".join(str(value).split())
    text = "".join(c if c.isprintable() else "?" for c in text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


# ---------------------------------------------------------------- fields


def parse_next_link(values: Iterable[str]) -> str:
    """The target of the Link with rel=next (RFC 8288), or ""."""
    for value in values:
        rest = value
        while True:
            _, opening, rest = rest.partition("<")
            if not opening:
                break
            target, closing, rest = rest.partition(">")
            if not closing:
                break
            parameters, _, _ = rest.partition("<")
            for parameter in parameters.replace(",", ";").split(";"):
                name, _, given = parameter.partition("=")
                if name.strip().lower() == "rel" and "next" in given.strip().strip('"').lower().split():
                    return target
    return ""


def parse_content_range(value: str) -> tuple[int, int, int] | None:
    """(first, last, total) of "bytes 0-99/1234"; total is -1 for "*". None when it is something else."""
    unit, _, rest = value.strip().partition(" ")
    span, slash, total = rest.strip().partition("/")
    first, dash, last = span.partition("-")
    if unit.lower() != "bytes" or not slash or not dash or not _is_number(first) or not _is_number(last):
        return None
    if total != "*" and not _is_number(total):
        return None
    start, end, size = int(first), int(last), -1 if total == "*" else int(total)
    if start > end or (size >= 0 and end >= size):
        return None
    return start, end, size


def parse_upload_range(value: str) -> int:
    """How many bytes of an upload have arrived, by its Range field ("0-1023" → 1024).

    "0-0" is what registries answer both for no byte and for one; it is read as none. -1 when there is no such field.
    """
    value = value.strip()
    if value.lower().startswith("bytes="):
        value = value[6:]
    first, dash, last = value.partition("-")
    if not dash or first != "0" or not _is_number(last):
        return -1
    return 0 if last == "0" else int(last) + 1


def parse_retry_after(value: str, now: float) -> float | None:
    """Seconds to wait (RFC 9110, 10.2.3: a number or a date), or None. now: seconds since the epoch."""
    value = value.strip()
    if _is_number(value):
        return float(value)
    if not value:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None


def media_type(value: str) -> str:
    """A Content-Type without its parameters, in lower case."""
    return value.partition(";")[0].strip().lower()


def is_token(text: str) -> bool:
    """Whether text can be a field's name (RFC 9110, 5.6.2)."""
    return bool(text) and _TOKEN.issuperset(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
