"""The lease store."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orlop.base import errors, times
from orlop.base.oci.digest import of_bytes
from orlop.stores.leases.api import Resource
from orlop.stores.leases.local import EXPIRE
from tests.support.stores import Root

DIGEST = of_bytes(b"1")


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(str(tmp_path / "root"))


def test_a_lease_holds_resources_each_once(root: Root) -> None:
    leases = root.leases()
    leases.create("lease", {"a": "b"})
    wanted = [
        Resource("content", DIGEST),
        Resource("ingests", "ref"),
        Resource("layers", DIGEST),
        Resource("snapshots/overlay", "key"),
    ]
    for resource in [*wanted, *wanted]:
        leases.add_resource("lease", resource)
    assert leases.list_resources("lease") == wanted
    leases.delete_resource("lease", wanted[0])
    assert leases.list_resources("lease") == wanted[1:]
    with pytest.raises(errors.NotFound):
        leases.delete_resource("lease", wanted[0])


def test_an_id_is_made_when_none_is_given(root: Root) -> None:
    leases = root.leases()
    made = {leases.create().id for _ in range(5)}
    assert len(made) == 5
    assert {lease.id for lease in leases.list()} == made


def test_expiry_is_containerds_label(root: Root) -> None:
    lease = root.leases().create(expire_s=60)
    assert abs(times.parse_time(lease.labels[EXPIRE]) - time.time_ns() - 60e9) < 30e9
    given = {EXPIRE: "2030-01-01T00:00:00Z"}
    assert root.leases().create("b", given).labels == given
    with pytest.raises(errors.InvalidArgument):
        root.leases().create("c", {EXPIRE: "tomorrow"})


def test_a_lease_that_goes_lets_everything_go(root: Root) -> None:
    leases = root.leases()
    leases.create("lease")
    leases.add_resource("lease", Resource("content", DIGEST))
    leases.delete("lease")
    for call in (leases.delete, leases.list_resources):
        with pytest.raises(errors.NotFound):
            call("lease")
    leases.create("lease")
    assert leases.list_resources("lease") == []


def test_names_are_unique_and_checked_and_lists_take_filters(root: Root) -> None:
    leases = root.leases()
    leases.create("a", {"k": "v"})
    leases.create("b")
    with pytest.raises(errors.AlreadyExists):
        leases.create("a")
    with pytest.raises(errors.InvalidArgument):
        leases.create("../a")
    assert [lease.id for lease in leases.list()] == ["a", "b"]
    assert [lease.id for lease in leases.list("labels.k==v")] == ["a"]
    assert [lease.id for lease in leases.list("id==b")] == ["b"]
    assert root.leases("other").list() == []


@pytest.mark.parametrize(
    "resource",
    [
        Resource("content", "nonsense"),
        Resource("layers", "sha256:00"),
        Resource("snapshots", "key"),
        Resource("snapshots/", "key"),
        Resource("snapshots/overlay", ""),
        Resource("containers", "x"),
        Resource("content/x", DIGEST),
    ],
)
def test_only_known_resources_can_be_held(root: Root, resource: Resource) -> None:
    root.leases().create("lease")
    with pytest.raises(errors.InvalidArgument):
        root.leases().add_resource("lease", resource)


def test_nothing_can_be_added_to_a_lease_that_is_not_there(root: Root) -> None:
    with pytest.raises(errors.NotFound):
        root.leases().add_resource("none", Resource("content", DIGEST))
