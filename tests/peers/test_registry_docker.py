"""The registry client against Debian's docker-registry: plain, with passwords, with TLS, as a mirror, and cut off."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest

from orlop.base import errors
from orlop.base.oci import digest as digests
from orlop.base.oci import manifest as manifests
from orlop.base.oci import mediatypes
from orlop.base.oci.descriptor import Descriptor
from orlop.base.oci.reference import parse_normalized
from orlop.services.registry.client import login as logins
from orlop.services.registry.client.client import RegistryClient
from tests.support.fault_registry import make_certificates

PROGRAM = "/usr/bin/docker-registry"
pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not os.path.exists(PROGRAM), reason="docker-registry is not installed"),
]

DATA = hashlib.shake_256(b"a layer for a real registry").digest(5_000_000)
LAYER = Descriptor(mediatypes.LAYER_GZIP, digests.of_bytes(DATA), len(DATA))


class FileSource:
    def __init__(self, path):
        self._fd = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._fd).st_size

    def fileno(self):
        return self._fd

    def read_at(self, offset, length):
        return os.pread(self._fd, length, offset)

    def close(self):
        os.close(self._fd)


@contextmanager
def docker_registry(directory, *, http=None, auth=None, proxy=None):
    """Run one; yields its host."""
    directory.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
    config = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": f"{directory}/data"}, "delete": {"enabled": True}},
        "http": {"addr": host, "secret": "test", **(http or {})},
        **({"auth": auth} if auth else {}),
        **({"proxy": proxy} if proxy else {}),
    }
    (directory / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "serve", str(directory / "config.yml")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        name, port = host.split(":")
        for _ in range(1000):
            try:
                socket.create_connection((name, int(port)), 1).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise AssertionError((directory / "log").read_text()) from None
                time.sleep(0.01)
        yield host
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with docker_registry(tmp_path_factory.mktemp("plain")) as host:
        yield host


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(DATA)
    return lambda: FileSource(path)


@pytest.fixture
def make_client(tmp_path):
    made = []

    def make(**options):
        about = {"hosts_dirs": (str(tmp_path / "certs.d"),), "docker_config": str(tmp_path / "docker"), **options}
        made.append(RegistryClient(**about))
        return made[-1]

    yield make
    for client in made:
        client.close()


def hosts_toml(tmp_path, host, text):
    directory = tmp_path / "certs.d" / host
    directory.mkdir(parents=True)
    (directory / "hosts.toml").write_text(text)


def drain(stream):
    out = bytearray()
    buffer = memoryview(bytearray(1 << 20))
    with stream:
        while count := stream.readinto(buffer):
            out += buffer[:count]
    return bytes(out)


def push_image(client, reference, source):
    """Push DATA as an image of one layer; the manifest's bytes."""
    text = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    config = Descriptor(mediatypes.CONFIG, digests.of_bytes(text), len(text))

    class Text:
        size = len(text)

        def read_at(self, offset, length):
            return text[offset : offset + length]

        def fileno(self):
            raise OSError

        def close(self):
            pass

    client.push_blob(reference, LAYER, source)
    client.push_blob(reference, config, Text)
    raw = manifests.manifest_bytes(config, [LAYER])
    client.push_manifest(reference, raw, mediatypes.MANIFEST)
    return raw


def test_an_image_goes_there_and_comes_back(plain, make_client, source):
    client = make_client()
    reference = parse_normalized(f"{plain}/round/trip:1")
    assert client.ping(plain) == f"http://{plain}/v2"
    raw = push_image(client, reference, source)
    target, got = client.fetch_tag(reference)
    assert got == raw
    assert client.resolve(reference) == target
    assert client.fetch_manifest(reference, target) == raw
    assert drain(client.open_blob(reference, LAYER)) == DATA
    stream = client.open_blob(reference, LAYER, offset=4_000_000)
    assert stream.offset == 4_000_000
    assert drain(stream) == DATA[4_000_000:]
    assert client.blob_exists(reference, LAYER.digest) == len(DATA)
    assert client.push_blob(reference, LAYER, source) == "exists"
    assert client.tags(reference) == ["1"]


def test_a_blob_is_mounted_from_another_repository(plain, make_client, source):
    client = make_client()
    assert client.push_blob(parse_normalized(f"{plain}/mount/base:1"), LAYER, source) == "uploaded"
    target = parse_normalized(f"{plain}/mount/app:1")
    assert client.push_blob(target, LAYER, source, mount_from=["mount/none", "mount/base"]) == "mounted"
    assert drain(client.open_blob(target, LAYER)) == DATA


@pytest.mark.parametrize("chunk_size", [1_000_000, 1_666_667, 10_000_000])
def test_a_blob_goes_in_chunks(plain, make_client, source, chunk_size):
    client = make_client()
    reference = parse_normalized(f"{plain}/chunks/of{chunk_size}:1")
    assert client.push_blob(reference, LAYER, source, chunk_size=chunk_size) == "uploaded"
    assert drain(client.open_blob(reference, LAYER)) == DATA


def test_referrers_are_kept_under_the_tag_that_stands_in(plain, make_client, source):
    client = make_client()
    reference = parse_normalized(f"{plain}/referrers:1")
    subject = digests.of_bytes(push_image(client, reference, source))
    target = client.resolve(reference)
    config = manifests.parse(client.fetch_manifest(reference, target)).config
    raw = manifests.manifest_bytes(config, [LAYER], artifact_type="application/vnd.example", subject=target)
    pushed = client.push_manifest(reference.replace(tag="", digest=digests.of_bytes(raw)), raw, mediatypes.MANIFEST)
    assert [d.digest for d in client.referrers(reference, subject)] == [pushed]
    assert client.referrers(reference, subject, "application/vnd.other") == []


def test_what_is_not_there_is_told_in_the_registrys_words(plain, make_client):
    client = make_client()
    with pytest.raises(errors.NotFound, match="MANIFEST_UNKNOWN"):
        client.resolve(parse_normalized(f"{plain}/none:1"))
    with pytest.raises(errors.NotFound, match="BLOB_UNKNOWN"):
        client.open_blob(parse_normalized(f"{plain}/none:1"), LAYER)


def test_manifests_and_blobs_are_deleted(plain, make_client, source):
    client = make_client()
    reference = parse_normalized(f"{plain}/deleted:1")
    digest = digests.of_bytes(push_image(client, reference, source))
    client.delete(reference.replace(digest=digest))
    with pytest.raises(errors.NotFound):
        client.resolve(reference)
    client.delete_blob(reference, LAYER.digest)
    assert client.blob_exists(reference, LAYER.digest) is None


class Cutter:
    """Leads connections to a registry and cuts the first ones when so many bytes have gone through a direction."""

    def __init__(self, host, *, down=0, up=0, times=1):
        self._target = host.split(":")
        self._limits = {"down": down, "up": up}
        self._times = times
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.passed = {"down": 0, "up": 0}
        self.cuts = 0
        self._threads = []
        self._sockets = []
        self._lock = threading.Lock()

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, *exc):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

    def _start(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection((self._target[0], int(self._target[1])))
            self._sockets += [near, far]
            self._start(self._copy, near, far, "up")
            self._start(self._copy, far, near, "down")

    def _copy(self, source, target, way):
        count = 0
        try:
            while data := source.recv(65536):
                target.sendall(data)
                count += len(data)
                with self._lock:
                    self.passed[way] += len(data)
                    cut = self._limits[way] and count >= self._limits[way] and self.cuts < self._times
                    self.cuts += bool(cut)
                if cut:
                    break
        except OSError:
            pass
        for sock in (source, target):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def test_a_download_that_is_cut_is_resumed(plain, make_client, source):
    client = make_client(sleep=lambda seconds: None)
    client.push_blob(parse_normalized(f"{plain}/cut:1"), LAYER, source)
    with Cutter(plain, down=2_000_000, times=2) as cutter:
        assert drain(client.open_blob(parse_normalized(f"{cutter.host}/cut:1"), LAYER)) == DATA
        client.close()
        assert cutter.cuts == 2
    assert cutter.passed["down"] < len(DATA) + 10_000


@pytest.mark.parametrize("chunk_size", [0, 2_000_000])
def test_an_upload_that_is_cut_ends_well(plain, make_client, source, chunk_size):
    client = make_client(sleep=lambda seconds: None)
    with Cutter(plain, up=3_000_000) as cutter:
        reference = parse_normalized(f"{cutter.host}/cut/up{chunk_size}:1")
        assert client.push_blob(reference, LAYER, source, chunk_size=chunk_size) == "uploaded"
        client.close()
        assert cutter.cuts == 1
    assert drain(make_client().open_blob(parse_normalized(f"{plain}/cut/up{chunk_size}:1"), LAYER)) == DATA


def test_passwords_in_an_htpasswd_file(make_client, source, tmp_path):
    program = shutil.which("htpasswd") or pytest.skip("htpasswd (apache2-utils) is not installed")
    line = subprocess.run(
        [program, "-Bbn", "-C", "5", "jane", "s3cret:x"], capture_output=True, check=True, timeout=60
    ).stdout
    (tmp_path / "htpasswd").write_bytes(line.strip() + b"\n")
    auth = {"htpasswd": {"realm": "test", "path": f"{tmp_path}/htpasswd"}}
    with docker_registry(tmp_path / "registry", auth=auth) as host:
        client = make_client()
        reference = parse_normalized(f"{host}/private:1")
        with pytest.raises(errors.Unauthenticated, match="UNAUTHORIZED"):
            client.resolve(reference)
        with pytest.raises(errors.Unauthenticated):
            logins.login(client, host, "jane", "wrong")
        logins.login(client, host, "jane", "s3cret:x")
        raw = push_image(client, reference, source)
        assert client.fetch_tag(reference)[1] == raw
        assert drain(client.open_blob(reference, LAYER)) == DATA
        skopeo = shutil.which("skopeo")
        if skopeo:  # what we keep, others can use
            subprocess.run(
                [skopeo, "inspect", "--tls-verify=false", "--authfile", str(tmp_path / "docker/config.json"), "--raw",
                 f"docker://{reference}"],
                check=True, capture_output=True, timeout=60,
            )  # fmt: skip
        logins.logout(host, str(tmp_path / "docker"))
        with pytest.raises(errors.Unauthenticated):
            make_client().resolve(reference)


def test_a_login_of_skopeo_is_used(make_client, tmp_path, monkeypatch):
    programs = [shutil.which("htpasswd"), shutil.which("skopeo")]
    if not all(programs):
        pytest.skip("htpasswd or skopeo is not installed")
    htpasswd, skopeo = programs
    line = subprocess.run(
        [htpasswd, "-Bbn", "-C", "5", "jane", "pw"], capture_output=True, check=True, timeout=60
    ).stdout
    (tmp_path / "htpasswd").write_bytes(line.strip() + b"\n")
    auth = {"htpasswd": {"realm": "test", "path": f"{tmp_path}/htpasswd"}}
    with docker_registry(tmp_path / "registry", auth=auth) as host:
        subprocess.run(
            [skopeo, "login", "--tls-verify=false", "--authfile", str(tmp_path / "auth.json"), "-u", "jane",
             "--password-stdin", host],
            input=b"pw", check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
        assert make_client().ping(host) == f"http://{host}/v2"


def test_tls_with_an_authority_and_client_certificates_of_our_own(make_client, source, tmp_path):
    certificates = make_certificates(str(tmp_path))
    http = {
        "tls": {
            "certificate": certificates.server[0],
            "key": certificates.server[1],
            "clientcas": [certificates.ca],
        }
    }
    with docker_registry(tmp_path / "registry", http=http) as host:
        with pytest.raises(errors.Unavailable):
            make_client(retries=0).ping(host)
        pair = f'[["{certificates.client[0]}", "{certificates.client[1]}"]]'
        hosts_toml(tmp_path, host, f'server = "https://{host}"\nca = "{certificates.ca}"\nclient = {pair}\n')
        client = make_client()
        reference = parse_normalized(f"{host}/secure:1")
        raw = push_image(client, reference, source)
        assert client.fetch_tag(reference)[1] == raw
        assert drain(client.open_blob(reference, LAYER)) == DATA
        with Cutter(host, up=3_000_000) as cutter:
            hosts_toml(
                tmp_path, cutter.host, f'server = "https://{cutter.host}"\nca = "{certificates.ca}"\nclient = {pair}\n'
            )
            cut = make_client(sleep=lambda seconds: None)
            assert cut.push_blob(parse_normalized(f"{cutter.host}/again:1"), LAYER, source) == "uploaded"
            cut.close()
            assert cutter.cuts == 1


def test_a_pull_through_mirror_of_hosts_toml(plain, make_client, source, tmp_path):
    reference = parse_normalized(f"{plain}/mirrored:1")
    raw = push_image(make_client(), reference, source)
    lines = []
    with docker_registry(tmp_path / "mirror", proxy={"remoteurl": f"http://{plain}"}) as mirror:
        hosts_toml(
            tmp_path,
            plain,
            f'server = "http://{plain}"\n[host."http://{mirror}"]\ncapabilities = ["pull", "resolve"]\n',
        )
        client = make_client(trace=lines.append)
        assert client.fetch_tag(reference)[1] == raw
        assert drain(client.open_blob(reference, LAYER)) == DATA
        assert all(mirror in line for line in lines)
    # The mirror is gone now.
    client = make_client(sleep=lambda seconds: None)
    assert client.fetch_tag(reference)[1] == raw
    assert drain(client.open_blob(reference, LAYER)) == DATA
