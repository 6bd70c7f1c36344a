"""Platforms: text forms, normalisation and order of preference, as containerd's."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.base.oci import platform
from orlop.base.oci.platform import Platform


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("linux/amd64", "linux/amd64"),
        ("Linux/x86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/i386", "linux/386"),
        ("linux/386", "linux/386"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/arm/5", "linux/arm/v5"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/riscv64", "linux/riscv64"),
        ("linux/s390x", "linux/s390x"),
        ("macOS/arm64", "darwin/arm64"),
        ("windows(10.0.17763)/amd64", "windows/amd64"),
    ],
)
def test_spellings_are_normalised(text: str, printed: str) -> None:
    parsed = platform.parse(text)
    assert platform.format(parsed) == printed == str(parsed)
    assert platform.normalize(parsed) == parsed


def test_what_is_left_out_is_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="aarch64"))
    assert platform.parse("linux") == Platform("linux", "arm64")
    assert platform.parse("windows") == Platform("windows", "arm64")
    assert platform.parse("amd64") == Platform("linux", "amd64")
    assert platform.parse("arm") == Platform("linux", "arm", "v7")
    assert platform.parse("x86_64") == Platform("linux", "amd64")


def test_os_version_and_features_are_read() -> None:
    parsed = platform.parse("windows(10.0.17763+win32k)/amd64")
    assert (parsed.os_version, parsed.os_features) == ("10.0.17763", ("win32k",))


@pytest.mark.parametrize(
    "text", ["", "/", "linux/", "/amd64", "linux/amd64/v1/x", "lin ux/amd64", "bogus", "linux/a*", "linux(/amd64"]
)
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid platform"):
        platform.parse(text)


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "printed"),
    [
        ("x86_64", "", "linux/amd64"),
        ("i686", "", "linux/386"),
        ("aarch64", "", "linux/arm64"),
        ("riscv64", "", "linux/riscv64"),
        ("ppc64le", "", "linux/ppc64le"),
        ("loongarch64", "", "linux/loong64"),
        ("armv7l", "CPU architecture: 7\n", "linux/arm/v7"),
        ("armv7l", "", "linux/arm/v7"),
        ("armv6l", "model name\t: ARMv6-compatible processor rev 7 (v6l)\nCPU architecture: 7\n", "linux/arm/v6"),
        ("armv5tel", "CPU architecture: 5TEJ\n", "linux/arm/v5"),
        ("armv8l", "CPU architecture: 8\n", "linux/arm/v8"),
        ("armv8l", "CPU architecture: AArch64\n", "linux/arm/v8"),
    ],
)
def test_the_host_is_known_by_its_machine_name(
    monkeypatch: pytest.MonkeyPatch, machine: str, cpuinfo: str, printed: str
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    monkeypatch.setattr(platform, "_read_cpuinfo", lambda: cpuinfo)
    assert str(platform.host()) == printed


def test_mips_takes_the_byte_order_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="mips64"))
    assert platform.host().architecture in ("mips64", "mips64le")


@pytest.mark.parametrize(
    ("wanted", "order"),
    [
        ("linux/amd64", ["linux/amd64", "linux/386"]),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]),
        ("linux/arm/v8", ["linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm/v7", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm/v5", ["linux/arm/v5"]),
        ("linux/arm64", ["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/s390x", ["linux/s390x"]),
        ("linux/amd64/odd", ["linux/amd64/odd", "linux/386"]),
    ],
)
def test_a_machine_runs_the_older_variants_too_in_order(wanted: str, order: list[str]) -> None:
    assert [str(p) for p in platform.preference(platform.parse(wanted))] == order


def test_newer_arm64_takes_in_the_older() -> None:
    order = [str(p) for p in platform.preference(platform.parse("linux/arm64/v9.1"))]
    assert order[:4] == ["linux/arm64/v9.1", "linux/arm64/v9", "linux/arm64/v8.6", "linux/arm64/v8.5"]
    assert order.index("linux/arm64") == 8
    assert platform.matches(platform.parse("linux/arm64/v8.2"), Platform("linux", "arm64", "v8"))


def test_the_best_of_several_is_chosen() -> None:
    offered = [Platform("linux", "arm", "v5"), Platform("linux", "amd64"), Platform("linux", "arm", "v7"),
               Platform("linux", "amd64", "v2"), Platform("linux", "386"), Platform("unknown", "unknown")]  # fmt: skip
    assert platform.best(platform.parse("linux/amd64/v4"), offered) == Platform("linux", "amd64", "v2")
    assert platform.best(platform.parse("linux/amd64"), offered) == Platform("linux", "amd64")
    assert platform.best(platform.parse("linux/arm64"), offered) == Platform("linux", "arm", "v7")
    assert platform.best(platform.parse("linux/arm/v6"), offered) == Platform("linux", "arm", "v5")
    assert platform.best(platform.parse("linux/386"), offered) == Platform("linux", "386")
    assert platform.best(platform.parse("linux/s390x"), offered) is None
    assert platform.best(platform.parse("linux/arm64"), offered, strict=True) is None


def test_a_386_image_runs_on_amd64_and_not_the_other_way() -> None:
    amd64, i386 = platform.parse("linux/amd64"), platform.parse("linux/386")
    assert platform.matches(amd64, i386)
    assert not platform.matches(amd64, i386, strict=True)
    assert not platform.matches(i386, amd64)


def test_windows_builds_must_agree_and_features_be_there() -> None:
    wanted = platform.parse("windows(10.0.17763.1)/amd64")
    assert platform.matches(wanted, Platform("windows", "amd64", os_version="10.0.17763.999"))
    assert not platform.matches(wanted, Platform("windows", "amd64", os_version="10.0.20348.1"))
    assert not platform.matches(platform.parse("linux/amd64"), Platform("linux", "amd64", os_features=("x",)))


def test_json_keeps_what_was_written_in_the_specifications_order() -> None:
    value = {"architecture": "arm64", "os": "linux", "os.version": "1", "os.features": ["a"], "variant": "v8"}
    parsed = platform.from_json(value)
    assert parsed.variant == "v8"
    assert list(platform.to_json(parsed).items()) == list(value.items())
    assert platform.to_json(Platform("linux", "amd64")) == {"architecture": "amd64", "os": "linux"}
    assert platform.from_json({"os": None, "os.features": None}) == Platform("", "")
    assert platform.format(Platform("", "")) == "unknown"


_names = st.text(alphabet="abvx0186_.-", min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(_names, _names, st.one_of(st.just(""), _names))
def test_normalising_twice_is_normalising_once(os_name: str, architecture: str, variant: str) -> None:
    once = platform.normalize(Platform(os_name, architecture, variant))
    assert platform.normalize(once) == once
    assert platform.rank(once, Platform(os_name, architecture, variant)) == 0
