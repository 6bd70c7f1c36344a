"""`orlop network create`."""

from __future__ import annotations

from ....base import errors
from . import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def _split(items: list[str], flag: str) -> tuple[str, str]:
    """(IPv4, IPv6) of what was given, at most one of each."""
    four = [item for item in items if ":" not in item]
    six = [item for item in items if ":" in item]
    if len(four) > 1 or len(six) > 1:
        raise errors.UsageError(f"--{flag}: one for IPv4 and one for IPv6 at most")
    return (four or [""])[0], (six or [""])[0]


def main(cli: Invocation) -> int:
    flags = cli.flags
    subnet, subnet6 = _split(flags.get("subnet", []), "subnet")
    gateway, gateway6 = _split(flags.get("gateway", []), "gateway")
    made = cli.engine.networks.create(
        cli.args[0],
        driver=flags.get("driver", "bridge"),
        subnet=subnet,
        gateway=gateway,
        ip_range=flags.get("ip-range", ""),
        subnet6=subnet6,
        gateway6=gateway6,
        ipv6=flags.get("ipv6"),
        internal=bool(flags.get("internal")),
        options=create.key_values(flags.get("opt", []), "opt"),
        labels=create.key_values(flags.get("label", []), "label"),
    )
    cli.out(made.id)
    return 0
