"""`create`, `logs` and `rmi`: files that are read and written, labels, odd values; as Docker's users know them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import orlops
from tests.support.orlops import IMAGE, Orlop


@pytest.fixture(scope="module")
def orlop(ext4: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4 / "cli-create") as opened:
        opened.import_busybox()
        yield opened


def test_the_cidfile_gets_the_id_and_is_never_overwritten(orlop: Orlop, tmp_path: Path) -> None:
    file = tmp_path / "cid"
    id = orlop.out("create", "--cidfile", str(file), IMAGE)
    assert file.read_text() == id
    assert b"delete" in orlop.run("create", "--cidfile", str(file), IMAGE, code=125).stderr
    assert file.read_text() == id
    orlop.run("rm", id)


def test_without_a_cidfile_there_is_no_container_and_without_a_container_no_cidfile(
    orlop: Orlop, tmp_path: Path
) -> None:
    orlop.run("create", "--cidfile", str(tmp_path / "nowhere" / "cid"), IMAGE, code=125)
    assert orlop.out("ps", "-aq") == ""
    orlop.run("create", "--cidfile", str(tmp_path / "cid"), "--pull", "never", "nothing/here", code=125)
    assert list(tmp_path.iterdir()) == []


def test_env_files_are_read_as_dockers(orlop: Orlop, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_bytes("\ufeffFIRST=ü\n# comment\n\n  INDENTED=a b \nBARE_UNSET\nEMPTY=\n".encode())
    lines = orlop.run("run", "--rm", "--env-file", str(file), IMAGE, "env").stdout.decode().split("\n")
    assert {"FIRST=ü", "INDENTED=a b ", "EMPTY="} <= set(lines)
    assert not any(line.startswith(("BARE_UNSET", "#")) for line in lines)
    file.write_text("TWO WORDS=1\n")
    assert b"TWO WORDS" in orlop.run("run", "--rm", "--env-file", str(file), IMAGE, "env", code=125).stderr
    file.write_bytes(b"\xff\xfe")
    assert b"UTF-8" in orlop.run("run", "--rm", "--env-file", str(file), IMAGE, "env", code=125).stderr


def test_labels_without_a_value_are_kept(orlop: Orlop, tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_text("from.file=a b\nbare.in.file\n")
    orlop.run("create", "--name", "labelled", "--label", "bare", "--label", "e=", "--label-file", str(file), IMAGE)
    try:
        labels = {"bare": "", "bare.in.file": "", "e": "", "from.file": "a b"}
        assert json.loads(orlop.out("inspect", "-f", "{{json .Config.Labels}}", "labelled")) == labels
        assert orlop.out("ps", "-af", "label=bare", "--format", "{{.Labels}}") == "bare=,bare.in.file=,e=,from.file=a b"
        assert orlop.out("ps", "-aqf", "label=bare=x") == ""
    finally:
        orlop.run("rm", "labelled")


def test_an_entrypoint_of_ones_own_drops_the_images_command(orlop: Orlop) -> None:
    orlop.run("create", "--name", "entered", "--entrypoint", "/bin/echo", IMAGE)
    orlop.run("create", "--name", "with-init", "--init", IMAGE, "sleep", "9")
    try:
        assert (
            orlop.out("inspect", "-f", "{{json .Config.Cmd}} {{.Config.Entrypoint}}", "entered") == "null [/bin/echo]"
        )
        assert orlop.out("ps", "-af", "name=entered", "--format", "{{.Command}}") == '"/bin/echo"'
        assert orlop.out("ps", "-af", "name=with-init", "--format", "{{.Command}}") == '"sleep 9"'
    finally:
        orlop.run("rm", "entered", "with-init")


def test_a_stop_signal_that_is_none_is_refused_at_once(orlop: Orlop) -> None:
    assert b"invalid signal: SIGFOO" in orlop.run("create", "--stop-signal", "SIGFOO", IMAGE, code=125).stderr
    assert orlop.out("ps", "-aq") == ""


def test_an_image_for_another_machine_runs_with_a_warning(orlop: Orlop) -> None:
    orlop.run("import", "--platform", "linux/s390x", "-", "other/machine", stdin=orlops.rootfs_tar())
    done = orlop.run("run", "--rm", "other/machine", "true")
    assert done.stderr.decode().splitlines()[0].startswith("WARNING: the image's platform (linux/s390x) does not match")


def test_logs_read_a_time_without_a_zone_as_local(orlop: Orlop) -> None:
    orlop.run("run", "--name", "told", IMAGE, "echo", "hello")
    try:
        stamp = orlop.out("logs", "-t", "told").split(".")[0]
        for zone, seen in (("UTC0", "hello"), ("XYZ+5", ""), ("XYZ-5", "hello")):
            done = orlop.run("logs", "--since", stamp, "told", env={"TZ": zone})
            assert done.stdout.decode().strip() == seen, zone
    finally:
        orlop.run("rm", "told")


def test_several_images_are_removed_in_one_go_and_what_is_missing_is_told(orlop: Orlop) -> None:
    names = [f"many/image:{n}" for n in range(3)]
    for name in names:
        orlop.run("tag", IMAGE, name)
    done = orlop.run("rmi", names[0], "not/there", *names[1:], code=1)
    assert done.stdout.decode().splitlines() == [f"Untagged: {name}" for name in names]
    assert done.stderr.decode() == "orlop: no such image: not/there\n"
    digest = orlop.out("import", "-", "single/one", stdin=orlops.rootfs_tar({"etc/single": b"1"}))
    assert orlop.out("rmi", "single/one").splitlines() == ["Untagged: single/one:latest", f"Deleted: {digest}"]
    assert orlop.out("gc", "-q") == ""
    assert orlop.out("gc", "--dry-run", "--format", "{{len .Items}} {{.Size}}") == "0 0"
    assert orlop.out("gc", "--format", "json") == '{"Items":[],"Size":0}'
