"""The metadata database: one SQLite file that many processes and threads of one root use at once (DESIGN §4).

    with db.read() as tx:  ...     a consistent view; never blocks a writer
    with db.write() as tx: ...     BEGIN IMMEDIATE; committed and durable at the end of the block, undone by an error

The functions of the sibling modules take the transaction. A transaction is never held while waiting for a network, a
process or a person, and never nested. On the hot path: uses `_sqlite3` itself, the C half of `sqlite3`, because the
other half imports `datetime` and `collections.abc` (3 ms).

One connection a thread, made at its first transaction. SQLite keeps its locks per process, so a connection must not be
used after fork(2): a child closes the idle ones of its parent before it opens its own, and is refused when one was in
the middle of a transaction at the moment of the fork (https://www.sqlite.org/howtocorrupt.html, 2.6).
"""

from __future__ import annotations

import _sqlite3
import os
import time
from _thread import _local

from ...base import errors, faults, fsio
from . import schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

APPLICATION_ID = 0x6F726C70  # "orlp" in the file's header
BUSY_TIMEOUT_S = 30.0
"""How long a writer waits for other processes' transactions, which take milliseconds each."""

_UNSHARED = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "coda", "gfs", "gfs2", "gpfs", "lustre", "ocfs2",
        "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone",
    }
)  # fmt: skip
"""File systems that another host may have mounted too: WAL needs memory that all users of the file share."""


class Transaction:
    """An open transaction; only the functions of stores/metadata use `execute`, `row` and `rows`.

    now_ns: when it began, ns since the epoch: one time for all rows of one change.
    """

    __slots__ = ("_after", "_connection", "now_ns", "writable")

    def __init__(self, connection: _sqlite3.Connection, writable: bool) -> None:
        self._connection = connection
        self._after: list[Callable[[], object]] = []
        self.writable = writable
        self.now_ns = time.time_ns()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement; returns how many rows it changed."""
        return self._connection.execute(sql, parameters).rowcount

    def insert(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one INSERT; returns the row's number (tables that have one)."""
        return self._connection.execute(sql, parameters).lastrowid or 0

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The first row, or None."""
        return self._connection.execute(sql, parameters).fetchone()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        return self._connection.execute(sql, parameters).fetchall()

    def after_commit(self, call: Callable[[], object]) -> None:
        """Have `call` called when the transaction has been committed (not when it is undone), each callable once."""
        if call not in self._after:
            self._after.append(call)


class _Link:
    """One thread's connection to one file. busy: a transaction is open on it."""

    __slots__ = ("busy", "connection", "generation", "path", "pid")

    def __init__(self, path: str, connection: _sqlite3.Connection, generation: int) -> None:
        self.path = path
        self.connection = connection
        self.generation = generation
        self.pid = os.getpid()
        self.busy = False
        _links[id(self)] = self

    def close(self) -> None:
        if _links.pop(id(self), None) is not None:
            self.connection.close()


_links: dict[int, _Link] = {}
"""Every open connection of this process and, in a forked child, its parent's: those must never close by themselves."""


class _ThreadEnd:
    """Lives in thread-local storage: closes the thread's connection when the thread ends."""

    __slots__ = ("_getpid", "link")

    def __init__(self, link: _Link) -> None:
        self.link = link
        self._getpid = os.getpid  # still there when the interpreter takes the modules down

    def __del__(self) -> None:
        if self.link.pid == self._getpid():
            self.link.close()


class Database:
    """The metadata of one root. Making one touches nothing; the first transaction opens, or creates, the file.

    path: absolute path of the file; its directory must exist. Safe to use from any thread.
    Every transaction may raise Unavailable (others kept the database busy too long), ResourceExhausted (disk full),
    DataLoss (the file is damaged), FailedPrecondition (a newer Orlop's file, or not Orlop's), PermissionDenied.
    """

    def __init__(self, path: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._local = _local()
        self._generation = 0

    def read(self) -> _Context:
        """A read transaction, as a context manager that gives the Transaction."""
        return _Context(self, False)

    def write(self) -> _Context:
        """A write transaction (BEGIN IMMEDIATE). When the block ends without error, its changes are durable."""
        return _Context(self, True)

    def close(self) -> None:
        """Close this thread's connection; other threads' close when they end. A later transaction opens anew."""
        self._generation += 1
        self._local.end = None

    @property
    def journal_mode(self) -> str:
        """Either "wal" or, where the file system cannot carry a write-ahead log, "truncate"."""
        with self.read() as tx:
            return str(tx.row("PRAGMA journal_mode")[0])

    def advice(self) -> str:
        """A sentence for `orlop info` when the database works under a restriction, or ""."""
        if self.journal_mode == "wal":
            return ""
        return f"{self.path} lies on {_filesystem(self.path)}, where a write-ahead log cannot work: commands may wait \
for one another"

    def check(self) -> None:
        """Read all of the file and check every structure and reference in it. DataLoss names the first fault."""
        with self.read() as tx:
            fault = tx.row("PRAGMA integrity_check(1)")[0]
            if fault != "ok":
                raise _damaged(self.path, str(fault))
            orphan = tx.row("PRAGMA foreign_key_check")
            if orphan is not None:
                raise _damaged(self.path, f"a row of {orphan[0]} refers to a missing row of {orphan[2]}")

    def _link(self) -> _Link:
        end: _ThreadEnd | None = getattr(self._local, "end", None)
        if end is not None:
            link = end.link
            if link.pid == os.getpid() and link.generation == self._generation:
                return link
            del end
            self._local.end = None
        _close_inherited(self.path)
        link = _Link(self.path, _open(self.path, self._busy_timeout_s), self._generation)
        self._local.end = _ThreadEnd(link)
        return link


class _Context:
    __slots__ = ("_database", "_link", "_tx", "_writable")

    def __init__(self, database: Database, writable: bool) -> None:
        self._database = database
        self._writable = writable

    def __enter__(self) -> Transaction:
        database = self._database
        link = self._link = database._link()
        if link.busy:
            raise errors.FailedPrecondition(f"{database.path}: this thread is in a transaction already")
        link.busy = True
        try:
            link.connection.execute("BEGIN IMMEDIATE" if self._writable else "BEGIN")
        except BaseException as error:
            self._undo()
            raise _translated(error, database.path) from error
        self._tx = Transaction(link.connection, self._writable)
        return self._tx

    def __exit__(self, kind: object, value: BaseException | None, traceback: object) -> None:
        if value is None:
            try:
                if self._writable:
                    faults.point("metadata.commit.begun")
                self._link.connection.execute("COMMIT")
            except BaseException as error:
                self._undo()
                raise _translated(error, self._database.path) from error
            self._link.busy = False
            if self._writable:
                faults.point("metadata.commit.done")
            for call in self._tx._after:
                call()
            return
        self._undo()
        if isinstance(value, _sqlite3.Error):
            raise _translated(value, self._database.path) from value

    def _undo(self) -> None:
        connection = self._link.connection
        try:
            if connection.in_transaction:  # SQLite undoes some failed transactions by itself
                connection.execute("ROLLBACK")
        except _sqlite3.Error:
            self._link.close()  # a connection that cannot go back is given up; the next transaction opens another
            self._database._local.end = None
        finally:
            self._link.busy = False


def _close_inherited(path: str) -> None:
    """In a child of fork(2): close what the parent left idle, so that SQLite forgets the locks it believes to hold."""
    pid = os.getpid()
    inherited = [link for link in list(_links.values()) if link.pid != pid]
    if any(link.busy for link in inherited if link.path == path):
        raise errors.FailedPrecondition(
            f"{path}: this process was forked in the middle of a transaction of its parent",
            advice="start a new process (exec) instead, or fork when no verb of Orlop is under way",
        )
    for link in inherited:
        if not link.busy:
            link.close()


def _open(path: str, busy_timeout_s: float) -> _sqlite3.Connection:
    """A connection to the file, which is made and brought to this version's schema when it must be."""
    try:
        connection = _sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    except _sqlite3.Error as error:
        raise _translated(error, path) from error
    try:
        # Write-ahead log and rollback journal take the mode of the file itself.
        if os.stat(path).st_mode & 0o177:
            os.chmod(path, 0o600)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if _version(connection) != len(schema.MIGRATIONS):
            with fsio.lock(f"{path}.lock") as lock:
                _migrate(connection, path)
                lock.release(unlink=True)
    except BaseException as error:
        connection.close()
        raise _translated(error, path) from error
    return connection


def _version(connection: _sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _migrate(connection: _sqlite3.Connection, path: str) -> None:
    """Run the migrations that are missing, each in a transaction of its own. The caller holds the file's lock."""
    version = _version(connection)
    if version == len(schema.MIGRATIONS):
        return
    ours = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    if not ours and (version or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]):
        raise errors.FailedPrecondition(
            f"{path} is a database of another program", advice="give Orlop a root directory of its own (--root)"
        )
    if version > len(schema.MIGRATIONS):
        raise errors.FailedPrecondition(
            f"{path} was written by a newer Orlop (schema {version}; this one knows {len(schema.MIGRATIONS)})",
            advice="upgrade Orlop, or use another root directory (--root)",
        )
    if version == 0:
        _choose_journal(connection, path)
    for number in range(version + 1, len(schema.MIGRATIONS) + 1):
        script = schema.MIGRATIONS[number - 1]
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE; {script}; PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {number}; COMMIT"
            )
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _choose_journal(connection: _sqlite3.Connection, path: str) -> None:
    """WAL where it works. The mode is written into the file: later connections find it there."""
    mode = ""
    if _filesystem(path) not in _UNSHARED:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except _sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (_sqlite3.SQLITE_IOERR, _sqlite3.SQLITE_CANTOPEN):
                raise
    if mode != "wal":
        connection.execute("PRAGMA journal_mode = TRUNCATE")


def _filesystem(path: str) -> str:
    """The type of the file system `path` lies on, from the mount table; "" when it cannot be told."""
    real = os.path.realpath(path)
    best = kind = ""
    try:
        table = fsio.read_file("/proc/self/mounts").decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
        inside = point == "/" or real == point or real.startswith(f"{point}/")
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def _damaged(path: str, detail: str) -> errors.DataLoss:
    return errors.DataLoss(
        f"the metadata database {path} is damaged: {detail}",
        advice="move metadata.db* away and pull the images again (their blobs are kept), or restore a copy of the file",
    )


def _translated(error: BaseException, path: str) -> BaseException:
    """SQLite's and the system's errors as Orlop's; anything else as it is."""
    if isinstance(error, OSError):
        return errors.from_os(error, f"open the metadata database {path}")
    code = getattr(error, "sqlite_errorcode", None)
    if not isinstance(error, _sqlite3.Error) or code is None:
        return error
    primary = code & 0xFF
    if primary in (_sqlite3.SQLITE_BUSY, _sqlite3.SQLITE_LOCKED, _sqlite3.SQLITE_PROTOCOL):
        return errors.Unavailable(
            f"the metadata database {path} is kept busy by other processes", advice="try again in a moment"
        )
    if primary in (_sqlite3.SQLITE_CORRUPT, _sqlite3.SQLITE_NOTADB):
        return _damaged(path, str(error))
    if primary == _sqlite3.SQLITE_FULL or code == _sqlite3.SQLITE_IOERR_SHMSIZE:
        return errors.ResourceExhausted(
            f"write the metadata database {path}: no space left on device",
            advice="free some space (orlop gc, orlop rmi) and try again",
        )
    if primary in (_sqlite3.SQLITE_READONLY, _sqlite3.SQLITE_PERM, _sqlite3.SQLITE_AUTH):
        return errors.PermissionDenied(f"the metadata database {path} cannot be written: {error}")
    if primary == _sqlite3.SQLITE_CANTOPEN:
        if not os.path.isdir(os.path.dirname(path)):
            return errors.NotFound(f"{os.path.dirname(path)}: no such directory")
        return errors.PermissionDenied(f"the metadata database {path} cannot be opened: {error}")
    return errors.Internal(f"the metadata database {path}: {error}")
