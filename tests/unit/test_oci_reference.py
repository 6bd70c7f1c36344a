"""Docker's reference grammar and normalisation, rule by rule."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.base.oci import digest, reference
from orlop.base.oci.reference import Reference

SHA = "sha256:" + "0123456789abcdef" * 4
SHA512 = "sha512:" + "0123456789abcdef" * 8
HEX64 = "0123456789abcdef" * 4

NORMALIZED = [
    # typed, canonical, familiar
    ("alpine", "docker.io/library/alpine", "alpine"),
    ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
    ("library/alpine", "docker.io/library/alpine", "alpine"),
    ("docker.io/alpine", "docker.io/library/alpine", "alpine"),
    ("docker.io/library/alpine", "docker.io/library/alpine", "alpine"),
    ("index.docker.io/alpine:edge", "docker.io/library/alpine:edge", "alpine:edge"),
    ("index.docker.io/library/alpine", "docker.io/library/alpine", "alpine"),
    ("grafana/grafana", "docker.io/grafana/grafana", "grafana/grafana"),
    ("docker.io/grafana/grafana", "docker.io/grafana/grafana", "grafana/grafana"),
    ("a/b/c", "docker.io/a/b/c", "a/b/c"),
    ("library/a/b", "docker.io/library/a/b", "library/a/b"),
    ("quay.io/podman/hello", "quay.io/podman/hello", "quay.io/podman/hello"),
    ("quay.io/hello", "quay.io/hello", "quay.io/hello"),
    ("localhost/x", "localhost/x", "localhost/x"),
    ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
    ("host:5000/x", "host:5000/x", "host:5000/x"),
    ("host:5000/x/y/z:t", "host:5000/x/y/z:t", "host:5000/x/y/z:t"),
    ("Host/x", "Host/x", "Host/x"),
    ("xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com/myimage:xn--n3h.com"),
    ("127.0.0.1:5000/a", "127.0.0.1:5000/a", "127.0.0.1:5000/a"),
    ("[::1]/a", "[::1]/a", "[::1]/a"),
    ("[2001:DB8::1]:443/a/b:c", "[2001:DB8::1]:443/a/b:c", "[2001:DB8::1]:443/a/b:c"),
    ("foo:5000", "docker.io/library/foo:5000", "foo:5000"),
    ("a_b", "docker.io/library/a_b", "a_b"),
    ("a__b", "docker.io/library/a__b", "a__b"),
    ("a.b", "docker.io/library/a.b", "a.b"),
    ("a---b", "docker.io/library/a---b", "a---b"),
    ("foo/a.b-c__d_e", "docker.io/foo/a.b-c__d_e", "foo/a.b-c__d_e"),
    ("alpine:_", "docker.io/library/alpine:_", "alpine:_"),
    ("alpine:V1.0-x_Y", "docker.io/library/alpine:V1.0-x_Y", "alpine:V1.0-x_Y"),
    (f"alpine@{SHA}", f"docker.io/library/alpine@{SHA}", f"alpine@{SHA}"),
    (f"alpine:3@{SHA}", f"docker.io/library/alpine:3@{SHA}", f"alpine:3@{SHA}"),
    (f"quay.io/a/b@{SHA512}", f"quay.io/a/b@{SHA512}", f"quay.io/a/b@{SHA512}"),
    (f"{HEX64}:tag", f"docker.io/library/{HEX64}:tag", f"docker.io/library/{HEX64}:tag"),
    (f"a/{HEX64}", f"docker.io/a/{HEX64}", f"a/{HEX64}"),
    (f"{HEX64[:-1]}", f"docker.io/library/{HEX64[:-1]}", f"{HEX64[:-1]}"),
    # A short form that would be read as a registry is not used.
    ("docker.io/localhost/x", "docker.io/localhost/x", "docker.io/localhost/x"),
    ("docker.io/foo.bar/x", "docker.io/foo.bar/x", "docker.io/foo.bar/x"),
]

INVALID = [
    "",
    ":",
    ":tag",
    "@" + SHA,
    "/",
    "/a",
    "a/",
    "a//b",
    "-a",
    "a-",
    "_a",
    "a_",
    ".a",
    "a.",
    "a___b",
    "a..b",
    "a._b",
    "a-_b",
    "a/-b",
    "a/b-/c",
    "ä",
    "a b",
    " a",
    "a\n",
    "a:",
    "a:-t",
    "a:.t",
    "a:t/u",
    "a:b/c",
    "a:t:u",
    "a:tä",
    "https://docker.io/alpine",
    "docker.io/",
    "-host.com/a",
    "host-.com/a",
    "host..com/a",
    "ho_st.com/a",
    "host:/a",
    "host:port/a",
    "[::1/a:b",
    "[::g]/a",
    "[]:50/a",
    "[::1]5000/a",
    "[::1]:/a",
    "[fe80::1%eth0]/a",
    "a@",
    "a@sha256:abc",
    "a@md5:" + "0" * 32,
    "a@" + SHA.upper(),
    "a@" + SHA[:-1] + "G",
    "a@" + SHA + ":tag",
    f"a@{SHA}@{SHA}",
]


@pytest.mark.parametrize(("typed", "canonical", "familiar"), NORMALIZED)
def test_typed_names_are_filled_in_and_shortened_as_docker_does(typed: str, canonical: str, familiar: str) -> None:
    ref = reference.parse_normalized(typed)
    assert str(ref) == canonical
    assert ref.familiar() == familiar
    assert reference.parse(canonical) == ref
    assert reference.parse_normalized(familiar) == ref


@pytest.mark.parametrize("text", INVALID)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid reference format") as caught:
        reference.parse_normalized(text)
    assert "\n" not in caught.value.message


def test_parts_are_told_apart() -> None:
    ref = reference.parse_normalized(f"host:5000/a/b:t@{SHA}")
    assert (ref.domain, ref.path, ref.tag, ref.digest) == ("host:5000", "a/b", "t", SHA)
    assert ref.name == "host:5000/a/b"
    assert isinstance(ref.digest, digest.Digest)


def test_the_strict_form_takes_only_the_full_name() -> None:
    for short in ("alpine", "library/alpine", "docker.io/alpine", "index.docker.io/library/alpine:3"):
        with pytest.raises(errors.InvalidArgument, match="must be in full") as caught:
            reference.parse(short)
        assert "docker.io/library/alpine" in caught.value.advice


@pytest.mark.parametrize(
    ("text", "name", "advice"),
    [
        ("Alpine", "library/Alpine", "docker.io/library/alpine"),
        ("foo/Bar:Tag", "foo/Bar", "docker.io/foo/bar"),
        ("quay.io/Foo/bar", "Foo/bar", "quay.io/foo/bar"),
        ("Foo/Foo", "Foo", "Foo/foo"),
    ],
)
def test_upper_case_in_a_repository_is_refused_with_the_remedy(text: str, name: str, advice: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        reference.parse_normalized(text)
    assert caught.value.message == f"invalid reference format: repository name ({name}) must be lowercase"
    assert caught.value.advice == f"write it as {advice}"


def test_an_id_is_not_a_name() -> None:
    with pytest.raises(errors.InvalidArgument, match="cannot specify 64-byte hexadecimal strings"):
        reference.parse_normalized(HEX64)
    assert reference.is_identifier(HEX64)
    assert not reference.is_identifier(HEX64.upper())
    assert not reference.is_identifier(HEX64[:-1])


def test_lengths_are_limited() -> None:
    assert reference.parse_normalized("a" * 247).path == "library/" + "a" * 247
    with pytest.raises(errors.InvalidArgument, match="must not be more than 255 characters"):
        reference.parse_normalized("a" * 248)
    assert reference.parse_normalized("host.example/" + "a" * 255)
    with pytest.raises(errors.InvalidArgument, match="255"):
        reference.parse_normalized("host.example/" + "a" * 256)
    assert reference.parse_normalized("a:" + "t" * 128).tag == "t" * 128
    with pytest.raises(errors.InvalidArgument, match="128"):
        reference.parse_normalized("a:" + "t" * 129)


def test_the_default_tag_is_only_for_a_bare_name() -> None:
    assert str(reference.parse_normalized("alpine").with_default_tag()) == "docker.io/library/alpine:latest"
    assert reference.parse_normalized("alpine:3").with_default_tag().tag == "3"
    assert reference.parse_normalized(f"alpine@{SHA}").with_default_tag().tag == ""


def test_a_reference_is_retagged_and_pinned() -> None:
    ref = reference.parse_normalized(f"alpine:3@{SHA}")
    assert str(ref.with_tag("4")) == "docker.io/library/alpine:4"
    assert str(ref.with_tag("4").with_digest(digest.parse(SHA))) == f"docker.io/library/alpine:4@{SHA}"
    with pytest.raises(errors.InvalidArgument):
        ref.with_tag("-")
    assert ref.familiar_name == "alpine"


_component = st.from_regex(r"[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True)
_host = st.one_of(
    st.sampled_from(["docker.io", "localhost", "quay.io", "[::1]", "[fe80::2]:80", "HOST"]),
    st.from_regex(r"[a-zA-Z0-9]{1,6}\.[a-z]{1,4}(:[0-9]{1,5})?", fullmatch=True),
    st.from_regex(r"[a-z]{1,8}:[0-9]{1,5}", fullmatch=True),
)


@st.composite
def _references(draw: st.DrawFn) -> Reference:
    domain = draw(_host)
    components = draw(st.lists(_component, min_size=2 if domain == "docker.io" else 1, max_size=4))
    tag = draw(st.one_of(st.just(""), st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)))
    pinned = draw(st.sampled_from([None, digest.parse(SHA), digest.parse(SHA512)]))
    return Reference(domain, "/".join(components), tag, pinned)


@settings(max_examples=200, deadline=None)
@given(_references())
def test_every_reference_is_read_back_from_each_of_its_forms(ref: Reference) -> None:
    assert reference.parse(str(ref)) == ref
    assert reference.parse_normalized(ref.familiar()) == ref


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="aB0.:/@-_[]ä \n", max_size=14))
def test_any_text_is_a_reference_or_an_invalid_argument(text: str) -> None:
    try:
        ref = reference.parse_normalized(text)
    except errors.InvalidArgument:
        return
    assert reference.parse(str(ref)) == ref


def test_the_hot_modules_import_nothing_dear() -> None:
    dear = ("typing", "dataclasses", "enum", "re", "json", "hashlib", "logging", "datetime", "functools", "contextlib")
    code = (
        "import sys; before = set(sys.modules)\n"
        "from orlop.base.oci import reference, platform, manifest, config\n"
        f"print(sorted(set({dear!r}) & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", _with_path(code)], capture_output=True, text=True, timeout=30)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def _with_path(code: str) -> str:
    import os

    import orlop

    return f"import sys; sys.path.insert(0, {os.path.dirname(os.path.dirname(orlop.__file__))!r})\n{code}"
