"""Image references: Docker's grammar and its normalisation ("alpine" is docker.io/library/alpine:latest).

The grammar is that of the distribution project's `reference` package:

    reference := domain "/" path [":" tag] ["@" digest]

On the hot path, therefore read by hand and not by `re`. Pure data; may import only its neighbours in `base`.
"""

from __future__ import annotations

from .. import errors
from ..record import Record
from . import digest as _digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .digest import Digest

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
OFFICIAL_PREFIX = "library/"
MAX_PATH = 255
MAX_TAG = 128

_LEGACY_DOMAIN = "index.docker.io"
_LOCALHOST = "localhost"

_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdef")
_LOWER_ALNUM = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALNUM = _LOWER_ALNUM | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_HOST = _ALNUM | frozenset("-")
_IPV6 = _HEX | frozenset("ABCDEF:")
_WORD = _ALNUM | frozenset("_")
_TAG = _WORD | frozenset(".-")


class Reference(Record):
    """A full image name.

    domain: registry host, with its port if one was given ("docker.io", "localhost:5000", "[::1]:5000").
    path: the repository in that registry ("library/alpine").
    tag: "" when there is none. digest: None when there is none. Both may be there; the digest then decides.
    """

    domain: str
    path: str
    tag: str = ""
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """The name without tag and digest: "docker.io/library/alpine"."""
        return f"{self.domain}/{self.path}"

    def __str__(self) -> str:
        """The canonical full name, which `parse` reads back."""
        return self.name + self._suffix()

    def familiar(self) -> str:
        """The short form Docker prints: without "docker.io/" and "library/".

        Where the short form would be read as something else (docker.io/localhost/x), the full name is given.
        """
        return self.familiar_name + self._suffix()

    @property
    def familiar_name(self) -> str:
        """The short form of `name`, as in the REPOSITORY column of `images`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        short = self.path
        if short.startswith(OFFICIAL_PREFIX) and "/" not in short[len(OFFICIAL_PREFIX) :]:
            short = short[len(OFFICIAL_PREFIX) :]
        if is_identifier(short) or _split_domain(short) != (self.domain, self.path):
            return self.name
        return short

    def with_default_tag(self) -> Reference:
        """The same with ":latest" when it has neither tag nor digest."""
        return self if self.tag or self.digest is not None else self.replace(tag=DEFAULT_TAG)

    def with_tag(self, tag: str) -> Reference:
        """The same name under another tag, without digest. Raises InvalidArgument for a tag that is none."""
        _check_tag(tag, f"{self.name}:{tag}")
        return Reference(self.domain, self.path, tag, None)

    def with_digest(self, digest: Digest) -> Reference:
        """The same name and tag, pinned to a digest."""
        return Reference(self.domain, self.path, self.tag, digest)

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest is not None else "")


def is_identifier(text: str) -> bool:
    """Whether text is a full image or container ID: 64 lower-case hex digits."""
    return len(text) == 64 and _HEX.issuperset(text)


def parse(text: str) -> Reference:
    """A canonical full name, exactly as `str(reference)` prints it. Raises InvalidArgument for anything else."""
    reference = parse_normalized(text)
    if str(reference) != text:
        raise errors.InvalidArgument(
            f"invalid reference {text!r}: the name must be in full", advice=f"write it as {reference}"
        )
    return reference


def parse_normalized(text: str) -> Reference:
    """What a user typed, with Docker's defaults filled in (but no default tag: see `with_default_tag`).

    Raises InvalidArgument with Docker's reasons: bad format, upper case in a repository, a name too long, 64 hex
    digits (an ID, not a name), a bad digest.
    """
    if not text:
        raise _invalid(text, "it is empty")
    if is_identifier(text):
        raise errors.InvalidArgument(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings",
            advice="this looks like an ID; give the image's name, or name@sha256:… to mean a digest",
        )
    domain, rest = _split_domain(text)
    remainder, at, digest_text = rest.partition("@")
    path, colon, tag = remainder.partition(":")
    if path.lower() != path:
        raise errors.InvalidArgument(
            f"invalid reference format: repository name ({path}) must be lowercase",
            advice=f"write it as {domain}/{path.lower()}",
        )
    if not _is_domain(domain):
        raise _invalid(text, f"{domain!r} is not a registry host")
    if not _is_path(path):
        raise _invalid(text, f"{path!r} is not a repository name" if path else "it has no repository name")
    if len(path) > MAX_PATH:
        raise errors.InvalidArgument(f"repository name must not be more than {MAX_PATH} characters: {path}")
    if colon:
        _check_tag(tag, text)
    digest = None
    if at:
        try:
            digest = _digest.parse(digest_text)
        except errors.InvalidArgument as error:
            raise _invalid(text, error.message) from error
    return Reference(domain, path, tag, digest)


def _invalid(text: str, why: str) -> errors.InvalidArgument:
    return errors.InvalidArgument(f"invalid reference format: {text!r}: {why}", advice="give [HOST/]NAME[:TAG|@DIGEST]")


def _split_domain(text: str) -> tuple[str, str]:
    """Docker's rule for what of a name is the registry: the first component, if it looks like a host."""
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, OFFICIAL_PREFIX + text
    if first == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    elif first == _LOCALHOST or "." in first or ":" in first or first.lower() != first:
        domain = first
    else:
        domain, rest = DEFAULT_DOMAIN, text
    if domain == DEFAULT_DOMAIN and "/" not in rest:
        rest = OFFICIAL_PREFIX + rest
    return domain, rest


def _is_domain(text: str) -> bool:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or not host or not _IPV6.issuperset(host):
            return False
        if not port:
            return True
        return port[0] == ":" and len(port) > 1 and _DIGITS.issuperset(port[1:])
    host, colon, port = text.partition(":")
    if colon and (not port or not _DIGITS.issuperset(port)):
        return False
    return all(label and _HOST.issuperset(label) and label[0] != "-" and label[-1] != "-" for label in host.split("."))


def _is_path(path: str) -> bool:
    return all(_is_component(component) for component in path.split("/"))


def _is_component(text: str) -> bool:
    """Runs of lower-case letters and digits, joined by ".", "_", "__" or any number of "-"."""
    if not text or text[0] not in _LOWER_ALNUM or text[-1] not in _LOWER_ALNUM:
        return False
    separator = ""
    for character in text:
        if character in _LOWER_ALNUM:
            if separator not in ("", ".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
        elif character in "._-":
            separator += character
        else:
            return False
    return True


def _check_tag(tag: str, text: str) -> None:
    if not tag or tag[0] not in _WORD or not _TAG.issuperset(tag):
        raise _invalid(text, f"{tag!r} is not a tag")
    if len(tag) > MAX_TAG:
        raise _invalid(text, f"a tag has at most {MAX_TAG} characters")
