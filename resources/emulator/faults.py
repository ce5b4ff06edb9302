"""The fault plan: which of a provider's bad habits show, on which calls, how often.

Here: the validated plan and the seeded draw. Not here: what a fault does to an answer (``service``) or to a job
(``engine``).
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from resources.failures import InputError

Route = Literal[
    "devices", "calibration", "submit", "find", "status", "statuses", "result", "cancel", "usage", "execute"
]
_CALLS: tuple[Route, ...] = tuple(route for route in get_args(Route) if route != "execute")

FaultName = Literal[
    "lost_answer",
    "reset",
    "http_401",
    "http_403",
    "http_429",
    "http_500",
    "http_502",
    "http_503",
    "slow_body",
    "unknown_status",
    "result_once",
    "partial_result",
    "garbled_result",
    "foreign_result",
    "maintenance",
    "drift",
    "failed_job",
]
#: Where each fault may show; without ``route`` it shows at all of them.
ROUTES: dict[FaultName, tuple[Route, ...]] = {
    "lost_answer": ("submit",),
    "reset": _CALLS,
    "http_401": _CALLS,
    "http_403": _CALLS,
    "http_429": _CALLS,
    "http_500": _CALLS,
    "http_502": _CALLS,
    "http_503": _CALLS,
    "slow_body": _CALLS,
    "unknown_status": ("status", "statuses"),
    "result_once": ("result",),
    "partial_result": ("result",),
    "garbled_result": ("result",),
    "foreign_result": ("result",),
    "maintenance": ("submit",),
    "drift": ("execute",),
    "failed_job": ("execute",),
}
#: ``seconds`` of the faults that have them: Retry-After, how long a body takes, how long a device is away.
SECONDS: dict[FaultName, float] = {"http_429": 1.0, "slow_body": 2.0, "maintenance": 5.0}


class FaultRule(BaseModel):
    """One bad habit.

    Attributes:
        fault: its name.
        probability: of each call (or execution) to show it.
        route: the only route where it shows; default: wherever it can.
        times: shows at most so often, then never again; default: for ever.
        seconds: Retry-After of ``http_429``, length of ``slow_body`` and ``maintenance``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    fault: FaultName
    probability: float = Field(default=1.0, ge=0, le=1)
    route: Route | None = None
    times: int | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, gt=0, le=3600)

    @model_validator(mode="after")
    def _fits(self) -> FaultRule:
        if self.route is not None and self.route not in ROUTES[self.fault]:
            raise ValueError(
                f"{self.fault} cannot show at route {self.route} (it can at {', '.join(ROUTES[self.fault])})"
            )
        if self.seconds is not None and self.fault not in SECONDS:
            raise ValueError(f"{self.fault} takes no seconds (only {', '.join(SECONDS)} do)")
        return self

    @property
    def lasting(self) -> float:
        """``seconds``, or the default of the fault."""
        return self.seconds if self.seconds is not None else SECONDS[self.fault]


class FaultPlan(BaseModel):
    """All bad habits of a service; ``seed`` decides when they show."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    faults: tuple[FaultRule, ...] = ()


def plan_from(document: Any, name: str) -> FaultPlan:
    """A plan from a parsed document; ``name`` is the file's, for the message.

    Raises:
        InputError: unknown fault, key or route, or a number out of range; names the field.
    """
    try:
        return FaultPlan.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "plan"
        given = f", it is {first['input']!r}" if not isinstance(first["input"], dict) else ""
        raise InputError(name, field, f"{first['msg']}{given}", "see docs/emulator.md for the fault plan") from None


def read_plan(path: Path) -> FaultPlan:
    """A plan from a YAML or JSON file.

    Raises:
        InputError: the file cannot be read, or is no plan.
    """
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(str(path), "file", f"cannot be read ({error.strerror})", "give the path of a plan") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InputError(str(path), "file", "is neither YAML nor JSON", "see docs/emulator.md") from None
    return plan_from(document if document is not None else {}, str(path))


class Faults:
    """A plan at work; safe to use from several threads."""

    def __init__(self, plan: FaultPlan) -> None:
        self._lock = threading.Lock()
        self.replace(plan)

    def replace(self, plan: FaultPlan) -> None:
        """Another plan, from its own beginning."""
        with self._lock:
            self.plan = plan
            self._random = random.Random(plan.seed)
            self._shown = Counter[int]()

    def draw(self, route: Route) -> FaultRule | None:
        """The fault that shows at this call: the first rule that fires, in the plan's order."""
        with self._lock:
            for index, rule in enumerate(self.plan.faults):
                here = route == rule.route if rule.route else route in ROUTES[rule.fault]
                if not here or (rule.times is not None and self._shown[index] >= rule.times):
                    continue
                if self._random.random() < rule.probability:
                    self._shown[index] += 1
                    return rule
        return None

    def shown(self) -> dict[str, int]:
        """How often each fault has shown since the plan began."""
        with self._lock:
            totals = Counter[str]()
            for index, count in self._shown.items():
                totals[self.plan.faults[index].fault] += count
            return dict(totals)
