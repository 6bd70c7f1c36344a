"""Docker's config.json, podman's auth.json, and credential helpers."""

from __future__ import annotations

import base64
import json
import os
import stat

import pytest

from orlop.base import errors
from orlop.base.cancel import Cancel
from orlop.services.registry.client import credentials as module
from orlop.services.registry.client.credentials import Credentials, CredentialStore

HUB = "https://index.docker.io/v1/"


def encoded(text):
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def home(tmp_path):
    (tmp_path / ".docker").mkdir()
    return tmp_path


def store_of(home, config=None, **environ):
    if config is not None:
        (home / ".docker/config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    path = f"{home}/bin:/usr/bin:/bin"
    return CredentialStore(None, {"HOME": str(home), "PATH": path, "XDG_RUNTIME_DIR": f"{home}/run", **environ})


def helper(home, name, body):
    """A helper program: `body` is sh, with the action in $1 and the input in $in."""
    (home / "bin").mkdir(exist_ok=True)
    path = home / "bin" / f"docker-credential-{name}"
    path.write_text(f'#!/bin/sh\nin=$(cat)\necho "$1 $in" >> {home}/calls\n{body}\n')
    path.chmod(0o755)


def calls(home):
    path = home / "calls"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("name", ["a.io", "https://a.io", "https://a.io/v1/", "http://a.io/v2/"])
def test_a_login_is_found_under_every_old_spelling_of_its_host(home, name):
    store = store_of(home, {"auths": {name: {"auth": encoded("u:p:w")}}})
    assert store.find("a.io") == Credentials("u", "p:w")
    assert store.find("b.io") is None


@pytest.mark.parametrize("name", [HUB, "docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hubs_login_is_found_under_all_its_names(home, name):
    assert store_of(home, {"auths": {name: {"auth": encoded("u:p")}}}).find(HUB) == Credentials("u", "p")


def test_tokens_are_found(home):
    entry = {"auth": encoded("u:"), "identitytoken": "it", "registrytoken": "rt"}
    assert store_of(home, {"auths": {"a.io": entry}}).find("a.io") == Credentials("u", "", "it", "rt")


def test_a_login_for_a_part_of_a_registry_counts_before_the_whole(home):
    auths = {"a.io": {"auth": encoded("all:x")}, "a.io/team": {"auth": encoded("team:x")}}
    store = store_of(home, {"auths": auths})
    assert store.find("a.io", "team/app").username == "team"
    assert store.find("a.io", "teams/app").username == "all"
    assert store.find("a.io").username == "all"


def test_docker_config_names_the_directory(home, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"auths": {"a.io": {"auth": encoded("other:x")}}}))
    store = store_of(home, {"auths": {"a.io": {"auth": encoded("home:x")}}}, DOCKER_CONFIG=str(other))
    assert store.find("a.io").username == "other"


def test_podmans_file_is_the_fallback(home):
    path = home / "run/containers/auth.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"auths": {"a.io": {"auth": encoded("podman:x")}}}))
    assert store_of(home).find("a.io").username == "podman"
    assert store_of(home, {"auths": {"a.io": {"auth": encoded("docker:x")}}}).find("a.io").username == "docker"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ({"auths": {"a.io": {"auth": "!"}}}, "cannot be decoded"),
        ({"auths": {"a.io": {"auth": encoded("nocolon")}}}, "is not user:password"),
        ({"credsStore": "missing"}, "docker-credential-missing cannot be run"),
        ({"credsStore": "../evil"}, "invalid credential helper"),
    ],
)
def test_a_file_or_helper_that_fails_counts_as_no_login_and_says_why(home, config, said):
    store = store_of(home, config)
    assert store.find("a.io") is None
    assert said in store.problem("a.io")


def test_a_helper_is_asked_once_and_believed(home):
    helper(home, "fake", """echo '{"ServerURL":"a.io","Username":"u","Secret":"s"}'""")
    store = store_of(home, {"credHelpers": {"a.io": "fake"}, "credsStore": "missing", "auths": {"a.io": {}}})
    assert store.find("a.io") == store.find("a.io") == Credentials("u", "s")
    assert calls(home) == ["get a.io"]
    store.forget()
    store.find("a.io")
    assert len(calls(home)) == 2


def test_a_login_by_another_process_is_seen(home):
    store = store_of(home, {"auths": {}})
    assert store.find("a.io") is None
    store_of(home).store("a.io", Credentials("u", "p"))
    assert store.find("a.io") == Credentials("u", "p")


def test_a_helpers_token_is_an_identity_token(home):
    helper(home, "fake", """echo '{"Username":"<token>","Secret":"it"}'""")
    assert store_of(home, {"credsStore": "fake"}).find(HUB) == Credentials(identity_token="it")
    assert calls(home) == [f"get {HUB}"]


def test_what_a_helper_does_not_know_is_looked_for_in_the_file(home):
    helper(home, "fake", "echo 'credentials not found in native keychain'; exit 1")
    store = store_of(home, {"credsStore": "fake", "auths": {"a.io": {"auth": encoded("file:x")}}})
    assert store.find("a.io").username == "file"
    assert store.problem("a.io") == ""


def test_a_helper_that_talks_nonsense_is_named(home):
    helper(home, "fake", "echo hello")
    store = store_of(home, {"credsStore": "fake"})
    assert store.find("a.io") is None
    assert "answered what is not its protocol" in store.problem("a.io")


def test_waiting_for_a_helper_ends_with_the_deadline(home):
    helper(home, "slow", "exec sleep 30")
    store = store_of(home, {"credsStore": "slow"})
    with pytest.raises(errors.DeadlineExceeded):
        store.find("a.io", cancel=Cancel(0.2))


# ---------------------------------------------------------------------- changing


def test_storing_keeps_all_other_members_and_closes_the_file_to_others(home):
    config = {"auths": {"b.io": {"auth": "x"}}, "HttpHeaders": {"X": "1"}, "plugins": {"a": {"b": "c"}}}
    store = store_of(home, config)
    path = home / ".docker/config.json"
    path.chmod(0o644)
    assert store.store("a.io", Credentials("u", "p")) == str(path)
    after = json.loads(path.read_text())
    assert after == {**config, "auths": {"b.io": {"auth": "x"}, "a.io": {"auth": encoded("u:p")}}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert store.find("a.io") == Credentials("u", "p")


def test_storing_makes_the_directory_and_file(tmp_path):
    store = store_of(tmp_path)
    store.store("a.io", Credentials("u", "p"))
    assert stat.S_IMODE((tmp_path / ".docker").stat().st_mode) == 0o700
    assert sorted(os.listdir(tmp_path / ".docker")) == ["config.json"]


def test_storing_follows_a_link(home, tmp_path):
    target = tmp_path / "dotfiles.json"
    target.write_text("{}")
    (home / ".docker/config.json").symlink_to(target)
    store_of(home).store("a.io", Credentials("u", "p"))
    assert (home / ".docker/config.json").is_symlink()
    assert "a.io" in json.loads(target.read_text())["auths"]


def test_storing_replaces_other_spellings_of_the_host(home):
    store = store_of(home, {"auths": {"https://a.io/v1/": {"auth": "x"}, "a.io/team": {"auth": "y"}}})
    store.store("a.io", Credentials("u", "p"))
    assert sorted(json.loads((home / ".docker/config.json").read_text())["auths"]) == ["a.io", "a.io/team"]


def test_an_identity_token_is_stored_without_the_password(home):
    store = store_of(home)
    store.store("a.io", Credentials("u", "p", "it"))
    entry = json.loads((home / ".docker/config.json").read_text())["auths"]["a.io"]
    assert entry == {"auth": encoded("u:"), "identitytoken": "it"}


def test_a_helper_stores_and_the_file_holds_no_secret(home):
    helper(home, "fake", "")
    store = store_of(home, {"credsStore": "fake"})
    assert store.store("a.io", Credentials("u", "s3cret")) == ""
    assert calls(home) == ['store {"ServerURL":"a.io","Username":"u","Secret":"s3cret"}']
    text = (home / ".docker/config.json").read_text()
    assert json.loads(text) == {"credsStore": "fake", "auths": {"a.io": {}}}
    assert "s3cret" not in text


def test_a_helper_that_refuses_to_store_is_an_error_without_the_secret(home):
    helper(home, "fake", 'echo "cannot store $in"; exit 3')
    with pytest.raises(errors.FailedPrecondition) as caught:
        store_of(home, {"credsStore": "fake"}).store("a.io", Credentials("u", "s3cret"))
    assert "store failed (3)" in caught.value.message
    assert "s3cret" not in caught.value.message


def test_erasing_asks_the_helper_and_cleans_the_file(home):
    helper(home, "fake", """[ "$1" = get ] && echo '{"Username":"u","Secret":"s"}'; exit 0""")
    store = store_of(home, {"credHelpers": {"a.io": "fake"}, "auths": {"a.io": {}}})
    assert store.erase("a.io")
    assert calls(home) == ["get a.io", "erase a.io"]
    assert json.loads((home / ".docker/config.json").read_text())["auths"] == {}


def test_erasing_what_is_not_there_changes_nothing(home):
    store = store_of(home, '{"auths": {"b.io": {}}}')
    assert not store.erase("a.io")
    assert (home / ".docker/config.json").read_text() == '{"auths": {"b.io": {}}}'


def test_a_broken_file_is_not_overwritten_by_a_login(home):
    store = store_of(home, "{ broken")
    with pytest.raises(errors.InvalidArgument, match="is not JSON"):
        store.store("a.io", Credentials("u", "p"))
    assert (home / ".docker/config.json").read_text() == "{ broken"


def test_credentials_do_not_print_their_secrets():
    shown = repr(Credentials("u", "s3cret", "t0ken", "r3g"))
    assert not any(secret in shown for secret in ("s3cret", "t0ken", "r3g"))
    assert module.TOKEN_USER not in shown
