"""What `run`, `exec` and `ps` import is a decision; the lists stand in tests/fixtures/hot_path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import modules, orlops
from tests.support.orlops import IMAGE, Orlop

COSTLY = {"typing", "re", "json", "dataclasses", "enum", "logging", "subprocess", "socket", "asyncio", "hashlib", "ssl",
          "datetime", "pathlib", "tempfile", "shutil", "contextlib", "argparse", "threading", "collections.abc", "rich",
          "http", "http.client", "urllib", "selectors", "signal", "inspect"}  # fmt: skip


@pytest.fixture(scope="module")
def orlop(ext4: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4 / "hot-path") as opened:
        opened.import_busybox()
        opened.run("run", "--rm", IMAGE, "true")  # caches of the first run
        opened.run("run", "-d", "--name", "there", IMAGE, "sleep", "1000")
        yield opened


@pytest.mark.parametrize(
    ("command", "argv"),
    [("run", ["run", "--rm", IMAGE, "true"]), ("exec", ["exec", "there", "true"]), ("ps", ["ps"])],
)
def test_a_quick_command_loads_only_what_its_list_allows(
    orlop: Orlop, command: str, argv: list[str], tmp_path: Path
) -> None:
    loaded = modules.loaded(argv, tmp_path, orlop.env)
    assert loaded & COSTLY == set()
    assert loaded - modules.allowed(command) == set()
    assert modules.allowed(command) - loaded == set()
