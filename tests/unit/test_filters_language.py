"""containerd's filter language."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.stores.metadata import filters

LABELS = {"a": "1", "containerd.io/gc.root": "yes", "with space": "x", "empty": "", "dotted.key": "v"}
FIELDS = {"name": "docker.io/library/alpine:3.20", "id": "abc", "runtime.name": "crun", "nothing": ""}


def fits(*texts: str) -> bool:
    return filters.compile(*texts)(filters.fields(FIELDS, LABELS))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name==docker.io/library/alpine:3.20",
        'name=="docker.io/library/alpine:3.20"',
        "name!=other",
        "nothing!=other",  # a field that is missing is not equal
        "name~=alpine",
        "name~=^docker.io/",
        r"name~=/library\/alpine/",
        "name~=|^docker[.]io/[a-z/]+:3[.]|",
        'name~="alpine:[0-9.]+$"',
        "id==abc,runtime.name==crun",
        'labels."containerd.io/gc.root"',
        'labels."containerd.io/gc.root"==yes',
        "labels.a==1",
        "labels.dotted.key==v",
        'labels."dotted.key"==v',
        'labels."with space"==x',
        "labels.empty",  # present, though it holds nothing
        'labels.empty==""',
        r'id=="\x61\142\u0063"',
        r'id=="\U00000061bc"',
        "id == abc",
        " id==abc , runtime.name == crun ",
    ],
)
def test_it_fits(text: str) -> None:
    assert fits(text)


@pytest.mark.parametrize(
    "text",
    [
        "missing",
        "nothing",
        "labels.none",
        "labels",
        "id==abcd",
        "id!=abc",
        "missing~=a*",
        "id==abc,name==other",
        "name~=^alpine",
        'labels."a.b"',
        'id=="ABC"',
    ],
)
def test_it_does_not_fit(text: str) -> None:
    assert not fits(text)


def test_any_of_several_filters_is_enough_and_none_fits_everything() -> None:
    assert fits("id==x", "id==abc")
    assert not fits("id==x", "id==y")
    assert fits()
    assert fits("id==x", "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("==x", "a field's name at character 1"),
        ("id=x", "expected an operator: ==, != or ~= at character 3"),
        ("id===x", "expected an operator"),
        ("id=~x", "expected an operator"),
        ("id==", "expected a value, or a value in double quotes at its end"),
        ("id==,", "expected a value"),
        ("id==.x", "expected a value"),
        ("id==/x/", "only after ~="),
        ("id==|x|", "only after ~="),
        ('id=="x', "not closed at character 5"),
        ('id=="x\ny"', "not closed"),
        (r'id=="\q"', "is not an escape"),
        (r'id=="\x4"', "expected 2 digits of base 16"),
        (r'id=="\400"', "at most"),
        (r'id=="\U00110000"', "at most"),
        (r"name~=/\d/", "is not an escape"),
        ("id,", "a field's name at its end"),
        ("id.", "a field's name"),
        ("a b", "expected an operator"),
        ("id==abc def", "expected a comma at character 9"),
        ("name~=(", "not a regular expression"),
        ("/id/==x", "a field's name"),
        ("id==x\x00", "expected a comma"),
    ],
)
def test_an_error_says_what_and_where(text: str, why: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        filters.compile("id", text)
    assert why in caught.value.message
    assert repr(text) in caught.value.message


def quoted(text: str) -> str:
    out = '"'
    for character in text:
        if character in '"\\':
            out += f"\\{character}"
        elif character == "\n":
            out += "\\n"
        else:
            out += character
    return out + '"'


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=150, deadline=None)
@given(key=TEXT.filter(bool), value=TEXT, other=TEXT)
def test_any_label_can_be_asked_for_in_quotes(key: str, value: str, other: str) -> None:
    adaptor = filters.fields({}, {key: value})
    path = f"labels.{quoted(key)}"
    assert filters.compile(path)(adaptor)
    assert filters.compile(f"{path}=={quoted(value)}")(adaptor)
    assert not filters.compile(f"{path}!={quoted(value)}")(adaptor)
    assert filters.compile(f"{path}=={quoted(other)}")(adaptor) == (value == other)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=12))
def test_bytes_can_be_given_as_escapes(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    escaped = "".join(f"\\x{byte:02x}" if byte % 2 else f"\\{byte:03o}" for byte in data)
    assert filters.compile(f'labels.a=="{escaped}"')(filters.fields({}, {"a": text}))


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from('ab."/|=!~,\\x0 \nlabels'), max_size=24))
def test_every_text_either_compiles_or_is_refused(text: str) -> None:
    try:
        match = filters.compile(text)
    except errors.InvalidArgument:
        return
    assert match(filters.fields({"a": "b"}, {"a": "b"})) in (True, False)


def test_regular_expressions_are_loaded_only_when_one_is_used() -> None:
    program = """
import sys
sys.path.append(sys.argv[1])
from orlop.stores.metadata import filters
assert filters.compile('labels."a"==b,c!=d')
print("re" in sys.modules)
assert filters.compile("a~=b")
print("re" in sys.modules)
"""
    source = str(Path(__file__).resolve().parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-E", "-c", program, source],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["False", "True"]
