"""The request: what somebody asks for one instance, merged from the environment's defaults and the YAML beside a file
(or the command line).

Here: the schema of that YAML and its errors. Not here: a family's own options (``constraints:``), which the family
validates.
"""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from resources.environments import Settings
from resources.failures import InputError

#: Largest YAML beside a data file, in bytes.
MAX_SIDECAR_BYTES = 64 * 1024


class Request(BaseModel):
    """Everything about an instance that is not in its file. Unset fields take the environment's defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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
    constraints: dict[str, JsonValue] = {}

    @field_validator("constraints", mode="before")
    @classmethod
    def _dates_as_text(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: v.isoformat() if isinstance(v, date) else v for k, v in value.items()}

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
    try:
        document = yaml.load(text, _Plain)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        raise InputError(
            beside.name,
            f"line {mark.line + 1}" if mark else "file",
            "it is not valid YAML" + (f" ({problem})" if problem else ""),
            "write one `key: value` per line",
        ) from None
    return parse(document, beside.name)


class _Plain(yaml.SafeLoader):
    """YAML without aliases (a few lines of them unfold to gigabytes) and without a key given twice."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for position, (key, _) in enumerate(node.value):
            if key.value in keys[:position]:
                raise yaml.constructor.ConstructorError(None, None, "a key is given twice", key.start_mark)
        return super().construct_mapping(node, deep)


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


def input_error(file: str, error: ValidationError, model: type[BaseModel]) -> InputError:
    """One sentence from pydantic's first complaint, naming the key and what would be right."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "document"
    if first["type"] == "extra_forbidden":
        return InputError(file, key, "this key is unknown", f"use one of {', '.join(sorted(model.model_fields))}")
    said = first["msg"].removeprefix("Value error, ")
    return InputError(file, key, f"{said[0].lower()}{said[1:]} (it is {repr(first['input'])[:100]})", f"correct {key}")


class Resolved(BaseModel):
    """A request with the environment's defaults filled in."""

    model_config = ConfigDict(frozen=True)

    owner: str
    sensitivity: Literal["public", "internal", "confidential"]
    deadline: str | None
    backend: str
    #: ``None``: the environment's, or the first that the backend offers when it does not offer that one
    algorithm: str | None
    depth: int
    shots: int
    seed: int
    budget: float
    #: settings of the environment that nobody overrides, kept because they change the answer
    max_qubits: int
    repetitions: int


def resolve(request: Request, settings: Settings) -> Resolved:
    """Fill a request's unset fields from the environment."""
    default = settings.algorithm
    backend = request.backend or settings.backend
    return Resolved(
        owner=request.owner or settings.owner,
        sensitivity=request.sensitivity or settings.sensitivity,
        deadline=request.deadline.isoformat() if request.deadline else None,
        backend=backend,
        algorithm=request.algorithm,
        depth=request.depth or default.depth,
        shots=request.shots or default.shots,
        seed=request.seed if request.seed is not None else default.seed,
        budget=request.budget or settings.budget_seconds,
        max_qubits=settings.max_qubits,
        repetitions=settings.repetitions,
    )
