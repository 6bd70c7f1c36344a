"""What the quick commands import is a decision, not an accident: the lists stand in tests/fixtures/hot_path.

A new name there costs every user its import time at every start. Measure it (`python -X importtime`) before adding it.
"""

from __future__ import annotations

from pathlib import Path

from tests.support import modules


def test_version_loads_only_what_its_list_allows(tmp_path: Path) -> None:
    assert modules.loaded(["version"], tmp_path) - modules.allowed("version") == set()


def test_the_list_of_version_holds_nothing_that_is_not_loaded(tmp_path: Path) -> None:
    assert modules.allowed("version") - modules.loaded(["version"], tmp_path) == set()
