"""For tests of pulls and pushes: layers to order, a registry client that does not wait, what a root holds on disk."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import sqlite3
import tarfile
from collections.abc import Mapping
from pathlib import Path

from orlop import Engine
from orlop.services.registry.client.client import RegistryClient

from .orlops import Orlop


def tar_of(files: Mapping[str, bytes | str | None]) -> bytes:
    """A layer's tar. Values: a file's bytes; a text: the target of a symbolic link; None: a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, value in files.items():
            info = tarfile.TarInfo(name)
            info.mtime = 1_700_000_000
            info.mode = 0o755
            if value is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif isinstance(value, str):
                info.type, info.linkname = tarfile.SYMTYPE, value
                tar.addfile(info)
            else:
                info.size = len(value)
                tar.addfile(info, io.BytesIO(value))
    return out.getvalue()


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def layer(name: str, size: int = 1000, seed: int = 0) -> bytes:
    """A compressed layer with one file of noise."""
    return gzip.compress(tar_of({name: noise(size, seed)}), 1, mtime=0)


def hasty(directory: Path, **more: object) -> RegistryClient:
    """A registry client that counts a connection as dead after 0.4 s and tries again at once, twice."""
    about: dict[str, object] = {
        "stall_timeout": 0.4,
        "retries": 2,
        "sleep": lambda seconds: None,
        "docker_config": str(directory / "docker"),
        **more,
    }
    return RegistryClient(**about)  # type: ignore[arg-type]


def use(engine: Engine, client: RegistryClient) -> None:
    """Let the engine's pulls and pushes go through this client."""
    engine.wiring._made["registry"] = client


def rows(orlop: Orlop, sql: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(f"file:{orlop.root}/metadata.db?mode=ro", uri=True)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def blobs_on_disk(orlop: Orlop) -> set[str]:
    top = orlop.root / "content" / "blobs"
    return {f"{path.parent.name}:{path.name}" for path in top.glob("*/*")}


def on_disk(orlop: Orlop) -> list[str]:
    """Everything that images leave on disk, as paths below the root."""
    found = []
    working = ("layers/ingest/*", "layers/trash/*", "snapshots/*/new/*", "snapshots/*/trash/*")
    for pattern in ("content/blobs/*/*", "content/ingest/*", "layers/sha*/*", "snapshots/*/[0-9]*", *working):
        found += [str(path.relative_to(orlop.root)) for path in orlop.root.glob(pattern)]
    return sorted(found)


def drop_leases(orlop: Orlop) -> int:
    """What time does to the leases of transfers that were cut off; how many there were."""
    count = 0
    for namespace in {orlop.engine.namespace, "default"}:
        leases = orlop.engine.in_namespace(namespace).wiring.leases
        for lease in leases.list():
            leases.delete(lease.id)
            count += 1
    return count


def assert_clean(orlop: Orlop) -> None:
    """After a collection nothing is left of any image."""
    orlop.engine.system.gc()
    left = on_disk(orlop)
    assert not left, left
    assert orlop.engine.wiring.leases.list() == []


def assert_sound(orlop: Orlop, namespaces: tuple[str, ...] = ("default",)) -> None:
    """The database is whole, every blob's row has a file with its digest, every layer and snapshot its directory."""
    assert rows(orlop, "PRAGMA integrity_check") == [("ok",)]
    for namespace in namespaces:
        wiring = orlop.engine.in_namespace(namespace).wiring
        content = wiring.content()
        for info in content.walk():
            data = (orlop.root / "content" / "blobs" / info.digest.algorithm / info.digest.encoded).read_bytes()
            assert len(data) == info.size
            assert hashlib.new(info.digest.algorithm, data).hexdigest() == info.digest.encoded
        for built in wiring.layers.list():
            assert os.path.isdir(built.path)
        for image in wiring.images.list():
            content.info(image.target.digest)


def tree(path: str | Path) -> dict[str, tuple[object, ...]]:
    """A directory's files: kind, mode, owner, time, content's hash or link's target, by their paths."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, directories, files in os.walk(path):
        for name in [*directories, *files]:
            full = os.path.join(directory, name)
            about = os.lstat(full)
            what: object = None
            if os.path.islink(full):
                what = os.readlink(full)
            elif os.path.isfile(full):
                what = hashlib.sha256(Path(full).read_bytes()).hexdigest()
            found[os.path.relpath(full, path)] = (about.st_mode, about.st_uid, about.st_gid, about.st_mtime_ns, what)
    return found
