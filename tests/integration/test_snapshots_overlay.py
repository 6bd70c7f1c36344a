"""The overlay snapshotter: the shared suite, and what is overlay's own."""

import os

import pytest

pytest.register_assert_rewrite("tests.support.snapshotter_suite")

from orlop.stores.snapshots.overlay import OverlaySnapshotter  # noqa: E402
from tests.support.layering import directory, file  # noqa: E402
from tests.support.snapshotter_suite import SnapshotterSuite  # noqa: E402


class TestOverlay(SnapshotterSuite):
    kind = "overlay"

    def test_a_layer_that_needs_no_fix_up_takes_no_directory(self, bench):
        bench.stack([directory(""), directory("d"), file("d/a")], [directory("d"), file("d/b")])
        assert bench.files() == set()
        assert bench.snapshots.usage("chain-1").size == 0

    def test_a_fix_up_is_made_only_where_attributes_differ(self, bench):
        bench.stack([directory("", 0o700), directory("d", 0o700)], [file("d/a")])
        assert len(bench.files()) == 1
        assert bench.snapshots.usage("chain-1").inodes >= 2

    def test_mounts_are_one_overlay_with_the_layers_topmost_first(self, bench):
        (mount,) = bench.snapshots.prepare("x", bench.stack([directory(""), file("a")], [directory(""), file("b")]))
        options = dict(option.partition("=")[::2] for option in mount.options)
        lower = options["lowerdir"].split(":")
        assert len(lower) == 2
        assert os.listdir(lower[0]) == ["b"]
        assert options["upperdir"].endswith("/fs")

    def test_options_fit_a_page_for_more_than_a_hundred_layers_at_the_usual_place(self, bench):
        layers = [[directory(""), file(f"f{number}")] for number in range(100)]
        (mount,) = bench.snapshots.prepare("x", bench.stack(*layers))
        options = ",".join(mount.options)
        per_layer = len("/var/lib/orlop/layers/l/0123456789ab:")
        assert (len(options) - 100 * len(bench.root)) / 100 < per_layer
        assert "/layers/l/" in options

    def test_xino_is_on_when_asked_for(self, bench):
        parent = bench.stack([directory(""), file("a")], [directory(""), file("b")])
        snapshots = OverlaySnapshotter(bench.db, bench.root, "default", xino=True)
        (mount,) = snapshots.prepare("x", parent)
        assert "xino=on" in mount.options
        with bench.mounted([mount]) as place:
            assert os.stat(f"{place}/a").st_dev == os.stat(place).st_dev

    def test_an_active_snapshot_whose_directories_a_power_cut_took_is_empty_not_broken(self, bench):
        bench.snapshots.prepare("x", bench.stack([directory("", 0o711), file("a")]))
        (number,) = bench.files()
        for name in ("fs", "work"):
            os.rmdir(f"{bench.root}/snapshots/overlay/{number}/{name}")
        os.rmdir(f"{bench.root}/snapshots/overlay/{number}")
        with bench.mounted("x") as place:
            assert os.listdir(place) == ["a"]
            assert os.stat(place).st_mode & 0o777 == 0o711
