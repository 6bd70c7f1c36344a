"""Volumes, image mounts and propagation through the command line, looked at from inside the container."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from orlop.base.kernel import mountinfo
from tests.support import orlops
from tests.support.orlops import IMAGE, Orlop

CARGO = "cargo:test"


@pytest.fixture(scope="module")
def orlop(ext4: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4 / "flags-volumes") as opened:
        opened.import_busybox()
        tar = orlops.rootfs_tar({"srv/data/deep/file": b"cargo\n", "srv/data/own": b"mine\n", "plainfile": b"x\n"})
        opened.engine.images.import_(BytesIO(tar), CARGO, changes=["VOLUME /srv/data", 'CMD ["sh"]'])
        yield opened


def volumes(orlop: Orlop) -> list[str]:
    return orlop.out("volume", "ls", "-q").split()


def mounts_of(orlop: Orlop) -> list[str]:
    return [m.mount_point for m in mountinfo.mountinfo() if m.mount_point.startswith(f"{orlop.state}/mounts")]


def test_a_named_volume_outlives_its_containers(orlop: Orlop) -> None:
    orlop.run("run", "--rm", "-v", "logbook:/log", IMAGE, "sh", "-c", "echo day 1 > /log/page")
    assert orlop.out("run", "--rm", "--mount", "src=logbook,dst=/in", IMAGE, "cat", "/in/page") == "day 1"
    assert "logbook" in volumes(orlop)
    orlop.run("volume", "rm", "logbook")


def test_a_read_only_volume_cannot_be_written(orlop: Orlop) -> None:
    text = orlop.out("run", "--rm", "-v", "sealed:/v:ro", IMAGE, "sh", "-c", "touch /v/x 2>&1 || true")
    assert "Read-only file system" in text
    orlop.run("volume", "rm", "sealed")


def test_an_images_volume_is_anonymous_filled_and_goes_with_rm(orlop: Orlop) -> None:
    before = volumes(orlop)
    text = orlop.out(
        "run", "--rm", CARGO, "sh", "-c", "cat /srv/data/deep/file; grep -c ' /srv/data ' /proc/self/mountinfo"
    )
    assert text == "cargo\n1"
    assert volumes(orlop) == before


def test_rm_keeps_anonymous_volumes_unless_told_and_named_ones_always(orlop: Orlop) -> None:
    for flags, left in (((), 1), (("-v",), 0)):
        before = set(volumes(orlop))
        orlop.run("create", "--name", "keeper", "-v", "named:/n", "-v", "/anonymous", IMAGE, "true")
        assert len(set(volumes(orlop)) - before - {"named"}) == 1
        orlop.run("rm", *flags, "keeper")
        assert "named" in volumes(orlop)
        assert len(set(volumes(orlop)) - before - {"named"}) == left
    orlop.run("volume", "prune", "-af")
    assert volumes(orlop) == []


def test_a_new_volume_takes_the_images_content_and_owner_unless_nocopy(orlop: Orlop) -> None:
    text = orlop.out("run", "--rm", "-v", "full:/srv/data", CARGO, "ls", "/srv/data")
    assert text.split() == ["deep", "own"]
    orlop.run("run", "--rm", "-v", "full:/x", IMAGE, "sh", "-c", "rm /x/own")
    assert orlop.out("run", "--rm", "-v", "full:/srv/data", CARGO, "ls", "/srv/data") == "deep"
    assert orlop.out("run", "--rm", "-v", "bare:/srv/data:nocopy", CARGO, "ls", "/srv/data") == ""
    bare = "src=bare2,dst=/srv/data,volume-nocopy"
    assert orlop.out("run", "--rm", "--mount", bare, CARGO, "ls", "/srv/data") == ""
    orlop.run("volume", "prune", "-af")


def test_copy_up_follows_links_inside_the_image_only(orlop: Orlop, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("x")
    import tarfile

    out = BytesIO(orlops.rootfs_tar())
    with tarfile.open(fileobj=out, mode="a") as tar:
        for name, target in (("out", str(secret)), ("up", f"../../../..{secret}"), ("etcetera", "/etc")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    orlop.engine.images.import_(BytesIO(out.getvalue()), "links:test")
    for name in ("out", "up"):
        orlop.run("create", "--name", "linked", "-v", f"links-{name}:/{name}", "links:test", "true")
        volume = orlop.engine.volumes.get(f"links-{name}")
        assert os.listdir(orlop.engine.volumes.path(volume)) == []
        orlop.run("rm", "linked")
    orlop.run("create", "--name", "linked", "-v", "links-etc:/etcetera", "links:test", "true")
    found = orlop.engine.volumes.path(orlop.engine.volumes.get("links-etc"))
    assert {"group", "passwd"} <= set(os.listdir(found))
    orlop.run("rm", "linked")
    orlop.run("volume", "prune", "-af")


def test_a_volume_over_a_file_of_the_image_is_refused_and_nothing_is_left(orlop: Orlop) -> None:
    done = orlop.run("run", "--rm", "-v", "/plainfile", CARGO, "true", code=125)
    assert "file exists /plainfile" in done.stderr.decode()
    assert orlop.out("ps", "-aq") == ""
    assert volumes(orlop) == []


def test_volumes_from_shares_volumes_and_binds_read_only_if_wanted(orlop: Orlop, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("bound")
    orlop.run("create", "--name", "source", "-v", "shared:/s", "-v", "/anon", "-v", f"{tmp_path}:/b", IMAGE, "true")
    script = "echo 1 > /s/x; cat /b/f; echo 2 > /anon/y; cat /s/x"
    assert orlop.out("run", "--rm", "--volumes-from", "source", IMAGE, "sh", "-c", script) == "bound1"
    text = orlop.out(
        "run", "--rm", "--volumes-from", "source:ro", IMAGE, "sh", "-c", "cat /anon/y; touch /s/z 2>&1 || true"
    )
    assert text.startswith("2\n")
    assert "Read-only" in text
    orlop.run("rm", "-v", "source")
    orlop.run("volume", "prune", "-af")
    assert volumes(orlop) == []


def test_an_anonymous_volume_stays_while_another_container_uses_it(orlop: Orlop) -> None:
    orlop.run("create", "--name", "one", "-v", "/data", IMAGE, "true")
    orlop.run("create", "--name", "two", "--volumes-from", "one", IMAGE, "true")
    orlop.run("rm", "-v", "one")
    assert len(volumes(orlop)) == 1
    done = orlop.run("volume", "rm", volumes(orlop)[0], code=1)
    assert "volume is in use" in done.stderr.decode()
    orlop.run("rm", "-v", "two")
    assert volumes(orlop) == []


def test_a_path_inside_a_volume_is_mounted_and_never_one_outside(orlop: Orlop, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    script = f"mkdir -p /v/a/b; echo in > /v/a/b/f; ln -s a/b /v/good; ln -s {tmp_path} /v/bad; ln -s / /v/root"
    orlop.run("run", "--rm", "-v", "tree:/v", IMAGE, "sh", "-c", script)

    def listed(path: str, code: int = 0) -> subprocess.CompletedProcess[bytes]:
        return orlop.run(
            "run", "--rm", "--mount", f"src=tree,dst=/m,volume-subpath={path}", IMAGE, "ls", "/m", code=code
        )

    assert listed("a/b").stdout == b"f\n"
    assert listed("good").stdout == b"f\n"
    assert listed("root").stdout.split() == [b"a", b"bad", b"good", b"root"]  # "/" is the volume's own
    for path in ("bad", "missing"):
        done = listed(path, 125)
        assert f"cannot access path {path} in volume tree" in done.stderr.decode()
    assert orlop.out("ps", "-aq") == ""
    assert mounts_of(orlop) == []
    orlop.run("volume", "rm", "tree")


def test_an_image_is_mounted_read_only_and_cleaned_with_its_container(orlop: Orlop) -> None:
    spec = f"type=image,source={CARGO},target=/img"
    text = orlop.out(
        "run", "--rm", "--mount", spec, IMAGE, "sh", "-c", "cat /img/srv/data/own; touch /img/x 2>&1 || true"
    )
    assert text.startswith("mine\n")
    assert "Read-only" in text
    sub = orlop.out("run", "--rm", "--mount", f"{spec},image-subpath=srv/data/deep", IMAGE, "ls", "/img")
    assert sub == "file"
    one = orlop.out("run", "--rm", "--mount", f"{spec},image-subpath=srv/data/own", IMAGE, "cat", "/img")
    assert one == "mine"
    assert mounts_of(orlop) == []
    keys = [info.name for info in orlop.engine.wiring.snapshots.walk()]
    assert not [key for key in keys if "-image-" in key]


def test_a_mounted_image_survives_its_removal_and_gc_as_long_as_the_container(orlop: Orlop) -> None:
    orlop.engine.images.import_(BytesIO(orlops.rootfs_tar({"only": b"here\n"})), "gone:test")
    orlop.run("run", "-d", "--name", "viewer", "--mount", "type=image,src=gone:test,dst=/img", IMAGE, "sleep", "1000")
    orlop.run("rmi", "-f", "gone:test")
    orlop.run("gc")
    assert orlop.out("exec", "viewer", "cat", "/img/only") == "here"
    orlop.run("stop", "-t", "0", "viewer")
    orlop.run("gc")
    orlop.run("start", "viewer")
    assert orlop.out("exec", "viewer", "cat", "/img/only") == "here"
    orlop.run("rm", "-f", "viewer")
    assert mounts_of(orlop) == []


def test_a_mount_whose_container_was_killed_is_gone_when_it_has_ended(orlop: Orlop) -> None:
    orlop.run("run", "-d", "--name", "shm", "--ipc", "shareable", IMAGE, "sleep", "1000")
    assert len(mounts_of(orlop)) == 1
    orlop.run("kill", "shm")
    orlops.wait_for("the mount to go", lambda: not mounts_of(orlop))
    orlop.run("start", "shm")
    assert len(mounts_of(orlop)) == 1
    orlop.run("rm", "-f", "shm")
    assert mounts_of(orlop) == []


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A shared mount with a mount below it."""
    point = tmp_path / "shared"
    (point).mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "top", str(point)], check=True)
    subprocess.run(["mount", "--make-shared", str(point)], check=True)
    (point / "sub").mkdir()
    (point / "late").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "sub", str(point / "sub")], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "-R", str(point)], check=True)


@pytest.mark.parametrize(
    ("mode", "inwards", "outwards"), [("rprivate", False, False), ("rslave", True, False), ("rshared", True, True)]
)
def test_mounts_propagate_as_asked(orlop: Orlop, shared: Path, mode: str, inwards: bool, outwards: bool) -> None:
    spec = f"type=bind,source={shared},target=/m,bind-propagation={mode}"
    orlop.run("run", "-d", "--name", "prop", "--privileged", "--mount", spec, IMAGE, "sleep", "1000")
    try:
        subprocess.run(["mount", "-t", "tmpfs", "late", str(shared / "late")], check=True)
        assert ("/m/late" in orlop.out("exec", "prop", "cat", "/proc/self/mountinfo")) == inwards
        orlop.run("exec", "--privileged", "prop", "sh", "-c", "mkdir /m/own && mount -t tmpfs own /m/own")
        assert (mountinfo.mounted_at(str(shared / "own")) is not None) == outwards
    finally:
        orlop.run("rm", "-f", "prop")


def test_propagation_that_the_host_does_not_have_is_refused(orlop: Orlop, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "own", str(tmp_path)], check=True)
    subprocess.run(["mount", "--make-private", str(tmp_path)], check=True)
    try:
        for mode in ("shared", "rslave"):
            done = orlop.run("run", "--rm", "-v", f"{tmp_path}:/m:{mode}", IMAGE, "true", code=125)
            assert str(tmp_path) in done.stderr.decode().splitlines()[0]
            assert mode in done.stderr.decode().splitlines()[0]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_read_only_reaches_mounts_below_unless_told_otherwise(orlop: Orlop, shared: Path) -> None:
    def writable(*options: str) -> list[str]:
        spec = ",".join(("type=bind", f"source={shared}", "target=/m", *options))
        script = "touch /m/x 2>/dev/null && echo top; touch /m/sub/x 2>/dev/null && echo below; true"
        return orlop.out("run", "--rm", "--mount", spec, IMAGE, "sh", "-c", script).split()

    assert writable() == ["top", "below"]
    assert writable("readonly") == []
    assert writable("readonly", "bind-recursive=readonly") == []
    assert writable("readonly", "bind-recursive=writable") == ["below"]
    spec = f"type=bind,source={shared},target=/m,bind-recursive=disabled"
    assert " /m/sub " not in orlop.out("run", "--rm", "--mount", spec, IMAGE, "cat", "/proc/mounts")


def test_a_bind_source_may_be_a_file_a_link_or_missing(orlop: Orlop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hold")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        assert orlop.out("run", "--rm", "-v", f"{tmp_path}/{name}:/f:ro", IMAGE, "cat", "/f") == "hold"
    (tmp_path / "dangling").symlink_to("nowhere")
    for spec in (f"type=bind,src={tmp_path}/none,dst=/f", f"type=bind,src={tmp_path}/dangling,dst=/f"):
        done = orlop.run("run", "--rm", "--mount", spec, IMAGE, "true", code=125)
        assert "bind source path does not exist" in done.stderr.decode()
    orlop.run("run", "--rm", "-v", f"{tmp_path}/made:/f", IMAGE, "true")
    assert (tmp_path / "made").is_dir()
    orlop.run("run", "--rm", "--mount", f"type=bind,src={tmp_path}/made2,dst=/f,bind-create-src", IMAGE, "true")
    assert (tmp_path / "made2").is_dir()


def test_volume_commands_create_list_inspect_prune(orlop: Orlop, tmp_path: Path) -> None:
    assert orlop.out("volume", "create", "--label", "crew=a", "hold") == "hold"
    assert orlop.out("volume", "create", "hold") == "hold"
    anonymous = orlop.out("volume", "create")
    assert len(anonymous) == 64
    table = orlop.out("volume", "ls").splitlines()
    assert table[0].split() == ["DRIVER", "VOLUME", "NAME"]
    assert ["local", "hold"] in [line.split() for line in table]
    assert orlop.out("volume", "ls", "-q", "--filter", "label=crew=a") == "hold"
    assert orlop.out("volume", "ls", "--filter", "name=hol", "--format", "{{.Name}} {{.Driver}}") == "hold local"
    told = json.loads(orlop.out("volume", "inspect", "hold"))[0]
    assert told["Labels"] == {"crew": "a"}
    assert told["Mountpoint"] == f"{orlop.root}/volumes/default/hold/_data"
    assert orlop.out("volume", "inspect", "--format", "{{.Name}}", "hold") == "hold"
    assert (
        orlop.run("volume", "inspect", "nonesuch", code=1).stderr.decode().startswith("orlop: no such volume: nonesuch")
    )
    assert orlop.run("volume", "prune", stdin=b"n\n").stdout.decode().startswith("WARNING!")
    assert anonymous in volumes(orlop)
    assert anonymous in orlop.out("volume", "prune", "-f")
    assert volumes(orlop) == ["hold"]
    assert "hold" not in orlop.out("volume", "prune", "-af", "--filter", "label!=crew")
    assert "hold" in orlop.out("volume", "prune", "-af", "--filter", "label=crew=a")
    orlop.run("volume", "rm", "-f", "nonesuch")
    assert "Manage volumes" in orlop.out("volume", "--help")
    assert "orlop volume ls [OPTIONS]" in orlop.out("volume", "ls", "--help")
    host = ("--opt", "type=none", "--opt", "o=bind", "--opt", f"device={tmp_path}")
    orlop.run("volume", "create", *host, "hosted")
    orlop.run("run", "--rm", "-v", "hosted:/h", IMAGE, "touch", "/h/seen")
    assert (tmp_path / "seen").exists()
    orlop.run("volume", "rm", "hosted")
    assert (tmp_path / "seen").exists()


def test_inspect_tells_volumes_from_binds(orlop: Orlop, tmp_path: Path) -> None:
    flags = ("-v", "seen:/v:ro", "-v", f"{tmp_path}:/b", "--tmpfs", "/t", "--mount", f"type=image,src={IMAGE},dst=/i")
    id = orlop.out("create", *flags, IMAGE)
    found = {each["Destination"]: each for each in json.loads(orlop.out("inspect", id))[0]["Mounts"]}
    assert (found["/v"]["Type"], found["/v"]["Name"], found["/v"]["RW"]) == ("volume", "seen", False)
    assert found["/v"]["Source"] == f"{orlop.root}/volumes/default/seen/_data"
    assert (found["/b"]["Type"], found["/b"]["Source"], found["/b"]["RW"]) == ("bind", str(tmp_path), True)
    assert (found["/i"]["Type"], found["/i"]["RW"]) == ("image", False)
    orlop.run("rm", id)
    orlop.run("volume", "rm", "seen")


def test_a_creation_that_is_killed_is_cleared_by_rm_with_its_anonymous_volumes(orlop: Orlop) -> None:
    from tests.support import faults

    def make() -> None:
        with orlops.Engine.open(root=str(orlop.root), state=str(orlop.state)) as engine:
            engine.containers.create(CARGO, ["true"], name="cut")

    before = volumes(orlop)
    orlop.engine.close()
    names = faults.points(make)
    orlop.run("rm", "-v", "cut")
    for index in [n for n, name in enumerate(names) if name.startswith("volumes.")]:
        faults.killed_at(make, index)
        orlop.run("rm", "cut")
        orlop.engine.volumes.prune([])
        assert volumes(orlop) == before
        assert sorted(os.listdir(orlop.root / "volumes" / "default")) == before
    orlop.run("gc")
