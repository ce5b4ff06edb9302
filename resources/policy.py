"""The control plane's policy: one validated YAML file per environment, read into ``Policy``.

Here: the documents, their checks and the reader. Not here: choosing a route (``routing``), counting money (``money``)
or holding a job back (``gates``).
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from resources.documents import input_error, plain_yaml
from resources.environments import backend_factories
from resources.failures import InputError

#: The files that ship with the product, one per environment.
POLICIES = Path(__file__).with_name("policies")
#: Last positions of a fallback chain: a classical heuristic, an earlier result, a person.
HEURISTIC, CACHED, REVIEW = "heuristic", "cached", "review"

Tier = Literal["cpu", "gpu", "simulator", "emulator", "hardware"]
Sensitivity = Literal["public", "internal", "confidential"]
Impact = Literal["routine", "high"]


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
    impact: tuple[Impact, ...] = ()
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


class Sizes(Section):
    """Decision variables of an instance, both ends included."""

    at_least: int = Field(default=0, ge=0)
    at_most: int | None = Field(default=None, ge=0)


class Quality(Section):
    """What a backend must have shown against classical solvers on the family, once ``min_jobs`` comparisons exist;
    before that nobody can judge, and the condition holds.

    Attributes:
        min_win_or_tie_rate: least share of comparisons won or tied.
        max_median_gap: largest median gap of its answers to the reference.
    """

    min_jobs: int = Field(default=10, ge=1)
    min_win_or_tie_rate: float | None = Field(default=None, ge=0, le=1)
    max_median_gap: float | None = Field(default=None, ge=0)


class When(Section):
    """Which instances a route is for; what is left out does not matter. Names may end in ``*``.

    ``max_cost`` (of the instance, by the price list) and ``quality`` are asked of each of the route's backends; where
    none meets them, the next route is tried.
    """

    families: tuple[str, ...] = ()
    size: Sizes | None = None
    sensitivity: tuple[Sensitivity, ...] = ()
    owners: tuple[str, ...] = ()
    impact: tuple[Impact, ...] = ()
    deadline_within_hours: float | None = Field(default=None, gt=0)
    max_cost: float | None = Field(default=None, ge=0)
    quality: Quality | None = None


class Then(Section):
    """Where an instance goes, and how.

    Attributes:
        backends: in order of preference: the first usable one is taken, the others are asked when it fails.
        tier: instead of ``backends``: any usable backend of this kind, the cheapest and fastest first.
        fallback: who answers after those: backends, ``heuristic``, ``cached``, ``review``. ``heuristic`` is added at
            the end unless it or ``review`` is there.
        max_qubits: the largest payload for circuits; larger instances are narrowed first.
        budget_seconds: wall-clock seconds for the quantum side, and for each baseline.
        queue_seconds: how long a job may wait at its backend.
        depth, shots: instead of the environment's.
        cost_ceiling: most that an instance may cost.
        priority: of its jobs; higher goes first.
    """

    backends: tuple[str, ...] = ()
    tier: Tier | None = None
    fallback: tuple[str, ...] = ()
    max_qubits: int = Field(default=16, ge=1)
    budget_seconds: float = Field(default=5.0, gt=0, le=86_400)
    queue_seconds: float = Field(default=60.0, gt=0)
    depth: int | None = Field(default=None, ge=1, le=20)
    shots: int | None = Field(default=None, ge=1, le=1_000_000)
    cost_ceiling: float | None = Field(default=None, ge=0)
    priority: int = 0


class RouteRule(Section):
    """One rule; the first that matches counts, and the last must match everything."""

    name: str = Field(min_length=1)
    when: When = When()
    then: Then


class Feature(Section):
    """A named flag: for ``percent`` of the segments it replaces what a route says.

    Attributes:
        segment: what is kept together: all of an owner's instances, or single instances.
        routes: names of the routes it concerns; empty: all.
    """

    name: str = Field(min_length=1)
    percent: float = Field(ge=0, le=100)
    segment: Literal["owner", "instance"] = "instance"
    routes: tuple[str, ...] = ()
    then: Then


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
    #: where instances go; see ``routing``
    routes: tuple[RouteRule, ...] = ()
    features: tuple[Feature, ...] = ()


def matches(pattern: str, name: str) -> bool:
    """Whether ``name`` is ``pattern``, or begins with it up to its final ``*``."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def load(environment: str, path: Path | None = None) -> Policy:
    """The policy of an environment: ``path``, else the file named by ``HYBRID_POLICY``, else the shipped one.

    Its version ends in the file's digest, so that two different files never share one.

    Raises:
        InputError: it cannot be read, has an unknown or wrong key, or contradicts itself.
    """
    named = os.environ.get("HYBRID_POLICY")
    file = path or (Path(named).expanduser() if named else POLICIES / f"{environment}.yaml")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(
            str(file),
            "HYBRID_POLICY" if named and path is None else "file",
            f"it cannot be read ({(error.strerror or 'unknown error').lower()})",
            "name a policy file that exists",
        ) from None
    return _parsed(content, file.name)


@lru_cache(maxsize=16)
def _parsed(content: bytes, file: str) -> Policy:
    document = plain_yaml(content, file)
    if not isinstance(document, dict):
        raise InputError(file, "document", "it is not a mapping of keys to values", "start with `version:`")
    if not isinstance(document.get("version"), str) or not document["version"].strip():
        raise InputError(file, "version", "it is missing or no text", "write for example `version: '2026-11'`")
    try:
        policy = Policy.model_validate(document)
    except ValidationError as error:
        raise input_error(file, error, Policy) from None
    for field, problem, fix in contradictions(policy):
        raise InputError(file, field, problem, fix)
    digest = hashlib.sha256(content).hexdigest()[:12]
    return policy.model_copy(update={"version": f"{policy.version}+{digest}"})


#: Field, problem, fix.
Contradiction = tuple[str, str, str]


def contradictions(policy: Policy) -> Iterator[Contradiction]:
    """What cannot be meant: each with its field, the problem, and what to change."""
    if policy.breaker.open_seconds > policy.breaker.longest_seconds:
        yield (
            "breaker.open_seconds",
            f"the first pause of {policy.breaker.open_seconds:g} s is longer than the longest, "
            f"{policy.breaker.longest_seconds:g} s",
            "raise longest_seconds",
        )
    yield from _routes(policy)
    yield from _names(policy)
    yield from _money(policy)
    yield from _leaving(policy)


def _thens(policy: Policy) -> Iterator[tuple[str, Then]]:
    yield from ((f"routes.{number}.then", rule.then) for number, rule in enumerate(policy.routes))
    yield from ((f"features.{number}.then", feature.then) for number, feature in enumerate(policy.features))


def _routes(policy: Policy) -> Iterator[Contradiction]:
    if not policy.routes:
        yield "routes", "there is none", "add one without `when`, for everything"
        return
    for kind, names in (("routes", [r.name for r in policy.routes]), ("features", [f.name for f in policy.features])):
        for name, count in Counter(names).items():
            if count > 1:
                yield kind, f"{count} of them are named {name!r}", "give each a name of its own"
    *before, last = policy.routes
    if last.when != When():
        yield f"routes.{len(before)}.when", "the last route does not match everything", "end with one without `when`"
    for number, rule in enumerate(policy.routes):
        if rule in before and rule.when == When():
            yield f"routes.{number}.when", "it matches everything, so no later route is reached", "move it to the end"
        size = rule.when.size
        if size and size.at_most is not None and size.at_most < size.at_least:
            yield f"routes.{number}.when.size", f"{size.at_least} to {size.at_most} is empty", "swap the two"
    for number, feature in enumerate(policy.features):
        for unknown in set(feature.routes) - {rule.name for rule in policy.routes}:
            yield f"features.{number}.routes", f"there is no route {unknown!r}", "name routes of this file"
    for place, then in _thens(policy):
        if bool(then.backends) == (then.tier is not None):
            yield place, "it needs either backends or a tier", "give exactly one of the two"
        if REVIEW in then.fallback[:-1]:
            yield f"{place}.fallback", "nothing can follow a review by a person", "put review last"


def _names(policy: Policy) -> Iterator[Contradiction]:
    known = set(backend_factories())
    listed: list[tuple[str, tuple[str, ...], set[str]]] = [
        ("killed", policy.killed, known),
        ("prices", tuple(policy.prices), known),
        ("limits", tuple(policy.limits), known),
        ("approval.backends", policy.approval.backends, known),
    ]
    for place, then in _thens(policy):
        listed += [
            (f"{place}.backends", then.backends, known),
            (f"{place}.fallback", then.fallback, known | {HEURISTIC, CACHED, REVIEW}),
        ]
    for field, names, allowed in listed:
        for name in names:
            if name not in allowed:
                yield field, f"no backend is registered as {name!r}", f"use one of {', '.join(sorted(allowed))}"


def _money(policy: Policy) -> Iterator[Contradiction]:
    seen: list[str] = []
    for number, budget in enumerate(policy.budgets):
        place = f"budgets.{number}"
        if "*" in budget.owner[:-1]:
            yield f"{place}.owner", f"{budget.owner!r} has a * before its end", "use * at the end only"
        for earlier in seen:
            same = (
                matches(earlier, budget.owner.removesuffix("*")) if earlier.endswith("*") else earlier == budget.owner
            )
            if same:
                yield f"{place}.owner", f"{earlier!r} comes first and matches all of it", "put the narrower one first"
        seen.append(budget.owner)
        # nothing at all is a clear wish; less than a single job that the file allows is not
        if not budget.money:
            continue
        month = f"the month's {budget.money:g} {policy.currency} of {budget.owner!r}"
        if policy.approval.cost_above is not None and budget.money < policy.approval.cost_above:
            yield (
                f"{place}.money",
                f"{month} are less than the {policy.approval.cost_above:g} above which a job needs an approval",
                "raise the budget or lower approval.cost_above",
            )
        for where, then in _thens(policy):
            if then.cost_ceiling is not None and budget.money < then.cost_ceiling:
                yield (
                    f"{place}.money",
                    f"{month} are less than the {then.cost_ceiling:g} that {where} allows a single instance",
                    f"raise the budget or lower {where}.cost_ceiling",
                )


def _leaving(policy: Policy) -> Iterator[Contradiction]:
    for number, rule in enumerate(policy.routes):
        classes = rule.when.sensitivity
        if not classes or not set(classes) <= set(policy.stays_here):
            continue
        for key in ("backends", "fallback"):
            for name in getattr(rule.then, key):
                if leaves_machine(name):
                    yield (
                        f"routes.{number}.then.{key}",
                        f"{' and '.join(classes)} payloads may not leave this machine, {name} is elsewhere",
                        f"take {name} out, or {' and '.join(classes)} out of stays_here",
                    )


def leaves_machine(name: str) -> bool:
    """Whether a registered backend is elsewhere; pseudo-backends and what cannot be loaded are not."""
    make = backend_factories().get(name)
    try:
        return make is not None and make().capabilities().leaves_machine
    except ImportError:
        return False
