"""Orlop: a complete container platform in Python.

from orlop import Engine

with Engine.open() as engine:
    engine.images.pull("docker.io/library/alpine")
    print(engine.containers.run("alpine", ["echo", "hello"], remove=True).output)
"""

from __future__ import annotations

__version__ = "0.1.0.dev0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .engine import Engine as Engine

__all__ = ["Engine", "__version__"]


def __getattr__(name: str) -> object:
    # Lazy, so that importing a room of the house does not bring the whole house.
    if name == "Engine":
        from .engine import Engine

        return Engine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
