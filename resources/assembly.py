"""The resources of an environment, made when a run or a tick first needs them, one per process.

Here: construction. Not here: which settings an environment has (``environments``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from resources.environments import SETTINGS, backend_factories, current_environment
from resources.failures import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from resources.dispatcher import Dispatcher
    from resources.home import Home
    from resources.lake import Lake
    from resources.workers import WarmWorkers


def build_dispatcher(home: Home, environment: str | None = None) -> Dispatcher:
    """The dispatcher over this home's ledger and artefacts under an environment's policy, one per process.

    Args:
        environment: a key of ``SETTINGS``; default from ``HYBRID_ENV``.

    Raises:
        InputError: the policy file is wrong.
    """
    from resources.policy import load

    name = environment or current_environment()
    return _dispatcher(home, name, load(name).version)


@cache
def _dispatcher(home: Home, environment: str, version: str) -> Dispatcher:
    """One per version of the policy: a process that lives long follows its file."""
    from resources.artifacts import ArtifactStore
    from resources.dispatcher import Dispatcher
    from resources.ledger import Ledger
    from resources.policy import load

    home.prepare()
    policy = load(environment)
    ledger, artifacts = Ledger(home.ledger_url), ArtifactStore(home.artifacts)
    return Dispatcher(ledger, artifacts, backend_factories(), policy, build_workers())


@cache
def build_workers() -> WarmWorkers:
    """The warm worker of this process; it starts when a backend is warmed or gets its first job."""
    from resources.workers import WarmWorkers

    return WarmWorkers()


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
        "dispatcher": lazily(lambda: build_dispatcher(home, environment)),
        "lake": dg.IOManagerDefinition(lambda _: build_lake(home, schemas)),
        "dbt": lazily(dbt_resource),
    }
    unknown = set(replaced) - set(built)
    if unknown:
        raise InputError(
            "build_defs", ", ".join(sorted(unknown)), "there is no such resource", f"use one of {', '.join(built)}"
        )
    return built | dict(replaced)
