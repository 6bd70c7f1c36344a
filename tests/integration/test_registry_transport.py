"""TLS, mirrors of hosts.toml, and proxies, over real sockets."""

from __future__ import annotations

import hashlib
import socket
import threading

import pytest

from orlop.base import errors
from orlop.base.cancel import Cancel
from orlop.base.oci import digest as digests
from orlop.base.oci.descriptor import Descriptor
from orlop.base.oci.reference import parse_normalized
from orlop.services.registry.client.client import RegistryClient
from tests.support.fault_registry import FaultRegistry, make_certificates

DATA = hashlib.shake_256(b"over tls").digest(700_000)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(str(tmp_path_factory.mktemp("certificates")))


@pytest.fixture
def make_client(tmp_path):
    made = []

    def make(**options):
        about = {
            "hosts_dirs": (str(tmp_path / "certs.d"),),
            "docker_config": str(tmp_path),
            "sleep": lambda seconds: None,
            "stall_timeout": 10.0,
            **options,
        }
        made.append(RegistryClient(**about))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def hosts_toml(tmp_path):
    def write(host, text):
        directory = tmp_path / "certs.d" / host
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "hosts.toml").write_text(text)

    return write


def drain(stream):
    out = bytearray()
    buffer = memoryview(bytearray(100_000))
    with stream:
        while count := stream.readinto(buffer):
            out += buffer[:count]
    return bytes(out)


def image_in(registry, repository="app"):
    image = registry.add_image(repository, "1", [DATA])
    layer = image.layers[0]
    reference = parse_normalized(f"{registry.host}/{repository}:1")
    return reference, Descriptor(layer.media_type, digests.parse(layer.digest), layer.size)


class Source:
    size = len(DATA)

    def read_at(self, offset, length):
        return DATA[offset : offset + length]

    def fileno(self):
        raise OSError

    def close(self):
        pass


# ---------------------------------------------------------------------- TLS


def test_a_trusted_authority_makes_a_registry_trusted(certificates, make_client, hosts_toml):
    with FaultRegistry(tls=(*certificates.server, "")) as registry:
        hosts_toml(registry.host, f'server = "{registry.url}"\nca = "{certificates.ca}"\n')
        reference, descriptor = image_in(registry)
        client = make_client()
        client.fetch_tag(reference)
        registry.fault("drop", match=descriptor.digest, at=300_000)
        assert drain(client.open_blob(reference, descriptor)) == DATA
        assert client.push_blob(reference.replace(path="new"), descriptor, Source) == "uploaded"
        assert registry.blobs["new"][descriptor.digest] == DATA
        assert registry.connections == 2, "one was dropped"


def test_an_unknown_authority_is_refused_and_not_fallen_back_from(certificates, make_client, hosts_toml, tmp_path):
    other = make_certificates(str(tmp_path))
    with FaultRegistry(tls=(*certificates.server, "")) as registry:
        hosts_toml(registry.host, f'server = "{registry.url}"\nca = "{other.ca}"\n')
        with pytest.raises(errors.Unavailable, match=f"cannot trust {registry.host}") as caught:
            make_client().ping(registry.host)
        assert "certs.d" in caught.value.advice
        assert registry.connections == 1
        hosts_toml(registry.host, f'server = "{registry.url}"\nskip_verify = true\n')
        assert make_client().ping(registry.host) == f"{registry.url}/v2"


def test_a_certificate_for_another_name_is_refused(certificates, make_client, hosts_toml, monkeypatch):
    with FaultRegistry(tls=(*certificates.server, "")) as registry:
        answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", registry.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: answer)
        name = f"registry.example:{registry.port}"
        hosts_toml(name, f'ca = "{certificates.ca}"\n')
        with pytest.raises(errors.Unavailable, match="cannot trust"):
            make_client().ping(name)


def test_a_client_certificate_is_shown(certificates, make_client, hosts_toml):
    with FaultRegistry(tls=(*certificates.server, certificates.ca)) as registry:
        hosts_toml(registry.host, f'ca = "{certificates.ca}"\n')
        client = make_client()
        client.session.policy.retries = 0
        with pytest.raises(errors.Unavailable):
            client.ping(registry.host)
        pair = f'[["{certificates.client[0]}", "{certificates.client[1]}"]]'
        hosts_toml(registry.host, f'ca = "{certificates.ca}"\nclient = {pair}\n')
        assert make_client().ping(registry.host) == f"{registry.url}/v2"


def test_dockers_directory_of_certificates_is_used(certificates, make_client, tmp_path):
    with FaultRegistry(tls=(*certificates.server, certificates.ca)) as registry:
        directory = tmp_path / "certs.d" / registry.host
        directory.mkdir(parents=True)
        (directory / "ca.crt").symlink_to(certificates.ca)
        (directory / "client.cert").symlink_to(certificates.client[0])
        (directory / "client.key").symlink_to(certificates.client[1])
        assert make_client().ping(registry.host) == f"{registry.url}/v2"


@pytest.mark.parametrize("member", ["ca", "client"])
def test_a_certificate_file_that_is_none_is_named(make_client, hosts_toml, tmp_path, member):
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    hosts_toml("127.0.0.1:1", f'{member} = "{bad}"\n')
    with FaultRegistry() as registry:
        hosts_toml(registry.host, f'server = "https://{registry.host}"\n{member} = "{bad}"\n')
        with pytest.raises(errors.InvalidArgument, match=str(bad)):
            make_client().ping(registry.host)


def test_loopback_needs_no_certificate_and_tls_is_tried_first(certificates, make_client):
    with FaultRegistry(tls=(*certificates.server, "")) as secure, FaultRegistry() as plain:
        assert make_client().ping(secure.host).startswith("https://")
        assert make_client().ping(plain.host).startswith("http://")


def test_other_hosts_are_not_used_over_plain_http_unless_asked(make_client, monkeypatch):
    with FaultRegistry() as registry:
        answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", registry.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: answer)
        name = f"registry.example:{registry.port}"
        with pytest.raises(errors.Unavailable, match="does not speak TLS") as caught:
            make_client().ping(name)
        assert "--insecure-registry" in caught.value.advice
        assert registry.requests == []
        assert make_client(plain_http=True).ping(name) == f"http://{name}/v2"
        assert make_client(insecure_hosts=frozenset({name})).ping(name) == f"http://{name}/v2"


def test_a_handshake_that_stalls_ends_with_the_deadline(make_client):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(errors.DeadlineExceeded):
            make_client().ping(f"127.0.0.1:{listener.getsockname()[1]}", cancel=Cancel(0.2))


# ---------------------------------------------------------------------- mirrors


def test_a_mirror_is_asked_first_and_told_whose_content_is_meant(make_client, hosts_toml):
    with FaultRegistry() as mirror, FaultRegistry() as registry:
        reference, descriptor = image_in(registry)
        image_in(mirror)
        hosts_toml(
            registry.host, f'server = "{registry.url}"\n[host."{mirror.url}"]\n[host."{mirror.url}".header]\nx-a = "b"'
        )
        client = make_client()
        client.fetch_tag(reference)
        assert drain(client.open_blob(reference, descriptor)) == DATA
        assert registry.requests == []
        assert [r.query for r in mirror.requests] == [{"ns": [registry.host]}] * 2
        assert mirror.requests[0].headers["x-a"] == "b"


def test_a_mirror_that_may_only_pull_does_not_resolve_tags_or_take_pushes(make_client, hosts_toml):
    with FaultRegistry() as mirror, FaultRegistry() as registry:
        reference, descriptor = image_in(registry)
        image_in(mirror)
        hosts_toml(registry.host, f'server = "{registry.url}"\n[host."{mirror.url}"]\ncapabilities = ["pull"]\n')
        client = make_client()
        client.fetch_tag(reference)
        assert mirror.requests == []
        assert drain(client.open_blob(reference, descriptor)) == DATA
        assert [r.path for r in mirror.requests] == [f"/v2/app/blobs/{descriptor.digest}"]
        client.push_blob(reference.replace(path="new"), descriptor, Source)
        assert len(mirror.requests) == 1


@pytest.mark.parametrize("trouble", ["down", "missing", "wrong", "html", "500"])
def test_a_mirror_that_fails_is_passed_over(make_client, hosts_toml, trouble):
    lines = []
    with FaultRegistry() as mirror, FaultRegistry() as registry:
        reference, descriptor = image_in(registry)
        if trouble != "missing":
            image_in(mirror)
        if trouble in ("wrong", "html", "500"):
            kinds = {"wrong": "corrupt", "html": "html", "500": "status"}
            mirror.fault(kinds[trouble], times=-1, **({"status": 500} if trouble == "500" else {}))
        if trouble == "down":
            mirror.stop()
        hosts_toml(registry.host, f'server = "{registry.url}"\n[host."{mirror.url}"]\n')
        client = make_client(trace=lines.append)
        target, _ = client.fetch_tag(reference)
        assert client.fetch_manifest(reference, target)
        if trouble != "wrong":  # a blob's digest is the content store's affair
            assert drain(client.open_blob(reference, descriptor)) == DATA
        assert any("trying the next" in line for line in lines)


def test_a_mirror_that_dies_in_the_middle_is_gone_on_from_elsewhere(make_client, hosts_toml):
    with FaultRegistry() as mirror, FaultRegistry() as registry:
        reference, descriptor = image_in(registry)
        image_in(mirror)
        hosts_toml(registry.host, f'server = "{registry.url}"\n[host."{mirror.url}"]\n')
        mirror.fault("drop", match=descriptor.digest, at=300_000)
        mirror.fault("status", match=descriptor.digest, status=404, times=-1)
        assert drain(make_client().open_blob(reference, descriptor)) == DATA
        assert registry.requests[0].headers["range"] == "bytes=300000-"


def test_a_mirror_that_cannot_be_reached_is_left_alone_for_a_while(make_client, hosts_toml):
    now = [0.0]
    lines = []
    with FaultRegistry() as mirror, FaultRegistry() as registry:
        reference, _ = image_in(registry)
        mirror.stop()
        hosts_toml(registry.host, f'server = "{registry.url}"\n[host."{mirror.url}"]\n')
        client = make_client(clock=lambda: now[0], trace=lines.append)
        for _ in range(3):
            client.fetch_tag(reference)
        assert sum("trying the next" in line for line in lines) == 1
        now[0] = 60.0
        client.fetch_tag(reference)
        assert sum("trying the next" in line for line in lines) == 2


def test_when_all_fail_each_ones_reason_is_told(make_client, hosts_toml):
    with FaultRegistry() as mirror, FaultRegistry() as registry:
        hosts_toml(registry.host, f'server = "{registry.url}"\n[host."{mirror.url}"]\n')
        mirror.fault("status", status=403, message="not for you", times=-1)
        with pytest.raises(errors.NotFound) as caught:
            make_client().fetch_tag(parse_normalized(f"{registry.host}/app:1"))
        assert "manifest unknown" in caught.value.message
        assert "before that:" in caught.value.message
        assert "not for you" in caught.value.message


def test_a_default_mirror_serves_every_registry(make_client, hosts_toml):
    with FaultRegistry() as mirror:
        mirror.add_image("library/app", "1", [DATA])
        hosts_toml("_default", f'server = "{mirror.url}/cache"\noverride_path = true\n')
        mirror.fault("redirect", match="/cache/library/app/manifests/1", to="/v2/library/app/manifests/1")
        make_client().fetch_tag(parse_normalized("app:1"))
        assert mirror.requests[0].path == "/cache/library/app/manifests/1"
        assert mirror.requests[0].query == {"ns": ["docker.io"]}


# ---------------------------------------------------------------------- proxies


class Proxy:
    """A CONNECT proxy that leads every name to one port."""

    def __init__(self, port):
        self.heads = []
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = []
        self.answer = b"HTTP/1.1 200 Connection established\r\n\r\n"

    def __enter__(self):
        self._run(self._accept)
        return self

    def __exit__(self, *exc):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _run(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._run(self._serve, client)

    def _serve(self, client):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        self.heads.append(head.decode())
        client.sendall(self.answer)
        if b" 200 " not in self.answer:
            client.close()
            return
        server = socket.create_connection(("127.0.0.1", self._port))
        back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
        back.start()
        self._copy(client, server)
        back.join()
        client.close()
        server.close()

    @staticmethod
    def _copy(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.fixture
def no_proxy_set(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


def test_tls_goes_through_the_proxy_of_the_environment(certificates, make_client, hosts_toml, no_proxy_set):
    with FaultRegistry(tls=(*certificates.server, "")) as registry, Proxy(registry.port) as proxy:
        no_proxy_set.setenv("HTTPS_PROXY", f"http://user:pass@{proxy.address}")
        hosts_toml("registry.example", "skip_verify = true\n")
        client = make_client()
        assert client.ping("registry.example") == "https://registry.example/v2"
        client.close()
        (head,) = proxy.heads
        assert head.startswith("CONNECT registry.example:443 HTTP/1.1\r\n")
        assert "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n" in head
        assert "proxy-authorization" not in registry.requests[0].headers


def test_plain_http_is_asked_for_at_the_proxy_by_its_whole_address(make_client, hosts_toml, no_proxy_set):
    with FaultRegistry() as registry:
        registry.add_image("app", "1", [DATA])
        no_proxy_set.setenv("HTTP_PROXY", f"http://user:pass@{registry.host}")
        hosts_toml("registry.example", 'server = "http://registry.example"\n')
        lines = []
        make_client(trace=lines.append).fetch_tag(parse_normalized("registry.example/app:1"))
        assert registry.requests[0].headers["host"] == "registry.example"
        assert registry.requests[0].headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
        assert "pass" not in "".join(lines)


def test_a_proxy_of_hosts_toml_is_used_for_that_host(certificates, make_client, hosts_toml, no_proxy_set):
    with FaultRegistry(tls=(*certificates.server, "")) as registry, Proxy(registry.port) as proxy:
        hosts_toml(
            registry.host, f'server = "{registry.url}"\nca = "{certificates.ca}"\nproxy = "http://{proxy.address}"\n'
        )
        client = make_client()
        assert client.ping(registry.host)
        client.close()
        assert len(proxy.heads) == 1


def test_a_proxy_that_refuses_is_named(make_client, no_proxy_set):
    with Proxy(0) as proxy:
        proxy.answer = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
        no_proxy_set.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        with pytest.raises(errors.Unavailable, match="it answered 407") as caught:
            make_client().ping("registry.example")
        assert "password" in caught.value.advice


def test_loopback_is_not_proxied(make_client, no_proxy_set):
    no_proxy_set.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    no_proxy_set.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with FaultRegistry() as registry:
        assert make_client().ping(registry.host)
