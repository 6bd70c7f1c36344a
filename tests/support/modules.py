"""Which modules a command line of Orlop loads, seen from inside the process that runs it.

The process is started as scripts/orlop starts it. What `python -I -S -E` holds before Orlop begins does not count.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"
LISTS = Path(__file__).resolve().parents[1] / "fixtures/hot_path"

_PROBE = """
import os, sys
before = set(sys.modules) | {"os.path"}
sys.path += %r
from orlop.doors.cli.main import main
try:
    code = main(sys.argv[2:])
finally:
    with open(sys.argv[1], "w") as file:
        file.write("\\n".join(sorted(set(sys.modules) - before)))
sys.exit(code)
"""


def loaded(arguments: list[str], directory: Path, environ: Mapping[str, str] | None = None) -> set[str]:
    """Run `orlop ARGUMENTS` and return the names of the modules it loaded. Its exit code must be 0.

    directory: where the list is written; a directory of the test's own.
    """
    target = directory / "modules.txt"
    sites = [path for path in sys.path if path.endswith(("/site-packages", "/dist-packages"))]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-E", "-c", _PROBE % [*sites, str(SOURCE)], str(target), *arguments],
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # not a pipe: a monitor that goes on running would hold it
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    names = set(target.read_text().split())
    if done.returncode != 0:
        raise AssertionError(f"orlop {' '.join(arguments)} exited with {done.returncode}")
    return names


def allowed(command: str) -> set[str]:
    """The modules that a command may load, from tests/fixtures/hot_path/COMMAND.txt (comments begin with #)."""
    lines = (LISTS / f"{command}.txt").read_text().splitlines()
    return {line.partition("#")[0].strip() for line in lines} - {""}
