"""The kernel room imports on every system and says plainly that it needs Linux; each module comes alone."""

import subprocess
import sys

import pytest

MODULES = ["_sys", "mounts", "mountinfo", "mountapi", "namespaces", "process", "capabilities", "cgroups", "cgroupstats"]

FAKED = """
import sys
sys.platform = {platform!r}
from orlop.base import errors
import importlib
for name in {modules!r}:
    importlib.import_module("orlop.base.kernel." + name)
from orlop.base.kernel import capabilities, cgroups, mounts, namespaces, process
assert "ctypes" not in sys.modules, "importing must not load ctypes"
calls = [
    lambda: mounts.mount("a", "b"), lambda: mounts.umount2("a"), lambda: mounts.mountinfo(),
    lambda: namespaces.unshare(0), lambda: namespaces.namespace_id("mnt"), lambda: process.set_subreaper(),
    lambda: process.pidfd_open(1), lambda: process.start_ticks(1), lambda: process.close_range(900),
    lambda: capabilities.own(), lambda: cgroups.detect(), lambda: cgroups.paths_of(),
]
for call in calls:
    try:
        call()
    except errors.Unimplemented as error:
        assert "Linux" in str(error) and {platform!r} in str(error), error
    else:
        raise SystemExit("no error")
print("fine")
"""


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_it_imports_and_calls_say_that_linux_is_needed(platform):
    run = subprocess.run(
        [sys.executable, "-c", FAKED.format(platform=platform, modules=MODULES)], capture_output=True, text=True
    )
    assert (run.stdout, run.returncode) == ("fine\n", 0), run.stderr


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_nothing_dear(module):
    dear = "typing collections.abc dataclasses enum re json logging subprocess socket datetime pathlib ctypes threading"
    program = f"import orlop.base.kernel.{module}, sys; print([m for m in {dear.split()!r} if m in sys.modules])"
    path = subprocess.run(
        [sys.executable, "-c", "import orlop; print(orlop.__path__[0])"], capture_output=True, text=True
    ).stdout.strip()
    source = path.rpartition("/")[0]
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-E", "-c", f"import sys; sys.path.insert(0, {source!r}); {program}"],
        capture_output=True,
        text=True,
    )
    assert run.stdout == "[]\n", run.stdout + run.stderr
