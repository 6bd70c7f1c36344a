"""`orlop login`."""

from __future__ import annotations

import os

from ....base import errors
from ..streams import standard_input

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    flags = cli.flags
    server = cli.args[0] if cli.args else ""
    username, password = flags.get("username", ""), flags.get("password", "")
    if flags.get("password-stdin"):
        if password:
            raise errors.UsageError("--password and --password-stdin are mutually exclusive")
        if not username:
            raise errors.UsageError("Must provide --username with --password-stdin")
        password = standard_input().read(1 << 20).decode("utf-8", "surrogateescape").rstrip("\r\n")
    elif password:
        cli.warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    if not username or not password:
        if not os.isatty(0):
            raise errors.UsageError("cannot ask for a user name and password: standard input is not a terminal")
        import getpass

        username = username or input("Username: ").strip()
        password = password or getpass.getpass("Password: ")
    message = cli.engine.system.login(server, username, password)
    if message:
        cli.warn(message)
    cli.out("Login Succeeded")
    return 0
