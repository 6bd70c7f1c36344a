"""Network sysctls (/proc/sys/net) of the calling thread's network namespace. May import only `os`.

See Documentation/networking/ip-sysctl.rst.
"""

from __future__ import annotations

import os

_TOP = "/proc/sys/net"


def get(name: str) -> str:
    """The value of a setting below /proc/sys/net ("ipv4/ip_forward"); "" when this kernel does not have it."""
    try:
        fd = os.open(f"{_TOP}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    try:
        return os.read(fd, 4096).decode().strip()
    finally:
        os.close(fd)


def put(name: str, value: str) -> None:
    """Set it. Raises OSError, naming the file (EROFS or EACCES in a container without the right)."""
    fd = os.open(f"{_TOP}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{_TOP}/{name}") from error
    finally:
        os.close(fd)


def has_ipv6() -> bool:
    """Whether this kernel speaks IPv6 and nobody has switched it off for new links."""
    return get("ipv6/conf/default/disable_ipv6") == "0" and get("ipv6/conf/all/disable_ipv6") == "0"


def ipv6_links() -> list[str]:
    """The links that have IPv6 settings of their own."""
    try:
        return [name for name in sorted(os.listdir(f"{_TOP}/ipv6/conf")) if name not in ("all", "default")]
    except FileNotFoundError:
        return []
