"""Any stack of layers shows, in every snapshotter, what extracting the layers one after the other gives."""

import os
import uuid

import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.base.kernel import mounts
from orlop.stores.snapshots.stackview import View
from tests.support import layering
from tests.support.layering import directory, file, hard, link, opaque, whiteout
from tests.support.snapshotter_suite import Bench

NAMES = st.sampled_from("abc")
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
LINKS = st.sampled_from(["a", "b", "/c", "../b", "a/b", "/b/c", "nowhere", "c/../a", "."])
MODES = st.sampled_from([0o755, 0o700, 0o2711])
ENTRIES = st.one_of(
    st.builds(directory, PATHS, MODES, uid=st.sampled_from([0, 5])),
    st.builds(file, PATHS, st.sampled_from(["1", "2"]), mode=st.sampled_from([0o644, 0o4755])),
    st.builds(link, PATHS, LINKS),
    st.builds(hard, PATHS, PATHS),
    st.builds(whiteout, PATHS),
    st.builds(opaque, PATHS),
)


def above(path):
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def consistent(entries):
    """What of a random list can be one archive: parents are directories, nothing stands twice."""
    kinds: dict[str, str] = {}
    needed: set[str] = set()
    kept = []
    for entry in sorted(entries, key=lambda entry: (entry[0] == "hard", entry[1])):
        kind, path, options = entry
        if path in kinds or any(kinds.get(parent, "dir") not in ("dir", "opaque") for parent in above(path)):
            continue
        if path in needed and kind not in ("dir", "opaque"):
            continue
        if kind == "hard":
            target = options["target"]
            own = kinds.get(target)
            if target == path or target in above(path) or path in above(target):
                continue
            if own not in (None, "file", "link") or (own is None and target in needed):
                continue
            if any(kinds.get(parent, "dir") != "dir" for parent in above(target)):
                continue
        kinds[path] = kind
        needed.update(above(path))
        kept.append(entry)
    return kept


STACKS = st.lists(st.lists(ENTRIES, max_size=7).map(consistent), min_size=1, max_size=4)


def seen_by(bench, layers):
    """The tree a stack shows, or "refused"."""
    prefix = uuid.uuid4().hex
    try:
        top = bench.stack(*layers, prefix=prefix)
    except errors.DataLoss as error:
        assume("the link itself" not in str(error))  # c/c where c is a link to "."
        return "refused"
    return bench.seen(top, times=False)


def other_order(entries):
    return [entry for entry in entries[::-1] if entry[0] != "hard"] + [entry for entry in entries if entry[0] == "hard"]


def truth_of(path, layers):
    os.mkdir(path, 0o755)
    try:
        for entries in layers:
            layering.apply(path, entries)
    except layering.NoTarget:
        return "refused"
    except layering.Contradiction:
        reject()
    return layering.tree(path, times=False)


@pytest.fixture(scope="module")
def benches(ext4):
    made = [Bench(ext4 / f"stacking-{kind}" / "root", kind) for kind in ("overlay", "native")]
    yield made
    for bench in made:
        bench.close()


@given(stack=STACKS)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
def test_every_snapshotter_shows_what_sequential_extraction_gives(benches, stack):
    truth = truth_of(f"{benches[0].root}.truth-{uuid.uuid4().hex}", stack)
    # An archive that names a file both directly and through a link means what its order says; a layer has no order.
    assume(truth != "refused" or not any(entry[0] == "opaque" for layer in stack for entry in layer))
    assume(truth == truth_of(f"{benches[0].root}.truth-{uuid.uuid4().hex}", [other_order(layer) for layer in stack]))
    for bench in benches:
        assert seen_by(bench, stack) == truth, bench.kind


@given(stack=STACKS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
def test_the_view_of_layer_trees_agrees_with_the_kernels_overlay(benches, stack):
    bench = benches[0]
    place = f"{bench.root}.view-{uuid.uuid4().hex}"
    trees = []
    for number, entries in enumerate([[], *stack]):
        trees.insert(0, f"{place}/{number}")
        os.makedirs(trees[0])
        layering.build_alone(trees[0], entries)
    os.mkdir(f"{place}/merged")
    lowerdir = ":".join(mounts.escape_path(tree, lower=True) for tree in trees)
    mounts.mount("overlay", f"{place}/merged", "overlay", mounts.MS_RDONLY, f"lowerdir={lowerdir}")
    try:
        view = View(trees)
        shown = layering.tree(f"{place}/merged")
        for path in {*shown, "a/b/c", "b/a", "c/c/c", "a", "b", "c"}:
            entry = view.lookup(path)
            assert (entry is not None) == (path in shown), path
            if entry is None:
                continue
            there = os.lstat(f"{place}/merged/{path}")
            assert (entry.status.st_mode, entry.status.st_uid) == (there.st_mode, there.st_uid), path
            if not entry.is_dir:
                assert entry.status.st_mtime_ns == there.st_mtime_ns
                assert len(entry.layers) == 1
    finally:
        mounts.unmount(f"{place}/merged", lazy=False)
