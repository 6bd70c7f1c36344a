"""OCI runtimes by name, with programs that stand in for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orlop.base import errors
from orlop.services.runtime import runtimes
from orlop.services.runtime.environment import HostFacts

HYBRID = HostFacts(cgroup_mode="hybrid", unified_controllers=("hugetlb",))


def program(path: Path, script: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(runtimes, "_DIRECTORIES", ())
    return tmp_path / "bin"


def test_crun_is_preferred_and_runc_is_next(bin_dir: Path) -> None:
    runc = program(bin_dir / "runc", "echo runc version 1.1.5+ds1")
    assert runtimes.find().path == runc
    crun = program(bin_dir / "crun", "echo crun version 1.8.1")
    found = runtimes.find(host=HYBRID)
    assert (found.name, found.path, found.version) == ("crun", crun, "1.8.1")
    assert found.hide_unified
    assert found.seccomp_bpf
    assert runtimes.find("runc", host=HYBRID).hide_unified is False


def test_cgroup2_is_only_hidden_from_crun_and_only_where_it_holds_a_controller(bin_dir: Path) -> None:
    program(bin_dir / "crun", "echo crun version 1.8.1")
    for host in (HostFacts(cgroup_mode="v2", unified_controllers=("memory",)), HostFacts(cgroup_mode="v1"),
                 HYBRID.replace(unified_controllers=())):  # fmt: skip
        assert runtimes.find(host=host).hide_unified is False


def test_none_installed_says_how_to_get_one(bin_dir: Path) -> None:
    with pytest.raises(errors.RuntimeFailed, match="no OCI runtime found") as caught:
        runtimes.find()
    assert "apt install crun" in caught.value.advice
    assert caught.value.exit_code == 125


@pytest.mark.parametrize("name", ["nope", "io.containerd.nope.v2", "../crun", "-x"])
def test_an_unknown_name_is_refused(bin_dir: Path, name: str) -> None:
    with pytest.raises(errors.RuntimeFailed, match=r"unknown OCI runtime|no such shim"):
        runtimes.find(name)


def test_a_path_or_a_configured_name_is_taken_as_it_is(bin_dir: Path, tmp_path: Path) -> None:
    path = program(tmp_path / "opt/my-crun", "echo crun version 1.20")
    found = runtimes.find(path)
    assert (found.name, found.version, found.seccomp_bpf) == ("my-crun", "1.20", True)
    assert found.argv("/run/s") == [path, "--root", "/run/s/my-crun"]
    assert runtimes.find("fast", configured={"fast": path}).path == path
    with pytest.raises(errors.RuntimeFailed, match="No such file"):
        runtimes.find(f"{tmp_path}/none")


def test_the_program_is_asked_once_until_it_changes(bin_dir: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    program(bin_dir / "crun", f"echo x >> {asked}; echo crun version 1.8.1")
    state = str(tmp_path / "state")
    assert runtimes.find(state=state) == runtimes.find(state=state)
    assert asked.read_text() == "x\n"
    program(bin_dir / "crun", f"echo x >> {asked}; echo crun version 1.21.0")
    assert runtimes.find(state=state).version == "1.21.0"
    for cached in (tmp_path / "state/cache").iterdir():
        cached.write_text("{")
    assert runtimes.find(state=state).version == "1.21.0"


@pytest.mark.parametrize(("script", "message"), [("exit 3", "status 3"), ("exec sleep 60", "does not answer")])
def test_a_program_that_fails_or_hangs_is_named(
    bin_dir: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    monkeypatch.setattr(runtimes, "_ASK_TIMEOUT_S", 0.2)
    program(bin_dir / "crun", f"PATH=/bin:/usr/bin; {script}")
    with pytest.raises(errors.RuntimeFailed, match=message):
        runtimes.find()


def test_a_program_that_cannot_be_run_is_named(bin_dir: Path) -> None:
    program(bin_dir / "crun", "").encode()
    (bin_dir / "crun").write_bytes(b"\x7fELFgarbage")
    with pytest.raises(errors.RuntimeFailed, match="Exec format error"):
        runtimes.find()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("crun version 1.8.1\ncommit: x", ("crun", "1.8.1")), ("runc version 1.1.5+ds1", ("runc", "1.1.5+ds1")),
     ("", ("", "")), ("runsc release-2024", ("runsc", ""))],
)  # fmt: skip
def test_versions_are_read_from_the_first_line(text: str, expected: tuple[str, str]) -> None:
    assert runtimes.parse_version(text) == expected
