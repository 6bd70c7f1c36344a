"""`pull`, `push`, `login` and `logout` as a person sees them: what is printed, on a terminal and elsewhere."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.base.oci import platform as platforms
from orlop.base.oci.descriptor import Descriptor
from orlop.base.oci.platform import Platform
from tests.support import orlops
from tests.support.orlops import IMAGE, ORLOP, Orlop, Registry

INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="module")
def orlop(ext4: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4 / "cli-transfer") as opened:
        opened.import_busybox()
        yield opened


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    with orlops.registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def on_terminal(orlop: Orlop, *argv: str, typed: tuple[tuple[str, bytes], ...] = ()) -> tuple[int, str]:
    """(exit code, all that was written) of a command line on a terminal of 80 columns.

    typed: (what to wait for, what is typed then).
    """
    pid, fd = pty.fork()
    if pid == 0:
        try:
            environ = {**orlop.env, "TERM": "xterm", "COLUMNS": "80"}
            os.execvpe(ORLOP[0], [*ORLOP, *argv], environ)
        finally:
            os._exit(127)
    said, waiting, deadline = b"", list(typed), time.monotonic() + orlops.TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        if not data:
            break
        said += data
        if waiting and waiting[0][0].encode() in said:
            os.write(fd, waiting.pop(0)[1])
    os.close(fd)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), said.decode().replace("\r\n", "\n")


def last_frame(text: str) -> str:
    """What a redrawing display leaves on the screen: all after the last line that was cleared."""
    return text.rpartition("\x1b[2K")[2].replace("\x1b[?25h", "")


def test_quiet_pulls_and_pushes_print_the_name_alone(orlop: Orlop, registry: Registry) -> None:
    names = [f"{registry.host}/quiet/image:{tag}" for tag in (1, 2)]
    for name in names:
        orlop.run("tag", IMAGE, name)
    done = orlop.run("push", "-q", names[0])
    assert (done.stdout.decode(), done.stderr) == (f"{names[0]}\n", b"")
    assert orlop.out("push", "-aq", f"{registry.host}/quiet/image").splitlines() == names
    text = orlop.out("push", "-a", f"{registry.host}/quiet/image")
    assert text.count("The push refers to repository") == 1
    assert text.count(": digest: sha256:") == 2
    orlop.run("rmi", *names)
    done = orlop.run("pull", "-q", names[0])
    assert (done.stdout.decode(), done.stderr) == (f"{names[0]}\n", b"")
    assert orlop.out("pull", names[0]).splitlines()[-2:] == [f"Status: Image is up to date for {names[0]}", names[0]]


def test_unpack_takes_true_and_false_only(orlop: Orlop) -> None:
    assert b"--unpack" in orlop.run("pull", "--unpack=maybe", "x", code=125).stderr


def test_bars_on_a_terminal_leave_one_plain_line_a_layer(orlop: Orlop, registry: Registry) -> None:
    name = f"{registry.host}/shown/image:1"
    orlop.run("tag", IMAGE, name)
    for argv, word in ((("push", name), "Pushed"), (("-n", "elsewhere", "pull", name), "Pull complete")):
        code, text = on_terminal(orlop, *argv)
        assert code == 0
        frame = last_frame(text)
        assert f": {word}" in frame
        assert "━" not in frame
        assert "\x1b" not in frame
        assert all(len(line) <= 80 for line in frame.splitlines() if line.split(":")[1].strip() == word)
    orlop.run("-n", "elsewhere", "rmi", name)


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(orlop: Orlop, registry: Registry) -> None:
    name = f"{registry.host}/dumb/image:1"
    orlop.run("tag", IMAGE, name)
    done = subprocess.run(
        ["script", "-qec", f"TERM=dumb {' '.join(ORLOP)} push {name}", "/dev/null"],
        env=orlop.env, capture_output=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout
    assert b": Pushed (" in done.stdout


def test_an_image_that_is_stored_for_another_platform_only_is_listed_and_inspected(
    orlop: Orlop, registry: Registry
) -> None:
    name = f"{registry.host}/several/image:both"
    orlop.run("import", "--platform", "linux/s390x", "-", f"{name}-other", stdin=orlops.rootfs_tar())
    orlop.run("tag", IMAGE, f"{name}-own")
    members = []
    for platform, each in ((platforms.host(), f"{name}-own"), (platforms.parse("linux/s390x"), f"{name}-other")):
        orlop.run("push", "-q", each)
        members.append(member(orlop.engine.images.get(each).target, platform))
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": members}
    request = urllib.request.Request(
        f"http://{registry.host}/v2/several/image/manifests/both",
        data=json.dumps(index).encode(), method="PUT", headers={"Content-Type": INDEX},
    )  # fmt: skip
    urllib.request.urlopen(request, timeout=20).close()
    orlop.run("-n", "foreign", "pull", "-q", "--platform", "linux/s390x", name)
    try:
        size, platform, created = orlop.out(
            "-n", "foreign", "images", "--format", "{{.Size}}|{{.Platform}}|{{.CreatedSince}}"
        ).split("|")
        assert (size != "0B", platform, created != "N/A") == (True, "linux/s390x", True)
        assert orlop.out("-n", "foreign", "inspect", "-f", "{{.Architecture}}", name) == "s390x"
    finally:
        orlop.run("-n", "foreign", "rmi", name)


def member(target: Descriptor, platform: Platform) -> dict[str, object]:
    return {
        "mediaType": target.media_type,
        "digest": str(target.digest),
        "size": target.size,
        "platform": {"os": platform.os, "architecture": platform.architecture},
    }


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that wants the user jane with the password "pw ü"; yields its host."""
    if shutil.which("htpasswd") is None or shutil.which("docker-registry") is None:
        pytest.skip("htpasswd or docker-registry is not installed")
    directory = tmp_path_factory.mktemp("guarded")
    line = subprocess.run(["htpasswd", "-Bbn", "-C", "5", "jane", "pw ü"], capture_output=True, check=True).stdout
    (directory / "htpasswd").write_bytes(line.strip() + b"\n")
    host = f"127.0.0.1:{orlops.free_port()}"
    (directory / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
        f"http: {{addr: {host}}}\nauth: {{htpasswd: {{realm: test, path: {directory}/htpasswd}}}}\n"
    )
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(directory / "config.yml")], stdout=log, stderr=log)
    try:
        address, port = host.split(":")
        orlops.wait_for("the registry", lambda: _answers(address, int(port)))
        yield host
    finally:
        process.kill()
        process.wait()


def _answers(address: str, port: int) -> bool:
    import socket

    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_login_is_tried_kept_used_and_forgotten(orlop: Orlop, guarded: str) -> None:
    name = f"{guarded}/private/image:1"
    orlop.run("tag", IMAGE, name)
    assert f"to fix: orlop login {guarded}" in orlop.run("push", "-q", name, code=1).stderr.decode()
    orlop.run("login", "-u", "jane", "--password-stdin", guarded, stdin=b"wrong\n", code=1)
    orlop.run("push", "-q", name, code=1)
    assert orlop.out("login", "-u", "jane", "--password-stdin", guarded, stdin="pw ü\n".encode()) == "Login Succeeded"
    assert orlop.out("push", "-q", name) == name
    assert orlop.out("logout", guarded) == f"Removing login credentials for {guarded}"
    assert orlop.out("logout", guarded) == f"Not logged in to {guarded}"
    orlop.run("pull", "-q", name, code=1)


@pytest.mark.parametrize(
    ("argv", "stdin", "text"),
    [
        (["--password-stdin"], b"x", "--username"),
        (["-u", "jane", "-p", "x", "--password-stdin"], b"x", "mutually exclusive"),
        (["-u", "jane", "--password-stdin"], b"\n", "no password"),
        (["-u", "jane", "--password-stdin"], b"\xff\xfe\n", "not UTF-8"),
        (["-u", "jane"], b"", "not a terminal"),
    ],
)
def test_a_login_that_lacks_something_says_what(orlop: Orlop, argv: list[str], stdin: bytes, text: str) -> None:
    assert text in orlop.run("login", *argv, "127.0.0.1:1", stdin=stdin, code=125).stderr.decode()


def test_a_terminal_is_asked_for_name_and_password_which_is_not_shown(orlop: Orlop, guarded: str) -> None:
    typed = (("Username: ", b"jane\n"), ("Password: ", "pw ü\n".encode()))
    code, text = on_terminal(orlop, "login", guarded, typed=typed)
    assert code == 0
    assert "Login Succeeded" in text
    assert "pw" not in text
    orlop.run("logout", guarded)
    code, text = on_terminal(orlop, "login", guarded, typed=(("Username: ", b"jane\n"), ("Password: ", b"\x04")))
    assert code == 125
    assert "no user name and password" in text
