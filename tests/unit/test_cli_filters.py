"""`--filter` of lists: grammar, patterns, labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orlop.base import errors
from orlop.doors.cli import filters


def test_filters_are_grouped_by_key_in_order() -> None:
    assert filters.grouped(["a=1", "b=x=y", "A = 2"], ("a", "b")) == {"a": ["1", "2"], "b": ["x=y"]}


@pytest.mark.parametrize(("text", "what"), [("a", "it has no '='"), ("c=1", "invalid filter 'c'")])
def test_a_filter_that_is_none_is_told_with_what_there_is(text: str, what: str) -> None:
    with pytest.raises(errors.UsageError, match=what) as caught:
        filters.grouped([text], ("a", "b"))
    assert caught.value.advice


def test_every_label_that_is_wanted_must_be_there() -> None:
    labels = {"a": "1", "b": ""}
    assert filters.has_labels(labels, ["a", "b"])
    assert filters.has_labels(labels, ["a=1", "b="])
    assert not filters.has_labels(labels, ["a=1", "c"])
    assert not filters.has_labels(labels, ["a="])


def test_truth_is_the_last_value_and_nothing_else_than_true_or_false() -> None:
    assert filters.truth("dangling", ["false", "TRUE"])
    assert not filters.truth("dangling", ["1", "0"])
    with pytest.raises(errors.UsageError, match="dangling=maybe"):
        filters.truth("dangling", ["maybe"])


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("busy*", "busybox", True),
        ("*", "busybox", True),
        ("*", "team/busybox", False),
        ("*/busybox", "team/busybox", True),
        ("b?sy", "busy", True),
        ("b?sy", "b/sy", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[!]x", "!x", True),
        (r"a\*b", "a*b", True),
        (r"a\*b", "axb", False),
        ("a.b", "axb", False),
        ("a+", "a+", True),
    ],
)
def test_patterns_keep_within_one_part_of_a_path(pattern: str, text: str, matches: bool) -> None:
    assert bool(filters.glob(pattern).fullmatch(text)) is matches


@given(st.text(max_size=12))
def test_any_pattern_is_understood_or_refused(pattern: str) -> None:
    try:
        compiled = filters.glob(pattern)
    except errors.UsageError:
        return
    compiled.fullmatch("some/name:tag")


@given(st.text(alphabet=st.characters(exclude_characters="*?[\\"), max_size=12))
def test_a_pattern_without_wildcards_matches_itself_only(text: str) -> None:
    assert filters.glob(text).fullmatch(text)
    assert not filters.glob(text).fullmatch(text + "x")


def test_a_regular_expression_that_is_none_is_refused() -> None:
    assert filters.patterns("name", ["^a"])[0].search("abc")
    with pytest.raises(errors.UsageError, match="invalid filter 'name'"):
        filters.patterns("name", ["["])
