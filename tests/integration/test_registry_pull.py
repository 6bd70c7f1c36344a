"""Pulling from a registry that misbehaves, over real sockets: nothing wrong is believed, nothing right is lost."""

from __future__ import annotations

import hashlib
import os
import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.base.cancel import Cancel
from orlop.base.oci import digest as digests
from orlop.base.oci.descriptor import Descriptor
from orlop.base.oci.manifest import MAX_MANIFEST_BYTES
from orlop.base.oci.reference import parse_normalized
from orlop.services.registry.client.client import RegistryClient
from tests.support.fault_registry import FaultRegistry

DATA = hashlib.shake_256(b"a layer").digest(1_500_000)


@pytest.fixture
def registry():
    with FaultRegistry() as made:
        yield made


@pytest.fixture
def slept():
    return []


@pytest.fixture
def client(tmp_path, slept):
    with RegistryClient(
        hosts_dirs=(str(tmp_path / "certs.d"),),
        docker_config=str(tmp_path / "docker"),
        sleep=slept.append,
        random=lambda: 0.0,
        stall_timeout=10.0,
    ) as made:
        yield made


def descriptor_of(blob, **about):
    return Descriptor(blob.media_type, digests.parse(blob.digest), blob.size, **about)


def layer_of(registry, data=DATA, repository="app"):
    blob = registry.add_blob(repository, data)
    return parse_normalized(f"{registry.host}/{repository}:1"), descriptor_of(blob)


def drain(stream, size=100_000):
    out = bytearray()
    buffer = memoryview(bytearray(size))
    with stream:
        while count := stream.readinto(buffer):
            out += buffer[:count]
    return bytes(out)


def test_an_image_comes_whole(registry, client):
    image = registry.add_image("library/app", "1", [DATA, b"second"])
    reference = parse_normalized(f"{registry.host}/library/app:1")
    target = client.resolve(reference)
    assert (target.digest, target.size, target.media_type) == (
        image.manifest.digest,
        image.manifest.size,
        image.manifest.media_type,
    )
    assert client.fetch_tag(reference) == (target, image.raw)
    assert client.fetch_manifest(reference, target) == image.raw
    assert [drain(client.open_blob(reference, descriptor_of(layer))) for layer in image.layers] == [DATA, b"second"]
    assert client.blob_exists(reference, digests.parse(image.layers[0].digest)) == len(DATA)
    assert client.blob_exists(reference, digests.of_bytes(b"nothing")) is None


def test_requests_share_one_connection_and_name_their_client(registry, client):
    registry.add_image("app", "1", [b"x"])
    for _ in range(5):
        client.fetch_tag(parse_normalized(f"{registry.host}/app:1"))
    assert registry.connections == 2, "one that was tried with TLS, one that is kept alive"
    assert registry.requests[0].headers["user-agent"].startswith("orlop/")


def test_the_empty_blob_needs_no_request(registry, client):
    reference, descriptor = layer_of(registry, b"")
    assert drain(client.open_blob(reference, descriptor)) == b""
    assert registry.requests == []


# ---------------------------------------------------------------------- broken bodies


@pytest.mark.parametrize("kind", ["drop", "close"])
def test_a_dropped_connection_is_gone_on_from_where_it_broke(registry, client, slept, kind):
    reference, descriptor = layer_of(registry)
    registry.fault(kind, match=descriptor.digest, at=1_000_000)
    assert drain(client.open_blob(reference, descriptor)) == DATA
    _, second = registry.seen("GET", "/blobs/")
    assert second.headers["range"] == "bytes=1000000-"
    assert registry.bytes_served("/blobs/") == len(DATA), "no byte was asked for twice"
    assert len(slept) == 1


def test_a_registry_that_stalls_is_asked_again_for_the_rest(registry, tmp_path, slept):
    reference, descriptor = layer_of(registry)
    registry.fault("stall", match=descriptor.digest, at=400_000)
    with RegistryClient(docker_config=str(tmp_path), hosts_dirs=(), stall_timeout=0.3, sleep=slept.append) as client:
        assert drain(client.open_blob(reference, descriptor)) == DATA
    assert registry.seen("GET", "/blobs/")[1].headers["range"] == "bytes=400000-"
    assert registry.bytes_served("/blobs/") == len(DATA)


def test_progress_makes_patience_new(registry, client, slept):
    reference, descriptor = layer_of(registry)
    registry.fault("drop", match=descriptor.digest, at=100_000, times=-1)
    assert drain(client.open_blob(reference, descriptor)) == DATA
    assert len(registry.seen("GET", "/blobs/")) == 15
    assert registry.bytes_served("/blobs/") == len(DATA)
    assert set(slept) == {0.5}


def test_a_registry_that_drops_without_progress_is_given_up(registry, client, slept):
    reference, descriptor = layer_of(registry)
    registry.fault("drop", match=descriptor.digest, at=10, times=-1)
    stream = client.open_blob(reference, descriptor)
    with pytest.raises(errors.Unavailable, match=r"gave up at byte \d+ of 1500000 after 6 tries"):
        drain(stream)
    assert len(registry.seen("GET", "/blobs/")) == 6
    assert slept == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_a_body_that_always_ends_short_is_data_loss(registry, client):
    reference, descriptor = layer_of(registry, DATA[:20_000])
    registry.fault("close", match=descriptor.digest, at=1000, times=-1)
    stream = client.open_blob(reference, descriptor)
    with pytest.raises(errors.DataLoss, match="ends short"):
        drain(stream)


@pytest.mark.parametrize("at", [-1, 1, 1000])
def test_a_wrong_size_is_noticed_before_a_byte_is_read(registry, client, at):
    reference, descriptor = layer_of(registry)
    registry.fault("grow", match=descriptor.digest, at=at)
    with pytest.raises(errors.DataLoss, match=f"has {len(DATA) + at} bytes, the manifest says {len(DATA)}"):
        client.open_blob(reference, descriptor)


def test_a_wrong_size_is_noticed_on_resuming(registry, client):
    reference, descriptor = layer_of(registry)
    registry.fault("grow", match=descriptor.digest, at=5)
    with pytest.raises(errors.DataLoss, match="the registry has 1500005 bytes"):
        client.open_blob(reference, descriptor, offset=100)


@pytest.mark.parametrize(("at", "said"), [(1, "longer"), (-1, "ends after 1499999")])
def test_a_body_of_unknown_length_is_counted(registry, client, at, said):
    reference, descriptor = layer_of(registry)
    registry.fault("chunked", match=descriptor.digest, at=at)
    stream = client.open_blob(reference, descriptor)
    with pytest.raises(errors.DataLoss, match=said):
        drain(stream)


def test_a_body_in_chunks_comes_whole_and_the_connection_is_kept(registry, client):
    reference, descriptor = layer_of(registry)
    registry.fault("chunked", match=descriptor.digest, times=2)
    assert drain(client.open_blob(reference, descriptor)) == DATA
    assert drain(client.open_blob(reference, descriptor), 7_777) == DATA
    assert registry.connections == 2


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["drop", "close", "hangup", "full", "chunked", "500"]), st.integers(0, 300_000)),
        max_size=4,
    ),
    st.integers(0, 299_999),
    st.booleans(),
)
def test_whatever_breaks_the_bytes_are_right(faults, offset, ranges):
    data = DATA[:300_000]
    with (
        FaultRegistry(ranges=ranges) as registry,
        RegistryClient(hosts_dirs=(), docker_config="/nonexistent", sleep=lambda seconds: None) as client,
    ):
        reference, descriptor = layer_of(registry, data)
        for kind, at in faults:
            if kind == "500":
                registry.fault("status", status=500)
            else:
                registry.fault(kind, at=at if kind in ("drop", "close") else 0)
        stream = client.open_blob(reference, descriptor, offset=offset)
        assert stream.offset in (0, offset)
        assert data[: stream.offset] + drain(stream, 50_000) == data


# ---------------------------------------------------------------------- ranges


def test_a_download_begins_in_the_middle(registry, client):
    reference, descriptor = layer_of(registry)
    stream = client.open_blob(reference, descriptor, offset=1_400_000)
    assert stream.offset == 1_400_000
    assert drain(stream) == DATA[1_400_000:]
    assert registry.bytes_served() == 100_000


def test_a_download_that_is_complete_asks_nothing(registry, client):
    reference, descriptor = layer_of(registry)
    assert drain(client.open_blob(reference, descriptor, offset=len(DATA))) == b""
    assert registry.requests == []
    with pytest.raises(errors.InvalidArgument):
        client.open_blob(reference, descriptor, offset=len(DATA) + 1)


def test_a_registry_without_ranges_is_told_to_the_caller(registry, client):
    registry.ranges = False
    reference, descriptor = layer_of(registry)
    stream = client.open_blob(reference, descriptor, offset=1_000)
    assert stream.offset == 0
    assert drain(stream) == DATA


def test_a_registry_without_ranges_is_read_over_after_a_drop(registry, client):
    registry.ranges = False
    reference, descriptor = layer_of(registry)
    registry.fault("drop", match=descriptor.digest, at=600_000)
    stream = client.open_blob(reference, descriptor)
    assert stream.offset == 0
    assert drain(stream) == DATA
    assert registry.bytes_served() == 600_000 + len(DATA)


# ---------------------------------------------------------------------- manifests


def test_a_manifest_with_the_wrong_digest_is_refused(registry, client):
    image = registry.add_image("app", "1", [b"x"])
    reference = parse_normalized(f"{registry.host}/app:1")
    target = descriptor_of(image.manifest)
    registry.fault("corrupt", method="GET", times=2)
    with pytest.raises(errors.DataLoss, match="digest"):
        client.fetch_manifest(reference, target)
    with pytest.raises(errors.DataLoss, match="the registry says"):
        client.fetch_tag(reference)
    registry.fault("digest", method="GET")
    with pytest.raises(errors.DataLoss, match="the registry says"):
        client.fetch_tag(reference)
    assert client.fetch_manifest(reference, target) == image.raw


def test_a_manifest_with_the_wrong_size_is_refused(registry, client):
    image = registry.add_image("app", "1", [b"x"])
    reference = parse_normalized(f"{registry.host}/app:1")
    with pytest.raises(errors.DataLoss, match="bytes, not the"):
        client.fetch_manifest(reference, descriptor_of(image.manifest).replace(size=image.manifest.size + 1))
    registry.fault("drop", method="GET", at=10)
    assert client.fetch_tag(reference)[1] == image.raw, "a manifest that breaks off is asked for again"


def test_a_manifest_of_more_than_four_mebibytes_is_not_read(registry, client):
    registry.add_manifest("app", "big", b" " * (MAX_MANIFEST_BYTES + 1))
    reference = parse_normalized(f"{registry.host}/app:big")
    with pytest.raises(errors.ResourceExhausted):
        client.fetch_tag(reference)
    registry.fault("chunked", method="GET")
    with pytest.raises(errors.ResourceExhausted):
        client.fetch_tag(reference)
    assert registry.bytes_served() < 2 * MAX_MANIFEST_BYTES + 100_000


def test_a_registry_without_head_or_digest_fields_is_asked_by_get(registry, client):
    image = registry.add_image("app", "1", [b"x"])
    reference = parse_normalized(f"{registry.host}/app:1")
    registry.fault("nodigest", method="HEAD")
    assert client.resolve(reference).digest == image.manifest.digest
    registry.heads = False
    assert client.resolve(reference).digest == image.manifest.digest
    registry.fault("nodigest", method="GET")
    assert client.resolve(reference).digest == image.manifest.digest
    assert client.blob_exists(reference, digests.parse(image.layers[0].digest)) == 1


def test_resolving_a_digest_does_not_believe_another_one(registry, client):
    image = registry.add_image("app", "1", [b"x"])
    reference = parse_normalized(f"{registry.host}/app@{image.manifest.digest}")
    registry.fault("digest", method="HEAD")
    assert client.resolve(reference).digest == image.manifest.digest
    assert client.fetch_tag(reference)[1] == image.raw


# ---------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.Unauthenticated),
        (403, errors.PermissionDenied),
        (404, errors.NotFound),
        (400, errors.InvalidArgument),
    ],
)
def test_a_no_is_told_in_the_registrys_words_and_not_asked_for_again(registry, client, slept, status, kind):
    registry.add_image("app", "1", [b"x"])
    registry.fault("status", status=status, code="DENIED", message="because of the test", method="GET")
    with pytest.raises(kind) as caught:
        client.fetch_tag(parse_normalized(f"{registry.host}/app:1"))
    assert caught.value.message.startswith(f"manifest {registry.host}/app:1: {registry.host} answered {status}")
    assert caught.value.message.endswith("DENIED: because of the test")
    assert "\n" not in caught.value.message
    assert len(registry.requests) == 1
    assert slept == []


def test_head_errors_are_told_with_the_body_of_a_get(registry, client):
    with pytest.raises(errors.NotFound, match="MANIFEST_UNKNOWN: manifest unknown"):
        client.resolve(parse_normalized(f"{registry.host}/app:none"))


def test_a_rate_limit_is_waited_for_as_long_as_it_asks(registry, client, slept):
    image = registry.add_image("app", "1", [b"x"])
    registry.fault("status", status=429, headers={"Retry-After": "7"}, times=2)
    assert client.fetch_tag(parse_normalized(f"{registry.host}/app:1"))[1] == image.raw
    assert slept == [7.0, 7.0]


def test_a_rate_limit_that_stays_is_told(registry, client, slept):
    registry.fault("status", status=429, code="TOOMANYREQUESTS", times=-1)
    with pytest.raises(errors.ResourceExhausted, match="TOOMANYREQUESTS"):
        client.fetch_tag(parse_normalized(f"{registry.host}/app:1"))
    assert slept == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_a_server_error_is_tried_again(registry, client, slept):
    image = registry.add_image("app", "1", [b"x"])
    registry.fault("status", status=500)
    registry.fault("status", status=503, headers={"Retry-After": "3"})
    assert client.fetch_tag(parse_normalized(f"{registry.host}/app:1"))[1] == image.raw
    assert slept == [0.5, 3.0]


def test_a_server_error_in_the_middle_of_a_download_is_tried_again(registry, client, slept):
    reference, descriptor = layer_of(registry)
    registry.fault("drop", match=descriptor.digest, at=700_000)
    registry.fault("status", status=502, match=descriptor.digest)
    assert drain(client.open_blob(reference, descriptor)) == DATA
    assert registry.bytes_served("/blobs/") < len(DATA) + 200


def test_html_is_named(registry, client):
    reference, descriptor = layer_of(registry)
    registry.add_manifest("app", "1", b"{}")
    registry.fault("html", times=2)
    with pytest.raises(errors.Unavailable, match="answered HTML, is this a registry"):
        client.fetch_tag(reference)
    with pytest.raises(errors.Unavailable, match="answered HTML, is this a registry"):
        client.open_blob(reference, descriptor)
    registry.fault("html", status=404)
    with pytest.raises(errors.NotFound, match="with HTML, is this a registry"):
        client.fetch_tag(reference)
    registry.fault("html")
    with pytest.raises(errors.Unavailable, match="answered HTML"):
        client.ping(registry.host)


def test_what_is_no_http_is_named(client):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"220 smtp ready\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        port = listener.getsockname()[1]
        client.session.policy.retries = 0
        with pytest.raises(errors.Unavailable, match="does not answer in HTTP"):
            client.ping(f"127.0.0.1:{port}")
        thread.join()


def test_a_registry_that_is_not_there_is_soon_given_up(client, slept):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(errors.Unavailable, match=f"cannot connect to 127.0.0.1:{port}: Connection refused"):
        client.fetch_tag(parse_normalized(f"127.0.0.1:{port}/app:1"))
    assert len(slept) == 2


def test_an_idle_connection_that_was_closed_costs_no_failure(registry, client, slept):
    image = registry.add_image("app", "1", [b"x"])
    reference = parse_normalized(f"{registry.host}/app:1")
    client.fetch_tag(reference)
    registry.fault("hangup")
    assert client.fetch_tag(reference)[1] == image.raw
    assert slept == []


def test_a_registry_that_comes_back_is_gone_on_with(client, slept):
    # It dies in the middle of a blob; the next connections are refused; then it is there again on the same port.
    with FaultRegistry() as first:
        reference, descriptor = layer_of(first)
        port = first.port
        first.fault("stall", match=descriptor.digest, at=500_000)
        stream = client.open_blob(reference, descriptor)
        buffer = memoryview(bytearray(500_000))
        got = bytearray()
        while len(got) < 500_000:
            got += buffer[: stream.readinto(buffer[: 500_000 - len(got)])]
    second = FaultRegistry(port=port)
    second.add_blob("app", DATA)

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            second.__enter__()

    client.session.policy._sleep = sleep
    try:
        assert bytes(got) + drain(stream) == DATA
    finally:
        second.stop()
    assert second.bytes_served() == len(DATA) - 500_000


# ---------------------------------------------------------------------- redirects


def test_redirects_are_followed_without_authorization_to_another_host(registry, client, tmp_path):
    with FaultRegistry() as storage:
        reference, descriptor = layer_of(registry)
        storage.add_blob("app", DATA)
        directory = tmp_path / "certs.d" / registry.host
        directory.mkdir(parents=True)
        (directory / "hosts.toml").write_text(
            f'server = "{registry.url}"\n[header]\nAuthorization = "Bearer own"\nX-Secret = "mine"\n'
        )
        registry.fault("redirect", match=descriptor.digest, to=f"{storage.url}/{descriptor.digest}?signature=abc")
        assert drain(client.open_blob(reference, descriptor, offset=5)) == DATA[5:]
    assert registry.requests[0].headers["x-secret"] == "mine"
    assert registry.requests[0].headers["authorization"] == "Bearer own"
    (elsewhere,) = storage.requests
    assert "authorization" not in elsewhere.headers
    assert "x-secret" not in elsewhere.headers
    assert elsewhere.headers["range"] == "bytes=5-"
    assert elsewhere.query == {"signature": ["abc"]}


def test_redirects_on_the_same_host_keep_what_was_configured(registry, client, tmp_path):
    reference, descriptor = layer_of(registry)
    directory = tmp_path / "certs.d" / registry.host
    directory.mkdir(parents=True)
    (directory / "hosts.toml").write_text(f'server = "{registry.url}"\n[header]\nX-Secret = "mine"\n')
    registry.fault("redirect", match="/blobs/", to=f"/{descriptor.digest}", status=302)
    assert drain(client.open_blob(reference, descriptor)) == DATA
    assert [request.headers["x-secret"] for request in registry.requests] == ["mine", "mine"]


def test_a_redirect_loop_is_named(registry, client, slept):
    reference, descriptor = layer_of(registry)
    registry.fault("redirect", match=descriptor.digest, to=f"/v2/app/blobs/{descriptor.digest}?x=1", times=-1)
    with pytest.raises(errors.Unavailable, match="redirects go round in a loop"):
        client.open_blob(reference, descriptor)
    assert len(registry.requests) == 2
    assert slept == []


def test_more_than_ten_redirects_are_too_many(registry, client):
    reference, descriptor = layer_of(registry)
    for number in range(20):
        registry.fault("redirect", to=f"/{number}")
    with pytest.raises(errors.Unavailable, match="more than 10 redirects"):
        client.open_blob(reference, descriptor)
    assert len(registry.requests) == 11


def test_a_redirect_to_another_scheme_is_refused(registry, client):
    reference, descriptor = layer_of(registry)
    registry.fault("redirect", to="file:///etc/passwd")
    with pytest.raises(errors.Unavailable, match="an address that is none"):
        client.open_blob(reference, descriptor)


def test_addresses_in_a_descriptor_are_fetched_without_credentials(registry, client, tmp_path):
    registry.auth = "basic"
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text(
        '{"auths": {"%s": {"auth": "dXNlcjpzZWNyZXQ="}}}' % registry.host  # noqa: UP031 - braces
    )
    with FaultRegistry() as elsewhere:
        blob = elsewhere.add_blob("x", DATA)
        descriptor = descriptor_of(blob, urls=(f"{elsewhere.url}/{blob.digest}",))
        reference = parse_normalized(f"{registry.host}/app:1")
        assert drain(client.open_blob(reference, descriptor)) == DATA
    assert "authorization" in registry.requests[-1].headers
    assert [sorted(request.headers) for request in elsewhere.requests] == [["accept-encoding", "host", "user-agent"]]


# ---------------------------------------------------------------------- cancelling


def test_a_stalled_read_ends_when_it_is_cancelled(registry, client):
    reference, descriptor = layer_of(registry)
    registry.fault("stall", match=descriptor.digest, at=1000)
    cancel = Cancel()
    stream = client.open_blob(reference, descriptor, cancel=cancel)
    waiting = threading.Event()

    def give_up():
        waiting.wait()
        cancel.cancel("enough")

    thread = threading.Thread(target=give_up)
    thread.start()
    waiting.set()
    with pytest.raises(errors.Cancelled, match="enough"):
        drain(stream, 4096)
    thread.join()


def test_waiting_for_an_answer_ends_with_the_deadline(registry, client):
    registry.add_image("app", "1", [b"x"])
    client.ping(registry.host)
    registry.fault("stall", times=-1)
    with pytest.raises(errors.DeadlineExceeded):
        client.fetch_tag(parse_normalized(f"{registry.host}/app:1"), cancel=Cancel(0.2))


def test_waiting_for_a_connection_ends_when_it_is_cancelled(client):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        full = [socket.socket() for _ in range(4)]  # nobody accepts: further connections wait for ever
        for sock in full:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        try:
            with pytest.raises(errors.DeadlineExceeded):
                client.ping(f"127.0.0.1:{listener.getsockname()[1]}", cancel=Cancel(0.3))
        finally:
            for sock in full:
                sock.close()


def test_a_name_server_that_hangs_does_not_hold_up_a_cancellation(client, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: release.wait(30) and [])
    try:
        with pytest.raises(errors.DeadlineExceeded):
            client.ping("registry.example", cancel=Cancel(0.2))
    finally:
        release.set()


def test_a_name_that_does_not_exist_is_told_at_once(client, slept, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(errors.Unavailable, match=r"cannot resolve registry\.example: Name or service not known"):
        client.ping("registry.example")
    assert slept == []


def test_a_second_address_is_tried_when_the_first_refuses(registry, client, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", a) for a in (closed, ("127.0.0.1", registry.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: answer)
    assert client.ping(f"localhost:{registry.port}") == f"http://localhost:{registry.port}/v2"


def test_many_threads_share_one_client(registry, client):
    pairs = [layer_of(registry, os.urandom(200_000)) for _ in range(8)]
    results = [b""] * len(pairs)

    def fetch(number):
        results[number] = drain(client.open_blob(*pairs[number]))

    threads = [threading.Thread(target=fetch, args=(n,)) for n in range(len(pairs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [digests.of_bytes(data) for data in results] == [descriptor.digest for _, descriptor in pairs]


def test_a_trace_tells_every_request_without_secrets(registry, tmp_path):
    lines = []
    reference, descriptor = layer_of(registry)
    with FaultRegistry() as storage:
        storage.add_blob("x", DATA)
        registry.fault("redirect", match="/blobs/", to=f"{storage.url}/{descriptor.digest}?signature=hush")
        with RegistryClient(docker_config=str(tmp_path), hosts_dirs=(), trace=lines.append) as client:
            drain(client.open_blob(reference, descriptor))
    text = "\n".join(lines)
    assert f"GET http://{registry.host}/v2/app/blobs/{descriptor.digest} → 307" in text
    assert f"GET {storage.url}/{descriptor.digest} → 200" in text
    assert "hush" not in text
