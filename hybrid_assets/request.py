"""The request: what somebody asks for one instance, merged from the environment's defaults and the YAML beside a file
(or the command line).

Here: the schema of that YAML and its errors. Not here: a family's own options (``constraints:``), which the family
validates.
"""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from resources.environments import Settings
from resources.failures import InputError


class Request(BaseModel):
    """Everything about an instance that is not in its file. Unset fields take the environment's defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    owner: str | None = None
    sensitivity: Literal["public", "internal", "confidential"] | None = None
    deadline: date | None = None
    backend: str | None = None
    algorithm: Literal["qaoa-ramp", "qaoa-trained", "annealing"] | None = None
    depth: int | None = Field(default=None, ge=1, le=20)
    shots: int | None = Field(default=None, ge=1, le=1_000_000)
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    #: wall-clock seconds for the quantum side, and for each baseline
    budget: float | None = Field(default=None, gt=0, le=86_400)
    #: for the comparison only; never reaches a solver
    best_known: float | None = None
    best_known_source: str | None = None
    #: the family's own options
    constraints: dict[str, Any] = {}

    @field_validator("best_known")
    @classmethod
    def _finite(cls, value: float | None) -> float | None:
        if value is not None and not math.isfinite(value):
            raise ValueError("must be a finite number")
        return value

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
        document = yaml.safe_load(beside.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        mark = getattr(error, "problem_mark", None)
        raise InputError(beside.name, f"line {mark.line + 1}" if mark else "file", "it is not valid YAML",
                         "write one `key: value` per line") from None
    return parse(document, beside.name)


def sidecar_of(path: Path) -> Path | None:
    """The YAML file beside a data file, if there is one."""
    stem = path.name.split(".")[0]
    for name in (f"{path.name}.yaml", f"{path.name}.yml", f"{path.stem}.yaml", f"{path.stem}.yml",
                 f"{stem}.yaml", f"{stem}.yml"):
        beside = path.with_name(name)
        if beside != path and beside.is_file():
            return beside
    return None


def input_error(file: str, error: ValidationError, model: type[BaseModel]) -> InputError:
    """One sentence from pydantic's first complaint, naming the key and what would be right."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "document"
    if first["type"] == "extra_forbidden":
        return InputError(file, key, "this key is unknown", f"use one of {', '.join(sorted(model.model_fields))}")
    return InputError(file, key, f"{first['msg'][0].lower()}{first['msg'][1:]} (it is {first['input']!r})"[:300],
                      f"correct {key}")


class Resolved(BaseModel):
    """A request with the environment's defaults filled in."""

    model_config = ConfigDict(frozen=True)

    owner: str
    sensitivity: Literal["public", "internal", "confidential"]
    deadline: str | None
    backend: str
    algorithm: str
    depth: int
    shots: int
    seed: int
    budget: float


def resolve(request: Request, settings: Settings) -> Resolved:
    """Fill a request's unset fields from the environment."""
    default = settings.algorithm
    backend = request.backend or settings.backend
    return Resolved(
        owner=request.owner or settings.owner,
        sensitivity=request.sensitivity or settings.sensitivity,
        deadline=request.deadline.isoformat() if request.deadline else None,
        backend=backend,
        algorithm=request.algorithm or default.name,
        depth=request.depth or default.depth,
        shots=request.shots or default.shots,
        seed=request.seed if request.seed is not None else default.seed,
        budget=request.budget or settings.budget_seconds,
    )
