"""The network store: networks and endpoints as rows; the migration that brought them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orlop.base import errors
from orlop.stores.metadata import schema
from orlop.stores.metadata.database import Database
from orlop.stores.networks.api import Endpoint, Network, PortMapping
from orlop.stores.networks.local import LocalNetworkStore

A, B = "a" * 64, "ab" + "b" * 62


@pytest.fixture
def db(tmp_path: Path) -> Database:
    return Database(str(tmp_path / "metadata.db"))


@pytest.fixture
def store(db: Database) -> LocalNetworkStore:
    return LocalNetworkStore(db)


def endpoint(container: str, address: str, **values: object) -> Endpoint:
    return Endpoint(container, A, netns="/n", link="l" + container, address=address, mac="02:00:00:00:00:01").replace(
        **values
    )


def put(store: LocalNetworkStore, made: Endpoint, last: int = 0) -> Endpoint:
    return store.add_endpoint(A, lambda taken, before: (made, last))


def test_a_database_from_before_networks_is_migrated(db: Database, store: LocalNetworkStore, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip  # noqa: E501
    now = schema.MIGRATIONS
    monkeypatch.setattr(schema, "MIGRATIONS", now[:1])
    with db.write() as tx:
        tx.execute("INSERT INTO namespaces (name, created_ns) VALUES ('old', 1)")
    db.close()
    monkeypatch.setattr(schema, "MIGRATIONS", now)
    assert store.list() == []
    with db.read() as tx:
        assert tx.rows("SELECT name FROM namespaces") == [("old",)]


def test_a_network_is_found_by_name_id_and_prefix(store: LocalNetworkStore) -> None:
    one = store.create(Network(A, "one", subnet="10.0.0.0/24", options={"mtu": "1400"}, labels={"k": "v"}))
    two = store.create(Network(B, "aa", internal=True))
    assert store.resolve("one") == store.resolve(A) == store.resolve("aaa") == one
    assert store.resolve("aa") == two  # a name goes before a prefix
    assert [each.name for each in store.list()] == ["one", "aa"]
    with pytest.raises(errors.InvalidArgument, match="multiple networks"):
        store.resolve("a")
    for missing in ("", "nope", "%"):
        with pytest.raises(errors.NotFound):
            store.resolve(missing)


def test_a_name_is_taken_once(store: LocalNetworkStore) -> None:
    store.create(Network(A, "one"))
    with pytest.raises(errors.AlreadyExists):
        store.create(Network(B, "one"))


def test_a_network_with_endpoints_stays(store: LocalNetworkStore) -> None:
    store.create(Network(A, "one"))
    put(store, endpoint("c1", "10.0.0.2", name="web"))
    with pytest.raises(errors.FailedPrecondition, match="active endpoints: web"):
        store.delete(A)
    assert store.delete_endpoint("c1", A)
    assert not store.delete_endpoint("c1", A)
    store.delete(A)
    with pytest.raises(errors.NotFound):
        store.delete(A)


def test_an_endpoint_keeps_all_it_was_given(store: LocalNetworkStore) -> None:
    store.create(Network(A, "one"))
    made = put(store, endpoint("c1", "10.0.0.2", aliases=("a", "b"), ports=(PortMapping(80, 8080, "::", "udp"),)))
    assert store.endpoints(container="c1") == store.endpoints(network=A) == store.endpoints() == [made]
    changed = made.replace(ports=(), name="new")
    store.update_endpoint(changed)
    assert store.endpoints() == [changed]
    with pytest.raises(errors.NotFound):
        store.update_endpoint(made.replace(container="other"))


def test_the_allocator_sees_what_is_taken_and_where_it_was(store: LocalNetworkStore) -> None:
    store.create(Network(A, "one"))
    put(store, endpoint("c1", "10.0.0.2"), last=2)
    seen: list[object] = []

    def make(taken: set[str], last: int) -> tuple[Endpoint, int]:
        seen.append((taken, last))
        return endpoint("c2", "10.0.0.3"), 3

    store.add_endpoint(A, make)
    assert seen == [({"10.0.0.2"}, 2)]


def test_a_container_is_on_a_network_once(store: LocalNetworkStore) -> None:
    store.create(Network(A, "one"))
    put(store, endpoint("c1", "10.0.0.2"))
    with pytest.raises(errors.AlreadyExists):
        put(store, endpoint("c1", "10.0.0.3"))


def test_a_failed_allocation_leaves_no_row(store: LocalNetworkStore) -> None:
    store.create(Network(A, "one"))

    def make(taken: set[str], last: int) -> tuple[Endpoint, int]:
        raise errors.ResourceExhausted("full")

    with pytest.raises(errors.ResourceExhausted):
        store.add_endpoint(A, make)
    assert store.endpoints() == []
