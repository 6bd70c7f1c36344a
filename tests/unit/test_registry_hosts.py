"""Where registries are reached: hosts.toml, Docker's certificates, loopback; URLs and proxies."""

from __future__ import annotations

import pytest

from orlop.base import errors
from orlop.services.registry.client import hosts, proxy
from orlop.services.registry.client import url as urls
from orlop.services.registry.client.hosts import Hosts
from orlop.services.registry.client.tls import TlsConfig


def write(tmp_path, name, text):
    directory = tmp_path / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "hosts.toml").write_text(text)
    return Hosts((str(tmp_path),))


def test_a_registry_is_reached_over_verified_tls_alone_by_default():
    (endpoint,) = Hosts(()).endpoints("quay.io")
    assert str(endpoint.url("/a/manifests/1")) == "https://quay.io/v2/a/manifests/1"
    assert endpoint.tls == TlsConfig()
    assert not endpoint.fallback_http


def test_docker_io_is_reached_at_its_registry_and_keeps_its_login_under_dockers_key():
    (endpoint,) = Hosts(()).endpoints("docker.io")
    assert str(endpoint.url("/library/alpine/manifests/1")) == (
        "https://registry-1.docker.io/v2/library/alpine/manifests/1"
    )
    assert endpoint.auth_key == "https://index.docker.io/v1/"


@pytest.mark.parametrize("registry", ["localhost:5000", "127.0.0.1:5000", "127.9.8.7", "[::1]:5000", "localhost"])
def test_loopback_may_fall_back_to_plain_http(registry):
    (endpoint,) = Hosts(()).endpoints(registry)
    assert (endpoint.scheme, endpoint.fallback_http, endpoint.tls.verify) == ("https", True, False)


@pytest.mark.parametrize("registry", ["10.0.0.1:5000", "127.0.0.1.example.com", "localhost.example.com", "[::2]:80"])
def test_other_hosts_never_fall_back_unless_asked(registry):
    (endpoint,) = Hosts(()).endpoints(registry)
    assert not endpoint.fallback_http
    assert endpoint.tls.verify
    (endpoint,) = Hosts((), insecure=frozenset({registry})).endpoints(registry)
    assert endpoint.fallback_http
    (endpoint,) = Hosts((), plain_http=True).endpoints(registry)
    assert endpoint.fallback_http


def test_every_member_of_hosts_toml_is_read(tmp_path):
    made = write(
        tmp_path,
        "example.com:5000",
        """
        server = "https://upstream.example.com"
        ca = ["a.pem", "/abs/b.pem"]
        dial_timeout = "1m30s"
        [header]
        x-own = "upstream"
        [host."https://mirror.example.com"]
        capabilities = ["pull"]
        ca = "m.pem"
        client = [["c.cert", "c.key"], ["d.pem", ""]]
        dial_timeout = "500ms"
        [host."https://mirror.example.com".header]
        x-one = "1"
        x-two = ["2", "3"]
        [host."http://10.1.2.3:5000/cache/v2"]
        capabilities = ["pull", "resolve", "push"]
        skip_verify = true
        [host."https://odd.example.com/api/docker/"]
        override_path = true
        client = "e.pem"
        proxy = "http://proxy:3128"
        [host."bare.example.com/x"]
        """,
    )
    directory = f"{tmp_path}/example.com:5000"
    mirror, plain, odd, bare, upstream = made.endpoints("example.com:5000")
    assert mirror.capabilities == {"pull"}
    assert mirror.tls == TlsConfig(
        True, (f"{directory}/m.pem",), ((f"{directory}/c.cert", f"{directory}/c.key"), (f"{directory}/d.pem", ""))
    )
    assert mirror.headers == (("x-one", "1"), ("x-two", "2"), ("x-two", "3"))
    assert mirror.dial_timeout == 0.5
    assert str(mirror.url("/a/tags/list")) == "https://mirror.example.com/v2/a/tags/list?ns=example.com:5000"
    assert str(plain.url("/a")) == "http://10.1.2.3:5000/cache/v2/a?ns=example.com:5000"
    assert not plain.tls.verify
    assert str(odd.url("/a")) == "https://odd.example.com/api/docker/a?ns=example.com:5000"
    assert odd.tls.client == ((f"{directory}/e.pem", ""),)
    assert odd.proxy == "http://proxy:3128"
    assert str(bare.base) == "https://bare.example.com/x/v2"
    assert str(upstream.base) == "https://upstream.example.com/v2"
    assert upstream.headers == (("x-own", "upstream"),)
    assert upstream.dial_timeout == 90
    assert upstream.tls.ca == (f"{directory}/a.pem", "/abs/b.pem")


def test_without_server_the_registry_itself_comes_last_and_without_ns(tmp_path):
    made = write(tmp_path, "docker.io", '[host."https://mirror"]\ncapabilities = ["pull", "resolve"]\n')
    mirror, own = made.endpoints("docker.io")
    assert mirror.is_mirror
    assert str(mirror.url("/a")).endswith("?ns=docker.io")
    assert not own.is_mirror
    assert str(own.url("/a")) == "https://registry-1.docker.io/v2/a"


def test_the_directory_of_a_host_counts_before_default_and_earlier_roots_before_later(tmp_path):
    for root, name, server in (
        ("one", "_default", "default-one"),
        ("two", "a_5000_", "underscores"),
        ("two", "a:5000", "colon"),
        ("two", "_default", "default-two"),
    ):
        directory = tmp_path / root / name
        directory.mkdir(parents=True)
        (directory / "hosts.toml").write_text(f'server = "https://{server}"')
    made = Hosts((f"{tmp_path}/one", f"{tmp_path}/two"))
    assert made.endpoints("a:5000")[0].host == "underscores"
    assert made.endpoints("b")[0].host == "default-one"


def test_a_changed_file_is_read_again(tmp_path):
    made = write(tmp_path, "a.io", 'server = "https://x"')
    assert made.endpoints("a.io")[0].host == "x"
    write(tmp_path, "a.io", 'server = "https://longer"')
    assert made.endpoints("a.io")[0].host == "longer"


def test_dockers_certificates_are_found(tmp_path):
    directory = tmp_path / "127.0.0.1:5000"
    directory.mkdir()
    for name in ("ca.crt", "client.cert", "client.key"):
        (directory / name).write_text("")
    (endpoint,) = Hosts((str(tmp_path),)).endpoints("127.0.0.1:5000")
    assert endpoint.tls == TlsConfig(
        True, (f"{directory}/ca.crt",), ((f"{directory}/client.cert", f"{directory}/client.key"),)
    )
    assert not endpoint.fallback_http, "who configured TLS does not want to fall back"
    (directory / "client.key").unlink()
    with pytest.raises(errors.InvalidArgument, match=r"client\.cert has no key"):
        Hosts((str(tmp_path),)).endpoints("127.0.0.1:5000")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server = ", "is not TOML"),
        ("server = 3", "server is not a text"),
        ('server = "ftp://x"', "not an http or https address"),
        ('capabilities = ["pul"]', "unknown capability 'pul'"),
        ("skip_verify = 1", "skip_verify is not true or false"),
        ("ca = 1", "ca is not a path"),
        ("client = [[1]]", "client is not"),
        ('dial_timeout = "soon"', "dial_timeout is not a duration"),
        ('[header]\nx = "a\\r\\nb"', "header.x is not a text"),
        ('host = "x"', "host is not a table"),
    ],
)
def test_mistakes_in_hosts_toml_are_told_with_the_file_and_the_member(tmp_path, text, said):
    made = write(tmp_path, "a.io", text)
    with pytest.raises(errors.InvalidArgument) as caught:
        made.endpoints("a.io")
    assert said in caught.value.message
    assert f"{tmp_path}/a.io/hosts.toml" in caught.value.message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("1m30s", 90), ("300ms", 0.3), ("1.5h", 5400), ("1", None), ("s", None), ("", None)],
)
def test_durations_are_gos(text, seconds):
    assert hosts.parse_duration(text) == (pytest.approx(seconds) if seconds is not None else None)


# ---------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("https://Host.IO/v2/", "https://host.io/v2/"),
        ("http://h:80", "http://h/"),
        ("https://[::1]:5000/a?b=c#d", "https://[::1]:5000/a?b=c"),
        ("https://u:p@h/a b", "https://h/a%20b"),
    ],
)
def test_urls_are_normalised(text, printed):
    assert str(urls.parse(text)) == printed


@pytest.mark.parametrize("text", ["ftp://h/", "file:///etc/passwd", "https://", "https://h:x/", "//h", "https://a b/"])
def test_other_addresses_are_refused(text):
    with pytest.raises(errors.InvalidArgument):
        urls.parse(text)


def test_locations_are_seen_from_where_they_were_given():
    base = urls.parse("https://h:5000/v2/a?x=1")
    assert str(urls.join(base, "/b?c=%20d")) == "https://h:5000/b?c=%20d"
    assert str(urls.join(base, "//other/b")) == "https://other/b"
    assert str(urls.join(base, "b c")) == "https://h:5000/v2/b%20c"
    assert str(urls.join(base, "/\xc3\xbc")) == "https://h:5000/%C3%BC"
    with pytest.raises(errors.InvalidArgument):
        urls.join(base, "javascript:alert(1)")


def test_what_is_shown_has_no_query():
    assert urls.parse("https://h/a?signature=secret").shown == "https://h/a"


# ---------------------------------------------------------------------- proxies


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        ("https://a.io/", {"HTTPS_PROXY": "http://p:3128"}, ("p", 3128)),
        ("https://a.io/", {"https_proxy": "p:1", "HTTPS_PROXY": "q:2"}, ("p", 1)),
        ("http://a.io/", {"HTTPS_PROXY": "http://p"}, None),
        ("http://a.io/", {"HTTP_PROXY": "http://p"}, ("p", 80)),
        ("http://a.io/", {"HTTP_PROXY": "http://p", "REQUEST_METHOD": "GET"}, None),
        ("https://localhost:5000/", {"HTTPS_PROXY": "http://p"}, None),
        ("https://127.0.0.2/", {"HTTPS_PROXY": "http://p"}, None),
        ("https://a.io/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "b.io, a.io"}, None),
        ("https://x.a.io/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "a.io"}, None),
        ("https://xa.io/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.io"}, ("p", 1)),
        ("https://x.a.io/", {"HTTPS_PROXY": "http://p", "no_proxy": ".a.io"}, None),
        ("https://a.io:444/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.io:443"}, ("p", 1)),
        ("https://10.1.2.3/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "10.0.0.0/8"}, None),
        ("https://[fd00::1]/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "fd00::/8"}, None),
        ("https://[fd00::1]/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "fd00::1"}, None),
        ("https://a.io/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, None),
    ],
)
def test_the_proxy_of_the_environment(url, environ, expected):
    chosen = proxy.choose(urls.parse(url), environ)
    assert (None if chosen is None else (chosen.host, chosen.port)) == expected


def test_a_proxys_password_is_used_and_never_shown():
    chosen = proxy.parse("http://us%40er:pass%3Aword@p:1")
    assert chosen.authorization == "Basic dXNAZXI6cGFzczp3b3Jk"
    assert "Basic" not in repr(chosen)
    with pytest.raises(errors.InvalidArgument, match="only http proxies"):
        proxy.parse("socks5://p:1")
