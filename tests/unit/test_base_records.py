"""base/record, base/jsonio, base/cancel, base/errors, base/signals."""

from __future__ import annotations

import json
import math
import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orlop.base import errors, jsonio, signals
from orlop.base.cancel import Cancel
from orlop.base.record import Record


class Point(Record):
    x: int
    y: int = 0
    tags: dict[str, str] = {}


class Point3(Point):
    z: int = 5


def test_a_record_takes_values_by_position_and_by_name() -> None:
    assert Point(1, y=2) == Point(x=1, y=2)
    assert Point(1).as_dict() == {"x": 1, "y": 0, "tags": {}}


def test_a_record_cannot_be_changed_but_replaced() -> None:
    point = Point(1)
    with pytest.raises(AttributeError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del point.x
    assert point.replace(x=2) == Point(2)


@pytest.mark.parametrize(
    "call", [lambda: Point(), lambda: Point(1, 2, {}, 4), lambda: Point(1, x=1), lambda: Point(1, q=1)]
)  # type: ignore[call-arg,misc]
def test_a_record_refuses_missing_extra_and_unknown_values(call: object) -> None:
    with pytest.raises(TypeError):
        call()  # type: ignore[operator]


def test_two_records_never_share_a_mutable_default() -> None:
    assert Point(1).tags is not Point(1).tags


def test_a_record_inherits_fields_and_differs_from_its_base() -> None:
    assert Point3(1).z == 5
    assert Point3(1) != Point(1)
    assert repr(Point3(1)) == "Point3(x=1, y=0, tags={}, z=5)"


def test_records_hash_pickle_and_have_no_dict() -> None:
    assert hash(Point(1, 2, {"a": "b"})) == hash(Point(1, 2, {"a": "b"}))
    assert pickle.loads(pickle.dumps(Point(1, 2))) == Point(1, 2)
    assert not hasattr(Point(1), "__dict__")


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_JSON)
def test_jsonio_means_what_json_means(value: object) -> None:
    assert json.loads(jsonio.dumps(value)) == value
    assert jsonio.loads(json.dumps(value, indent=1)) == value
    assert jsonio.loads(jsonio.dump_bytes(value)) == value


@pytest.mark.parametrize(
    "text", ['{"a":', "[1,]", "", " ", "nul", "NaN", '"\x01"', '{"a":1}x', "[" * 100_000, "\ud800"]
)
def test_jsonio_refuses_what_is_not_json_with_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the kind is the contract
        jsonio.loads(text)


def test_jsonio_refuses_bytes_that_are_not_utf8() -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        jsonio.loads(b'"\xff"')


def test_a_deadline_passes_and_bounds_waits() -> None:
    cancel = Cancel(0)
    assert cancel.cancelled
    assert cancel.remaining(5) == 0
    with pytest.raises(errors.DeadlineExceeded):
        cancel.check()
    assert Cancel().remaining() is None
    assert math.isclose(Cancel(100).remaining(3) or 0, 3)


def test_cancelling_closes_what_blocks_and_only_while_it_is_registered() -> None:
    cancel, closed = Cancel(), threading.Event()
    with cancel.closing(closed.set):
        cancel.cancel("stop")
    assert closed.is_set()
    with pytest.raises(errors.Cancelled, match="stop"):
        cancel.check()
    late = Cancel()
    with late.closing(lambda: pytest.fail("closed too late")):
        pass
    late.cancel()


def test_a_closer_that_fails_does_not_hide_the_cancellation() -> None:
    cancel = Cancel()

    def bad() -> None:
        raise OSError("gone")

    with cancel.closing(bad):
        cancel.cancel()
    assert cancel.cancelled


def test_registering_on_a_cancelled_token_raises_at_once() -> None:
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(errors.Cancelled), cancel.closing(lambda: None):
        pass
    assert cancel._closers == {}


def test_errors_keep_their_kind_across_grpc() -> None:
    for kind in (errors.NotFound, errors.AlreadyExists, errors.DataLoss, errors.Unavailable, errors.Cancelled):
        assert type(errors.from_grpc(kind.grpc_code, "x")) is kind
    assert type(errors.from_grpc(99, "x")) is errors.OrlopError


def test_os_errors_keep_their_meaning() -> None:
    import errno

    full = errors.from_os(OSError(errno.ENOSPC, "No space left on device", "/x"), "write blob")
    assert isinstance(full, errors.ResourceExhausted)
    assert "write blob" in full.message
    assert "/x" in full.message
    assert full.advice
    assert isinstance(errors.from_os(OSError(errno.EACCES, "denied"), "x"), errors.PermissionDenied)


@pytest.mark.parametrize(
    ("text", "number"), [("KILL", 9), ("sigterm", 15), ("15", 15), ("RTMIN+3", 37), ("RTMAX-1", 63)]
)
def test_signals_are_read_by_name_and_number(text: str, number: int) -> None:
    assert signals.parse(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "FOO", "TERM+1", "RTMIN+99", "-9", "BLOCK"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid signal"):
        signals.parse(text)
