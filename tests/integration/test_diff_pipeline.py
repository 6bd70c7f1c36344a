"""services/diff: layers unpacked while their compressed bytes arrive; faults surface where they are written."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from orlop.base import errors
from orlop.base.archive import compression
from orlop.base.cancel import Cancel
from orlop.services.diff.limits import Limits
from orlop.services.diff.pipeline import LayerUnpacker, unpack_stream
from tests.support import trees
from tests.support.trees import END, header, member


def layer() -> bytes:
    noise = random.Random(3).randbytes(3 << 20)
    return b"".join(member(b"d/%d" % n, noise[n * 7000 : n * 7000 + 9000], mode=0o666) for n in range(400)) + END


LAYER = layer()


def compressed(kind: str, data: bytes = LAYER) -> bytes:
    out = io.BytesIO()
    writer = compression.open_writer(out, kind)
    writer.write(data)
    writer.close()
    return out.getvalue()


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("orlop-")]


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("step", [1000, 300_000, 1 << 30])
def test_pushed_bytes_become_the_tree_whatever_their_pieces(tmp_path: Path, kind: str, step: int) -> None:
    data = compressed(kind)
    unpacker = LayerUnpacker(kind, str(tmp_path))
    for at in range(0, len(data), step):
        unpacker.write(data[at : at + step])
    applied = unpacker.finish()
    unpacker.abort()
    assert applied.diff_id == "sha256:" + hashlib.sha256(LAYER).hexdigest()
    assert (applied.tar_size, applied.size, applied.inodes) == (len(LAYER), 400 * 9000 - missing(), 401)
    assert applied.implied == (".", "d")
    assert {path.stat().st_mode & 0o7777 for path in (tmp_path / "d").iterdir()} == {0o666}
    assert not threads()


def missing() -> int:
    """What the last files lack because the noise ends."""
    return sum(max(0, n * 7000 + 9000 - (3 << 20)) for n in range(400))


def test_a_stream_is_pulled_through_and_read_to_its_end(tmp_path: Path) -> None:
    raw = io.BytesIO(compressed("gzip") + bytes(1000))
    assert unpack_stream(raw, "gzip", str(tmp_path)).tar_size == len(LAYER)
    assert raw.read() == b""


def test_the_callers_umask_is_its_own_during_and_after(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        unpack_stream(io.BytesIO(LAYER), "none", str(tmp_path))
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("kind", "data", "error", "told"),
    [
        ("gzip", compressed("gzip")[:-100], errors.DataLoss, "too early"),
        ("gzip", compressed("gzip")[:2000] + b"rubbish" * 1000, errors.DataLoss, "gzip"),
        ("gzip", b"<html>not found</html>", errors.DataLoss, "not gzip"),
        ("zstd", compressed("zstd")[:-3], errors.DataLoss, "zstd"),
        ("gzip", gzip.compress(LAYER[:5000]), errors.DataLoss, "tar archive: ends in the middle"),
        ("none", member(b"../x/.wh."), errors.DataLoss, "whiteout"),
        ("none", b"", None, ""),
    ],
)
def test_damage_is_told_by_write_or_finish(
    tmp_path: Path, kind: str, data: bytes, error: type[Exception] | None, told: str
) -> None:
    def run() -> None:
        with LayerUnpacker(kind, str(tmp_path)) as unpacker:
            for at in range(0, len(data), 4096):
                unpacker.write(data[at : at + 4096])
            unpacker.finish()

    if error is None:
        run()
    else:
        with pytest.raises(error, match=told):
            run()
    assert not threads()


def test_an_unknown_compression_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidArgument, match="xz"):
        LayerUnpacker("xz", str(tmp_path))
    assert not threads()


def test_write_fails_instead_of_waiting_for_ever_when_the_applier_has_stopped(tmp_path: Path) -> None:
    data = header(b"f" * 50) + header(b"g") + bytes(100 << 20)
    unpacker = LayerUnpacker("none", str(tmp_path), limits=Limits(entries=1))
    told = ""
    for at in range(0, len(data), 1 << 20):
        try:
            unpacker.write(data[at : at + (1 << 20)])
        except errors.ResourceExhausted as error:
            told = str(error)
            break
    unpacker.abort()
    assert "entries" in told
    assert not threads()


def test_abort_ends_both_threads_at_any_time(tmp_path: Path) -> None:
    for written in (0, 100, 200_000):
        tree = tmp_path / str(written)
        tree.mkdir()
        unpacker = LayerUnpacker("gzip", str(tree))
        unpacker.write(compressed("gzip")[:written])
        unpacker.abort()
        unpacker.abort()
        assert not threads()
        with pytest.raises(errors.Cancelled):
            unpacker.write(b"x")


def test_a_cancellation_wakes_whoever_waits(tmp_path: Path) -> None:
    cancel = Cancel()
    unpacker = LayerUnpacker("gzip", str(tmp_path), cancel=cancel)
    unpacker.write(compressed("gzip")[:1000])
    timer = threading.Timer(0.05, cancel.cancel)
    timer.start()
    for thread in unpacker._threads:
        thread.join()  # they wait for bytes until they are cancelled
    timer.join()
    with pytest.raises(errors.Cancelled):
        unpacker.write(b"x")
    with pytest.raises(errors.Cancelled):
        unpacker.finish()
    unpacker.abort()
    with pytest.raises(errors.Cancelled):
        LayerUnpacker("gzip", str(tmp_path), cancel=cancel)
    assert not threads()


def test_a_deadline_ends_it(tmp_path: Path) -> None:
    with LayerUnpacker("gzip", str(tmp_path), cancel=Cancel(timeout=0.02)) as unpacker:
        for thread in unpacker._threads:
            thread.join()
        with pytest.raises(errors.DeadlineExceeded):
            unpacker.finish()


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_RATIO_GRACE", 4 << 20)
    bomb = compressed("gzip", member(b"zeros", bytes(64 << 20)) + END)
    with pytest.raises(errors.ResourceExhausted, match="bomb"):
        unpack_stream(io.BytesIO(bomb), "gzip", str(tmp_path), limits=Limits(ratio=100))


def test_memory_stays_small_whatever_the_layers_size(tmp_path: Path) -> None:
    """A quarter of a GiB of tar through a process of its own: what it needed at most over what it began with."""
    program = """
import io, resource, sys
from orlop.base.archive import compression
from orlop.services.diff.pipeline import LayerUnpacker
sys.path.insert(0, sys.argv[2])
from tests.support.trees import END, header
unpacker = LayerUnpacker("gzip", sys.argv[1])
class Out:
    def write(self, data): unpacker.write(bytes(data))
writer = compression.open_writer(Out(), "gzip", level=0)
noise = bytes(range(256)) * 4096
writer.write(header(b"big", size=240 << 20))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(240):
    writer.write(noise)
writer.write(END)
writer.close()
assert unpacker.finish().size == 240 << 20
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), str(root)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 32 << 10, "KiB beyond what it began with"
    trees.remove(str(tmp_path / "big"))


def test_on_a_full_file_system_the_disk_is_named_and_nothing_hangs(tmp_path: Path) -> None:
    point = tmp_path / "small"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", point], check=True)
    try:
        with pytest.raises(errors.ResourceExhausted, match=r"unpack layer entry 'd/\d+': No space left"):
            unpack_stream(io.BytesIO(compressed("gzip")), "gzip", str(point))
    finally:
        subprocess.run(["umount", point], check=True)
    assert not threads()
