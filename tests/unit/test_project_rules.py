"""The house rules of docs/architecture.md that are not import contracts, read off the sources.

Import contracts (floors, services apart, ctypes and SQLite behind one door) stand in pyproject.toml; `lint-imports`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/orlop"
SOURCES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(), str(path)) for name, path in SOURCES.items()}

_SQL = re.compile(
    r"^\s*(SELECT\s.+\sFROM|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+(TABLE|INDEX|UNIQUE)|"
    r"ALTER\s+TABLE|PRAGMA\s|BEGIN\s+IMMEDIATE)",
    re.S,
)


def _calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


def _imports(nodes: list[ast.stmt]) -> Iterator[str]:
    """Names of modules that statements import when they are executed; `if TYPE_CHECKING` is not."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from _imports([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            yield from _imports(node.body)


def test_sql_stands_only_in_the_metadata_store() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, tree in TREES.items()
        if not name.startswith("stores/metadata/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.match(node.value)
    ]
    assert found == []


_FORKS_AT_ITS_START = {"services/network/helper.py"}
"""Started by exec, forks once before it has done anything, so as to be nobody's child (docs/architecture.md)."""


def test_only_the_spawner_and_what_it_forks_fork_python() -> None:
    found = [
        f"{name}:{line} {call}"
        for name, tree in TREES.items()
        if not name.startswith("services/shim/") and name not in _FORKS_AT_ITS_START
        for call, line in _calls(tree)
        if call in ("os.fork", "os.forkpty", "pty.fork") or call.startswith("multiprocessing.")
    ]
    assert found == []


def test_no_statement_that_python_dash_o_removes_checks_anything() -> None:
    found = [f"{name}:{n.lineno}" for name, tree in TREES.items() for n in ast.walk(tree) if isinstance(n, ast.Assert)]
    assert found == []


def test_nothing_is_left_unfinished() -> None:
    pattern = re.compile(r"\b(NotImplementedError|TODO|FIXME|XXX)\b")
    found = [
        f"{name}:{number}"
        for name, path in SOURCES.items()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_every_module_says_what_it_is_for() -> None:
    assert [name for name, tree in TREES.items() if tree.body and not ast.get_docstring(tree)] == []


def test_every_module_keeps_annotations_as_strings() -> None:
    wanting = [
        name
        for name, tree in TREES.items()
        if any(isinstance(node, ast.AnnAssign | ast.FunctionDef) for node in ast.walk(tree))
        and not any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
    ]
    assert wanting == []


@pytest.mark.parametrize("name", [name for name in SOURCES if name.endswith("/api.py") or name.startswith("base/oci/")])
def test_interfaces_and_formats_import_nothing_dear_at_run_time(name: str) -> None:
    dear = {
        "typing",
        "collections.abc",
        "dataclasses",
        "enum",
        "re",
        "json",
        "logging",
        "datetime",
        "pathlib",
        "functools",
    }
    assert dear.intersection(_imports(TREES[name].body)) == set()


def test_paths_below_the_doors_are_strings() -> None:
    found = [
        name for name, tree in TREES.items() if not name.startswith("doors/") and "pathlib" in set(_imports(tree.body))
    ]
    assert found == []


def test_tests_do_not_import_one_another() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {node.module}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("tests.")
        and node.module != "tests.support"
        if not (node.module or "").startswith("tests.support.")
    ]
    assert found == []


def test_tests_never_assert_on_elapsed_time() -> None:
    clock = re.compile(r"^\s*assert .*\b(perf_counter|monotonic|elapsed|took)\b.*[<>]")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if clock.search(line)
    ]
    assert found == []
