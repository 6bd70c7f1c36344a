"""TCP connections: names resolved and addresses tried so that a cancellation ends the wait at once.

Addresses of both families are tried in turn, each a little after the one before and while that one still tries (RFC
8305), so that a network without working IPv6 costs a quarter of a second and not half a minute.
"""

from __future__ import annotations

import select
import socket
import time

from . import failures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ....base.cancel import Cancel

    Address = tuple[int, Any]

STAGGER_S = 0.25
_POLL_S = 0.1


def dial(host: str, port: int, timeout: float, cancel: Cancel) -> socket.socket:
    """A connected socket with TCP_NODELAY. timeout: seconds for name and connection together.

    Raises NotConnected, NameNotFound, Cancelled, DeadlineExceeded.
    """
    deadline = time.monotonic() + timeout
    addresses = resolve(host, port, deadline, cancel)
    sock = _first_connected(_interleave(addresses), f"{host}:{port}", deadline, cancel)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def resolve(host: str, port: int, deadline: float, cancel: Cancel) -> list[Address]:
    """The (family, sockaddr) of a host. The resolver runs in a thread of its own: nothing can interrupt it."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
            return [(family, (host, port))]
        except (OSError, ValueError):
            continue
    import threading

    answer: list[list[Address] | OSError] = []
    done = threading.Event()

    def work() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.append([(int(family), address) for family, _, _, _, address in found])
        except (OSError, UnicodeError) as error:
            answer.append(error if isinstance(error, OSError) else OSError(str(error)))
        done.set()

    threading.Thread(target=work, name=f"resolve {host}", daemon=True).start()
    with cancel.closing(done.set):
        while not done.wait(cancel.remaining(max(0.0, min(1.0, deadline - time.monotonic())))):
            cancel.check()
            if time.monotonic() >= deadline:
                raise failures.NotConnected(f"cannot resolve {host}: the name server does not answer")
    cancel.check()
    found = answer[0]
    if isinstance(found, OSError):
        kind = failures.NotConnected if found.errno == socket.EAI_AGAIN else failures.NameNotFound
        raise kind(
            f"cannot resolve {host}: {found.strerror or found}", advice="check the registry's name and the network"
        ) from found
    return found


def _interleave(addresses: list[Address]) -> list[Address]:
    first = [a for a in addresses if a[0] == addresses[0][0]]
    other = [a for a in addresses if a[0] != addresses[0][0]]
    out: list[Address] = []
    while first or other:
        out += first[:1] + other[:1]
        first, other = first[1:], other[1:]
    return out


def _first_connected(queue: list[Address], where: str, deadline: float, cancel: Cancel) -> socket.socket:
    trying: dict[int, socket.socket] = {}
    poll = select.poll()
    failure: OSError | None = None
    next_start = 0.0
    try:
        while True:
            cancel.check()
            now = time.monotonic()
            if queue and (now >= next_start or not trying):
                sock, error = _start(queue.pop(0))
                if sock is not None and error is None:
                    return sock
                if sock is not None:
                    trying[sock.fileno()] = sock
                    poll.register(sock, select.POLLOUT)
                    next_start = now + STAGGER_S
                failure = error if sock is None else failure
                continue
            if not trying:
                reason = failure.strerror if failure is not None else "no address"
                raise failures.NotConnected(
                    f"cannot connect to {where}: {reason}", advice="check that the registry runs and can be reached"
                ) from failure
            if now >= deadline:
                raise failures.NotConnected(
                    f"cannot connect to {where}: timed out", advice="check the network, or a proxy may be needed"
                )
            wait = cancel.remaining(max(0.0, min(_POLL_S, deadline - now))) or 0.0
            for fd, _ in poll.poll(wait * 1000):
                sock = trying.pop(fd)
                poll.unregister(fd)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    return sock
                import os

                failure = OSError(code, os.strerror(code))
                sock.close()
                next_start = 0.0
    finally:
        for sock in trying.values():
            sock.close()


def _start(address: Address) -> tuple[socket.socket | None, OSError | None]:
    """(connected socket, None), (socket under way, BlockingIOError) or (None, why not)."""
    family, target = address
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        return None, error
    sock.setblocking(False)
    try:
        sock.connect(target)
    except BlockingIOError as error:
        return sock, error
    except OSError as error:
        sock.close()
        return None, error
    return sock, None
