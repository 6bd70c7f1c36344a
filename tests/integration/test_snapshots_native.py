"""The native snapshotter: the shared suite, and what is native's own."""

import os

import pytest

pytest.register_assert_rewrite("tests.support.snapshotter_suite")

from orlop.base import errors  # noqa: E402
from tests.support.layering import directory, file  # noqa: E402
from tests.support.snapshotter_suite import SnapshotterSuite  # noqa: E402


class TestNative(SnapshotterSuite):
    kind = "native"

    def test_holes_stay_holes(self, bench):
        with bench.mounted(bench.snapshots.prepare("k")) as place:
            with open(f"{place}/sparse", "wb") as made:
                made.seek(10 << 20)
                made.write(b"end")
                made.truncate(20 << 20)
        bench.snapshots.commit("one", "k")
        with bench.mounted(bench.snapshots.prepare("x", "one")) as place:
            status = os.stat(f"{place}/sparse")
            assert status.st_size == 20 << 20
            assert status.st_blocks * 512 < 1 << 20
            with open(f"{place}/sparse", "rb") as copy:
                copy.seek(10 << 20)
                assert copy.read(4) == b"end\0"

    def test_devices_fifos_and_capabilities_are_copied(self, bench):
        with bench.mounted(bench.snapshots.prepare("k")) as place:
            os.mkfifo(f"{place}/fifo", 0o640)
            os.mknod(f"{place}/null", 0o20666, os.makedev(1, 3))
            open(f"{place}/ping", "w").close()
            os.chown(f"{place}/ping", 5, 6)
            capability = bytes.fromhex("0100000200200000000000000000000000000000")
            os.setxattr(f"{place}/ping", "security.capability", capability)
        bench.snapshots.commit("one", "k")
        one = bench.seen("one")
        with bench.mounted(bench.snapshots.prepare("x", "one")) as place:
            assert os.stat(f"{place}/null").st_rdev == os.makedev(1, 3)
            assert os.getxattr(f"{place}/ping", "security.capability") == capability
        bench.snapshots.commit("two", "x")
        assert bench.seen("two") == one

    def test_very_deep_trees_are_copied(self, bench):
        with bench.mounted(bench.snapshots.prepare("k")) as place:
            here = os.getcwd()
            os.chdir(place)
            try:
                for _ in range(30):
                    os.mkdir("d" * 200)
                    os.chdir("d" * 200)
                open("bottom", "w").close()
            finally:
                os.chdir(here)
        bench.snapshots.commit("one", "k")
        bench.snapshots.prepare("x", "one")
        assert bench.snapshots.usage("x").inodes > 31

    def test_missing_files_are_said_so(self, bench):
        bench.snapshots.stack("one", "", bench.layer(directory(""), file("a")))
        bench.snapshots.prepare("x", "one")
        os.rename(f"{bench.root}/snapshots/native/2", f"{bench.root}/elsewhere")
        with pytest.raises(errors.DataLoss, match="missing"):
            bench.snapshots.mounts("x")
