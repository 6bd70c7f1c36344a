"""Pulls under strain: at once, killed at twenty moments, interrupted, on a full disk; their memory and their reads."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from orlop.base import errors
from orlop.base.archive import compression
from orlop.stores.content.local import LocalContentStore
from tests.support import fault_registry, orlops, transfer
from tests.support.fault_registry import FaultRegistry, ImageHandle
from tests.support.orlops import ORLOP, Orlop

PIECE = 16 << 10


@pytest.fixture
def registry() -> Iterator[FaultRegistry]:
    with FaultRegistry() as running:
        yield running


@pytest.fixture
def orlop(ext4_dir: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4_dir, "overlay") as opened:
        transfer.use(opened.engine, transfer.hasty(ext4_dir))
        yield opened


@pytest.fixture
def on_piece(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], None]], None]:
    """Lets a function see each 16 KiB that registries send of a body (it gets the path) before they are sent."""
    write = fault_registry._Handler._write

    def install(hook: Callable[[str], None]) -> None:
        def _write(self: Any, data: bytes) -> None:
            for start in range(0, len(data), PIECE):
                hook(self.record.path)
                write(self, data[start : start + PIECE])

        monkeypatch.setattr(fault_registry._Handler, "_write", _write)

    return install


def add(registry: FaultRegistry, count: int = 3, size: int = 150_000) -> ImageHandle:
    """An image of layers with a few files each."""
    layers = []
    for number in range(count):
        files = {f"d{number}/f{n}": transfer.noise(size // 4, number * 10 + n) for n in range(4)}
        layers.append(gzip.compress(transfer.tar_of(files), 1, mtime=0))
    return registry.add_image("app", "1", layers)


def digests(image: ImageHandle) -> list[str]:
    return [image.config.digest, *(layer.digest for layer in image.layers)]


# ---------------------------------------------------------------- at once


def test_two_processes_pull_one_image_and_each_blob_is_served_once(
    orlop: Orlop, registry: FaultRegistry, on_piece: Callable[[Callable[[str], None]], None]
) -> None:
    image = add(registry)

    def wait_for_both(path: str) -> None:
        if "/blobs/" in path:
            orlops.wait_for("the second pull", lambda: len(registry.seen("GET", "/manifests/")) == 2)

    on_piece(wait_for_both)
    pulls = [orlop.start("pull", "-q", f"{registry.host}/app:1") for _ in range(2)]
    for pull in pulls:
        out, told = pull.communicate(timeout=60)
        assert pull.returncode == 0, told
        assert out.decode().strip() == f"{registry.host}/app:1"
    for digest in digests(image):
        assert len(registry.seen("GET", digest)) == 1
    transfer.assert_sound(orlop)


def test_two_namespaces_pull_one_image_at_once(
    orlop: Orlop, registry: FaultRegistry, on_piece: Callable[[Callable[[str], None]], None]
) -> None:
    image = add(registry)

    def wait_for_both(path: str) -> None:
        if "/blobs/" in path:
            orlops.wait_for("the second pull", lambda: len(registry.seen("GET", "/manifests/")) == 2)

    on_piece(wait_for_both)
    name = f"{registry.host}/app:1"
    engines = [orlop.engine, orlop.engine.in_namespace("other")]
    with ThreadPoolExecutor(2) as pool:
        pulled = list(pool.map(lambda engine: engine.images.pull(name), engines))
    assert pulled[0].chain_id == pulled[1].chain_id
    for digest in digests(image):  # each namespace proves that it can have a blob, unless the other has it already
        assert len(registry.seen("GET", digest)) <= 2
    transfer.assert_sound(orlop, ("default", "other"))
    assert len(list((orlop.root / "layers" / "sha256").iterdir())) == 3
    orlop.engine.images.remove(name)
    engines[1].images.resolve(name)
    assert len(list((orlop.root / "layers" / "sha256").iterdir())) == 3
    engines[1].images.remove(name)
    transfer.assert_clean(orlop)


def test_an_image_pulled_in_another_namespace_is_not_fetched_again(orlop: Orlop, registry: FaultRegistry) -> None:
    image = add(registry)
    name = f"{registry.host}/app:1"
    orlop.engine.images.pull(name)
    orlop.engine.in_namespace("other").images.pull(name)
    for digest in digests(image):
        assert len(registry.seen("GET", digest)) == 1
    orlop.engine.in_namespace("other").images.remove(name)
    orlop.engine.images.resolve(name)


def test_collections_at_every_moment_take_nothing_from_a_pull(
    orlop: Orlop, registry: FaultRegistry, on_piece: Callable[[Callable[[str], None]], None]
) -> None:
    image = add(registry)
    name = f"{registry.host}/app:1"

    def collect(path: str) -> None:
        orlop.engine.system.gc()

    on_piece(collect)
    for _ in range(3):
        pulled = orlop.engine.images.pull(name)
        orlop.engine.system.gc()
        transfer.assert_sound(orlop)
        orlop.engine.wiring.snapshots.stat(pulled.chain_id)
        assert transfer.blobs_on_disk(orlop) == {*digests(image), image.manifest.digest}
        orlop.engine.images.remove(name)
    transfer.assert_clean(orlop)
    for digest in digests(image):
        assert len(registry.seen("GET", digest)) == 3


# ---------------------------------------------------------------- killed

KILLED_AT_POINT = """
import os, signal, sys
from orlop.base import faults
left = int(sys.argv[1])
def hook(name):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
faults.hook = hook
from orlop.doors.cli.main import main
code = main(["pull", "-q", sys.argv[2]])
print(int(sys.argv[1]) - left)
sys.exit(code)
"""


def committed(orlop: Orlop) -> set[str]:
    try:
        return {str(info.digest) for info in orlop.engine.wiring.content().walk()}
    except errors.NotFound:
        return set()


def assert_second_try(orlop: Orlop, registry: FaultRegistry, image: ImageHandle) -> None:
    """After a crash: all is sound, nothing committed is fetched again, and in the end nothing is left over."""
    name = f"{registry.host}/app:1"
    transfer.assert_sound(orlop)
    had = committed(orlop)
    asked = {digest: len(registry.seen("GET", digest)) for digest in digests(image)}
    pulled = orlop.engine.images.pull(name)
    for digest in had & set(asked):
        assert len(registry.seen("GET", digest)) == asked[digest], "fetched again"
    orlop.engine.system.gc()
    transfer.assert_sound(orlop)
    orlop.engine.wiring.snapshots.stat(pulled.chain_id)
    assert transfer.blobs_on_disk(orlop) == {*digests(image), image.manifest.digest}
    left = transfer.on_disk(orlop)
    assert len([path for path in left if path.startswith("layers/")]) == len(image.layers), left
    assert len(list(orlop.engine.wiring.snapshots.walk())) == len(image.layers)
    assert not [path for path in left if path.startswith("content/ingest/")], left
    orlop.engine.images.remove(name)
    transfer.drop_leases(orlop)
    transfer.assert_clean(orlop)


def test_a_puller_killed_while_bytes_arrive(
    orlop: Orlop, registry: FaultRegistry, on_piece: Callable[[Callable[[str], None]], None]
) -> None:
    image = add(registry)
    total = sum(layer.size for layer in image.layers)
    sent = victim = 0
    kill_at = 1 << 60

    def kill(path: str) -> None:
        nonlocal sent, kill_at
        sent += PIECE
        if sent >= kill_at:
            kill_at = 1 << 60
            os.kill(victim, signal.SIGKILL)

    on_piece(kill)
    for moment in range(10):
        sent, kill_at = 0, 2 * PIECE + total * moment // 10
        process = orlop.start("pull", "-q", f"{registry.host}/app:1")
        victim = process.pid
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        assert_second_try(orlop, registry, image)


def test_a_puller_killed_between_two_steps(orlop: Orlop, registry: FaultRegistry) -> None:
    image = add(registry)

    def pull(at: int) -> subprocess.CompletedProcess[bytes]:
        argv = [sys.executable, "-c", KILLED_AT_POINT, str(at), f"{registry.host}/app:1"]
        return subprocess.run(argv, env=orlop.env, capture_output=True, timeout=60)

    whole = pull(10**9)
    assert whole.returncode == 0, whole.stderr
    count = int(whole.stdout.split()[-1])
    assert_second_try(orlop, registry, image)
    for moment in range(10):
        done = pull(1 + count * moment // 10)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert_second_try(orlop, registry, image)


# ---------------------------------------------------------------- interrupted


@pytest.mark.parametrize("count", [1, 3])
def test_ctrl_c_ends_a_pull_in_silence_and_the_next_goes_on(orlop: Orlop, registry: FaultRegistry, count: int) -> None:
    image = add(registry, count, 300_000)
    slow = image.layers[-1]
    registry.fault("stall", match=slow.digest, at=200_000)
    process = subprocess.Popen(
        [*ORLOP, "pull", f"{registry.host}/app:1"],
        env=orlop.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    orlops.wait_for("half a layer", lambda: registry.bytes_served(slow.digest) >= 200_000)
    if count > 1:
        others = {layer.digest for layer in image.layers[:-1]}
        orlops.wait_for("the other layers", lambda: others <= committed(orlop))
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in told
    assert b"Exception" not in told
    assert list(orlop.engine.images.list()) == []
    asked = {digest: len(registry.seen("GET", digest)) for digest in digests(image)}
    orlop.run("pull", "-q", f"{registry.host}/app:1")
    for digest in set(asked) - {slow.digest}:
        assert len(registry.seen("GET", digest)) == asked[digest]
    transfer.assert_sound(orlop)


# ---------------------------------------------------------------- full disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a tmpfs of a size ("8m"); returns its directory."""
    points: list[Path] = []

    def mount(size: str) -> Path:
        point = tmp_path / f"disk{len(points)}"
        point.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "orlop-test", str(point)], check=True)
        points.append(point)
        return point

    yield mount
    for point in points:
        subprocess.run(["umount", "-l", str(point)], check=True)


@pytest.mark.parametrize("stage", ["content", "layer"])
def test_a_disk_that_fills_up(
    small_disk: Callable[[str], Path], registry: FaultRegistry, tmp_path: Path, stage: str
) -> None:
    big = transfer.noise(6 << 20) if stage == "content" else bytes(12 << 20)
    image = registry.add_image("app", "1", [gzip.compress(transfer.tar_of({"big": big}), 1)])
    name = f"{registry.host}/app:1"
    disk = small_disk("5m")
    with orlops.opened(disk, "native") as orlop:
        transfer.use(orlop.engine, transfer.hasty(tmp_path))
        with pytest.raises(errors.ResourceExhausted) as caught:
            orlop.engine.images.pull(name)
        assert image.layers[0].digest in caught.value.message
        assert "free some space" in caught.value.advice
        assert list(orlop.engine.images.list()) == []
        transfer.assert_clean(orlop)
        transfer.assert_sound(orlop)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        orlop.engine.images.pull(name)
        transfer.assert_sound(orlop)


def test_a_disk_that_is_full_at_any_moment(
    small_disk: Callable[[str], Path], registry: FaultRegistry, tmp_path: Path
) -> None:
    """With less and less space left it fails at ever earlier steps, those of the database among them."""
    image = add(registry, 2, 40_000)
    name = f"{registry.host}/app:1"
    disk = small_disk("4m")
    failed = 0
    with orlops.opened(disk, "native") as orlop:
        transfer.use(orlop.engine, transfer.hasty(tmp_path))
        assert list(orlop.engine.images.list()) == []
        for left in (*range(0, 100_000, 8192), 160_000, 300_000):
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            (disk / "ballast").write_bytes(bytes(max(0, free - left)))
            try:
                orlop.engine.images.pull(name)
            except errors.ResourceExhausted as error:
                failed += 1
                told = error.message
            else:
                told = ""
            (disk / "ballast").unlink()
            assert "\n" not in told
            assert len(list(orlop.engine.images.list())) == (0 if told else 1), told
            transfer.assert_sound(orlop)
            if not told:
                orlop.engine.images.remove(name)
            transfer.drop_leases(orlop)
            transfer.assert_clean(orlop)
        assert failed >= 5
        orlop.engine.images.pull(name)
        assert transfer.blobs_on_disk(orlop) == {*digests(image), image.manifest.digest}


# ---------------------------------------------------------------- memory and reads


def test_a_cold_pull_never_opens_a_layers_blob(
    orlop: Orlop, registry: FaultRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = add(registry)
    opened: list[str] = []
    real = LocalContentStore.open

    def open(self: LocalContentStore, digest: Any) -> Any:
        opened.append(str(digest))
        return real(self, digest)

    monkeypatch.setattr(LocalContentStore, "open", open)
    orlop.engine.images.pull(f"{registry.host}/app:1")
    assert not {layer.digest for layer in image.layers} & set(opened)


PEAK = """
import sys
from orlop.doors.cli.main import main
code = main(["pull", "-q", sys.argv[1]])
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
sys.exit(code)
"""


def test_a_large_layer_needs_little_memory(orlop: Orlop, registry: FaultRegistry) -> None:
    size = 300 << 20
    noise = os.urandom(8 << 20)
    out = io.BytesIO()
    writer = compression.open_writer(out, "gzip")
    head = tarfile.TarInfo("large")
    head.size = size
    import hashlib

    diff_id = hashlib.sha256()

    def write(data: bytes) -> None:
        diff_id.update(data)
        writer.write(data)

    write(head.tobuf())
    for number in range(size // len(noise)):
        write(noise if number % 3 == 0 else bytes(len(noise)))
    left = size % len(noise)
    write(bytes(left))
    write(bytes(1024))
    writer.close()
    registry.add_image("app", "1", [out.getvalue()], diff_ids=[f"sha256:{diff_id.hexdigest()}"])
    argv = [sys.executable, "-c", PEAK, f"{registry.host}/app:1"]
    done = subprocess.run(argv, env=orlop.env, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) <= 150 << 10, "KiB of peak resident memory"
