"""`ps`, `images` and `inspect` through the command line: columns, formats, filters, as Docker's users expect them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import orlops
from tests.support.orlops import IMAGE, Orlop


@pytest.fixture(scope="module")
def orlop(ext4: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4 / "cli-lists") as opened:
        opened.import_busybox()
        opened.run("tag", IMAGE, "team/tool:1")
        opened.run(
            "run", "-d", "--name", "web", "--label", "a=1", "--label", "com.example.some-name=x=y", IMAGE, "sleep", "99"
        )
        opened.run(
            "create", "--name", "made", "--label", "odd=a\tb\nc", "-v", "/tmp:/mnt/a-long-directory", IMAGE, "true"
        )
        opened.run("run", "--name", "failed", IMAGE, "sh", "-c", "exit 3", code=3)
        yield opened


def test_a_template_gets_labels_as_docker_gives_them(orlop: Orlop) -> None:
    assert orlop.out("ps", "--format", '{{.Labels}}|{{.Label "a"}}|{{.Label "nope"}}') == (
        "a=1,com.example.some-name=x=y|1|"
    )


def test_a_table_keeps_its_lines_whatever_labels_hold(orlop: Orlop) -> None:
    text = orlop.out("ps", "-a", "--format", r'table {{.Names}}\t{{.Label "odd"}}\t{{.Label "com.example.some-name"}}')
    assert [line.split() for line in text.splitlines()] == [
        ["NAMES", "odd", "some", "name"],
        ["failed"],
        ["made", r"a\tb\nc"],
        ["web", "x=y"],
    ]


def test_table_alone_is_the_table_without_a_format(orlop: Orlop) -> None:
    def ageless(*argv: str) -> list[str]:
        """The lines without how long ago things were, which changes between two looks."""
        ages = r"(Less than a second|About a minute|\d+ \w+)( ago)? *"
        return [re.sub(ages, "", line).rstrip() for line in orlop.out(*argv).splitlines()[1:]]

    assert ageless("ps", "-a", "--format", "table") == ageless("ps", "-a")
    assert ageless("images", "--format", "table") == ageless("images")


def test_json_has_dockers_members(orlop: Orlop) -> None:
    row = json.loads(orlop.out("ps", "-f", "name=web", "--format", "json"))
    assert set(row) == {
        "Command", "CreatedAt", "ID", "Image", "Labels", "LocalVolumes", "Mounts", "Names", "Networks", "Ports",
        "RunningFor", "Size", "State", "Status",
    }  # fmt: skip
    image = json.loads(orlop.out("images", "--format", "json", "team/tool"))
    assert {
        "Containers",
        "CreatedAt",
        "CreatedSince",
        "Digest",
        "ID",
        "Repository",
        "SharedSize",
        "Size",
        "Tag",
    } <= set(image)


def test_mounts_are_cut_only_without_no_trunc(orlop: Orlop) -> None:
    assert orlop.out("ps", "-a", "-f", "name=made", "--format", "{{.Mounts}}") == "/mnt/a-long-di…"
    assert orlop.out("ps", "-a", "-f", "name=made", "--no-trunc", "--format", "{{.Mounts}}") == "/mnt/a-long-directory"


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["name=^/web$"], "web"),
        (["name=^web$"], "web"),
        (["name=e"], "failed made web"),
        (["label=a"], "web"),
        (["label=a", "label=odd"], ""),
        (["label=a=2"], ""),
        (["status=created", "status=running"], "made web"),
        (["exited=3"], "failed"),
        (["exited=0"], ""),
        (["ancestor=busybox:test"], "failed made web"),
        (["ancestor=team/tool:1"], "failed made web"),
        (["ancestor=nowhere"], ""),
        (["ancestor=BAD NAME"], ""),
        (["since=web"], "failed made"),
        (["before=failed", "status=running"], "web"),
        (["network=none"], "failed made web"),
        (["network=host"], ""),
        (["volume=/mnt/a-long-directory"], "made"),
        (["volume=/tmp"], "made"),
        (["health=none"], "failed made web"),
        (["health=healthy"], ""),
    ],
)
def test_filters_of_containers(orlop: Orlop, filters: list[str], names: str) -> None:
    argv = [word for text in filters for word in ("--filter", text)]
    assert orlop.out("ps", "-a", *argv, "--format", "{{.Names}}").split() == names.split()


@pytest.mark.parametrize("text", ["status=lost", "health=ill", "exited=x", "name=[", "colour=red", "name"])
def test_a_wrong_filter_is_refused_with_what_to_use(orlop: Orlop, text: str) -> None:
    lines = orlop.run("ps", "-f", text, code=125).stderr.decode().splitlines()
    assert lines[0].startswith("orlop: invalid filter")
    assert len(lines) <= 2


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        (["busy*"], "busybox:test"),
        (["team/*"], "team/tool:1"),
        (["docker.io/library/busybox"], "busybox:test"),
        (["busybox:other"], ""),
        (["NOT A NAME"], ""),
        (["-f", "reference=*"], "busybox:test"),
        (["-f", "reference=*:1"], ""),
        (["-f", "reference=*/*:1"], "team/tool:1"),
        (["-f", "reference=busybox", "-f", "reference=team/tool"], "busybox:test team/tool:1"),
        (["-f", "dangling=true"], ""),
        (["-f", "before=team/tool:1"], ""),
        (["-f", "label=a"], ""),
    ],
)
def test_images_are_chosen_by_pattern_and_filter(orlop: Orlop, argv: list[str], names: str) -> None:
    assert orlop.out("images", *argv, "--format", "{{.Repository}}:{{.Tag}}").split() == names.split()


def test_dangling_images_are_listed_without_a_name_and_before_and_since_compare_times(orlop: Orlop) -> None:
    digest = orlop.out("import", "-", stdin=orlops.rootfs_tar({"etc/other": b"1"}))
    try:
        assert orlop.out("images", "-qf", "dangling=true", "--no-trunc") == digest
        assert orlop.out("images", "-qf", f"since={IMAGE}", "--no-trunc") == digest
        assert digest[7:19] not in orlop.out("images", "-qf", f"before={digest}")
        assert orlop.out("images", "-f", "dangling=true", "--format", "{{.Repository}} {{.Tag}}") == "<none> <none>"
    finally:
        orlop.run("rmi", digest)


def test_inspect_of_several_prints_what_there_is_then_what_is_missing(orlop: Orlop) -> None:
    done = orlop.run("inspect", "-f", "{{.Name}}", "web", "nope", "made", code=1)
    assert done.stdout == b"/web\n/made\n"
    assert done.stderr == b"orlop: no such object: nope\n"
    assert orlop.run("inspect", "nope", code=1).stdout == b"[]\n"


def test_the_groups_inspect_only_their_own_kind(orlop: Orlop) -> None:
    assert b"no such image: web" in orlop.run("image", "inspect", "web", code=1).stderr
    assert b"no such container: team/tool:1" in orlop.run("container", "inspect", "team/tool:1", code=1).stderr
    assert orlop.out("image", "inspect", "-f", "{{len .RepoTags}}", "team/tool:1") == "2"


def test_a_label_that_is_not_there_has_no_value_and_no_error(orlop: Orlop) -> None:
    form = "{{.Config.Labels.nope}} {{json .Config.Labels}} {{.Config.Labels}}"
    assert orlop.out("inspect", "-f", form, "web", IMAGE, "failed").splitlines() == [
        '<no value> {"a":"1","com.example.some-name":"x=y"} map[a:1 com.example.some-name:x=y]',
        "<no value> null map[]",
        "<no value> {} map[]",
    ]
