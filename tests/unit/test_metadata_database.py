"""The metadata database: transactions, migrations, refusals, threads and forks."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from orlop.base import errors
from orlop.stores.metadata import database as module
from orlop.stores.metadata import namespaces, schema
from orlop.stores.metadata.database import Database


@pytest.fixture
def db(tmp_path: Path) -> Database:
    return Database(str(tmp_path / "metadata.db"))


def add(db: Database, name: str) -> None:
    with db.write() as tx:
        namespaces.create(tx, name)


def names(db: Database) -> list[str]:
    with db.read() as tx:
        return namespaces.listed(tx)


def test_what_was_written_is_there_for_another_database_object(db: Database) -> None:
    add(db, "one")
    assert names(Database(db.path)) == ["one"]


def test_an_error_undoes_the_whole_transaction(db: Database) -> None:
    def fail() -> None:
        with db.write() as tx:
            namespaces.create(tx, "one")
            raise KeyError("no")

    with pytest.raises(KeyError):
        fail()
    assert names(db) == []
    add(db, "two")
    assert names(db) == ["two"]


@pytest.mark.parametrize("inner", ["read", "write"])
def test_transactions_do_not_nest(db: Database, inner: str) -> None:
    with db.write() as tx:
        namespaces.create(tx, "one")
        with pytest.raises(errors.FailedPrecondition, match="in a transaction already"), getattr(db, inner)():
            pass
    assert names(db) == ["one"]


def test_calls_after_commit_come_once_and_only_after_a_commit(db: Database) -> None:
    calls: list[str] = []

    def call() -> None:
        calls.append(",".join(names(db)))

    with db.write() as tx:
        namespaces.create(tx, "one")
        tx.after_commit(call)
        tx.after_commit(call)
    assert calls == ["one"]

    def undone() -> None:
        with db.write() as tx:
            tx.after_commit(call)
            raise KeyError

    with pytest.raises(KeyError):
        undone()
    assert calls == ["one"]


def test_the_file_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        db = Database(str(tmp_path / "metadata.db"))
        add(db, "one")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert set(modes) == {"metadata.db", "metadata.db-wal", "metadata.db-shm"}
    assert set(modes.values()) == {0o600}


def test_a_log_is_written_ahead_and_every_commit_is_synced(db: Database) -> None:
    assert db.journal_mode == "wal"
    assert db.advice() == ""
    with db.read() as tx:
        assert tx.row("PRAGMA synchronous")[0] == 2
        assert tx.row("PRAGMA foreign_keys")[0] == 1


def test_where_a_write_ahead_log_cannot_work_another_journal_is_used_and_told(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_filesystem", lambda path: "nfs4")
    add(db, "one")
    assert db.journal_mode == "truncate"
    assert "nfs4" in db.advice()
    other = Database(db.path)
    add(other, "two")
    assert names(db) == ["one", "two"]


def test_the_type_of_the_file_system_is_found_in_the_mount_table() -> None:
    assert module._filesystem("/proc/self/status") == "proc"
    assert module._filesystem("/sys/kernel") == "sysfs"


def test_a_newer_database_is_refused_and_left_alone(db: Database) -> None:
    add(db, "one")
    db.close()
    with sqlite3.connect(db.path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    before = Path(db.path).read_bytes()
    with pytest.raises(errors.FailedPrecondition, match=r"newer Orlop \(schema 99") as caught:
        names(db)
    assert "upgrade" in caught.value.advice
    assert Path(db.path).read_bytes() == before


def test_another_programs_database_is_refused(db: Database) -> None:
    with sqlite3.connect(db.path) as raw:
        raw.execute("CREATE TABLE theirs (x)")
    raw.close()
    with pytest.raises(errors.FailedPrecondition, match="another program"):
        names(db)


def test_a_file_that_is_no_database_is_data_loss_with_advice(db: Database) -> None:
    Path(db.path).write_bytes(b"this is not a database" * 100)
    with pytest.raises(errors.DataLoss, match="damaged") as caught:
        names(db)
    assert "move metadata.db" in caught.value.advice


def test_a_damaged_page_is_found_by_check(db: Database) -> None:
    for number in range(200):
        add(db, f"namespace-{number:03}")
    with db.write() as tx:
        tx.execute("PRAGMA user_version")
    db.close()
    data = bytearray(Path(db.path).read_bytes())
    assert len(data) > 3 * 4096
    data[4096 : len(data)] = os.urandom(len(data) - 4096)
    Path(db.path).write_bytes(data)
    with pytest.raises(errors.DataLoss, match="damaged"):
        Database(db.path).check()


def test_a_sound_database_passes_the_check(db: Database) -> None:
    add(db, "one")
    db.check()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="nowhere: no such directory"):
        names(Database(str(tmp_path / "nowhere" / "metadata.db")))


def test_who_waits_too_long_for_another_writer_is_told_so(db: Database) -> None:
    add(db, "one")
    caught: list[BaseException] = []

    def other() -> None:
        try:
            add(Database(db.path, busy_timeout_s=0.05), "two")
        except BaseException as error:
            caught.append(error)

    with db.write() as tx:
        namespaces.create(tx, "three")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert [type(error) for error in caught] == [errors.Unavailable]
    assert names(db) == ["one", "three"]


def test_a_reader_keeps_its_view_while_another_writes(db: Database) -> None:
    add(db, "one")
    with db.read() as tx:
        assert namespaces.listed(tx) == ["one"]
        thread = threading.Thread(target=add, args=(db, "two"))
        thread.start()
        thread.join()
        assert namespaces.listed(tx) == ["one"]
    assert names(db) == ["one", "two"]


def test_a_threads_connection_is_closed_when_the_thread_ends(db: Database) -> None:
    add(db, "one")

    def files() -> int:
        return sum(os.readlink(f"/proc/self/fd/{fd}") == db.path for fd in os.listdir("/proc/self/fd") if _is_link(fd))

    def _is_link(fd: str) -> bool:
        return os.path.islink(f"/proc/self/fd/{fd}")

    before = files()
    for number in range(5):
        thread = threading.Thread(target=add, args=(db, f"thread-{number}"))
        thread.start()
        thread.join()
    # SQLite keeps a descriptor of a file until the process's last connection to it is closed, and uses it again.
    assert files() <= before + 1
    db.close()
    assert files() == 0


def test_after_close_a_transaction_opens_the_database_anew(db: Database) -> None:
    add(db, "one")
    db.close()
    db.close()
    assert names(db) == ["one"]


def _in_fork(work) -> int:  # type: ignore[no-untyped-def]
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = work() or 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_uses_connections_of_its_own(db: Database) -> None:
    add(db, "one")

    def child() -> int:
        for number in range(20):
            add(db, f"child-{number}")
        return 0 if len(names(db)) == 21 else 3

    assert _in_fork(child) == 0
    for number in range(20):
        add(db, f"parent-{number}")
    assert len(names(db)) == 41
    db.check()


def test_a_child_forked_in_the_middle_of_a_transaction_is_refused_and_the_parent_unharmed(db: Database) -> None:
    add(db, "one")

    def child() -> int:
        try:
            names(db)
        except errors.FailedPrecondition as error:
            return 7 if "forked in the middle" in error.message else 8
        return 9

    with db.write() as tx:
        namespaces.create(tx, "two")
        assert _in_fork(child) == 7
        namespaces.create(tx, "three")
    assert names(db) == ["one", "three", "two"]
    db.check()


def test_many_processes_that_create_it_at_once_all_succeed(tmp_path: Path) -> None:
    path = str(tmp_path / "metadata.db")
    pids = []
    for number in range(6):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                add(Database(path), f"namespace-{number}")
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 6
    assert len(names(Database(path))) == 6
    assert os.listdir(tmp_path) == ["metadata.db"]


def test_a_database_of_an_older_version_is_migrated_and_keeps_its_rows(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(db, "one")
    db.close()
    more = "ALTER TABLE namespaces ADD COLUMN note TEXT NOT NULL DEFAULT 'new'; CREATE TABLE extra (x INTEGER);"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, more))
    with db.read() as tx:
        assert tx.rows("SELECT name, note FROM namespaces") == [("one", "new")]
        assert tx.row("PRAGMA user_version")[0] == len(schema.MIGRATIONS)


def test_a_migration_that_fails_changes_nothing(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    add(db, "one")
    db.close()
    shipped = schema.MIGRATIONS
    monkeypatch.setattr(schema, "MIGRATIONS", (*shipped, "CREATE TABLE extra (x); CREATE TABLE namespaces (y);"))
    with pytest.raises(errors.Internal, match="already exists"):
        names(db)
    monkeypatch.setattr(schema, "MIGRATIONS", shipped)
    with db.read() as tx:
        assert tx.row("SELECT count(*) FROM sqlite_master WHERE name = 'extra'")[0] == 0
    assert names(db) == ["one"]


def test_the_stores_import_nothing_dear() -> None:
    program = """
import sys
sys.path.append(sys.argv[1])
before = set(sys.modules)
import orlop.stores.metadata.database, orlop.stores.containers.local, orlop.stores.images.local
import orlop.stores.content.local
dear = {"typing", "collections.abc", "dataclasses", "enum", "re", "json", "logging", "subprocess", "socket", "select",
        "datetime", "pathlib", "tempfile", "shutil", "contextlib", "argparse", "threading", "sqlite3", "hashlib"}
print(sorted(dear & (set(sys.modules) - before)))
"""
    source = str(Path(__file__).resolve().parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-E", "-c", program, source],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"
