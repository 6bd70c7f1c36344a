"""Users and groups by the container's own files, hostile ones too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.services.runtime import rootview, users
from orlop.services.runtime.users import User

PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n1234:x:0:0::/evil:\nnohome:x:5:6\n"
GROUP = b"root:x:0:\napp:x:1001:\nwheel:x:10:app,other\nvideo:x:44:app\nextra:x:77:\n"


def view(passwd: bytes | None = PASSWD, group: bytes | None = GROUP) -> rootview.OpenInRoot:
    files = {"/etc/passwd": passwd, "/etc/group": group}

    def open_in_root(path: str) -> int | None:
        data = files[path]
        if data is None:
            return None
        fd = os.memfd_create("file")
        os.write(fd, data)
        os.lseek(fd, 0, 0)
        return fd

    return open_in_root


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", User(0, 0, (0,), "/root", "root")),
        ("root", User(0, 0, (0,), "/root", "root")),
        ("app", User(1000, 1001, (1001, 10, 44), "/home/app", "app")),
        ("1000", User(1000, 1001, (1001, 10, 44), "/home/app", "app")),
        ("app:wheel", User(1000, 10, (10,), "/home/app", "app")),
        ("app:99", User(1000, 99, (99,), "/home/app", "app")),
        ("4242", User(4242, 0, (0,), "/", "")),
        ("4242:extra", User(4242, 77, (77,), "/", "")),
        ("nohome", User(5, 6, (6,), "/", "nohome")),
    ],
)
def test_users_resolve_as_docker_resolves_them(text: str, expected: User) -> None:
    assert users.resolve(text, (), view()) == expected


def test_a_number_is_never_taken_for_a_user_of_that_name() -> None:
    assert users.resolve("1234", (), view()) == User(1234, 0, (0,), "/", "")


def test_added_groups_may_be_names_or_numbers_and_stand_once() -> None:
    assert users.resolve("app", ("extra", "5", "video"), view()).groups == (1001, 10, 44, 77, 5)


def test_an_unknown_user_is_named_with_exit_code_125() -> None:
    with pytest.raises(
        errors.UsageError, match="unable to find user ghost: no matching entries in passwd file"
    ) as caught:
        users.resolve("ghost", (), view())
    assert caught.value.exit_code == 125


@pytest.mark.parametrize(("text", "groups"), [("app:ghost", ()), ("app", ("ghost",))])
def test_an_unknown_group_is_named(text: str, groups: tuple[str, ...]) -> None:
    with pytest.raises(errors.UsageError, match="unable to find group ghost: no matching entries in group file"):
        users.resolve(text, groups, view())


@pytest.mark.parametrize("text", [":", "app:", ":app", "2147483648", "app:99999999999"])
def test_a_malformed_user_is_refused(text: str) -> None:
    with pytest.raises(errors.UsageError):
        users.resolve(text, (), view())


def test_a_name_that_would_not_print_is_escaped_in_the_message() -> None:
    with pytest.raises(errors.UsageError, match=r"unable to find user 'a\\x00\\n':"):
        users.resolve("a\0\n", (), view())


def test_without_the_files_numbers_work_and_names_say_why_not() -> None:
    nothing = view(None, None)
    assert users.resolve("", (), nothing) == User(0, 0, (0,), "/", "")
    assert users.resolve("7:8", (), nothing) == User(7, 8, (8,), "/", "")
    with pytest.raises(errors.UsageError, match="no /etc/passwd in the container"):
        users.resolve("app", (), nothing)


def test_malformed_lines_are_skipped() -> None:
    passwd = b"\n::::\napp\napp:x\napp:x:-1:0::/:\napp:x:99999999999:0::/:\n\xff\xfe:x:1000:1::/:\napp:x:7:8::/ok:\n"
    assert users.resolve("app", (), view(passwd, b"")) == User(7, 8, (8,), "/ok", "app")


def test_a_home_that_cannot_be_one_becomes_the_root() -> None:
    assert users.resolve("a", (), view(b"a:x:1:1::relative:\n")).home == "/"
    assert users.resolve("a", (), view(b"a:x:1:1::/x\0y:\n")).home == "/"


def test_a_file_over_the_limit_is_not_read_into_memory() -> None:
    def huge(path: str) -> int:
        fd = os.memfd_create("huge")
        os.truncate(fd, 1 << 40)
        return fd

    with pytest.raises(errors.UsageError, match="is larger than"):
        users.resolve("app", (), huge)
    assert users.resolve("5", (), huge) == User(5, 0, (0,), "/", "")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200), st.sampled_from(["", "a", "0", "a:b", "7"]))
def test_no_file_makes_it_fail_in_another_way_than_by_a_usage_error(passwd: bytes, group: bytes, text: str) -> None:
    try:
        found = users.resolve(text, (), view(b"a:x:" + passwd, b"b:x:" + group))
    except errors.UsageError:
        return
    assert 0 <= found.uid <= users.MAX_ID
    assert all(0 <= gid <= users.MAX_ID for gid in found.groups)
    assert found.home.startswith("/")


class TestLayers:
    """`over_layers` on plain directories; the overlay of the kernel is compared with in the integration tests."""

    def read(self, layers: list[Path], path: str = "/etc/passwd") -> str | None:
        fd = rootview.over_layers([str(layer) for layer in layers])(path)
        if fd is None:
            return None
        with os.fdopen(fd) as file:
            return file.read()

    def layer(self, path: Path, files: dict[str, str]) -> Path:
        for name, text in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(text)
        return path

    def test_the_topmost_file_counts(self, tmp_path: Path) -> None:
        top = self.layer(tmp_path / "top", {"etc/passwd": "top"})
        low = self.layer(tmp_path / "low", {"etc/passwd": "low", "etc/other": "x"})
        assert self.read([top, low]) == "top"
        assert self.read([top, low], "/etc/other") == "x"
        assert self.read([top, low], "/etc/none") is None
        assert self.read([top, low], "/etc/passwd/x") is None

    def test_a_file_above_hides_a_directory_below(self, tmp_path: Path) -> None:
        top = self.layer(tmp_path / "top", {"etc": "a file"})
        low = self.layer(tmp_path / "low", {"etc/passwd": "low"})
        assert self.read([top, low]) is None

    def test_links_are_followed_inside_the_stack_only(self, tmp_path: Path) -> None:
        top = self.layer(tmp_path / "top", {"x": "x"})
        (top / "etc").symlink_to("/../../run/conf")
        low = self.layer(tmp_path / "low", {"run/conf/passwd": "low"})
        assert self.read([top, low]) == "low"
        (low / "run/conf/group").symlink_to("/etc/hostname")
        assert self.read([top, low], "/etc/group") is None

    def test_a_loop_of_links_ends(self, tmp_path: Path) -> None:
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc/passwd").symlink_to("passwd")
        assert self.read([tmp_path]) is None

    def test_a_fifo_or_a_directory_is_refused_without_being_opened(self, tmp_path: Path) -> None:
        (tmp_path / "etc").mkdir()
        os.mkfifo(tmp_path / "etc/passwd")
        (tmp_path / "etc/group").mkdir()
        for name in ("passwd", "group"):
            with pytest.raises(errors.RuntimeFailed, match="is not a regular file"):
                self.read([tmp_path], f"/etc/{name}")
