"""`orlop login`."""

from __future__ import annotations

import os

from ....base import errors
from ..streams import standard_input

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation

_LONGEST = 1 << 20


def _from_stdin() -> str:
    try:
        password = standard_input().read(_LONGEST).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise errors.UsageError("the password on standard input is not UTF-8") from None
    if not password:
        raise errors.UsageError("there is no password on standard input")
    return password


def _ask(username: str, password: str) -> tuple[str, str]:
    if not os.isatty(0):
        raise errors.UsageError(
            "cannot ask for a user name and password: standard input is not a terminal",
            advice="give --username and --password-stdin",
        )
    import getpass

    try:
        username = username or input("Username: ").strip()
        password = password or getpass.getpass("Password: ")
    except (EOFError, UnicodeDecodeError):
        raise errors.UsageError("no user name and password were given") from None
    if not username or not password:
        raise errors.UsageError("a login needs a user name and a password")
    return username, password


def main(cli: Invocation) -> int:
    flags = cli.flags
    server = cli.args[0] if cli.args else ""
    username, password = flags.get("username", ""), flags.get("password", "")
    if flags.get("password-stdin"):
        if password:
            raise errors.UsageError("--password and --password-stdin are mutually exclusive")
        if not username:
            raise errors.UsageError("Must provide --username with --password-stdin")
        password = _from_stdin()
    elif password:
        cli.warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    if not username or not password:
        username, password = _ask(username, password)
    message = cli.engine.system.login(server, username, password)
    if message:
        cli.warn(message)
    cli.out("Login Succeeded")
    return 0
