"""`orlop info`."""

from __future__ import annotations

from .. import human

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    told = cli.engine.system.info()
    if cli.flags.get("format"):
        from .. import template

        cli.out(template.render(cli.flags["format"], told))
        return 0
    runtimes = ", ".join(f"{name} {version}" for name, version in told["Runtimes"].items()) or "none"
    hidden = " (with cgroup2 hidden from it: this machine mixes cgroup v1 and v2)" if told["UnifiedHidden"] else ""
    cli.out(
        f"Containers: {told['Containers']}\n"
        f" Running: {told['ContainersRunning']}\n"
        f" Paused: {told['ContainersPaused']}\n"
        f" Stopped: {told['ContainersStopped']}\n"
        f"Images: {told['Images']}\n"
        f"Orlop Version: {told['ServerVersion']}\n"
        f"Namespace: {told['Namespace']}\n"
        f"Snapshotter: {told['Driver']} ({told['DriverReason']})\n"
        f"Runtimes: {runtimes}\n"
        f"Default Runtime: {told['DefaultRuntime'] or 'none'}{hidden}\n"
        f"Cgroup Version: {told['CgroupVersion']}\n"
        f"Cgroup Controllers: {' '.join(told['CgroupControllers'])}\n"
        f"Security Options: {' '.join(told['SecurityOptions'])}\n"
        f"Kernel Version: {told['KernelVersion']}\n"
        f"Architecture: {told['Architecture']}\n"
        f"CPUs: {told['NCPU']}\n"
        f"Total Memory: {human.binary_size(told['MemTotal'])}\n"
        f"Root Dir: {told['OrlopRootDir']}\n"
        f"State Dir: {told['OrlopStateDir']}\n"
        f"Database Journal: {told['JournalMode']}"
    )
    for warning in told["Warnings"]:
        cli.warn(f"WARNING: {warning}")
    return 0
