"""Environments: which settings hold in dev, staging and production. Nothing else differs between them.

Here: the settings and the registered backends. Not here: the resources made from them (``assembly``).
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
    algorithm: Algorithm = DEFAULT_ALGORITHM
    owner: str = "team:unassigned"
    sensitivity: str = "internal"
    sensors_run: bool = True


SETTINGS: dict[str, Settings] = {
    "dev": Settings("dev", backend="aer", fallback=("lightning", "annealer"), max_qubits=16, budget_seconds=5.0),
    # a noisy device is a density matrix of 4ⁿ amplitudes, so payloads are smaller
    "staging": Settings(
        "staging", backend="aer-noisy", fallback=("aer", "annealer"), max_qubits=8, budget_seconds=20.0
    ),
    # no hardware adapter ships yet: jobs stop at the missing backend with a reason, and nothing runs by itself
    "production": Settings(
        "production", backend="hardware", fallback=(), max_qubits=100, budget_seconds=60.0, sensors_run=False
    ),
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
