"""Containers on networks, through the command line."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import orlops
from tests.support.orlops import IMAGE, Orlop

SERVER = 'while :; do printf "HTTP/1.0 200 OK\\r\\n\\r\\nfrom-$NAME" | nc -l -p 80; done'


@pytest.fixture(scope="module")
def orlop(ext4: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4 / "networking") as opened:
        opened.import_busybox()
        yield opened


def fetch(port: int, host: str = "127.0.0.1") -> str:
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as answer:
        return str(answer.read().decode())


def answers(port: int) -> bool:
    try:
        return fetch(port).startswith("from-")
    except OSError:
        return False


def test_a_container_on_the_default_network_has_an_address_a_route_and_its_name(orlop: Orlop) -> None:
    text = orlop.out(
        "run", "--rm", "--network", "bridge", "--hostname", "buoy", "--add-host", "db:10.1.2.3", "--dns", "9.9.9.9",
        IMAGE, "sh", "-c", "ip -4 addr show eth0; ip route; cat /etc/hosts /etc/resolv.conf",
    )  # fmt: skip
    assert "inet 10." in text
    assert "default via 10." in text
    assert "\tbuoy" in text
    assert "10.1.2.3\tdb" in text
    assert "nameserver 9.9.9.9" in text


def test_a_published_port_answers_on_loopback_is_listed_and_goes_with_the_container(orlop: Orlop) -> None:
    port = orlops.free_port()
    orlop.run("run", "-d", "--name", "web", "-e", "NAME=web", "-p", f"{port}:80", IMAGE, "sh", "-c", SERVER)
    orlops.wait_for("the answer", lambda: answers(port))
    assert orlop.out("port", "web") == f"80/tcp -> 127.0.0.1:{port}"
    assert orlop.out("port", "web", "80") == f"127.0.0.1:{port}"
    assert f"127.0.0.1:{port}->80/tcp" in orlop.out("ps", "--filter", "name=web")
    told = json.loads(orlop.out("inspect", "web"))[0]["NetworkSettings"]
    assert told["Ports"]["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": str(port)}]
    taken = orlop.run("run", "--rm", "-p", f"{port}:80", IMAGE, "true", code=125).stderr.decode()
    assert str(port) in taken
    assert "web" in taken
    orlop.run("stop", "-t", "0", "web")
    assert not answers(port)
    orlop.run("start", "web")
    orlops.wait_for("the answer after a restart", lambda: answers(port))
    orlop.run("rm", "-f", "web")
    assert not answers(port)


def test_a_container_that_ends_by_itself_gives_its_ports_back(orlop: Orlop) -> None:
    port = orlops.free_port()
    orlop.run("run", "-d", "--rm", "-p", f"{port}:80", IMAGE, "true")
    orlops.wait_for("the removal", lambda: orlop.out("ps", "-aq") == "")
    orlop.run("run", "--rm", "-p", f"{port}:80", IMAGE, "true")


def test_containers_of_a_user_defined_network_know_each_other_by_name(orlop: Orlop) -> None:
    id = orlop.out("network", "create", "--subnet", "10.123.45.0/24", "--label", "for=tests", "harbour")
    assert "harbour" in orlop.out("network", "ls", "--filter", "label=for=tests")
    orlop.run(
        "run", "-d", "--name", "lighthouse", "-e", "NAME=light", "--network", "harbour", "--ip", "10.123.45.9",
        "--network-alias", "lamp", IMAGE, "sh", "-c", SERVER,
    )  # fmt: skip
    for name in ("lighthouse", "lamp"):
        command = f"for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://{name}/ && break; sleep 0.1; done"
        assert orlop.out("run", "--rm", "--network", "harbour", IMAGE, "sh", "-c", command) == "from-light"
    told = json.loads(orlop.out("network", "inspect", "harbour"))[0]
    assert told["Id"] == id
    assert [each["IPv4Address"] for each in told["Containers"].values()] == ["10.123.45.9"]
    assert b"lighthouse" in orlop.run("network", "rm", "harbour", code=1).stderr
    orlop.run("rm", "-f", "lighthouse")
    orlop.run("network", "rm", "harbour")


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--network", "no-such-network"], "no-such-network"),
        (["-p", "80:80:80:80"], "80:80:80:80"),
        (["-p", "0"], "port"),
        (["-p", "70000:80"], "70000"),
        (["--network", "none", "-p", "80"], "publish"),
        (["--network", "bridge", "--ip", "nine"], "nine"),
        (["--network", "bridge", "--add-host", "x"], "add-host"),
        (["--network", "bridge", "--dns", "here"], "here"),
        (["--network", "bridge", "--mac-address", "zz"], "zz"),
    ],
)
def test_what_cannot_be_done_ends_with_125_and_leaves_nothing(orlop: Orlop, argv: list[str], text: str) -> None:
    done = orlop.run("run", "--rm", *argv, IMAGE, "true", code=125)
    assert text in done.stderr.decode().splitlines()[0]
    assert "Traceback" not in done.stderr.decode()
    assert orlop.out("ps", "-aq") == ""


def test_gc_gives_the_machine_back_what_networks_took(orlop: Orlop) -> None:
    orlop.run("run", "--rm", "--network", "bridge", IMAGE, "true")
    orlop.run("gc")
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert orlop.engine.wiring.root_id[:6] not in links
