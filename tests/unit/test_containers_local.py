"""The container store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orlop.base import errors
from orlop.stores.containers.api import Container
from orlop.stores.containers.local import NAME_LABEL, LocalContainerStore
from tests.support.stores import Root

ID = "0123456789abcdef" * 4
FULL = Container(
    ID, "web", "docker.io/library/nginx:1", "sha256:aa", "crun", {"binary": "/usr/bin/crun"}, b'{"a": "\xc3\xa9"}',
    "overlay", "key", "sandbox", 0, 0, {"l": "m"}, {"x": [1, {"y": None}]},
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(str(tmp_path / "root"))


@pytest.fixture
def store(root: Root) -> LocalContainerStore:
    return root.containers()


def test_a_container_comes_back_whole(store: LocalContainerStore) -> None:
    made = store.create(FULL)
    assert made == FULL.replace(
        created_ns=made.created_ns, updated_ns=made.created_ns, labels={"l": "m", NAME_LABEL: "web"}
    )
    assert store.get(ID) == made


def test_a_name_given_as_label_is_the_name(store: LocalContainerStore) -> None:
    assert store.create(Container("a", labels={NAME_LABEL: "web"})).name == "web"
    assert store.resolve("web").id == "a"


def test_ids_and_names_are_unique_and_the_message_tells_who_has_them(store: LocalContainerStore) -> None:
    store.create(FULL)
    with pytest.raises(errors.AlreadyExists, match=ID):
        store.create(Container(ID))
    with pytest.raises(errors.AlreadyExists, match=f'"/web" is already in use by container {ID}'):
        store.create(Container("other", "web"))
    store.create(Container("nameless"))
    store.create(Container("nameless2"))


@pytest.mark.parametrize("bad", ["", "../x", "a/b", "x" * 77])
def test_a_bad_id_is_refused(store: LocalContainerStore, bad: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        store.create(Container(bad))


def test_it_is_found_by_id_then_name_then_prefix(store: LocalContainerStore) -> None:
    store.create(Container("abc1"))
    store.create(Container("abc2", "abc1x"))
    store.create(Container("name", "other"))
    store.create(Container("zzz", "name"))
    assert store.resolve("abc1").id == "abc1"
    assert store.resolve("abc1x").id == "abc2"
    assert store.resolve("/abc1x").id == "abc2"
    assert store.resolve("name").id == "name"  # an id goes before a name
    assert store.resolve("zz").id == "zzz"
    with pytest.raises(errors.InvalidArgument, match="multiple containers"):
        store.resolve("abc")
    for missing in ("q", "", "abc1%", "_bc1"):
        with pytest.raises(errors.NotFound, match="no such container"):
            store.resolve(missing)
    with pytest.raises(errors.NotFound):
        store.get("abc")


def test_they_are_listed_newest_first_and_by_filters(store: LocalContainerStore) -> None:
    for number in range(3):
        store.create(Container(f"c{number}", f"n{number}", image=f"i{number}", runtime="crun", labels={"k": "v"}))
    assert [container.id for container in store.list()] == ["c2", "c1", "c0"]
    assert [container.id for container in store.list("image==i1", "name==n0")] == ["c1", "c0"]
    assert [container.id for container in store.list("labels.k==v,id~=[02],runtime.name==crun")] == ["c2", "c0"]


def test_update_changes_what_may_change(store: LocalContainerStore) -> None:
    made = store.create(FULL)
    changed = store.update(made.replace(name="db", spec=b"2", labels={"x": "y"}))
    assert (changed.name, changed.spec, changed.labels) == ("db", b"2", {"x": "y", NAME_LABEL: "db"})
    assert changed.updated_ns > changed.created_ns == made.created_ns
    assert store.get(ID) == changed


def test_update_changes_only_the_fields_that_are_named(store: LocalContainerStore) -> None:
    made = store.create(FULL)
    other = made.replace(spec=b"2", image="no", labels={"l": "", "n": "o"}, extensions={"new": 1})
    fields = ["spec", "labels.l", "labels.n", "extensions.new", "extensions.x"]
    changed = store.update(other, fields)
    assert changed.labels == {"n": "o", NAME_LABEL: "web"}
    assert (changed.spec, changed.image, changed.extensions) == (b"2", FULL.image, {"new": 1})
    for field in ("id", "runtime", "created_ns", "nonsense"):
        with pytest.raises(errors.InvalidArgument):
            store.update(other, [field])
    assert store.update(made.replace(name="moved"), ["name"]).labels[NAME_LABEL] == "moved"
    assert store.resolve("moved").id == ID


def test_neither_runtime_nor_anothers_name_can_be_taken(store: LocalContainerStore) -> None:
    made = store.create(FULL)
    store.create(Container("other", "db"))
    with pytest.raises(errors.InvalidArgument, match="runtime"):
        store.update(made.replace(runtime="runc"))
    with pytest.raises(errors.AlreadyExists):
        store.update(made.replace(name="db"))
    with pytest.raises(errors.NotFound):
        store.update(Container("none"))


def test_delete_frees_id_and_name(store: LocalContainerStore) -> None:
    store.create(FULL)
    store.delete(ID)
    with pytest.raises(errors.NotFound):
        store.delete(ID)
    assert store.create(FULL).name == "web"


def test_namespaces_are_apart(root: Root) -> None:
    root.containers().create(FULL)
    root.containers("other").create(FULL)
    root.containers("other").delete(ID)
    assert root.containers().get(ID).name == "web"


def test_changes_are_published_with_containerds_members(root: Root) -> None:
    store = root.containers()
    made = store.create(FULL)
    store.update(made, ["spec"])
    store.delete(ID)
    events: list[tuple[str, Any]] = [(event.topic, event.payload) for event in root.events().read()]
    runtime = {"name": "crun", "options": {"binary": "/usr/bin/crun"}}
    assert events == [
        ("/containers/create", {"id": ID, "image": FULL.image, "runtime": runtime}),
        (
            "/containers/update",
            {"id": ID, "image": FULL.image, "labels": {"l": "m", NAME_LABEL: "web"}, "snapshot_key": "key"},
        ),
        ("/containers/delete", {"id": ID}),
    ]
