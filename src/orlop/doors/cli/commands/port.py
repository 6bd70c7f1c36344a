"""`orlop port`."""

from __future__ import annotations

from ....base import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    container = cli.engine.containers.get(cli.args[0])
    wanted = cli.args[1] if len(cli.args) > 1 else ""
    if wanted and "/" not in wanted:
        wanted += "/tcp"
    found = False
    for endpoint in container.endpoints():
        for mapping in endpoint.ports:
            name = f"{mapping.container_port}/{mapping.protocol}"
            host = mapping.host_ip or "127.0.0.1"
            bound = f"{f'[{host}]' if ':' in host else host}:{mapping.host_port}"
            if not wanted:
                cli.out(f"{name} -> {bound}")
            elif name == wanted:
                cli.out(bound)
                found = True
    if wanted and not found:
        raise errors.NotFound(f"no public port '{wanted}' published for {cli.args[0]}")
    return 0
