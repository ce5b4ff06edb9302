"""Environments: which settings hold in dev, staging and production. Nothing else differs between them.

Here: the settings and the registered backends. Not here: where jobs go and what they may cost (``policy``), or the
resources made from the settings (``assembly``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal

from resources.envelope import Algorithm
from resources.failures import InputError

if TYPE_CHECKING:
    from resources.backends.base import QuantumBackend

Environment = Literal["dev", "staging", "production"]


#: Depth 10 costs twice the time of depth 5 and multiplies the probability of the optimum.
DEFAULT_ALGORITHM = Algorithm(depth=10)


@dataclass(frozen=True)
class Settings:
    """Defaults of one environment; an instance's own request overrides them, its policy file says where jobs go.

    Attributes:
        environment: its name.
        repetitions: whole runs of an iterative algorithm, for its confidence.
        trips: jobs, one after the other, of an instance that is larger than the device.
        algorithm: depth, shots and the rest.
        owner, sensitivity: of instances whose request names none.
        sensors_run: whether sensors and schedules start by themselves.
    """

    environment: Environment
    repetitions: int = 3
    trips: int = 500
    algorithm: Algorithm = DEFAULT_ALGORITHM
    owner: str = "team:unassigned"
    sensitivity: Literal["public", "internal", "confidential"] = "internal"
    sensors_run: bool = True


SETTINGS: dict[str, Settings] = {
    "dev": Settings("dev"),
    # every trip of a remote job waits in a queue
    "staging": Settings("staging", trips=3),
    # nothing runs by itself where it costs money
    "production": Settings("production", trips=2, sensors_run=False),
}


def current_environment() -> str:
    """The environment named by ``HYBRID_ENV`` (default ``dev``).

    Raises:
        InputError: the name is unknown.
    """
    name = os.environ.get("HYBRID_ENV") or "dev"
    if name not in SETTINGS:
        raise InputError(
            "HYBRID_ENV", "value", f"there is no environment {name!r}", f"use one of {', '.join(SETTINGS)}"
        )
    return name


def backend_factories() -> dict[str, Callable[[], QuantumBackend]]:
    """Constructors of all registered backends; nothing is imported before a backend is made."""

    def factory(entry: Any) -> Callable[[], QuantumBackend]:
        return lambda: entry.load()()

    return {e.name: factory(e) for e in entry_points(group="hybrid_assets.backends")}
