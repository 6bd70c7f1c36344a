"""The grammar both ends of the distribution protocol share."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.services.registry import protocol
from orlop.services.registry.protocol import Challenge, RemoteError

TOKEN = st.text(string.ascii_lowercase + string.digits + "-_", min_size=1, max_size=12)


def test_docker_hubs_challenge_is_read():
    value = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"'
    assert protocol.parse_challenges([value]) == [
        Challenge(
            "bearer",
            {
                "realm": "https://auth.docker.io/token",
                "service": "registry.docker.io",
                "scope": "repository:a/b:pull,push",
            },
        )
    ]


@pytest.mark.parametrize(
    ("field", "schemes"),
    [
        ('Basic realm="x"', ["basic"]),
        ("Basic", ["basic"]),
        ('Basic realm="x", Bearer realm="y",service="z"', ["basic", "bearer"]),
        ('Negotiate, Basic realm="x"', ["negotiate", "basic"]),
        ('Negotiate abc/def==, Basic realm="x"', ["negotiate", "basic"]),
        ('BEARER realm = "x" , service="y"', ["bearer"]),
        ("Bearer realm=https://host:1/token", ["bearer"]),
        (', , Basic realm="x",', ["basic"]),
        ("", []),
        ('Bearer realm="never closed', ["bearer"]),
        ("@@@", []),
    ],
)
def test_challenges_of_every_shape_are_read(field, schemes):
    assert [c.scheme for c in protocol.parse_challenges([field])] == schemes


def test_parameters_belong_to_their_own_challenge():
    basic, bearer = protocol.parse_challenges(['Basic realm="a, \\"b\\"", Bearer realm="c", service=d'])
    assert basic.parameters == {"realm": 'a, "b"'}
    assert bearer.parameters == {"realm": "c", "service": "d"}


def test_several_fields_count_together():
    assert len(protocol.parse_challenges(['Basic realm="x"', 'Bearer realm="y"'])) == 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            TOKEN.filter(str.isalpha),
            st.dictionaries(TOKEN, st.text(st.characters(min_codepoint=32, max_codepoint=126)), min_size=1, max_size=3),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_printed_challenges_read_back(items):
    challenges = [Challenge(scheme, parameters) for scheme, parameters in items]
    assert protocol.parse_challenges([", ".join(map(str, challenges))]) == challenges


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_no_text_breaks_the_parsers(text):
    protocol.parse_challenges([text])
    protocol.parse_next_link([text])
    protocol.parse_content_range(text)
    protocol.parse_upload_range(text)
    protocol.parse_errors(text.encode("utf-8", "replace"))
    protocol.parse_retry_after(text, 0.0)
    protocol.merge_scopes([text])


def test_scopes_of_one_repository_become_one():
    scopes = ["repository:b:push", "repository:a:pull", "repository:b:pull", "registry:catalog:*", "nonsense"]
    assert protocol.merge_scopes(scopes) == ("registry:catalog:*", "repository:a:pull", "repository:b:pull,push")


def test_error_bodies_read_back():
    entries = [RemoteError("MANIFEST_UNKNOWN", "manifest unknown", "no tag x"), RemoteError("DENIED", "no")]
    assert protocol.parse_errors(protocol.error_body(*entries)) == entries
    assert str(entries[0]) == "MANIFEST_UNKNOWN: manifest unknown (no tag x)"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"details":"incorrect username or password"}', "incorrect username or password"),
        (b'{"error":"invalid_grant","error_description":"expired"}', "invalid_grant: expired"),
        (
            b'{"errors":[{"code":"DENIED","message":"two\\nlines\\u001b[31m","detail":{"a":1}}]}',
            "DENIED: two lines?[31m",
        ),
        (b'{"message":"Not Found"}', "Not Found"),
    ],
)
def test_other_shapes_of_errors_are_told_in_one_clean_line(body, text):
    assert [str(e) for e in protocol.parse_errors(body)] == [text]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"errors": 3}', b'{"errors": [3, {}]}'])
def test_bodies_without_errors_give_none(body):
    assert protocol.parse_errors(body) == []


@pytest.mark.parametrize(
    ("field", "target"),
    [
        ('</v2/a/tags/list?n=2&last=b>; rel="next"', "/v2/a/tags/list?n=2&last=b"),
        ('<x>; rel="prev", <y,z>; title="t"; rel=next', "y,z"),
        ("<x>; rel=previous", ""),
        ("x; rel=next", ""),
        ("<x; rel=next", ""),
    ],
)
def test_next_links(field, target):
    assert protocol.parse_next_link([field]) == target


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bytes 0-99/100", (0, 99, 100)),
        ("bytes 5-9/*", (5, 9, -1)),
        ("bytes 9-5/100", None),
        ("bytes 0-100/100", None),
        ("bytes */100", None),
        ("items 0-1/2", None),
    ],
)
def test_content_ranges(field, value):
    assert protocol.parse_content_range(field) == value


@pytest.mark.parametrize(("field", "value"), [("0-1023", 1024), ("bytes=0-9", 10), ("0-0", 0), ("", -1), ("5-9", -1)])
def test_upload_ranges_tell_how_much_arrived(field, value):
    assert protocol.parse_upload_range(field) == value


def test_retry_after_is_a_number_or_a_date():
    assert protocol.parse_retry_after("7", 0) == 7
    assert protocol.parse_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 10.0) == 50
    assert protocol.parse_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 100.0) == 0
    assert protocol.parse_retry_after("soon", 0) is None


def test_the_referrers_tag_is_the_specifications():
    assert protocol.referrers_tag("sha256:" + "a" * 64) == "sha256-" + "a" * 64
    assert protocol.referrers_tag("sha512:" + "a" * 128) == "sha512-" + "a" * 64
