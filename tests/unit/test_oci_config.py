"""Image configurations and chain IDs."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from orlop.base import errors
from orlop.base.oci import config, digest
from orlop.base.oci.config import Healthcheck, History, ImageConfig, RunConfig
from orlop.base.oci.platform import Platform

A = digest.parse("sha256:" + "a" * 64)
B = digest.parse("sha256:" + "b" * 64)
C = digest.parse("sha256:" + "c" * 64)

DOCKER: dict[str, Any] = {
    "architecture": "arm64",
    "variant": "v8",
    "config": {
        "Hostname": "",
        "User": "app:app",
        "AttachStdin": False,
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Tty": False,
        "Env": ["PATH=/bin", "EMPTY="],
        "Cmd": ["-g", "daemon off;"],
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 30000000000, "Retries": 3},
        "Image": "",
        "Volumes": {"/data": {}},
        "WorkingDir": "/srv",
        "Entrypoint": ["/entry.sh"],
        "OnBuild": ["RUN true"],
        "Labels": {"k": "v"},
        "StopSignal": "SIGQUIT",
        "StopTimeout": 0,
        "ArgsEscaped": True,
        "Shell": ["/bin/ash", "-c"],
    },
    "container": "deadbeef",
    "container_config": {"Cmd": ["/bin/sh", "-c", "#(nop) "]},
    "created": "2024-05-22T18:19:47.338Z",
    "author": "me",
    "docker_version": "23.0.11",
    "history": [
        {"created": "2024-05-22T18:19:47Z", "created_by": "/bin/sh -c #(nop) ADD x in / "},
        {"created_by": "CMD", "empty_layer": True, "comment": "buildkit", "author": "a"},
    ],
    "os": "linux",
    "rootfs": {"type": "layers", "diff_ids": [A, B]},
    "moby.buildkit.buildinfo.v1": "e30=",
}


def _raw(value: object) -> bytes:
    return json.dumps(value).encode()


def test_what_docker_writes_is_read() -> None:
    view = config.parse(_raw(DOCKER))
    assert view.platform == Platform("linux", "arm64", "v8")
    assert (view.created, view.author) == ("2024-05-22T18:19:47.338Z", "me")
    assert view.diff_ids == (A, B)
    assert all(isinstance(d, digest.Digest) for d in view.diff_ids)
    assert view.history == (
        History("2024-05-22T18:19:47Z", "/bin/sh -c #(nop) ADD x in / "),
        History("", "CMD", "a", "buildkit", True),
    )
    assert view.config == RunConfig(
        user="app:app",
        exposed_ports=("80/tcp", "53/udp"),
        env=("PATH=/bin", "EMPTY="),
        entrypoint=("/entry.sh",),
        cmd=("-g", "daemon off;"),
        volumes=("/data",),
        working_dir="/srv",
        labels={"k": "v"},
        stop_signal="SIGQUIT",
        stop_timeout=0,
        healthcheck=Healthcheck(("CMD-SHELL", "true"), 30_000_000_000, retries=3),
        args_escaped=True,
        shell=("/bin/ash", "-c"),
        on_build=("RUN true",),
    )
    assert view.raw == _raw(DOCKER)


def test_nulls_and_missing_members_mean_nothing_said() -> None:
    nulls = dict.fromkeys(DOCKER)
    assert config.parse(_raw(nulls)).replace(raw=b"") == ImageConfig("", "")
    assert config.parse(b"{}").replace(raw=b"") == ImageConfig("", "")
    inner = config.parse(_raw({"config": dict.fromkeys(DOCKER["config"])}))
    assert inner.config == RunConfig()
    assert config.parse(_raw({"config": {"Labels": {"a": None}}})).config.labels == {"a": ""}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "image config is"),
        (None, "image config is"),
        ({"os": 1}, "os is 1"),
        ({"config": []}, "config is"),
        ({"config": {"Env": "A=b"}}, "Env is"),
        ({"config": {"Env": [1]}}, "Env is"),
        ({"config": {"Cmd": "sh"}}, "Cmd is 'sh'"),
        ({"config": {"ExposedPorts": ["80"]}}, "ExposedPorts is"),
        ({"config": {"Labels": {"a": 1}}}, "Labels.a is 1"),
        ({"config": {"StopTimeout": "1"}}, "StopTimeout is"),
        ({"config": {"Healthcheck": {"Interval": True}}}, "Interval is True"),
        ({"config": {"Healthcheck": "x" * 200}}, "Healthcheck is 'xxx.*…$"),
        ({"rootfs": {"type": "base"}}, "rootfs.type is"),
        ({"rootfs": {"diff_ids": ["x"]}}, "invalid digest"),
        ({"history": [1]}, "history is 1"),
    ],
)
def test_a_member_of_the_wrong_shape_is_named(value: object, says: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=says):
        config.parse(_raw(value))


def test_what_is_not_json_or_too_large_is_refused() -> None:
    with pytest.raises(errors.InvalidArgument, match="not JSON"):
        config.parse(b"\x1f\x8b")
    with pytest.raises(errors.InvalidArgument, match="at most"):
        config.parse(b" " * (config.MAX_CONFIG_BYTES + 1))


def test_chain_ids_follow_the_specification() -> None:
    ab = "sha256:" + hashlib.sha256(f"{A} {B}".encode()).hexdigest()
    abc = "sha256:" + hashlib.sha256(f"{ab} {C}".encode()).hexdigest()
    assert config.chain_ids([A, B, C]) == (A, ab, abc)
    assert config.chain_ids([A]) == (A,)
    assert config.chain_ids([]) == ()


def test_a_new_config_is_golden() -> None:
    image = ImageConfig(
        "amd64", "linux", created="2024-01-01T00:00:00Z", diff_ids=(A,), history=(History(created_by="import"),),
        config=RunConfig(
            cmd=("sh",), labels={"b": "2", "a": "1"}, volumes=("/z", "/a"), exposed_ports=("80/tcp",), stop_timeout=0,
            healthcheck=Healthcheck(("NONE",)),
        ),
    )  # fmt: skip
    assert config.config_bytes(image).decode() == (
        '{"created":"2024-01-01T00:00:00Z","architecture":"amd64","os":"linux",'
        '"config":{"ExposedPorts":{"80/tcp":{}},"Cmd":["sh"],"Healthcheck":{"Test":["NONE"]},'
        '"Volumes":{"/a":{},"/z":{}},"Labels":{"a":"1","b":"2"},"StopTimeout":0},'
        f'"rootfs":{{"type":"layers","diff_ids":["{A}"]}},"history":[{{"created_by":"import"}}]}}'
    )


def test_a_written_config_is_read_back_as_it_was() -> None:
    view = config.parse(_raw(DOCKER))
    again = config.parse(config.config_bytes(view))
    ports = again.config.replace(exposed_ports=view.config.exposed_ports)
    assert again.replace(raw=b"", config=ports) == view.replace(raw=b"")
    assert config.config_bytes(again) == config.config_bytes(view)


def test_a_derived_config_keeps_unknown_members_and_drops_stale_ones() -> None:
    view = config.parse(_raw(DOCKER))
    derived = json.loads(config.config_bytes(view.replace(author="", diff_ids=(*view.diff_ids, C))))
    assert derived["moby.buildkit.buildinfo.v1"] == "e30="
    assert derived["config"]["Tty"] is False
    assert derived["rootfs"]["diff_ids"] == [A, B, C]
    assert not {"author", "container", "container_config", "docker_version"} & set(derived)
