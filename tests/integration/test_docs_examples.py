"""The examples of the documentation run as they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.engine import wiring
from tests.support import orlops
from tests.support.orlops import Orlop

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def orlop(ext4: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4 / "docs-examples") as opened:
        opened.import_busybox("busybox:latest")
        yield opened


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_of_the_library_page_run(orlop: Orlop, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "DEFAULT_ROOT", str(orlop.root))
    monkeypatch.setattr(wiring, "DEFAULT_STATE", str(orlop.state))
    exec(compile(EXAMPLES[number], f"docs/python.md example {number}", "exec"), {"__name__": "example"})


def test_every_flag_and_command_in_the_readme_exists() -> None:
    from orlop.doors.cli import table

    text = (ROOT / "README.md").read_text()
    for line in re.findall(r"^\$ orlop (.*)$", text, re.MULTILINE):
        command = line.split("#")[0].split()[0]
        assert command in table.COMMANDS, line
        flags = {f"--{flag[0]}" for flag in table.COMMANDS[command][3]}
        for word in re.findall(r"(?<= )--[a-z-]+", line.split("#")[0].split("&&")[0]):
            assert word in flags or command == "run", line
