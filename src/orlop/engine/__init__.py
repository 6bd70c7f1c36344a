"""The engine: the verbs, one module a noun, and the one place where parts are wired (`wiring.py`)."""

from __future__ import annotations

from .engine import Engine as Engine

__all__ = ["Engine"]
