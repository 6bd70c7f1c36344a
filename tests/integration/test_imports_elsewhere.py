"""Every module of the package can be imported on other operating systems, where containers cannot run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import elsewhere

SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_every_module_imports(system: str) -> None:
    done = subprocess.run(
        [sys.executable, elsewhere.__file__, system, str(SOURCE)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == []
    assert done.returncode == 0, done.stderr
