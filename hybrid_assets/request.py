"""The request: what somebody asks for one instance, in the YAML beside a file or on the command line, and what becomes
of it with its route and the environment's defaults.

Here: the schema of that YAML and its errors. Not here: a family's own options (``constraints:``), which the family
validates.
"""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from resources.documents import input_error, plain_yaml
from resources.envelope import Compilation, Mitigation, digest_of
from resources.environments import Settings
from resources.failures import InputError
from resources.policy import Policy
from resources.routing import Route

#: Largest YAML beside a data file, in bytes.
MAX_SIDECAR_BYTES = 64 * 1024


class Request(BaseModel):
    """Everything about an instance that is not in its file. Unset fields take the environment's defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    owner: str | None = None
    sensitivity: Literal["public", "internal", "confidential"] | None = None
    deadline: date | None = None
    #: ``high``: a person agrees first, where the policy says so
    impact: Literal["routine", "high"] | None = None
    backend: str | None = None
    #: instead of a backend: any usable one of this kind
    tier: Literal["cpu", "gpu", "simulator", "emulator", "hardware"] | None = None
    algorithm: Literal["qaoa-ramp", "qaoa-trained", "qaoa-library", "annealing"] | None = None
    #: how the program becomes a QUBO; a registered name
    encoding: str | None = None
    depth: int | None = Field(default=None, ge=1, le=20)
    shots: int | None = Field(default=None, ge=1, le=1_000_000)
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    #: how a circuit is fitted to a device
    compilation: Compilation | None = None
    #: of errors; a backend refuses what it does not offer
    mitigation: Mitigation | None = None
    #: what every right read-out has, and ``mitigation.postselect`` keeps
    symmetry: str | None = Field(default=None, pattern=r"^(hamming-weight=\d+|parity=(even|odd))$")
    #: wall-clock seconds for the quantum side, and for each baseline
    budget: float | None = Field(default=None, gt=0, le=86_400)
    #: jobs, one after the other, of an instance that is larger than the device
    trips: int | None = Field(default=None, ge=1, le=10_000)
    #: whether a local descent follows each of their proposals
    polish: bool | None = None
    #: most that the quantum side of this instance may cost, in the policy's currency
    cost_ceiling: float | None = Field(default=None, ge=0)
    #: of its jobs and runs; higher goes first
    priority: int | None = Field(default=None, ge=0, le=10)
    #: for the comparison only; never reaches a solver
    best_known: float | None = None
    best_known_source: str | None = None
    #: the family's own options
    constraints: dict[str, JsonValue] = {}

    @field_validator("constraints", mode="before")
    @classmethod
    def _dates_as_text(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: v.isoformat() if isinstance(v, date) else v for k, v in value.items()}

    @field_validator("compilation")
    @classmethod
    def _one_qubit_each(cls, value: Compilation | None) -> Compilation | None:
        if value and value.layout and (len(set(value.layout)) < len(value.layout) or min(value.layout) < 0):
            raise ValueError("a layout names another physical qubit, from 0, for every variable")
        return value

    @model_validator(mode="after")
    def _selected_by_something(self) -> Request:
        if self.mitigation and self.mitigation.postselect and self.symmetry is None:
            raise ValueError("mitigation.postselect needs a symmetry: hamming-weight=K, parity=even or parity=odd")
        return self

    def stored(self) -> dict[str, Any]:
        """The set fields, JSON-able."""
        return self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


def parse(document: Any, file: str) -> Request:
    """Validate a request.

    Raises:
        InputError: names the file, the key and the fix.
    """
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise InputError(file, "document", "it is not a mapping of keys to values", "write one `key: value` per line")
    try:
        return Request.model_validate(document)
    except ValidationError as error:
        raise input_error(file, error, Request) from None


def read_sidecar(path: Path) -> Request:
    """The request in the YAML beside a data file (same name, suffix ``.yaml`` or ``.yml``); empty when there is none.

    Raises:
        InputError: unreadable YAML, unknown or wrong keys.
    """
    beside = sidecar_of(path)
    if beside is None:
        return Request()
    try:
        with beside.open("rb") as stream:
            text = stream.read(MAX_SIDECAR_BYTES + 1)
    except OSError as error:
        raise InputError(
            beside.name,
            "file",
            f"it cannot be read ({(error.strerror or 'unknown error').lower()})",
            "check its permissions",
        ) from None
    if len(text) > MAX_SIDECAR_BYTES:
        raise InputError(
            beside.name, "size", f"it has more than {MAX_SIDECAR_BYTES // 1024} KB", "write one `key: value` per line"
        )
    return parse(plain_yaml(text, beside.name), beside.name)


def sidecar_of(path: Path) -> Path | None:
    """The YAML file beside a data file, if there is one."""
    if not path.name:
        return None
    stem = path.name.split(".")[0]
    for name in (
        f"{path.name}.yaml",
        f"{path.name}.yml",
        f"{path.stem}.yaml",
        f"{path.stem}.yml",
        f"{stem}.yaml",
        f"{stem}.yml",
    ):
        beside = path.with_name(name)
        if beside != path and os.path.isfile(beside):
            return beside
    return None


class Resolved(BaseModel):
    """A request with everything decided: what the environment and the route add to it.

    The decision is made once, in stage 2; later stages read it, so that they all make the same envelopes.
    """

    model_config = ConfigDict(frozen=True)

    owner: str
    sensitivity: Literal["public", "internal", "confidential"]
    deadline: str | None
    backend: str
    #: which of the backend's machines, where its settings name one
    device: str = ""
    #: ``None``: the environment's, or the first that the backend offers when it does not offer that one
    algorithm: str | None
    #: ``None``: the first of ``proposals.prepared.ENCODINGS`` that takes the program
    encoding: str | None = None
    depth: int
    shots: int
    seed: int
    budget: float
    #: settings of the environment that nobody overrides, kept because they change the answer
    max_qubits: int
    repetitions: int
    #: jobs at most of an instance that is larger than the device
    trips: int = 1
    polish: bool = True
    #: ``None``: the environment's
    compilation: Compilation | None = None
    mitigation: Mitigation | None = None
    symmetry: str | None = None
    tier: str = "simulator"
    fallback: tuple[str, ...] = ()
    #: seconds a job may wait at its backend
    queue: float = 60.0
    impact: Literal["routine", "high"] = "routine"
    #: most that the whole instance may cost
    cost_ceiling: float | None = None
    priority: int = 0
    #: what it was decided under: the policy, and a digest of the environment's settings
    policy_version: str = ""
    settings: str = ""

    def decided_under(self, policy: Policy, settings: Settings) -> bool:
        """Whether policy and settings are still those of the decision."""
        return (self.policy_version, self.settings) == (policy.version, digest_of_settings(settings))

    def differs(self, other: Resolved) -> bool:
        """Whether the other one asks for anything else; another version of the policy alone does not count."""
        return self.model_copy(update={"policy_version": other.policy_version}) != other


def digest_of_settings(settings: Settings) -> str:
    """A short digest of everything in the settings."""
    return digest_of({**settings.__dict__, "algorithm": settings.algorithm.model_dump(mode="json")})[:12]


def resolve(request: Request, settings: Settings, route: Route) -> Resolved:
    """Fill a request's unset fields from its route and the environment."""
    default = settings.algorithm
    return Resolved(
        owner=request.owner or settings.owner,
        sensitivity=request.sensitivity or settings.sensitivity,
        deadline=request.deadline.isoformat() if request.deadline else None,
        backend=route.backend,
        device=route.device,
        algorithm=request.algorithm,
        encoding=request.encoding,
        depth=request.depth or route.depth or default.depth,
        shots=request.shots or route.shots or default.shots,
        seed=request.seed if request.seed is not None else default.seed,
        budget=request.budget or route.budget_seconds,
        max_qubits=route.max_qubits,
        repetitions=settings.repetitions,
        trips=request.trips or settings.trips,
        polish=request.polish is not False,
        compilation=request.compilation,
        mitigation=request.mitigation,
        symmetry=request.symmetry,
        tier=route.tier,
        fallback=route.fallback,
        queue=route.queue_seconds,
        impact=request.impact or "routine",
        cost_ceiling=route.cost_ceiling,
        priority=route.priority if request.priority is None else request.priority,
        policy_version=route.policy_version,
        settings=digest_of_settings(settings),
    )
