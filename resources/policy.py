"""The control plane's policy: one validated YAML file per environment, read into ``Policy``.

Here: the documents, their checks and the reader. Not here: choosing a route (``routing``), counting money (``money``)
or holding a job back (``gates``).
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Tier = Literal["cpu", "gpu", "simulator", "emulator", "hardware"]
Sensitivity = Literal["public", "internal", "confidential"]


class Section(BaseModel):
    """A part of a policy: frozen, no unknown key, finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Price(Section):
    """What a backend charges, in the policy's currency."""

    per_job: float = Field(default=0.0, ge=0)
    per_shot: float = Field(default=0.0, ge=0)
    per_second: float = Field(default=0.0, ge=0)


class Budget(Section):
    """What an owner may spend and send in a calendar month (UTC).

    Attributes:
        owner: the owner's name; ``*`` at the end matches any rest. The first budget that matches counts.
        money: most money; ``None``: no limit. ``jobs``: most metered jobs.
    """

    owner: str = "*"
    money: float | None = Field(default=None, ge=0)
    jobs: int | None = Field(default=None, ge=0)


class Approval(Section):
    """Which jobs wait for a person.

    Attributes:
        cost_above: jobs estimated to cost more; ``None``: none for their cost.
        impact: envelope impact classes that always wait.
        backends: backends every job of which waits.
    """

    cost_above: float | None = Field(default=None, ge=0)
    impact: tuple[Literal["routine", "high"], ...] = ()
    backends: tuple[str, ...] = ()


class BreakerPolicy(Section):
    """When a backend is left alone: after ``failures`` in a row, for ``open_seconds``, doubled each time it opens
    again without a success, up to ``longest_seconds``; ``probe_seconds`` is how long a single probe may take."""

    failures: int = Field(default=5, ge=1)
    open_seconds: float = Field(default=60.0, gt=0)
    longest_seconds: float = Field(default=3600.0, gt=0)
    probe_seconds: float = Field(default=120.0, gt=0)


class Limit(Section):
    """Limits of one backend: most jobs open there at once."""

    open_jobs: int | None = Field(default=None, ge=1)


class CachePolicy(Section):
    """How long a result answers again: ``window_seconds`` of calibration; 0 turns the cache off."""

    window_seconds: float = Field(default=3600.0, ge=0)


class ReplayPolicy(Section):
    """How many replays anybody may ask for in an hour."""

    per_hour: int = Field(default=20, ge=0)


class Policy(Section):
    """Everything an environment decides about jobs."""

    version: str = "none"
    currency: str = "EUR"
    prices: dict[str, Price] = {}
    budgets: tuple[Budget, ...] = ()
    approval: Approval = Approval()
    breaker: BreakerPolicy = BreakerPolicy()
    limits: dict[str, Limit] = {}
    cache: CachePolicy = CachePolicy()
    replay: ReplayPolicy = ReplayPolicy()
    #: sensitivity classes whose payloads may not leave this machine
    stays_here: tuple[Sensitivity, ...] = ("confidential",)
    #: backends that get no job at all
    killed: tuple[str, ...] = ()
