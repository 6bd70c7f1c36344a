"""Sizes, durations, times, IDs and quotes, as Docker prints and reads them."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.doors.cli import human

S = 1_000_000_000
M, H, D = 60 * S, 3600 * S, 86400 * S


@pytest.mark.parametrize(
    ("count", "three", "four", "binary"),
    [
        (0, "0B", "0B", "0B"),
        (999, "999B", "999B", "999B"),
        (1000, "1kB", "1kB", "1000B"),
        (1024, "1.02kB", "1.024kB", "1KiB"),
        (7_049_688, "7.05MB", "7.05MB", "6.723MiB"),
        (1_234_567, "1.23MB", "1.235MB", "1.177MiB"),
        (133_000_000, "133MB", "133MB", "126.8MiB"),
        (999_900, "1MB", "999.9kB", "976.5KiB"),
        (999_990, "1MB", "1000kB", "976.6KiB"),
        (1_048_575, "1.05MB", "1.049MB", "1024KiB"),
        (2**40, "1.1TB", "1.1TB", "1TiB"),
        (10**24, "1YB", "1YB", "847ZiB"),
        (5 * 10**27, "5000YB", "5000YB", "4136YiB"),
    ],
)
def test_sizes_have_significant_digits(count: int, three: str, four: str, binary: str) -> None:
    assert human.binary_size(count) == binary
    assert human.size(count) == three
    assert human.size(count, 4) == four


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("100", 100),
        ("32b", 32),
        ("32B", 32),
        ("1k", 1024),
        ("1K", 1024),
        ("1kb", 1024),
        ("1KiB", 1024),
        ("512m", 512 << 20),
        ("64MiB", 64 << 20),
        ("64 MB", 64 << 20),
        ("1.5g", 3 << 29),
        (".5k", 512),
        ("1.k", 1024),
        ("0.3k", 307),
        ("2t", 2 << 40),
        ("1Pb", 1 << 50),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_sizes_are_read_in_powers_of_1024(text: str, count: int) -> None:
    assert human.parse_size(text) == count


def test_sizes_are_read_in_powers_of_1000_where_asked() -> None:
    assert human.parse_size("1.5kB", binary=False) == 1500
    assert human.parse_size("2gib", binary=False) == 2_000_000_000


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "m", "-1", "+1", "1x", "1kx", "1kbb", "1kiib", "1bb", "1.2.3", ".", ".k", "1  k", "1e3", "٣k", "1_0",
        "1 k b", "9" * 20, "9" * 50, "10000p", "0x10", "²",
    ],
)  # fmt: skip
def test_what_is_no_size_is_refused_by_name(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid size") as caught:
        human.parse_size(text)
    assert repr(text) in caught.value.message


@pytest.mark.parametrize(
    ("ns", "words"),
    [
        (-5 * S, "Less than a second"),
        (0, "Less than a second"),
        (S - 1, "Less than a second"),
        (S, "1 second"),
        (45 * S, "45 seconds"),
        (60 * S - 1, "59 seconds"),
        (M, "About a minute"),
        (2 * M - 1, "About a minute"),
        (3 * M, "3 minutes"),
        (30 * M - 1, "29 minutes"),
        (59 * M + 59 * S, "59 minutes"),
        (H, "About an hour"),
        (H + 29 * M, "About an hour"),
        (H + 30 * M, "2 hours"),
        (47 * H, "47 hours"),
        (48 * H, "2 days"),
        (7 * D, "7 days"),
        (13 * D + 5 * H, "13 days"),
        (14 * D, "2 weeks"),
        (21 * D, "3 weeks"),
        (59 * D, "8 weeks"),
        (60 * D, "2 months"),
        (364 * D, "12 months"),
        (2 * 365 * D - H, "24 months"),
        (2 * 365 * D, "2 years"),
        (3 * 365 * D, "3 years"),
    ],
)
def test_durations_are_put_in_dockers_words(ns: int, words: str) -> None:
    assert human.duration(ns) == words
    assert human.ago(10**18 - ns, 10**18) == words + " ago"


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0), ("+0", 0), ("-0", 0), ("10s", 10 * S), ("1h30m", H + 30 * M), ("1.5h", H + 30 * M),
        ("-250ms", -S // 4),
        ("+5s", 5 * S), ("1us", 1000), ("1µs", 1000), ("1μs", 1000), ("3ns", 3), (".5s", S // 2), ("5.s", 5 * S),
        ("1h0m0.5s", H + S // 2), ("2562047h47m16.854775807s", 2**63 - 1), ("0.3333333333333333333h", 20 * M - 1),
    ],
)  # fmt: skip
def test_durations_are_read_in_gos_notation(text: str, ns: int) -> None:
    assert human.parse_duration(text) == ns


@pytest.mark.parametrize(
    "text",
    [
        "", "3", "-", "s", ".", "-.", ".s", "+.s", "1d", "1 s", "1s ", "1h30", "٣s", "1S", "9223372036854775808ns",
        "1..s", "1" * 30 + "h", "0x1s", "--1s",
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused_by_name(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid duration") as caught:
        human.parse_duration(text)
    assert repr(text) in caught.value.message


@pytest.mark.parametrize(
    ("ns", "text", "fixed"),
    [
        (0, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000000Z"),
        (1, "1970-01-01T00:00:00.000000001Z", "1970-01-01T00:00:00.000000001Z"),
        (1_714_564_800_500_000_000, "2024-05-01T12:00:00.5Z", "2024-05-01T12:00:00.500000000Z"),
        (951_782_400 * S, "2000-02-29T00:00:00Z", "2000-02-29T00:00:00.000000000Z"),
        (-1, "1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999999999Z"),
        (-62_135_596_800 * S, "0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000000Z"),
        (253_402_300_799 * S, "9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000000000Z"),
    ],
)
def test_times_are_printed_and_read_to_the_nanosecond(ns: int, text: str, fixed: str) -> None:
    assert human.rfc3339(ns) == text
    assert human.rfc3339(ns, fixed=True) == fixed
    assert human.parse_time(text) == human.parse_time(fixed) == ns


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2024-05-01T14:00:00+02:00", "2024-05-01T12:00:00Z"),
        ("2024-05-01t06:30:00.25-05:30", "2024-05-01T12:00:00.25Z"),
        ("2024-05-01T12:00:00.1234567891z", "2024-05-01T12:00:00.123456789Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
    ],
)
def test_offsets_and_fractions_are_read(text: str, same: str) -> None:
    assert human.rfc3339(human.parse_time(text)) == same


@pytest.mark.parametrize(
    "text",
    [
        "", "2024", "2024-05-01", "2024-05-01T12:00:00", "2024-05-01 12:00:00Z", "2024-13-01T00:00:00Z",
        "2024-00-01T00:00:00Z", "2023-02-29T00:00:00Z", "2024-02-00T00:00:00Z", "2024-01-32T00:00:00Z",
        "2024-05-01T24:00:00Z", "2024-05-01T12:60:00Z", "2024-05-01T12:00:61Z", "2024-05-01T12:00:00.Z",
        "2024-05-01T12:00:00+2:00", "2024-05-01T12:00:00+24:00", "2024-05-01T12:00:00+02:60", "2024-05-01T12:00:00ZZ",
        "+024-05-01T12:00:00Z", "2024-05-01T12:00:00Z ", "２024-05-01T12:00:00Z",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="is not RFC 3339") as caught:
        human.parse_time(text)
    assert repr(text) in caught.value.message


@settings(max_examples=200, deadline=None)
@given(st.datetimes(min_value=datetime.datetime(1, 1, 1)), st.integers(0, 999))
def test_times_agree_with_the_calendar_and_come_back(when: datetime.datetime, extra_ns: int) -> None:
    since = when - datetime.datetime(1970, 1, 1)
    ns = (since.days * 86400 + since.seconds) * S + since.microseconds * 1000 + extra_ns
    text = human.rfc3339(ns, fixed=True)
    assert text == f"{when.isoformat(timespec='microseconds')}{extra_ns:03d}Z"
    assert human.parse_time(text) == human.parse_time(human.rfc3339(ns)) == ns


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789.bkmgtpihnsuµ-+TZ: é", max_size=22))
def test_any_text_is_read_or_an_invalid_argument(text: str) -> None:
    for read in (human.parse_size, human.parse_duration, human.parse_time):
        try:
            assert isinstance(read(text), int)
        except errors.InvalidArgument:
            continue


def test_local_times_carry_their_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        assert human.time_text(1_714_564_800 * S + 5) == "2024-05-01 14:00:00 +0200 CEST"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_ids_are_shortened() -> None:
    assert human.short_id("sha256:" + "ab" * 32) == "abababababab"
    assert human.short_id("cd" * 32) == "cdcdcdcdcdcd"
    assert human.short_id("short") == "short"


def test_quotes_escape_as_go_does() -> None:
    assert human.quote("sh -c ls") == '"sh -c ls"'
    assert human.quote('a"b\\c\n\x01\x7f\x80é日\u200b\udcff') == '"a\\"b\\\\c\\n\\x01\\x7f\\u0080é日\\u200b\\xff"'
    assert human.quote("é😀", ascii_only=True) == '"\\u00e9\\U0001f600"'
    assert human.visible("a\x1b[31m\n\té") == "a\\x1b[31m\\n\\té"
    assert human.visible('plain "text" \\') == 'plain "text" \\'
