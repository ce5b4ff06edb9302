"""Plug-ins by name, found through entry points: families, encodings, solvers, backends.

Adding one is a new file plus a line in ``pyproject.toml`` (or in a third party's own package). Not here: any list of
names; the entry points are the list.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from resources.failures import InputError

if TYPE_CHECKING:
    from hybrid_assets.encodings.base import Encoding
    from hybrid_assets.problems.base import ProblemFamily
    from hybrid_assets.solvers.base import ClassicalSolver


def names(kind: str) -> tuple[str, ...]:
    """Registered names of a kind (``families``, ``encodings``, ``solvers``, ``backends``), sorted."""
    return tuple(sorted({e.name for e in entry_points(group=f"hybrid_assets.{kind}")}))


@cache
def _load(kind: str, name: str) -> Any:
    found = {e.value: e for e in entry_points(group=f"hybrid_assets.{kind}") if e.name == name}
    if not found:
        raise InputError(
            name,
            kind,
            "nothing is registered under this name",
            f"use one of: {', '.join(names(kind)) or 'none installed'}",
        )
    if len(found) > 1:
        raise InputError(
            name,
            kind,
            f"several packages register this name ({', '.join(sorted(found))})",
            "uninstall all but one of them",
        )
    ((place, entry),) = found.items()
    try:
        return entry.load()()
    except ImportError as error:
        raise InputError(name, kind, f"{place} cannot be loaded ({error})", "install what is missing") from error


def family(name: str) -> ProblemFamily:
    """The problem family of this name.

    Raises:
        InputError: unknown name, registered twice, or not loadable.
    """
    return _load("families", name)


def encoding(name: str) -> Encoding:
    """The encoding of this name."""
    return _load("encodings", name)


def solver(name: str) -> ClassicalSolver:
    """The classical solver of this name."""
    return _load("solvers", name)
