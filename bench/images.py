"""The images that are measured with: OCI layouts of real content, and a registry on loopback to pull them from.

Debian's static busybox, and files of this machine's Debian packages: the same machine gives the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FILES, LAYERS = 31_000, 5
SOURCES = "lib/python3 share/perl share/zoneinfo include share/doc share/man share/locale share lib".split()
LARGEST_FILE = 256 << 10

Writer = Callable[[tarfile.TarFile], None]


@contextmanager
def registry(directory: Path) -> Iterator[str]:
    """Debian's docker-registry with its storage under `directory`; yields host:port. Raises RuntimeError."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    config = directory / "registry.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {directory}/registry}}}}\nhttp: {{addr: '{host}'}}\n"
    )
    with (directory / "registry.log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://{host}/v2/", timeout=2).close()
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise RuntimeError(f"docker-registry does not answer: {(directory / 'registry.log').read_text()[-500:]}")
        yield host
    finally:
        server.terminate()
        server.wait(10)


def publish(reference: str, layers: list[Writer], directory: Path, level: int = 6) -> str:
    """Write an image of these layers, push it; returns how large it is, for the report. level: gzip's."""
    layout = directory / "layout"
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    made = [_layer(write, blobs, level) for write in layers]
    media = "application/vnd.oci.image"
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["diff_id"] for layer in made]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{media}.manifest.v1+json",
        "config": _document(blobs, config, f"{media}.config.v1+json"),
        "layers": [layer["descriptor"] for layer in made],
    }
    index = {"schemaVersion": 2, "manifests": [_document(blobs, manifest, f"{media}.manifest.v1+json")]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    copy = ["skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false"]
    subprocess.run([*copy, f"oci:{layout}", f"docker://{reference}"], check=True, timeout=300)
    shutil.rmtree(layout)
    packed, plain = sum(layer["descriptor"]["size"] for layer in made), sum(layer["unpacked"] for layer in made)
    files = sum(layer["files"] for layer in made)
    return f"{len(made)} layer(s), {files:,} files, {packed / 1e6:.1f} MB compressed, {plain / 1e6:.1f} MB unpacked"


def busybox(tar: tarfile.TarFile) -> None:
    """A root file system of one static program."""
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        _add(tar, name, tarfile.DIRTYPE, 0o755)
    _add(tar, "bin/busybox", mode=0o755, data=Path("/usr/bin/busybox").read_bytes())
    for applet in ("sh", "true", "sleep", "cat", "ls", "echo"):
        _add(tar, f"bin/{applet}", tarfile.SYMTYPE, linkname="busybox")
    _add(tar, "etc/passwd", data=b"root:x:0:0:root:/:/bin/sh\n")


def application() -> list[Writer]:
    """An application: 31,000 files of this machine's Debian packages in five layers, over busybox in the first."""
    paths = list(_package_files())
    files = [(f"srv/{n // len(paths)}{paths[n % len(paths)]}", paths[n % len(paths)]) for n in range(FILES)]

    def layer(number: int) -> Writer:
        def write(tar: tarfile.TarFile) -> None:
            if number == 0:
                busybox(tar)
            directories: set[str] = set()
            for name, path in files[number * FILES // LAYERS : (number + 1) * FILES // LAYERS]:
                parents = [name[:i] for i, letter in enumerate(name) if letter == "/"]
                for parent in [parent for parent in parents if parent not in directories]:
                    directories.add(parent)
                    _add(tar, parent, tarfile.DIRTYPE, 0o755)
                _add(tar, name, mode=os.stat(path).st_mode & 0o755, data=Path(path).read_bytes())

        return write

    return [layer(number) for number in range(LAYERS)]


def gibibyte(tar: tarfile.TarFile) -> None:
    """Busybox and a GiB in 16 files, half of it random and half of it zeros."""
    busybox(tar)
    reproducible = random.Random(1)
    for number in range(16):
        _add(tar, f"data-{number}", data=reproducible.randbytes(32 << 20) + bytes(32 << 20))


def _package_files() -> Iterator[str]:
    seen: set[str] = set()
    for source in SOURCES:
        for directory, names, files in os.walk(f"/usr/{source}"):
            names[:] = sorted(name for name in names if name != "__pycache__")
            for path in (f"{directory}/{name}" for name in sorted(files)):
                if path not in seen and not os.path.islink(path) and os.path.getsize(path) <= LARGEST_FILE:
                    seen.add(path)
                    yield path


def _add(
    tar: tarfile.TarFile,
    name: str,
    kind: bytes = tarfile.REGTYPE,
    mode: int = 0o644,
    data: bytes = b"",
    linkname: str = "",
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size, info.mtime = kind, mode, linkname, len(data), 1_700_000_000
    tar.addfile(info, io.BytesIO(data))


def _layer(write: Writer, blobs: Path, level: int) -> dict[str, Any]:
    plain, packed = blobs / "plain", blobs / "packed"
    with tarfile.open(plain, "w", format=tarfile.PAX_FORMAT) as tar:
        write(tar)
        files = sum(member.isreg() for member in tar.getmembers())
    with plain.open("rb") as source, packed.open("wb") as raw, gzip.GzipFile("", "wb", level, raw, mtime=0) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    diff_id, unpacked, digest = _sha256(plain), plain.stat().st_size, _sha256(packed)
    plain.unlink()
    blob = packed.rename(blobs / digest.removeprefix("sha256:"))
    media_type = "application/vnd.oci.image.layer.v1.tar+gzip"
    descriptor = {"mediaType": media_type, "digest": digest, "size": blob.stat().st_size}
    return {"diff_id": diff_id, "descriptor": descriptor, "files": files, "unpacked": unpacked}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _document(blobs: Path, value: object, media_type: str) -> dict[str, Any]:
    data = json.dumps(value).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}
