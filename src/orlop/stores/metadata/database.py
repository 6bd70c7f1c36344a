"""The metadata database: one SQLite file, many processes, many threads.

WAL, `synchronous=FULL`: what a committed transaction said survives a power cut. A write takes the lock at its start
(BEGIN IMMEDIATE), so it never has to be undone for a reader's sake. A connection belongs to one thread of one process
and is never carried across a fork. Nothing here waits for a network, a process or a person.

On the path of `run`: the C module is used directly, `import sqlite3` costs 4 ms more. The only room that holds SQL.
"""

from __future__ import annotations

import _sqlite3
import os
from _thread import _local, allocate_lock

from ...base import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sqlite3 import Connection

    Tx = Connection

BUSY_TIMEOUT_S = 30.0
_ADVICE = "if it is damaged, move it away and run orlop again: images can be pulled anew"


class Database:
    """An open database. Make transactions with `read` and `write`; they do not nest."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.journal_mode = ""
        """ "wal", or what the file system allows instead."""
        self._local = _local()
        self._guard = allocate_lock()
        self._connections: list[Tx] = []
        self._pid = os.getpid()
        self._migrate()

    def _connect(self) -> Tx:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.close(fd)
        connection = _sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode != "wal":  # shared memory cannot be mapped there (some network file systems)
                mode = connection.execute("PRAGMA journal_mode=TRUNCATE").fetchone()[0]
            self.journal_mode = str(mode)
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def connection(self) -> Tx:
        """This thread's connection, opened at first use. Outside this room, use `read` and `write`."""
        if self._pid != os.getpid():
            # After a fork the parent's connections must not even be closed: that would drop the parent's locks.
            self._local = _local()
            self._connections = []
            self._pid = os.getpid()
        found: Tx | None = getattr(self._local, "connection", None)
        if found is None:
            try:
                found = self._connect()
            except OSError as error:
                raise errors.from_os(error, "open the metadata database") from error
            except _sqlite3.Error as error:
                raise translate(error, self.path) from error
            self._local.connection = found
            with self._guard:
                self._connections.append(found)
        return found

    def _migrate(self) -> None:
        from . import schema

        newest = len(schema.MIGRATIONS)
        connection = self.connection()
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        except _sqlite3.Error as error:
            self.close()
            raise translate(error, self.path) from error
        if version == newest:
            return
        if version > newest:
            self.close()
            raise errors.FailedPrecondition(
                f"the database {self.path} was made by a newer Orlop (schema {version}, this one knows {newest})",
                advice="upgrade this Orlop",
            )
        with self.write() as tx:
            version = tx.execute("PRAGMA user_version").fetchone()[0]  # another process may have been quicker
            for number in range(version, newest):
                for statement in _statements(schema.MIGRATIONS[number]):
                    tx.execute(statement)
                tx.execute(f"PRAGMA user_version={number + 1}")

    def read(self) -> Transaction:
        """A context in which all reads see one state of the database."""
        return Transaction(self, "BEGIN DEFERRED")

    def write(self) -> Transaction:
        """A context that reads and changes; commits at its end, rolls back on an error. Waits for other writers."""
        return Transaction(self, "BEGIN IMMEDIATE")

    def check(self) -> list[str]:
        """SQLite's own integrity check: what is wrong, [] when nothing is."""
        rows = self.connection().execute("PRAGMA integrity_check").fetchall()
        return [str(row[0]) for row in rows if row[0] != "ok"]

    def close(self) -> None:
        """Close every thread's connection."""
        if self._pid != os.getpid():
            return
        with self._guard:
            connections, self._connections = self._connections, []
        self._local = _local()
        for connection in connections:
            connection.close()


def _statements(script: str) -> list[str]:
    """A script's statements (`executescript` would commit the transaction it runs in)."""
    found, rest = [], ""
    for part in script.split(";"):
        rest += part + ";"
        if _sqlite3.complete_statement(rest):
            found.append(rest)
            rest = ""
    return [statement for statement in found if statement.strip(" \n;")]


class Transaction:
    """A transaction as a context manager; gives the connection."""

    __slots__ = ("_begin", "_connection", "_database")

    def __init__(self, database: Database, begin: str) -> None:
        self._database = database
        self._begin = begin

    def __enter__(self) -> Tx:
        self._connection = self._database.connection()
        if self._connection.in_transaction:
            raise errors.Internal("a metadata transaction was begun inside another")
        try:
            self._connection.execute(self._begin)
        except _sqlite3.Error as error:
            raise translate(error, self._database.path) from error
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _tb: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
                return
        except _sqlite3.Error as error:
            self._roll_back()
            raise translate(error, self._database.path) from error
        self._roll_back()
        if isinstance(value, _sqlite3.Error):
            raise translate(value, self._database.path) from value

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except _sqlite3.Error:
                pass  # the original error is the one to tell


def translate(error: BaseException, path: str) -> errors.OrlopError:
    """What an SQLite error means to us."""
    text = str(error)
    if "full" in text:
        return errors.ResourceExhausted(f"metadata database {path}: {text}", advice="free some space and try again")
    if "locked" in text or "busy" in text:
        return errors.Unavailable(
            f"metadata database {path} is locked by another process for more than {BUSY_TIMEOUT_S:.0f} s"
        )
    if "readonly" in text or "unable to open" in text:
        return errors.PermissionDenied(f"metadata database {path}: {text}")
    if "malformed" in text or "not a database" in text or "disk I/O" in text or "corrupt" in text:
        return errors.DataLoss(f"metadata database {path}: {text}", advice=_ADVICE)
    return errors.Internal(f"metadata database {path}: {text}")
