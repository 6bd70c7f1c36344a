"""Authorization and where secrets go; logging in and out."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
import threading

import pytest

from orlop.base import errors
from orlop.base.oci import digest as digests
from orlop.base.oci.descriptor import Descriptor
from orlop.base.oci.reference import parse_normalized
from orlop.services.registry.client import login as logins
from orlop.services.registry.client.client import RegistryClient
from orlop.services.registry.client.credentials import Credentials
from tests.support.fault_registry import FaultRegistry, make_certificates

DATA = hashlib.shake_256(b"private").digest(1_000_000)
GOOD = Credentials("user", "secret")
BASIC = "Basic " + base64.b64encode(b"user:secret").decode()


@pytest.fixture
def make_client(tmp_path):
    made = []

    def make(credentials=None, **options):
        given = {} if credentials is None else {"credentials": lambda key: credentials}
        client = RegistryClient(
            hosts_dirs=(str(tmp_path / "certs.d"),),
            docker_config=str(tmp_path / "docker"),
            sleep=lambda seconds: None,
            stall_timeout=10.0,
            **given,
            **options,
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


def image_in(registry, repository="app"):
    image = registry.add_image(repository, "1", [DATA])
    layer = image.layers[0]
    reference = parse_normalized(f"{registry.host}/{repository}:1")
    return reference, Descriptor(layer.media_type, digests.parse(layer.digest), layer.size)


def drain(stream):
    out = bytearray()
    buffer = memoryview(bytearray(100_000))
    with stream:
        while count := stream.readinto(buffer):
            out += buffer[:count]
    return bytes(out)


def hosts_toml(tmp_path, registry, text):
    directory = tmp_path / "certs.d" / registry.host
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "hosts.toml").write_text(text)


# ---------------------------------------------------------------------- basic


def test_a_password_is_sent_when_it_is_asked_for_and_from_then_on(make_client):
    with FaultRegistry(auth="basic") as registry:
        reference, descriptor = image_in(registry)
        client = make_client(GOOD)
        client.fetch_tag(reference)
        assert drain(client.open_blob(reference, descriptor)) == DATA
    assert [r.headers.get("authorization") for r in registry.requests] == [None, BASIC, BASIC]


def test_a_wrong_password_is_told_after_one_try(make_client):
    with FaultRegistry(auth="basic") as registry:
        reference, _ = image_in(registry)
        with pytest.raises(errors.Unauthenticated, match="authentication required") as caught:
            make_client(Credentials("user", "wrong")).fetch_tag(reference)
        assert len(registry.requests) == 2
    assert caught.value.advice == f"orlop login {registry.host}"
    assert "wrong" not in caught.value.message


def test_without_a_login_the_registrys_no_is_told(make_client):
    with FaultRegistry(auth="basic") as registry:
        reference, _ = image_in(registry)
        with pytest.raises(errors.Unauthenticated):
            make_client().fetch_tag(reference)
        assert len(registry.requests) == 1


def test_a_helper_that_failed_is_named_when_the_registry_says_no(make_client, tmp_path):
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text('{"credsStore": "missing"}')
    with FaultRegistry(auth="basic") as registry:
        reference, _ = image_in(registry)
        with pytest.raises(errors.Unauthenticated, match="docker-credential-missing cannot be run"):
            make_client().fetch_tag(reference)


# ---------------------------------------------------------------------- bearer


def test_an_anonymous_token_is_fetched_for_the_scope_and_used_again(make_client):
    with FaultRegistry(auth="bearer", anonymous=True) as registry:
        reference, descriptor = image_in(registry)
        client = make_client()
        client.fetch_tag(reference)
        assert drain(client.open_blob(reference, descriptor)) == DATA
        (token,) = registry.seen("GET", "/token")
        assert token.query == {"service": ["fault-registry"], "scope": ["repository:app:pull"]}
        assert "authorization" not in token.headers
        with pytest.raises(errors.Unauthenticated):
            client.push_manifest(reference, b'{"schemaVersion": 2}', "application/vnd.oci.image.manifest.v1+json")


def test_a_password_buys_a_token_and_goes_nowhere_else(make_client):
    with FaultRegistry(auth="bearer") as registry:
        reference, descriptor = image_in(registry)
        client = make_client(GOOD)
        assert drain(client.open_blob(reference, descriptor)) == DATA
        client.push_manifest(reference, b'{"schemaVersion": 2}', "application/vnd.oci.image.manifest.v1+json")
    for request in registry.requests:
        authorization = request.headers.get("authorization", "")
        assert authorization == BASIC if request.path == "/token" else not authorization.startswith("Basic")
    assert registry.seen("GET", "/token")[0].query["account"] == ["user"]
    assert registry.seen("GET", "/token")[-1].query["scope"] == ["repository:app:pull,push"]


def test_an_identity_token_is_exchanged_by_post(make_client):
    with FaultRegistry(auth="bearer") as registry:
        reference, descriptor = image_in(registry)
        client = make_client(Credentials(identity_token="identity-user"))
        assert drain(client.open_blob(reference, descriptor)) == DATA
        (token,) = registry.seen("POST", "/token")
        assert b"grant_type=refresh_token&refresh_token=identity-user" in token.body
        assert token.query == {}


def test_a_token_server_that_knows_oauth2_alone_gets_a_post(make_client):
    with FaultRegistry(auth="bearer") as registry:
        reference, _ = image_in(registry)
        registry.fault("status", method="GET", match="/token", status=405)
        make_client(GOOD).fetch_tag(reference)
        assert b"grant_type=password" in registry.seen("POST", "/token")[0].body


def test_a_token_that_expires_in_the_middle_of_a_pull_is_renewed(make_client):
    with FaultRegistry(auth="bearer") as registry:
        reference, descriptor = image_in(registry)
        client = make_client(GOOD)
        registry.fault("drop", match=descriptor.digest, at=600_000, after=1)
        stream = client.open_blob(reference, descriptor)
        registry.fault("expire", match=descriptor.digest)
        assert drain(stream) == DATA
    blobs = registry.seen("GET", descriptor.digest)
    assert [r.status for r in blobs] == [401, 200, 401, 206]
    assert blobs[-1].headers["range"] == "bytes=600000-"
    assert sum(r.sent for r in blobs if r.status != 401) == len(DATA)
    assert len(registry.seen("GET", "/token")) == 2


def test_a_401_that_stays_is_told_after_one_new_token(make_client):
    with FaultRegistry(auth="bearer") as registry:
        reference, _ = image_in(registry)
        registry.fault("expire", times=-1, match="/manifests/")
        with pytest.raises(errors.Unauthenticated):
            make_client(GOOD).fetch_tag(reference)
        assert len(registry.seen("", "/manifests/")) == 2


def test_a_token_is_renewed_before_it_expires(make_client):
    now = [1000.0]
    with FaultRegistry(auth="bearer", token_lasts=60) as registry:
        reference, _ = image_in(registry)
        client = make_client(GOOD, clock=lambda: now[0])
        client.fetch_tag(reference)
        now[0] += 54
        client.fetch_tag(reference)
        assert len(registry.seen("", "/token")) == 1
        now[0] += 2
        client.fetch_tag(reference)
        assert len(registry.seen("", "/token")) == 2
        assert len([r for r in registry.requests if r.status == 401]) == 1


def test_threads_share_one_token(make_client):
    with FaultRegistry(auth="bearer", anonymous=True) as registry:
        reference, descriptor = image_in(registry)
        client = make_client()
        start = threading.Barrier(6)
        results = []

        def fetch():
            start.wait()
            results.append(drain(client.open_blob(reference, descriptor)) == DATA)

        threads = [threading.Thread(target=fetch) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [True] * 6
        assert len(registry.seen("", "/token")) == 1


def test_a_mount_asks_for_both_repositories(make_client):
    with FaultRegistry(auth="bearer") as registry:
        image_in(registry, "base")
        reference = parse_normalized(f"{registry.host}/new:1")
        descriptor = Descriptor("x", digests.of_bytes(DATA), len(DATA))
        assert make_client(GOOD).push_blob(reference, descriptor, lambda: None, mount_from=["base"]) == "mounted"
        assert registry.seen("GET", "/token")[-1].query["scope"] == ["repository:base:pull", "repository:new:pull,push"]


def test_a_token_that_expires_in_an_upload_is_renewed(make_client, tmp_path):
    class Source:
        size = len(DATA)

        def read_at(self, offset, length):
            return DATA[offset : offset + length]

        def fileno(self):
            raise OSError

        def close(self):
            pass

    with FaultRegistry(auth="bearer") as registry:
        reference = parse_normalized(f"{registry.host}/new:1")
        descriptor = Descriptor("x", digests.of_bytes(DATA), len(DATA))
        registry.fault("expire", method="PATCH", after=1)
        assert make_client(GOOD).push_blob(reference, descriptor, Source, chunk_size=400_000) == "uploaded"
        assert registry.blobs["new"][descriptor.digest] == DATA


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ({"kind": "html"}, errors.Unavailable, "token for .*answered HTML"),
        ({"kind": "status", "status": 404, "times": 2}, errors.NotFound, "token for .*404"),
        ({"kind": "status", "status": 500, "times": -1}, errors.Unavailable, "token for .*500"),
        ({"kind": "status", "status": 403}, errors.Unauthenticated, "with the login of user"),
    ],
)
def test_a_token_server_that_fails_is_named(make_client, fault, kind, said):
    with FaultRegistry(auth="bearer") as registry:
        reference, _ = image_in(registry)
        registry.fault(match="/token", **fault)
        with pytest.raises(kind, match=said) as caught:
            make_client(GOOD).fetch_tag(reference)
        assert "secret" not in caught.value.message


def test_a_wrong_password_at_the_token_server_is_told(make_client):
    with FaultRegistry(auth="bearer") as registry:
        reference, _ = image_in(registry)
        with pytest.raises(errors.Unauthenticated, match="incorrect username or password"):
            make_client(Credentials("user", "wrong")).fetch_tag(reference)


# ---------------------------------------------------------------------- where secrets go


def test_a_redirect_takes_no_token_along(make_client):
    with FaultRegistry(auth="bearer") as registry, FaultRegistry() as storage:
        reference, descriptor = image_in(registry)
        storage.add_blob("app", DATA)
        registry.fault("redirect", match="/blobs/", after=1, to=f"{storage.url}/{descriptor.digest}")
        assert drain(make_client(GOOD).open_blob(reference, descriptor)) == DATA
        assert len(storage.requests) == 1
        assert "authorization" not in storage.requests[0].headers


def test_another_hosts_challenge_after_a_redirect_gets_nothing(make_client):
    with FaultRegistry(auth="basic") as registry, FaultRegistry(auth="basic") as thief:
        reference, descriptor = image_in(registry)
        image_in(thief)
        registry.fault("redirect", match="/blobs/", to=f"{thief.url}/v2/app/blobs/{descriptor.digest}", times=-1)
        with pytest.raises(errors.Unauthenticated):
            make_client(GOOD).open_blob(reference, descriptor)
        assert [r.headers.get("authorization") for r in thief.requests] == [None]


def test_a_redirect_of_the_token_server_takes_no_password_along(make_client):
    with FaultRegistry(auth="bearer") as registry, FaultRegistry() as thief:
        reference, _ = image_in(registry)
        registry.fault("redirect", match="/token", to=f"{thief.url}/token")
        with pytest.raises(errors.OrlopError):
            make_client(GOOD).fetch_tag(reference)
        assert all("authorization" not in r.headers for r in thief.requests)


def test_an_identity_token_is_not_redirected(make_client):
    with FaultRegistry(auth="bearer") as registry, FaultRegistry() as thief:
        reference, _ = image_in(registry)
        registry.fault("redirect", match="/token", to=f"{thief.url}/token")
        with pytest.raises(errors.OrlopError):
            make_client(Credentials(identity_token="identity-user")).fetch_tag(reference)
        assert thief.requests == []


def test_a_token_is_not_fetched_over_plain_http_for_a_registry_with_tls(make_client, tmp_path):
    certificates = make_certificates(str(tmp_path))
    with (
        FaultRegistry() as thief,
        FaultRegistry(auth="bearer", tls=(*certificates.server, ""), realm=f"{thief.url}/token") as registry,
    ):
        reference, _ = image_in(registry)
        with pytest.raises(errors.PermissionDenied, match="token fetched over plain HTTP"):
            make_client(GOOD).fetch_tag(reference)
        assert thief.requests == []


def test_a_redirect_out_of_tls_is_followed_for_verified_bytes_alone(make_client, tmp_path):
    certificates = make_certificates(str(tmp_path))
    with FaultRegistry() as plain, FaultRegistry(auth="basic", tls=(*certificates.server, "")) as registry:
        reference, descriptor = image_in(registry)
        image_in(plain)
        client = make_client(GOOD)
        client.fetch_tag(reference)
        registry.fault("redirect", match="/blobs/", to=f"{plain.url}/v2/app/blobs/{descriptor.digest}")
        assert drain(client.open_blob(reference, descriptor)) == DATA
        assert [r.headers.get("authorization") for r in plain.requests] == [None]
        registry.fault("redirect", match="/manifests/", to=f"{plain.url}/v2/app/manifests/1")
        with pytest.raises(errors.PermissionDenied, match="redirected from https to plain HTTP"):
            client.fetch_tag(reference)
        assert len(plain.requests) == 1


def test_a_mirror_does_not_get_the_registrys_password(make_client, tmp_path):
    (tmp_path / "docker").mkdir()
    with FaultRegistry(auth="basic") as mirror, FaultRegistry(auth="basic") as registry:
        reference, _ = image_in(registry)
        (tmp_path / "docker/config.json").write_text(
            json.dumps({"auths": {registry.host: {"auth": base64.b64encode(b"user:secret").decode()}}})
        )
        hosts_toml(tmp_path, registry, f'server = "{registry.url}"\n[host."{mirror.url}"]\n')
        make_client().fetch_tag(reference)
        assert [r.headers.get("authorization") for r in mirror.requests] == [None]
        assert registry.requests[-1].headers["authorization"] == BASIC


def test_an_upload_address_on_another_host_gets_no_password(make_client):
    with FaultRegistry(auth="basic") as registry, FaultRegistry() as elsewhere:
        elsewhere.uploads["1"] = bytearray()
        registry.fault(
            "status", method="POST", after=0, status=202,
            headers={"Location": f"{elsewhere.url}/v2/app/blobs/uploads/1"},
        )  # fmt: skip
        reference = parse_normalized(f"{registry.host}/app:1")
        descriptor = Descriptor("x", digests.of_bytes(b"data"), 4)

        class Source:
            size = 4

            def read_at(self, offset, length):
                return b"data"[offset : offset + length]

            def fileno(self):
                raise OSError

            def close(self):
                pass

        client = make_client(GOOD)
        client.ping(registry.host)
        assert client.push_blob(reference, descriptor, Source) == "uploaded"
        assert [r.headers.get("authorization") for r in elsewhere.requests] == [None]


# ---------------------------------------------------------------------- login, logout


@pytest.fixture
def config(tmp_path):
    return tmp_path / "docker/config.json"


def test_a_login_is_kept_when_the_registry_takes_it(make_client, config):
    with FaultRegistry(auth="basic") as registry:
        client = make_client()
        warning = logins.login(client, registry.host, "user", "secret")
        assert "stored unencrypted" in warning
        assert json.loads(config.read_text())["auths"] == {registry.host: {"auth": BASIC.removeprefix("Basic ")}}
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        reference, _ = image_in(registry)
        client.fetch_tag(reference)
        said = logins.logout(registry.host, str(config.parent))
        assert said == f"Removing login credentials for {registry.host}"
        assert json.loads(config.read_text())["auths"] == {}
        assert logins.logout(registry.host, str(config.parent)) == f"Not logged in to {registry.host}"


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_a_login_that_is_refused_is_not_kept(make_client, config, auth):
    with FaultRegistry(auth=auth) as registry:
        with pytest.raises(errors.Unauthenticated):
            logins.login(make_client(), registry.host, "user", "wrong")
    assert not config.exists()


def test_an_identity_token_is_kept_instead_of_the_password(make_client, config):
    with FaultRegistry(auth="bearer") as registry:
        client = make_client()
        assert logins.login(client, f"http://{registry.host}/v2/", "user", "secret") == ""
        entry = json.loads(config.read_text())["auths"][registry.host]
        assert entry["identitytoken"] == "identity-user"
        assert base64.b64decode(entry["auth"]) == b"user:"
        reference, _ = image_in(registry)
        client.fetch_tag(reference)
        assert registry.seen("POST", "/token")


def test_a_login_to_what_is_no_registry_says_so(make_client, config):
    with FaultRegistry() as registry:
        registry.fault("html", times=-1)
        with pytest.raises(errors.Unavailable, match="is this a registry"):
            logins.login(make_client(), registry.host, "user", "secret")
    assert not config.exists()


def test_a_login_with_an_unknown_kind_of_challenge_is_told(make_client):
    with FaultRegistry() as registry:
        registry.fault("status", status=401, headers={"WWW-Authenticate": "Negotiate"})
        with pytest.raises(errors.Unimplemented, match="negotiate"):
            logins.login(make_client(), registry.host, "user", "secret")
