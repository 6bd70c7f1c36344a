"""`orlop network inspect`."""

from __future__ import annotations

from ....base import errors, jsonio, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..main import Invocation


def _told(cli: Invocation, text: str) -> dict[str, Any]:
    network, bridge, endpoints = cli.engine.networks.inspect(text)
    pools = [(network.subnet, network.gateway, network.ip_range), (network.subnet6, network.gateway6, "")]
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": times.rfc3339(network.created_ns),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv6": bool(network.subnet6),
        "IPAM": {
            "Driver": "default",
            "Config": [
                {"Subnet": subnet, "Gateway": gateway, **({"IPRange": ip_range} if ip_range else {})}
                for subnet, gateway, ip_range in pools
                if subnet
            ],
        },
        "Internal": network.internal,
        "Bridge": bridge,
        "Containers": {
            each.container: {
                "Name": each.name,
                "MacAddress": each.mac,
                "IPv4Address": each.address,
                "IPv6Address": each.address6,
            }
            for each in endpoints
        },
        "Options": dict(network.options),
        "Labels": dict(network.labels),
    }


def main(cli: Invocation) -> int:
    told, code = [], 0
    for text in cli.args:
        try:
            told.append(_told(cli, text))
        except errors.NotFound as error:
            cli.warn(f"orlop: {error.message}")
            code = 1
    format = cli.flags.get("format", "")
    if format:
        from .. import template

        cli.out(template.render_inspect(format, told))
    else:
        cli.out(jsonio.dumps(told, indent=4))
    return code
