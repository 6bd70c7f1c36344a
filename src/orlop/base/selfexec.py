"""How to start this same Python with Orlop inside, for helper processes (spawner, cleaner).

On the path of `run`: imports nothing beyond `os` and `sys`. Starts nothing itself.
"""

from __future__ import annotations

import os
import sys

from . import errors

_PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def python_argv(module_entry: str) -> list[str]:
    """The argument vector that runs one function of Orlop in a new interpreter of the kind that runs now.

    module_entry: "package.module:function". The function is called without arguments and returns the exit code; what
    the caller appends to the list is its `sys.argv[1:]`.

    The interpreter starts with -I -S -E: it takes nothing from the environment, the current directory or the user's
    site directory. Its path is the standard library, this package's directory and the site-packages directories of
    this process, where dependencies are. Raises FailedPrecondition when this process does not know its interpreter
    (Python embedded in another program), InvalidArgument for an entry of another form.
    """
    module, _, function = module_entry.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), function)):
        raise errors.InvalidArgument(f"'{module_entry}' does not name a function as 'module:function'")
    if not sys.executable or not os.access(sys.executable, os.X_OK):
        raise errors.FailedPrecondition(
            "cannot start a helper process: this process does not know its Python interpreter",
            advice="set sys.executable to the path of a Python with Orlop's dependencies",
        )
    code = f"import sys;sys.path+={_paths()!r};from {module} import {function};sys.exit({function}())"
    return [sys.executable, "-I", "-S", "-E", "-c", code]


def _paths() -> list[str]:
    sites = (path for path in sys.path if path.endswith(("/site-packages", "/dist-packages")))
    return list(dict.fromkeys([*sites, _PACKAGE_PARENT]))
