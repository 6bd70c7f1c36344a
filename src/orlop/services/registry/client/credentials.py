"""Credentials: Docker's config.json, podman's auth.json, and credential helpers.

A helper is a program docker-credential-NAME that takes "get", "store" or "erase" and speaks JSON on its standard
streams (docker/docker-credential-helpers). A secret is never put on a command line, into a message or into a trace.
"""

from __future__ import annotations

import binascii
import os
import threading
import time

from ....base import errors, fsio, jsonio
from ....base.cancel import NEVER, Cancel
from ....base.record import Record
from .. import protocol
from . import hosts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

HELPER_PREFIX = "docker-credential-"
TOKEN_USER = "<token>"  # noqa: S105 - a name, not a secret
"""The user name by which a helper says that the secret is an identity token."""
HELPER_TIMEOUT_S = 60.0
_LIMIT = 4 << 20
_KEEP_S = 300.0
"""What files and helpers said is used so long, while config.json stays as it is."""
_NOT_FOUND = ("credentials not found", "no credentials server url", "no credentials username")


class Credentials(Record):
    """What proves who we are to one registry.

    identity_token: exchanged for bearer tokens (OAuth2 refresh token). registry_token: a bearer token itself.
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, …)"


class CredentialStore:
    """The user's credentials; thread-safe.

    docker_config: the directory of config.json (default: $DOCKER_CONFIG, else ~/.docker). environ: for the paths.
    """

    def __init__(self, docker_config: str | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self._directory = docker_config or self._environ.get("DOCKER_CONFIG") or f"{self._home()}/.docker"
        self.path = f"{self._directory}/config.json"
        self._lock = threading.Lock()
        self._cache: dict[tuple[str, str], Credentials | None] = {}
        self._problems: dict[str, str] = {}
        self._read_as: tuple[int, ...] = ()
        self._read_at = 0.0

    def _home(self) -> str:
        home = self._environ.get("HOME")
        return home if home else os.path.expanduser("~")

    def problem(self, key: str) -> str:
        """Why the credentials for a registry could not be read, or "": for the message when it says no."""
        return self._problems.get(key, "")

    def _stamp(self) -> tuple[int, ...]:
        """Changes when config.json does (a login by another process)."""
        try:
            status = os.stat(self.path)
        except OSError:
            return ()
        return (status.st_mtime_ns, status.st_size, status.st_ino)

    def find(self, key: str, repository: str = "", cancel: Cancel = NEVER) -> Credentials | None:
        """The credentials for a registry, or None.

        key: its host, or Docker's key for its hub. repository: podman keeps logins for a part of a registry too.
        A helper or file that fails counts as none (a public image must not need it); `problem` then tells.
        """
        with self._lock:
            stamp = self._stamp()
            now = time.monotonic()
            if stamp != self._read_as or now - self._read_at > _KEEP_S:
                self._cache.clear()
                self._read_as, self._read_at = stamp, now
            if (key, repository) in self._cache:
                return self._cache[key, repository]
            try:
                found = self._find(key, repository, cancel)
                self._problems.pop(key, None)
            except (errors.Cancelled, errors.DeadlineExceeded):
                raise
            except errors.OrlopError as error:
                found, self._problems[key] = None, error.message
            self._cache[key, repository] = found
            return found

    def forget(self) -> None:
        """Read files and ask helpers anew."""
        with self._lock:
            self._cache.clear()

    def _find(self, key: str, repository: str, cancel: Cancel) -> Credentials | None:
        config = _read(self.path)
        failure: errors.OrlopError | None = None
        helper = helper_for(config, key)
        if helper:
            try:
                found = _helper_get(helper, key, self._environ, cancel)
                if found is not None:
                    return found
            except (errors.Cancelled, errors.DeadlineExceeded):
                raise
            except errors.OrlopError as error:
                failure = error
        found = _from_auths(config, key, repository)
        if found is not None:
            return found
        for path in self._podman_paths():
            other = _read(path)
            helper = helper_for(other, key)
            found = _helper_get(helper, key, self._environ, cancel) if helper else None
            found = found or _from_auths(other, key, repository)
            if found is not None:
                return found
        if failure is not None:
            raise failure
        return None

    def _podman_paths(self) -> list[str]:
        """Where podman, buildah and skopeo keep logins (containers-auth.json(5))."""
        paths = [self._environ.get("REGISTRY_AUTH_FILE") or ""]
        runtime = self._environ.get("XDG_RUNTIME_DIR") or ""
        paths.append(f"{runtime}/containers/auth.json" if runtime else f"/run/containers/{os.geteuid()}/auth.json")
        config_home = self._environ.get("XDG_CONFIG_HOME") or f"{self._home()}/.config"
        paths.append(f"{config_home}/containers/auth.json")
        return [path for path in paths if path]

    # ------------------------------------------------------------------ changing

    def store(self, key: str, credentials: Credentials, cancel: Cancel = NEVER) -> str:
        """Keep credentials: with the helper that is configured, else in config.json.

        Returns the path of the file when the secret now stands in it (readable for who can read the file), else "".
        Raises FailedPrecondition when the helper fails, InvalidArgument when config.json is not JSON.
        """
        with self._lock:
            self._cache.clear()
            helper = helper_for(_read(self.path), key)
            if helper:
                secret = credentials.identity_token or credentials.password
                entry = {
                    "ServerURL": key,
                    "Username": TOKEN_USER if credentials.identity_token else credentials.username,
                    "Secret": secret,
                }
                run_helper(helper, "store", jsonio.dumps(entry), self._environ, cancel)
            pair = f"{credentials.username}:{'' if credentials.identity_token else credentials.password}"
            entry = {} if helper else {"auth": binascii.b2a_base64(pair.encode(), newline=False).decode()}
            if credentials.identity_token and not helper:
                entry["identitytoken"] = credentials.identity_token

            def change(config: dict[str, Any]) -> bool:
                auths = config.setdefault("auths", {})
                _remove_key(auths, key)
                auths[key] = entry
                return True

            self._change(change)
            return "" if helper else self.path

    def erase(self, key: str, cancel: Cancel = NEVER) -> bool:
        """Forget a registry's credentials, in the helper and in config.json; whether there were any."""
        with self._lock:
            self._cache.clear()
            there = False
            helper = helper_for(_read(self.path), key)
            if helper and _helper_get(helper, key, self._environ, cancel) is not None:
                run_helper(helper, "erase", key, self._environ, cancel)
                there = True

            def change(config: dict[str, Any]) -> bool:
                auths = config.get("auths")
                return isinstance(auths, dict) and _remove_key(auths, key)

            return self._change(change) or there

    def _change(self, change: Any) -> bool:
        """Read, change and replace config.json under a flock of its directory; its other members stay."""
        import fcntl

        # A link (somebody's dotfiles) is kept: the file it points to is replaced.
        path = os.path.realpath(self.path)
        try:
            fsio.make_dirs(os.path.dirname(path), 0o700) if not os.path.isdir(os.path.dirname(path)) else None
            fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise errors.from_os(error, f"write {path}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            config = _read(path)
            changed = bool(change(config))
            if changed:
                text = jsonio.dumps(config, indent=4) + "\n"
                fsio.write_atomic(path, text.encode(), 0o600)
            return changed
        except OSError as error:
            raise errors.from_os(error, f"write {path}") from error
        finally:
            os.close(fd)


# ---------------------------------------------------------------------- files


def _read(path: str) -> dict[str, Any]:
    """A config file's members; {} when there is none. InvalidArgument when it is not a JSON object."""
    try:
        raw = fsio.read_file(path, _LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise errors.from_os(error, f"read {path}") from error
    if not raw.strip():
        return {}
    try:
        value = jsonio.loads(raw)
    except ValueError as error:
        raise errors.InvalidArgument(f"{path} is not JSON: {error}", advice="repair or remove it") from error
    if not isinstance(value, dict):
        raise errors.InvalidArgument(f"{path} is not a JSON object", advice="repair or remove it")
    return value


def helper_for(config: Mapping[str, Any], key: str) -> str:
    """The name of the helper that keeps a registry's credentials, or ""."""
    helpers = config.get("credHelpers")
    if isinstance(helpers, dict):
        wanted = _hostname(key)
        for name, helper in helpers.items():
            if isinstance(helper, str) and helper and _same_registry(_hostname(str(name)), wanted):
                return helper
    store = config.get("credsStore")
    return store if isinstance(store, str) else ""


def _from_auths(config: Mapping[str, Any], key: str, repository: str) -> Credentials | None:
    auths = config.get("auths")
    if not isinstance(auths, dict):
        return None
    if key in auths and not repository:
        return _from_entry(auths[key], key)
    host = _hostname(key)
    wanted = [f"{host}/{repository}".rstrip("/")]
    while "/" in wanted[-1]:
        wanted.append(wanted[-1].rpartition("/")[0])
    named: dict[str, tuple[str, object]] = {}
    for name, entry in auths.items():
        text = str(name)
        bare = text.partition("://")[2] or text
        legacy = "://" in text or bare.rstrip("/").endswith(("/v1", "/v2"))
        named.setdefault(_hostname(text) if legacy else bare.rstrip("/"), (text, entry))
    if key in auths:
        named[host] = (key, auths[key])
    for name in wanted:
        for alias in hosts._HUB_HOSTS if name in hosts._HUB_HOSTS else (name,):
            if alias in named:
                found = _from_entry(named[alias][1], named[alias][0])
                if found is not None:
                    return found
    return None


def _from_entry(entry: object, key: str) -> Credentials | None:
    if not isinstance(entry, dict):
        return None

    def text(name: str) -> str:
        value = entry.get(name)
        return value if isinstance(value, str) else ""

    username, password = text("username"), text("password")
    if text("auth"):
        try:
            pair = binascii.a2b_base64(text("auth")).decode()
        except (binascii.Error, ValueError) as error:
            raise errors.InvalidArgument(f"the credentials for {key} cannot be decoded: auth is not base64") from error
        username, colon, password = pair.partition(":")
        if not colon:
            raise errors.InvalidArgument(f"the credentials for {key} cannot be decoded: auth is not user:password")
        password = password.rstrip("\0")
    found = Credentials(username, password, text("identitytoken"), text("registrytoken"))
    return found if found != Credentials() else None


def _hostname(key: str) -> str:
    """The host in a key of any age: "https://host/v1/", "host:port", "host/path"."""
    bare = key.partition("://")[2] or key
    return bare.partition("/")[0]


def _same_registry(one: str, other: str) -> bool:
    return one == other or (one in hosts._HUB_HOSTS and other in hosts._HUB_HOSTS)


def _remove_key(auths: dict[str, Any], key: str) -> bool:
    """Remove every spelling of a registry's key that is not for a part of it."""
    host = _hostname(key)
    doomed = []
    for name in auths:
        text = str(name)
        bare = text.partition("://")[2] or text
        whole = "/" not in bare.rstrip("/") or bare.rstrip("/").endswith(("/v1", "/v2"))
        if name == key or (whole and _same_registry(_hostname(text), host)):
            doomed.append(name)
    for name in doomed:
        del auths[name]
    return bool(doomed)


# ---------------------------------------------------------------------- helpers


def _helper_get(helper: str, key: str, environ: Mapping[str, str], cancel: Cancel) -> Credentials | None:
    out = run_helper(helper, "get", key, environ, cancel)
    if out is None:
        return None
    try:
        value = jsonio.loads(out)
        username, secret = str(value["Username"]), str(value["Secret"])
    except (ValueError, TypeError, KeyError) as error:
        raise errors.FailedPrecondition(
            f"the credential helper {HELPER_PREFIX}{helper} answered what is not its protocol"
        ) from error
    if not username and not secret:
        return None
    if username == TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(username, secret)


def run_helper(helper: str, action: str, text: str, environ: Mapping[str, str], cancel: Cancel = NEVER) -> bytes | None:
    """Run docker-credential-HELPER ACTION with text on its standard input; its output, or None for "not found".

    Raises FailedPrecondition when the helper is missing, fails or takes longer than a minute.
    """
    name = f"{HELPER_PREFIX}{helper}"
    if "/" in helper or not helper.isprintable():
        raise errors.InvalidArgument(f"invalid credential helper {protocol.one_line(helper, 60)!r}")
    import subprocess

    try:
        process = subprocess.Popen(
            [name, action],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
        )
    except OSError as error:
        raise errors.FailedPrecondition(
            f"the credential helper {name} cannot be run: {error.strerror}",
            advice="install it, or remove credsStore and credHelpers from Docker's config.json",
        ) from error
    with process:
        try:
            with cancel.closing(process.kill):
                out, _ = process.communicate(text.encode(), timeout=cancel.remaining(HELPER_TIMEOUT_S))
        except subprocess.TimeoutExpired as error:
            process.kill()
            cancel.check()
            raise errors.FailedPrecondition(
                f"the credential helper {name} did not answer for {HELPER_TIMEOUT_S:g} s"
            ) from error
        except BaseException:
            process.kill()
            raise
    cancel.check()
    if process.returncode == 0:
        return out
    said = protocol.one_line(out[:2000].decode("utf-8", "replace"), 200)
    if action in ("get", "erase") and said.lower().startswith(_NOT_FOUND):
        return None
    # What "store" was given could come back in what it says: only the other actions are quoted.
    quoted = f": {said}" if said and action != "store" else ""
    raise errors.FailedPrecondition(f"the credential helper {name} {action} failed ({process.returncode}){quoted}")
