"""`orlop version`."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..main import Invocation


def facts() -> dict[str, Any]:
    """What `version` tells, in Docker's shape: the client and the engine are one program."""
    from .... import __version__

    system = os.uname()
    python = ".".join(str(part) for part in sys.version_info[:3])
    part = {
        "Version": __version__,
        "ApiVersion": "",
        "PythonVersion": python,
        "Os": "linux",
        "Arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(system.machine, system.machine),
        "KernelVersion": system.release,
    }
    return {"Client": part, "Server": part}


def main(cli: Invocation) -> int:
    told = facts()
    if cli.flags.get("format"):
        from .. import template

        cli.out(template.render(cli.flags["format"], told))
        return 0
    part = told["Client"]
    cli.out(
        f"Orlop:\n"
        f" Version:           {part['Version']}\n"
        f" Python version:    {part['PythonVersion']}\n"
        f" OS/Arch:           {part['Os']}/{part['Arch']}\n"
        f" Kernel:            {part['KernelVersion']}"
    )
    return 0
