"""The `orlop` script finds its interpreter and its package in every form of installation.

A project with the real pyproject.toml and scripts/orlop, but a main that reports what it was given, is built once as a
wheel and once as an editable wheel; both are installed by pip in the forms users have.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

STUB_MAIN = """
import json, os, sys

def main(argv):
    try:
        import a_dependency
        dependency = a_dependency.__file__
    except ImportError:
        dependency = None
    code = int(os.environ.get("STUB_EXIT", "0"))
    os.write(1, json.dumps({
        "argv": argv, "sys.argv": sys.argv, "path": sys.path, "executable": sys.executable, "file": __file__,
        "flags": [sys.flags.isolated, sys.flags.no_site, sys.flags.ignore_environment], "dependency": dependency,
    }).encode())
    return code


def run_and_exit(argv):
    raise SystemExit(main(argv))
"""


def _project(parent: Path) -> Path:
    project = parent / "the project"
    (project / "scripts").mkdir(parents=True)
    cli = project / "src/orlop/doors/cli"
    cli.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", "scripts/orlop"):
        shutil.copy2(ROOT / name, project / name)
    shutil.copy2(ROOT / "src/orlop/__init__.py", project / "src/orlop/__init__.py")
    shutil.copy2(ROOT / "src/orlop/__main__.py", project / "src/orlop/__main__.py")
    (project / "scripts/containerd-shim-orlop-v2").symlink_to("orlop")
    (project / "src/orlop/doors/__init__.py").touch()
    (cli / "__init__.py").touch()
    (cli / "main.py").write_text(STUB_MAIN)
    shim = project / "src/orlop/services/shim"
    shim.mkdir(parents=True)
    (shim / "containerd_shim.py").write_text(STUB_MAIN.replace('"argv": argv', '"argv": ["shim", *argv]'))
    return project


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The project's wheel and editable wheel."""
    directory = tmp_path_factory.mktemp("wheels")
    project = _project(directory)
    build = "import sys, hatchling.build as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"
    made = []
    for hook in ("build_wheel", "build_editable"):
        (directory / hook).mkdir()
        done = _run([sys.executable, "-c", build, hook, str(directory / hook)], cwd=project)
        made.append(directory / hook / done.stdout.split()[-1])
    return made[0], made[1]


def _venv(path: Path, *options: str) -> Path:
    _run([sys.executable, "-m", "venv", "--without-pip", *options, str(path)])
    return path


def _site(venv: Path) -> Path:
    return next(venv.glob("lib/python3*/site-packages"))


def _pip(python: Path | str, wheel: Path, *options: str, **environ: str) -> None:
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "-q",
        "install",
        "--no-deps",
        "--no-index",
        "--no-compile",
    ]
    _run([*pip, *options, str(wheel)], env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore", **environ})


def _run(argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done


def _report(argv: list[str | Path], **options: Any) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(_run([str(word) for word in argv], **options).stdout)
    return report


@pytest.fixture(scope="module")
def installed(wheels: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment, in a path with spaces, with the wheel and a dependency in it."""
    venv = _venv(tmp_path_factory.mktemp("install") / "a venv $HOME 'quoted'")
    _pip(venv / "bin/python3", wheels[0])
    (_site(venv) / "a_dependency.py").touch()
    return venv


def test_runs_isolated_from_a_venv_whose_path_has_spaces_and_finds_dependencies(installed: Path) -> None:
    report = _report([installed / "bin/orlop", "ps"])
    assert report["flags"] == [1, 1, 1]
    assert report["argv"] == ["ps"]
    assert report["sys.argv"] == [str(installed / "bin/orlop"), "ps"]
    assert report["executable"] == str(installed / "bin/python3")
    assert report["dependency"] == str(_site(installed) / "a_dependency.py")
    assert report["file"].startswith(str(_site(installed)))


def test_by_its_name_for_containerd_it_is_a_shim(installed: Path) -> None:
    report = _report([installed / "bin/containerd-shim-orlop-v2", "-id", "one", "start"])
    assert report["argv"] == ["shim", "-id", "one", "start"]
    assert report["flags"] == [1, 1, 1]


def test_hands_on_arguments_and_exit_code_unchanged(installed: Path) -> None:
    arguments = [
        "",
        "a b",
        "'\"",
        "-c",
        "--",
        "$(id)",
        "line\nbreak",
        "naïve",
        "*",
        b"\xff".decode(errors="surrogateescape"),
    ]
    done = subprocess.run(
        [installed / "bin/orlop", *arguments], capture_output=True, env={**os.environ, "STUB_EXIT": "42"}, check=False
    )
    assert done.returncode == 42
    assert json.loads(done.stdout)["argv"] == arguments


def test_starts_no_other_program_when_it_is_no_link(installed: Path, tmp_path: Path) -> None:
    assert _report([installed / "bin/orlop"], env={"PATH": str(tmp_path)})["argv"] == []


def test_follows_a_chain_of_absolute_and_relative_links(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "local bin").mkdir()
    (tmp_path / "first").symlink_to(installed / "bin/orlop")
    (tmp_path / "local bin/orlop").symlink_to("../first")
    report = _report([tmp_path / "local bin/orlop", "version"])
    assert report["executable"] == str(installed / "bin/python3")
    assert report["sys.argv"][0] == str(installed / "bin/orlop")


@pytest.mark.parametrize("command", ["./orlop", "orlop", "../bin/orlop"])
def test_found_by_a_relative_path(installed: Path, command: str) -> None:
    report = _report([command], cwd=installed / "bin", env={"PATH": f".:{os.defpath}"})
    assert report["dependency"] == str(_site(installed) / "a_dependency.py")


def test_found_through_a_linked_directory(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").symlink_to(installed / "bin")
    assert _report([tmp_path / "bin/orlop"])["file"].startswith(str(_site(installed)))


def test_takes_no_module_from_the_current_directory_or_the_environment(installed: Path, tmp_path: Path) -> None:
    for name in ("os", "json", "a_dependency", "orlop"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('wrong module')")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONHOME": str(tmp_path)}
    assert _report([installed / "bin/orlop"], cwd=tmp_path, env=environ)["dependency"].startswith(str(installed))


def test_editable_install_reads_the_source_directory_from_its_pth_file(
    wheels: tuple[Path, Path], tmp_path: Path
) -> None:
    venv = _venv(tmp_path / "venv")
    _pip(venv / "bin/python3", wheels[1])
    (_site(venv) / "a_dependency.py").touch()
    report = _report([venv / "bin/orlop", "version"])
    assert "/the project/src/orlop/" in report["file"]
    assert report["dependency"] == str(_site(venv) / "a_dependency.py")
    assert report["flags"] == [1, 1, 1]


def test_venv_with_system_site_packages_sees_those_of_its_base(wheels: tuple[Path, Path], tmp_path: Path) -> None:
    venv = _venv(tmp_path / "venv", "--system-site-packages")
    _pip(venv / "bin/python3", wheels[0])
    path = _report([venv / "bin/orlop"])["path"]
    assert any(entry.startswith(sys.base_prefix) and entry.endswith("-packages") for entry in path)


def test_user_install_runs_on_the_systems_python(wheels: tuple[Path, Path], tmp_path: Path) -> None:
    _pip("/usr/bin/python3", wheels[0], "--user", "--break-system-packages", HOME=str(tmp_path), PYTHONUSERBASE="")
    report = _report([tmp_path / ".local/bin/orlop", "version"], env={"PATH": "/nowhere"})
    assert report["executable"] == "/usr/bin/python3"
    assert report["file"].startswith(str(tmp_path / ".local/lib"))


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root")
def test_system_wide_install_in_usr_local(wheels: tuple[Path, Path]) -> None:
    # pip's "usr/local" on Debian; in a mount namespace with an empty one, so that the machine's own stays as it is.
    pip = "python -m pip --python /usr/bin/python3 -q install --no-deps --no-index --no-compile --break-system-packages"
    script = f"""mount -t tmpfs none /usr/local && {pip.replace("python", '"$1"', 1)} "$2" >&2 && cd / &&
        PATH=/usr/local/bin:/usr/bin:/bin exec orlop version"""
    environ = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    report = _report(["unshare", "-m", "sh", "-c", script, "sh", sys.executable, str(wheels[0])], env=environ)
    assert report["executable"] == "/usr/bin/python3"
    assert report["sys.argv"] == ["/usr/local/bin/orlop", "version"]
    assert report["file"].startswith("/usr/local/lib/python3")


def test_python_dash_m_is_the_same_command(installed: Path) -> None:
    assert _report([installed / "bin/python3", "-m", "orlop", "ps", "-a"])["argv"] == ["ps", "-a"]


def test_a_venv_that_lost_its_interpreter_is_reported_in_one_line(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(installed, tmp_path / "broken", symlinks=True)
    (tmp_path / "broken/bin/python3").unlink()
    (tmp_path / "broken/bin/python3").symlink_to("/nowhere/python3")
    done = subprocess.run([tmp_path / "broken/bin/orlop"], capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 1
    assert f"{tmp_path}/broken/bin/python3 is missing" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root")
def test_a_machine_without_python_is_told_in_one_line(tmp_path: Path) -> None:
    shutil.copy2(ROOT / "scripts/orlop", tmp_path / "orlop")
    script = 'mount --bind /dev/null /usr/bin/python3 && PATH=/nowhere exec "$1"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", tmp_path / "orlop"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 1
    assert "no Python interpreter" in done.stderr


def test_a_script_without_its_package_says_where_it_searched(tmp_path: Path) -> None:
    venv = _venv(tmp_path / "venv")
    shutil.copy2(ROOT / "scripts/orlop", venv / "bin/orlop")
    done = subprocess.run([venv / "bin/orlop"], capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 1
    assert str(_site(venv)) in done.stderr


def test_this_checkouts_environment_has_the_command() -> None:
    orlop = Path(sys.executable).with_name("orlop")
    if not orlop.exists():
        pytest.skip("the package is not installed beside this interpreter")
    import orlop as package

    assert package.__version__ in _run([str(orlop), "--version"]).stdout
    assert orlop.read_bytes() == (ROOT / "scripts/orlop").read_bytes()
