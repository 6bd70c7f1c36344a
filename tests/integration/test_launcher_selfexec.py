"""Helper processes start with Orlop's package and dependencies, and nothing of the caller's surroundings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orlop.base import errors, selfexec


def test_starts_a_function_of_the_package_isolated(tmp_path: Path) -> None:
    (tmp_path / "os.py").write_text("raise SystemExit('wrong module')")
    argv = selfexec.python_argv("orlop.doors.cli.main:main")
    assert argv[:5] == [sys.executable, "-I", "-S", "-E", "-c"]
    done = subprocess.run(
        [*argv, "--version"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("orlop version ")


def test_the_functions_result_is_the_exit_code() -> None:
    argv = selfexec.python_argv("orlop.doors.cli.main:main")
    assert subprocess.run([*argv, "no-such-command"], capture_output=True, check=False).returncode == 125


def test_dependencies_are_found_and_the_callers_own_directories_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", "/callers/own", "/venv/lib/python3.11/site-packages", *sys.path])
    code = selfexec.python_argv("orlop.doors.cli.main:main")[-1]
    probe = code[: code.index("from orlop")] + "import json;print(json.dumps(sys.path))"
    path = json.loads(subprocess.check_output([sys.executable, "-I", "-S", "-E", "-c", probe]))
    assert "/venv/lib/python3.11/site-packages" in path
    assert str(Path(selfexec.__file__).parents[2]) in path
    assert "/callers/own" not in path
    assert "" not in path


@pytest.mark.parametrize("entry", ["orlop.base", "orlop.base:", ":main", "orlop;import os:main", "a:b:c", "a b:c"])
def test_refuses_what_does_not_name_a_function(entry: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        selfexec.python_argv(entry)


@pytest.mark.parametrize("executable", ["", None, "/nowhere/python"])
def test_a_process_without_an_interpreter_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, executable: str | None
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(errors.FailedPrecondition, match="interpreter") as caught:
        selfexec.python_argv("orlop.doors.cli.main:main")
    assert caught.value.advice


def test_nothing_but_os_and_sys_is_imported() -> None:
    parent = str(Path(selfexec.__file__).parents[2])
    code = (
        f"import sys; sys.path.append({parent!r}); before = set(sys.modules); import orlop.base.selfexec; "
        "print(set(sys.modules) - before)"
    )
    loaded = eval(subprocess.check_output([sys.executable, "-I", "-S", "-c", code], text=True))
    assert {name for name in loaded if not name.startswith("orlop")} <= {
        "os", "os.path", "posixpath", "genericpath", "stat", "_stat", "_collections_abc", "__future__",
    }  # fmt: skip
