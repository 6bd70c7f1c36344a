"""A small registry for tests, over real sockets, that misbehaves by script and remembers what it was asked.

    with FaultRegistry() as registry:
        image = registry.add_image("app", "1", [layer_bytes, …])       # or add_blob, add_manifest
        registry.fault("drop", match=image.layers[0].digest, at=1000)   # the next matching answer breaks at byte 1000
        client.fetch_tag(parse_normalized(f"{registry.host}/app:1"))
        assert registry.seen("GET", "/blobs/")[1].headers["range"] == "bytes=1000-"
        assert registry.bytes_served("/blobs/") < size + 1000

Options of `FaultRegistry`
    auth      "" (nobody is asked), "basic", or "bearer" (with a token server of its own at /token)
    users     name → password; anonymous tokens allow pulling only when `anonymous` is true
    tls       (certificate file, key file, authority for client certificates or "")
    referrers, mounts, heads, ranges, deletes: whether it can do these
    page      tags to a page

Faults (`fault(kind, …)`); `match` is a part of the path and query, `method` one of HTTP's or "" for any, `times` how
often it strikes (-1: always), `after` how many matching requests it lets pass first
    status    answer `status` with `headers` and an errors body (`code`, `message`)
    drop      after `at` bytes of the body: reset the connection (of an upload: after reading `at` bytes of it)
    close     the same, but close in order: a truncated body
    stall     after `at` bytes of the body: say nothing more, and wait for the client to go
    html      answer 200 with a web page (or `status`)
    redirect  answer `status` (307) with Location `to`
    corrupt   the same number of bytes, but wrong ones
    grow      `at` bytes more than there should be (negative: fewer), with a Content-Length that agrees
    chunked   the body in chunked transfer coding, without Content-Length (with `at`: grown by so many bytes)
    full      ignore Range: answer 200 with everything
    digest    a wrong Docker-Content-Digest
    nodigest  no Docker-Content-Digest
    expire    all tokens given out so far expire just before this request is looked at
    early     as `status`, but answered before the request's body is read, and closed
    hangup    close without any answer
    lost      do what was asked, then close without an answer
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import json
import select
import socket
import ssl
import struct
import threading
import urllib.parse
from dataclasses import dataclass, field
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass
class Request:
    """One request as it came, and what was answered. sent, received: bytes of the two bodies."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    status: int = 0
    sent: int = 0
    received: int = 0
    body: bytes = b""

    @property
    def target(self) -> str:
        return self.path + ("?" + urllib.parse.urlencode(self.query, doseq=True) if self.query else "")


@dataclass
class Fault:
    kind: str
    match: str = ""
    method: str = ""
    times: int = 1
    after: int = 0
    at: int = 0
    status: int = 0
    code: str = "UNKNOWN"
    message: str = "made up by the test"
    headers: dict[str, str] = field(default_factory=dict)
    to: str = ""


@dataclass(frozen=True)
class Blob:
    """A descriptor of something the registry holds."""

    media_type: str
    digest: str
    size: int

    def json(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class ImageHandle:
    repository: str
    tag: str
    manifest: Blob
    config: Blob
    layers: list[Blob]
    raw: bytes


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class FaultRegistry:
    """See the module's docstring. Thread-safe; a context manager."""

    def __init__(
        self,
        *,
        auth: str = "",
        users: dict[str, str] | None = None,
        anonymous: bool = False,
        tls: tuple[str, str, str] | None = None,
        referrers: bool = True,
        mounts: bool = True,
        heads: bool = True,
        ranges: bool = True,
        deletes: bool = True,
        page: int = 1000,
        address: str = "127.0.0.1",
        realm: str = "",
        token_lasts: int = 300,
        port: int = 0,
    ) -> None:
        self.auth, self.users, self.anonymous = auth, users or {"user": "secret"}, anonymous
        self.referrers, self.mounts, self.heads = referrers, mounts, heads
        self.ranges, self.deletes, self.page = ranges, deletes, page
        self.realm, self.token_lasts = realm, token_lasts
        self.identity_tokens = {f"identity-{name}": name for name in self.users}
        self.connections = 0
        self.chunk_min = 0
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.manifests: dict[str, dict[str, tuple[str, bytes]]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.tokens: dict[str, tuple[str, set[str]]] = {}
        self.stopping = threading.Event()
        self.lock = threading.RLock()
        self._serial = 0
        self._open: set[socket.socket] = set()
        self._resets: set[socket.socket] = set()
        registry = self

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

            def get_request(self) -> tuple[Any, Any]:
                sock, peer = super().get_request()
                registry._open.add(sock)
                registry.connections += 1
                return sock, peer

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # connections that break are what this server is for

            def shutdown_request(self, request: Any) -> None:
                registry._open.discard(request)
                if request in registry._resets:
                    registry._resets.discard(request)
                    request.close()  # with its lingering off: a reset; shutdown would send an orderly end first
                else:
                    super().shutdown_request(request)

        class Handler(_Handler):
            pass

        Handler.registry = self
        Handler.context = None
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls[0], tls[1])
            if tls[2]:
                context.load_verify_locations(tls[2])
                context.verify_mode = ssl.CERT_REQUIRED
            Handler.context = context
        self.scheme = "https" if tls else "http"
        self._server = Server((address, port), Handler, bind_and_activate=False)
        self._server.server_bind()
        self.port = self._server.server_address[1]
        self.host = f"{address}:{self.port}"
        self.url = f"{self.scheme}://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> FaultRegistry:
        self._server.server_activate()  # until now connections were refused
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening and break all connections, as a registry that dies does."""
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        for sock in list(self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._thread.join()

    # ------------------------------------------------------------------ content

    def add_blob(self, repository: str, data: bytes, media_type: str = "application/octet-stream") -> Blob:
        digest = sha256(data)
        with self.lock:
            self.blobs.setdefault(repository, {})[digest] = data
        return Blob(media_type, digest, len(data))

    def add_manifest(self, repository: str, tag: str, raw: bytes, media_type: str = MANIFEST) -> Blob:
        """tag "" stores it by its digest alone."""
        digest = sha256(raw)
        with self.lock:
            self.manifests.setdefault(repository, {})[digest] = (media_type, raw)
            if tag:
                self.tags.setdefault(repository, {})[tag] = digest
        return Blob(media_type, digest, len(raw))

    def add_image(
        self,
        repository: str,
        tag: str,
        layers: list[bytes],
        *,
        diff_ids: list[str] | None = None,
        config: dict[str, Any] | None = None,
        layer_type: str = LAYER,
        extra: dict[str, Any] | None = None,
    ) -> ImageHandle:
        """An image of compressed layers. diff_ids: of the uncompressed ones (found out for gzip when None).

        config: members of the image config; extra: further members of the manifest.
        """
        if diff_ids is None:
            diff_ids = [sha256(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data) for data in layers]
        about = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            **(config or {}),
        }
        config_blob = self.add_blob(repository, json.dumps(about).encode(), CONFIG)
        blobs = [self.add_blob(repository, data, layer_type) for data in layers]
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config_blob.json(),
            "layers": [blob.json() for blob in blobs],
            **(extra or {}),
        }
        raw = json.dumps(document).encode()
        return ImageHandle(repository, tag, self.add_manifest(repository, tag, raw), config_blob, blobs, raw)

    # ------------------------------------------------------------------ script and record

    def fault(self, kind: str, **about: Any) -> Fault:
        """Add a fault; see the module's docstring."""
        made = Fault(kind, **about)
        with self.lock:
            self.faults.append(made)
        return made

    def take_fault(self, request: Request) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.match not in request.target or fault.method not in ("", request.method) or not fault.times:
                    continue
                if fault.after:
                    fault.after -= 1
                    continue
                if fault.times > 0:
                    fault.times -= 1
                return fault
        return None

    def seen(self, method: str = "", match: str = "") -> list[Request]:
        """The requests so far with this method ("" for any) and this part of a target."""
        with self.lock:
            return [r for r in self.requests if method in ("", r.method) and match in r.target]

    def bytes_served(self, match: str = "") -> int:
        return sum(request.sent for request in self.seen("", match) if request.method != "HEAD")

    def next_name(self) -> str:
        with self.lock:
            self._serial += 1
            return f"{self._serial:08x}"

    def expire_tokens(self) -> None:
        with self.lock:
            self.tokens.clear()

    def issue_token(self, user: str, scopes: list[str]) -> str:
        granted = set()
        for scope in scopes:
            for one in scope.split(" "):
                resource, _, actions = one.rpartition(":")
                for action in actions.split(","):
                    if user or (self.anonymous and action == "pull"):
                        granted.add(f"{resource}:{action}")
        token = f"token-{self.next_name()}"
        with self.lock:
            self.tokens[token] = (user, granted)
        return token


class _Refused(Exception):
    """Ends a connection at once."""


class _Handler(http.server.BaseHTTPRequestHandler):
    registry: FaultRegistry
    context: ssl.SSLContext | None
    protocol_version = "HTTP/1.1"
    server_version = "fault-registry"
    timeout = 30
    disable_nagle_algorithm = True

    def setup(self) -> None:
        self.raw_socket = self.request
        if self.context is not None:
            self.request.settimeout(10)
            self.request = self.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def handle(self) -> None:
        if self.context is None:
            first = self.connection.recv(1, socket.MSG_PEEK)
            if first == b"\x16":  # a TLS greeting: answer like a web server that does not understand
                self.connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                return
        try:
            super().handle()
        except (_Refused, OSError):
            self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:
            pass
        if self.context is not None:
            self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    # ------------------------------------------------------------------ one request

    def _serve(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        self.record = Request(
            self.command,
            parts.path,
            urllib.parse.parse_qs(parts.query, keep_blank_values=True),
            {name.lower(): value for name, value in self.headers.items()},
        )
        with self.registry.lock:
            self.registry.requests.append(self.record)
        self.answered = False
        self.strike = self.registry.take_fault(self.record)
        kind = self.strike.kind if self.strike else ""
        if kind == "hangup":
            raise _Refused
        if kind == "expire":
            self.registry.expire_tokens()
        if kind in ("drop", "close", "stall") and self.command in ("PATCH", "PUT"):
            self._break_upload()
        if kind == "status":
            self._read_body()
            assert self.strike is not None
            self._error(self.strike.status, self.strike.code, self.strike.message, self.strike.headers)
            return
        if kind == "early":
            assert self.strike is not None
            self._error(self.strike.status, self.strike.code, self.strike.message, self.strike.headers)
            raise _Refused
        if kind == "html":
            self._read_body()
            assert self.strike is not None
            self._send(self.strike.status or 200, b"<html><body>Welcome</body></html>", {"Content-Type": "text/html"})
            return
        if kind == "redirect":
            self._read_body()
            assert self.strike is not None
            self._send(self.strike.status or 307, b"", {"Location": self.strike.to})
            return
        if parts.path == "/token":
            self._token()
            return
        if not parts.path.startswith("/v2"):
            name = parts.path.strip("/")
            for blobs in self.registry.blobs.values():  # any other path serves a blob by its digest, to anybody
                if name in blobs:
                    self._content(blobs[name], "application/octet-stream", name)
                    return
            self._error(404, "NOT_FOUND", "no such page")
            return
        if not self._allowed(parts.path):
            return
        self._route(parts.path[3:])

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve

    def _route(self, path: str) -> None:
        registry = self.registry
        if path in ("", "/"):
            self._send(200, b"{}", {"Content-Type": "application/json"})
            return
        if self.command == "HEAD" and not registry.heads:
            self._send(405, b"", {})
            return
        for marker in ("/blobs/uploads/", "/manifests/", "/blobs/", "/tags/list", "/referrers/"):
            repository, found, rest = path[1:].partition(marker)
            if found:
                getattr(self, "_" + marker.strip("/").partition("/")[0] + ("_upload" if "uploads" in marker else ""))(
                    repository, rest
                )
                return
        self._error(404, "NAME_UNKNOWN", "no such route")

    # ------------------------------------------------------------------ authorization

    def _user(self) -> str | None:
        """Who asks: a name, "" for nobody, None for a wrong password."""
        given = self.headers.get("Authorization", "")
        if not given.startswith("Basic "):
            return ""
        name, _, password = base64.b64decode(given[6:]).decode().partition(":")
        return name if self.registry.users.get(name) == password else None

    def _allowed(self, path: str) -> bool:
        registry = self.registry
        if not registry.auth:
            return True
        if registry.auth == "basic":
            if self._user():
                return True
            self._challenge('Basic realm="fault registry"')
            return False
        repository = ""
        for marker in ("/blobs/", "/manifests/", "/tags/", "/referrers/"):
            if marker in path:
                repository = path[4:].partition(marker)[0]
                break
        action = "pull" if self.command in ("GET", "HEAD") else "delete" if self.command == "DELETE" else "push"
        if action == "delete" and "/uploads/" in path:
            action = "push"
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        with registry.lock:
            known = registry.tokens.get(token)
        wanted = f"repository:{repository}:{action}"
        if known is not None and (not repository or wanted in known[1]):
            return True
        scope = f',scope="repository:{repository}:{"pull" if action == "pull" else "pull,push"}"' if repository else ""
        realm = registry.realm or f"{registry.url}/token"
        self._challenge(f'Bearer realm="{realm}",service="fault-registry"{scope}')
        return False

    def _challenge(self, text: str) -> None:
        self._read_body()
        self._error(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": text})

    def _token(self) -> None:
        registry = self.registry
        user: str | None = self._user()
        scopes = self.record.query.get("scope", [])
        extra: dict[str, Any] = {}
        if self.command == "POST":
            form = urllib.parse.parse_qs(self._read_body().decode())
            scopes = form.get("scope", [])
            if form.get("grant_type") == ["refresh_token"]:
                user = registry.identity_tokens.get(form["refresh_token"][0])
            else:
                name = form["username"][0]
                user = name if registry.users.get(name) == form["password"][0] else None
        if user is None:
            self._send(401, b'{"details":"incorrect username or password"}', {"Content-Type": "application/json"})
            return
        if user and self.record.query.get("offline_token") == ["true"]:
            extra["refresh_token"] = f"identity-{user}"
        body = {"token": registry.issue_token(user, scopes), "expires_in": registry.token_lasts, **extra}
        self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    # ------------------------------------------------------------------ manifests, blobs, lists

    def _manifests(self, repository: str, reference: str) -> None:
        registry = self.registry
        with registry.lock:
            digest = registry.tags.get(repository, {}).get(reference, reference)
            found = registry.manifests.get(repository, {}).get(digest)
        if self.command in ("GET", "HEAD"):
            if found is None:
                self._error(404, "MANIFEST_UNKNOWN", "manifest unknown")
                return
            self._content(found[1], found[0], digest)
        elif self.command == "PUT":
            raw = self._read_body()
            tag = "" if reference.startswith("sha256:") else reference
            stored = registry.add_manifest(repository, tag, raw, self.headers.get("Content-Type", ""))
            headers = {"Docker-Content-Digest": stored.digest, "Location": f"/v2/{repository}/manifests/{reference}"}
            subject = json.loads(raw).get("subject")
            if subject and registry.referrers:
                headers["OCI-Subject"] = subject["digest"]
            if self.strike and self.strike.kind == "digest":
                headers["Docker-Content-Digest"] = sha256(b"something else")
            self._send(201, b"", headers)
        elif self.command == "DELETE" and registry.deletes:
            with registry.lock:
                if reference in registry.tags.get(repository, {}):
                    del registry.tags[repository][reference]
                elif found is not None:
                    del registry.manifests[repository][digest]
                else:
                    self._error(404, "MANIFEST_UNKNOWN", "manifest unknown")
                    return
            self._send(202, b"", {})
        else:
            self._error(405, "UNSUPPORTED", "the operation is unsupported")

    def _blobs(self, repository: str, digest: str) -> None:
        with self.registry.lock:
            data = self.registry.blobs.get(repository, {}).get(digest)
        if data is None:
            self._error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        elif self.command == "DELETE":
            with self.registry.lock:
                del self.registry.blobs[repository][digest]
            self._send(202, b"", {})
        else:
            self._content(data, "application/octet-stream", digest)

    def _tags(self, repository: str, rest: str) -> None:
        names = sorted(self.registry.tags.get(repository, {}))
        if not names:
            self._error(404, "NAME_UNKNOWN", "repository name not known to registry")
            return
        last = self.record.query.get("last", [""])[0]
        size = min(self.registry.page, int(self.record.query.get("n", ["1000"])[0]))
        names = [name for name in names if name > last]
        headers = {"Content-Type": "application/json"}
        if len(names) > size:
            names = names[:size]
            headers["Link"] = f'</v2/{repository}/tags/list?n={size}&last={names[-1]}>; rel="next"'
        self._send(200, json.dumps({"name": repository, "tags": names}).encode(), headers)

    def _referrers(self, repository: str, digest: str) -> None:
        if not self.registry.referrers:
            self._error(404, "NOT_FOUND", "no such page")
            return
        found = []
        for own, (media_type, raw) in self.registry.manifests.get(repository, {}).items():
            document = json.loads(raw)
            if (document.get("subject") or {}).get("digest") == digest:
                kind = document.get("artifactType") or document.get("config", {}).get("mediaType", "")
                found.append({"mediaType": media_type, "digest": own, "size": len(raw), "artifactType": kind})
        body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": found}
        self._send(200, json.dumps(body).encode(), {"Content-Type": INDEX})

    # ------------------------------------------------------------------ uploads

    def _blobs_upload(self, repository: str, name: str) -> None:
        registry = self.registry
        query = self.record.query
        if self.command == "POST":
            self._read_body()
            mount, source = query.get("mount", [""])[0], query.get("from", [""])[0]
            data = registry.blobs.get(source, {}).get(mount)
            if mount and data is not None and registry.mounts:
                registry.add_blob(repository, data)
                self._send(201, b"", {"Location": f"/v2/{repository}/blobs/{mount}", "Docker-Content-Digest": mount})
                return
            name = registry.next_name()
            registry.uploads[name] = bytearray()
            self._progress(202, repository, name)
            return
        upload = registry.uploads.get(name)
        if upload is None:
            self._read_body()
            self._error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        elif self.command == "GET":
            self._progress(204, repository, name)
        elif self.command == "DELETE":
            del registry.uploads[name]
            self._send(204, b"", {})
        elif self.command == "PATCH":
            span = self.headers.get("Content-Range")
            if span and int(span.partition("-")[0]) != len(upload):
                self._read_body()
                self._error(416, "BLOB_UPLOAD_INVALID", f"expected byte {len(upload)}")
                return
            upload += self._read_body()
            self._progress(202, repository, name)
        else:
            upload += self._read_body()
            digest = query.get("digest", [""])[0]
            if sha256(bytes(upload)) != digest:
                del registry.uploads[name]
                self._error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
                return
            registry.add_blob(repository, bytes(upload))
            del registry.uploads[name]
            self._send(201, b"", {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest})

    def _progress(self, status: int, repository: str, name: str) -> None:
        size = len(self.registry.uploads[name])
        location = f"/v2/{repository}/blobs/uploads/{name}?state={size}"
        headers = {"Location": location, "Range": f"0-{max(0, size - 1)}", "Docker-Upload-UUID": name}
        if self.registry.chunk_min:
            headers["OCI-Chunk-Min-Length"] = str(self.registry.chunk_min)
        self._send(status, b"", headers)

    def _break_upload(self) -> None:
        """Take a part of a request's body into the upload, then fail."""
        assert self.strike is not None
        data = self._read_body(self.strike.at)
        name = self.record.path.rpartition("/")[2]
        upload = self.registry.uploads.get(name)
        if upload is not None:
            upload += data
        if self.strike.kind == "stall":
            self._wait_for_client()
        if self.strike.kind == "drop":
            self._reset()
        raise _Refused

    # ------------------------------------------------------------------ bodies

    def _read_body(self, most: int = -1) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        if most >= 0:
            length = min(length, most)
        data = self.rfile.read(length) if length else b""
        self.record.received += len(data)
        self.record.body += data
        return data

    def _content(self, data: bytes, media_type: str, digest: str) -> None:
        """A manifest or blob: whole, or the range that was asked for."""
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest, "Accept-Ranges": "bytes"}
        kind = self.strike.kind if self.strike else ""
        if kind == "digest":
            headers["Docker-Content-Digest"] = sha256(b"something else")
        if kind == "nodigest":
            del headers["Docker-Content-Digest"]
        if kind == "corrupt":
            data = bytes([data[0] ^ 0xFF]) + data[1:]
        if kind in ("grow", "chunked"):
            assert self.strike is not None
            extra = self.strike.at
            data = data + b"x" * extra if extra >= 0 else data[:extra]
        span = self.headers.get("Range", "")
        if span and self.registry.ranges and kind != "full":
            start = int(span.removeprefix("bytes=").partition("-")[0])
            if start >= len(data):
                self._error(416, "RANGE_INVALID", "out of range", {"Content-Range": f"bytes */{len(data)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self._send(206, data[start:], headers)
            return
        self._send(200, data, headers)

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self._send(status, body, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        kind = self.strike.kind if self.strike else ""
        if kind == "lost":
            raise _Refused
        chunked = kind == "chunked"
        self.record.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD" or status == 204:
            return
        if chunked:
            for start in range(0, len(body), 10_000):
                piece = body[start : start + 10_000]
                self.record.sent += len(piece)
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        if kind in ("drop", "close", "stall"):
            assert self.strike is not None
            self._write(body[: self.strike.at])
            self.wfile.flush()
            if kind == "stall":
                self._wait_for_client()
            if kind == "drop":
                self._drain()
                self._reset()
            raise _Refused
        self._write(body)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            piece, view = view[: 64 << 10], view[64 << 10 :]
            self.record.sent += len(piece)  # before: a client that has it may look at the count at once
            self.wfile.write(piece)

    def _drain(self) -> None:
        """Wait until the other side's kernel has taken everything: a reset throws away what is still under way."""
        import array
        import fcntl
        import termios

        left = array.array("i", [1])
        for _ in range(2000):
            fcntl.ioctl(self.connection.fileno(), termios.TIOCOUTQ, left)
            if not left[0]:
                return
            self.registry.stopping.wait(0.001)

    def _reset(self) -> None:
        self.raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.registry._resets.add(self.raw_socket)

    def _wait_for_client(self) -> None:
        """Until the client gives up (or the test ends)."""
        poll = select.poll()
        poll.register(self.raw_socket, select.POLLIN | select.POLLHUP | select.POLLRDHUP)
        for _ in range(600):
            if poll.poll(50) or self.registry.stopping.is_set():
                break
        raise _Refused


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files. The server's is for 127.0.0.1, ::1 and localhost."""

    ca: str
    server: tuple[str, str]
    client: tuple[str, str]


def make_certificates(directory: str) -> Certificates:
    """An authority, and a server and a client certificate that it signed, by openssl(1)."""
    import subprocess

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    ca, ca_key = f"{directory}/ca.crt", f"{directory}/ca.key"
    openssl("req", "-x509", *curve, "-keyout", ca_key, "-out", ca, "-days", "2", "-subj", "/CN=test authority")
    made = {}
    for name, extension in (
        ("server", "subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost"),
        ("client", "extendedKeyUsage=clientAuth"),
    ):
        key, request, certificate = (f"{directory}/{name}.{ending}" for ending in ("key", "csr", "cert"))
        openssl("req", *curve, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        with open(f"{directory}/{name}.ext", "w") as file:
            file.write(extension + "\n")
        openssl(
            "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", certificate,
            "-days", "2", "-extfile", f"{directory}/{name}.ext",
        )  # fmt: skip
        made[name] = (certificate, key)
    return Certificates(ca, made["server"], made["client"])
