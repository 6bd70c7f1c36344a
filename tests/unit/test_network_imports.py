"""What the network room costs `run` to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_networks_import_nothing_dear() -> None:
    program = """
import sys
sys.path.append(sys.argv[1])
before = set(sys.modules)
import orlop.services.network.networks, orlop.services.network.names, orlop.stores.networks.local
dear = {"typing", "collections.abc", "dataclasses", "enum", "re", "json", "logging", "subprocess", "socket", "select",
        "datetime", "pathlib", "tempfile", "shutil", "contextlib", "functools", "argparse", "threading", "ipaddress",
        "ctypes", "hashlib"}
print(sorted(dear & (set(sys.modules) - before)))
"""
    source = str(Path(__file__).resolve().parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-E", "-c", program, source],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"
