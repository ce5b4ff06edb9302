"""Environments: which resource has which settings in dev, staging and production. Nothing else differs between them.

Here: the settings and the resources built from them. Not here: what assets do with them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal

from resources.envelope import Algorithm
from resources.failures import InputError
from resources.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

    from resources.backends.base import QuantumBackend
    from resources.dispatcher import Dispatcher
    from resources.lake import Lake

Environment = Literal["dev", "staging", "production"]


@dataclass(frozen=True)
class Settings:
    """Defaults of one environment; an instance's own request overrides them.

    Attributes:
        environment: its name.
        backend: where quantum jobs go, and ``fallback``: where they go when it cannot.
        max_qubits: the largest payload sent; larger instances are narrowed first.
        budget_seconds: wall-clock seconds for the quantum side, and for each baseline.
        repetitions: whole runs of an iterative algorithm, for its confidence.
        algorithm: depth, shots and the rest.
        owner, sensitivity: of instances whose request names none.
        sensors_run: whether sensors and schedules start by themselves.
    """

    environment: Environment
    backend: str
    fallback: tuple[str, ...]
    max_qubits: int
    budget_seconds: float
    repetitions: int = 3
    algorithm: Algorithm = Algorithm()
    owner: str = "team:unassigned"
    sensitivity: str = "internal"
    sensors_run: bool = True


SETTINGS: dict[str, Settings] = {
    "dev": Settings("dev", backend="aer", fallback=("lightning", "annealer"), max_qubits=14, budget_seconds=5.0),
    # noisy devices are simulated shot by shot, so payloads are smaller
    "staging": Settings("staging", backend="aer-noisy", fallback=("aer", "annealer"), max_qubits=10,
                        budget_seconds=20.0),
    # no hardware adapter ships yet: jobs stop at the missing backend with a reason, and nothing runs by itself
    "production": Settings("production", backend="hardware", fallback=(), max_qubits=100, budget_seconds=60.0,
                           sensors_run=False),
}


def current_environment() -> str:
    """The environment named by ``HYBRID_ENV`` (default ``dev``).

    Raises:
        InputError: the name is unknown.
    """
    name = os.environ.get("HYBRID_ENV") or "dev"
    if name not in SETTINGS:
        raise InputError("HYBRID_ENV", "value", f"there is no environment {name!r}",
                         f"use one of {', '.join(SETTINGS)}")
    return name


def backend_factories() -> dict[str, Callable[[], QuantumBackend]]:
    """Constructors of all registered backends; nothing is imported before a backend is made."""

    def factory(entry: Any) -> Callable[[], QuantumBackend]:
        return lambda: entry.load()()

    return {e.name: factory(e) for e in entry_points(group="hybrid_assets.backends")}


@cache
def build_dispatcher(home: Home) -> Dispatcher:
    """The dispatcher over this home's ledger and artefacts, one per process."""
    from resources.artifacts import ArtifactStore
    from resources.dispatcher import Dispatcher
    from resources.ledger import Ledger

    home.prepare()
    return Dispatcher(Ledger.at(home.ledger), ArtifactStore(home.artifacts), backend_factories())


@cache
def build_lake(home: Home, schemas: tuple[tuple[str, pa.Schema], ...]) -> Lake:
    """The lake with all its tables, one per process.

    Args:
        schemas: name and explicit schema of each table.
    """
    from resources.lake import Lake

    home.prepare()
    lake = Lake(home.lake, dict(schemas))
    lake.ensure_tables()
    return lake


def resources_for(
    environment: str, home: Home, schemas: tuple[tuple[str, pa.Schema], ...], replaced: Mapping[str, Any]
) -> dict[str, Any]:
    """All Dagster resources of an environment; they are made when a run or a tick first needs them.

    Args:
        environment: a key of ``SETTINGS``.
        home: where state lives.
        schemas: name and explicit schema of each table in the lake.
        replaced: resources to use instead, by name.

    Raises:
        InputError: a replacement names no resource.
    """
    import dagster as dg

    from resources.warehouse import dbt_resource

    def lazily(make: Callable[[], Any]) -> dg.ResourceDefinition:
        return dg.ResourceDefinition(lambda _: make())

    built: dict[str, Any] = {
        "home": home,
        "settings": SETTINGS[environment],
        "dispatcher": lazily(lambda: build_dispatcher(home)),
        "lake": dg.IOManagerDefinition(lambda _: build_lake(home, schemas)),
        "dbt": lazily(dbt_resource),
    }
    unknown = set(replaced) - set(built)
    if unknown:
        raise InputError("build_defs", ", ".join(sorted(unknown)), "there is no such resource",
                         f"use one of {', '.join(built)}")
    return built | dict(replaced)
