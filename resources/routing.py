"""Routing: from what is asked and what is known about the backends to one backend, a fallback chain and a reason.

Here: the decision, a pure function of policy, request and facts. Not here: gathering the facts, or the look at queue,
money and breaker at the moment of sending (``gates``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from resources.backends.base import Capabilities, Estimate
from resources.envelope import JobKind, ProgramSize
from resources.failures import BackendError, FailureClass, InputError
from resources.policy import (
    CACHED,
    HEURISTIC,
    REVIEW,
    Feature,
    Impact,
    Policy,
    RouteRule,
    Sensitivity,
    Then,
    Tier,
    When,
    matches,
)


@dataclass(frozen=True)
class Asked:
    """What is to be routed.

    Attributes:
        instance, family, size, owner, sensitivity, impact: of the instance; ``size`` in decision variables.
        hours_left: until its deadline.
        backend, tier, algorithm: what the request insists on.
        cost_ceiling: most that it may cost, in the policy's currency.
        kind: of its jobs. ``program``: of an estimate or kernel job, which has ``size`` qubits and is one job.
    """

    instance: str
    family: str
    size: int
    owner: str
    sensitivity: Sensitivity = "internal"
    impact: Impact = "routine"
    hours_left: float | None = None
    backend: str | None = None
    tier: Tier | None = None
    algorithm: str | None = None
    cost_ceiling: float | None = None
    kind: JobKind = "sample"
    program: ProgramSize = field(default_factory=ProgramSize)


@dataclass(frozen=True)
class Shown:
    """A backend's record against classical solvers on one family.

    Attributes:
        wins, ties, losses: comparisons.
        median_gap: of its best answers to the reference; ``None`` without any.
    """

    wins: int = 0
    ties: int = 0
    losses: int = 0
    median_gap: float | None = None

    @property
    def jobs(self) -> int:
        """How many comparisons there are."""
        return self.wins + self.ties + self.losses


@dataclass(frozen=True)
class Facts:
    """What is known about a backend.

    Attributes:
        missing: why it cannot be used at all (no package, no credentials), in a sentence; ``None``: it can.
        killed: why it may not be used (kill switch), in a sentence.
        resting: why it takes no job just now (breaker, pause), in a sentence. It goes behind those that do.
        estimate: of one job, at least; ``None``: nobody asked.
        jobs: of the instance that it will get at most.
        shown: its record on the family.
    """

    capabilities: Capabilities
    missing: str | None = None
    killed: str | None = None
    resting: str | None = None
    estimate: Estimate | None = None
    jobs: int = 1
    shown: Shown = Shown()


@dataclass(frozen=True)
class Route:
    """Where an instance goes, and why.

    Attributes:
        name: of the rule. ``features``: flags that replaced what it says.
        tier, device: of the backend. ``fallback``: who is asked after it, in order.
        max_qubits, budget_seconds, queue_seconds, depth, shots, cost_ceiling, priority: as in ``Then``; the ceiling is
            the lower of the rule's and the request's.
        explanation: one line per rule, flag and backend that was considered.
    """

    name: str
    tier: str
    backend: str
    fallback: tuple[str, ...]
    max_qubits: int
    budget_seconds: float
    queue_seconds: float
    depth: int | None
    shots: int | None
    cost_ceiling: float | None
    priority: int
    policy_version: str
    features: tuple[str, ...]
    explanation: tuple[str, ...]
    device: str = ""


class NoRoute(BackendError):
    """No backend can take an instance; class ``capability``. ``explanation`` as in ``Route``."""

    explanation: tuple[str, ...] = ()


def route(policy: Policy, asked: Asked, facts: Mapping[str, Facts]) -> Route:
    """Choose the backend and its fallback chain by the first rule that matches.

    A rule whose cost or quality conditions no backend meets is passed by. A backend that is killed, cannot be used or
    may not get the payload is never chosen; where a rule has no other, nothing is chosen at all.

    Args:
        facts: by registered name; those that the policy may choose from.

    Raises:
        NoRoute: with one sentence per backend.
        InputError: no rule matches.
    """
    lines: list[str] = []
    for rule in policy.routes:
        differs = next(_differences(rule.when, asked), None)
        if differs:
            lines.append(f"route {rule.name}: passed by, {differs}")
            continue
        then, features = _rolled_out(policy, rule, asked, lines)
        wanted = _wanted(then, asked, facts)
        poor = {name: why for name in wanted if (why := _poor(rule.when, policy, asked, name, facts))}
        if wanted and poor.keys() >= set(wanted):
            lines += [f"backend {name}: passed by, {why}" for name, why in poor.items()]
            lines.append(f"route {rule.name}: passed by, no backend meets its conditions on cost and quality")
            continue
        lines.append(f"route {rule.name}: taken")
        return _along(policy, rule.name, then, features, asked, facts, wanted, poor, lines)
    raise InputError(policy.version, "routes", f"none matches {asked.instance}", "end them with one without `when`")


def bucket(flag: str, segment: str) -> float:
    """Where a segment stands in a flag's rollout: a number in [0, 100), the same in every process and for ever."""
    digest = hashlib.sha256(f"{flag}\0{segment}".encode()).digest()
    return int.from_bytes(digest[:7]) / 2**56 * 100


def is_on(feature: Feature, asked: Asked) -> bool:
    """Whether a flag concerns this instance; who has it keeps it as the percentage grows."""
    return bucket(feature.name, asked.owner if feature.segment == "owner" else asked.instance) < feature.percent


def _differences(when: When, asked: Asked) -> Iterator[str]:
    """How the instance differs from what a rule is for."""
    if when.families and not any(matches(family, asked.family) for family in when.families):
        yield f"the family is {asked.family}, not {' or '.join(when.families)}"
    if when.size and asked.size < when.size.at_least:
        yield f"{asked.size} variables are fewer than {when.size.at_least}"
    if when.size and when.size.at_most is not None and asked.size > when.size.at_most:
        yield f"{asked.size} variables are more than {when.size.at_most}"
    if when.sensitivity and asked.sensitivity not in when.sensitivity:
        yield f"the sensitivity is {asked.sensitivity}, not {' or '.join(when.sensitivity)}"
    if when.owners and not any(matches(owner, asked.owner) for owner in when.owners):
        yield f"the owner is {asked.owner}, not {' or '.join(when.owners)}"
    if when.impact and asked.impact not in when.impact:
        yield f"the impact is {asked.impact}, not {' or '.join(when.impact)}"
    if when.deadline_within_hours is not None:
        if asked.hours_left is None:
            yield "there is no deadline"
        elif asked.hours_left > when.deadline_within_hours:
            yield f"the deadline is {asked.hours_left:.0f} h away, more than {when.deadline_within_hours:g} h"


def _rolled_out(policy: Policy, rule: RouteRule, asked: Asked, lines: list[str]) -> tuple[Then, tuple[str, ...]]:
    """What the rule says, or the first flag that is on for this instance."""
    for feature in policy.features:
        if feature.routes and rule.name not in feature.routes:
            continue
        share = f"the first {feature.percent:g} % of every {feature.segment}"
        if is_on(feature, asked):
            lines.append(f"feature {feature.name}: on, it is among {share}")
            return feature.then, (feature.name,)
        lines.append(f"feature {feature.name}: off, it is not among {share}")
    return rule.then, ()


def _wanted(then: Then, asked: Asked, facts: Mapping[str, Facts]) -> list[str]:
    """The backends to choose from, best first: the one asked for, those of a tier, or the rule's."""
    tier = asked.tier or then.tier
    named = [*then.backends]
    if asked.algorithm is not None:
        # who insists on annealing gets the annealer, wherever the rule names it
        named += [n for n in then.fallback if n in facts and asked.algorithm in facts[n].capabilities.algorithms]
    if tier is not None:
        of_tier = [name for name, known in facts.items() if known.capabilities.tier == tier and name != HEURISTIC]
        # a surrogate is of a tier too, but nobody who asks for one means it
        of_tier.sort(key=lambda n: (not facts[n].capabilities.evidence_class.is_quantum, *_expected(facts[n]), n))
        named = [name for name in named if name in of_tier] + of_tier
    if asked.backend is not None:
        named = [asked.backend, *named]
    return list(dict.fromkeys(named))


def _expected(found: Facts) -> tuple[float, float]:
    """Cost and seconds of a job; unknown ones come last."""
    expected = found.estimate
    if expected is None:
        return float("inf"), float("inf")
    return expected.cost, expected.queue_seconds + expected.execution_seconds


def _poor(when: When, policy: Policy, asked: Asked, name: str, facts: Mapping[str, Facts]) -> str | None:
    """Why a backend does not meet a rule's conditions on cost and quality; what somebody asked for always does."""
    found = facts.get(name)
    if found is None or name == asked.backend:
        return None
    cost = _cost(found)
    if when.max_cost is not None and cost is not None and cost > when.max_cost:
        return f"it would cost at least {cost:.2f} {policy.currency}, more than {when.max_cost:g}"
    quality, shown = when.quality, found.shown
    if quality is None or shown.jobs < quality.min_jobs:
        return None
    kept = (shown.wins + shown.ties) / shown.jobs
    if quality.min_win_or_tie_rate is not None and kept < quality.min_win_or_tie_rate:
        return (
            f"it won or tied {shown.wins + shown.ties} of {shown.jobs} comparisons on {asked.family} "
            f"({100 * kept:.0f} %), asked are {100 * quality.min_win_or_tie_rate:.0f} %"
        )
    largest = quality.max_median_gap
    if largest is not None and shown.median_gap is not None and shown.median_gap > largest:
        return f"its median gap on {asked.family} is {shown.median_gap:.3g}, more than {largest:g}"
    return None


def _cost(found: Facts) -> float | None:
    return None if found.estimate is None else found.estimate.cost * found.jobs


def _forbidden(policy: Policy, asked: Asked, name: str, facts: Mapping[str, Facts]) -> str | None:
    """Why a backend can get no job of this instance, in a sentence."""
    found = facts.get(name)
    if name in policy.killed:
        return f"{name}: the policy's kill switch keeps jobs from it"
    if found is None:
        return f"{name}: no backend is registered under this name"
    if found.killed:
        return f"{name}: {found.killed}"
    if found.capabilities.leaves_machine and asked.sensitivity in policy.stays_here:
        return f"{name}: {asked.sensitivity} payloads may not leave this machine, it is elsewhere"
    if found.missing:
        return found.missing if name in found.missing else f"{name}: {found.missing}"
    can = found.capabilities
    if asked.kind not in can.kinds:
        return f"{name}: it offers {', '.join(can.kinds)} jobs, this is {asked.kind}"
    if asked.kind != "sample" and asked.size > can.max_variables:
        return f"{name}: it takes {can.max_variables} qubits, the program has {asked.size}"
    cost = _cost(found)
    if asked.cost_ceiling is not None and cost is not None and cost > asked.cost_ceiling:
        return f"{name}: it would cost at least {cost:.2f} {policy.currency}, the ceiling is {asked.cost_ceiling:.2f}"
    return None


def _sifted(
    policy: Policy, then: Then, asked: Asked, facts: Mapping[str, Facts], wanted: list[str], poor: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Of the wanted backends those that can be used, best first, and why the others cannot."""
    barred: dict[str, str] = {}
    for name in wanted:
        offered = facts[name].capabilities.algorithms if name in facts else ()
        why = _forbidden(policy, asked, name, facts) or (f"{name}: {poor[name]}" if name in poor else None)
        if why is None and asked.algorithm not in (None, *offered) and name != asked.backend:
            why = f"{name}: it offers {', '.join(offered)}, asked is {asked.algorithm}"
        if why:
            barred[name] = why
    usable = [name for name in wanted if name not in barred]
    barred |= {name: f"{name}: it is not of tier {asked.tier}" for name in then.backends if name not in wanted}
    # what somebody asked for is not swapped for another because it rests: its own gate reroutes it, with a record
    return sorted(usable, key=lambda name: bool(facts[name].resting) and name != asked.backend), barred


def _along(
    policy: Policy,
    rule: str,
    then: Then,
    features: tuple[str, ...],
    asked: Asked,
    facts: Mapping[str, Facts],
    wanted: list[str],
    poor: Mapping[str, str],
    lines: list[str],
) -> Route:
    """The route of a rule that matches."""
    ceilings = [c for c in (asked.cost_ceiling, then.cost_ceiling) if c is not None]
    asked = replace(asked, cost_ceiling=min(ceilings) if ceilings else None)
    usable, barred = _sifted(policy, then, asked, facts, wanted, poor)
    lines += [f"backend {_said(name, why)}" for name, why in barred.items()]
    if asked.backend is not None and asked.backend in barred:
        raise _nowhere(f"the backend asked for cannot take {asked.instance}", [barred[asked.backend]], lines)
    if not usable:
        none = list(barred.values()) or [f"no backend of tier {asked.tier or then.tier} is registered"]
        raise _nowhere(f"no backend of route {rule} can take {asked.instance}", none, lines)
    backend, *others = usable
    can = facts[backend].capabilities
    lines.append(f"backend {backend}: taken ({_why_first(backend, asked, facts)})")
    payload = min(asked.size, can.max_variables, *(() if can.algorithms == ("annealing",) else (then.max_qubits,)))
    fallback = []
    for name in dict.fromkeys((*others, *then.fallback)):
        if name == backend or name in barred:
            continue
        why = _unfit(policy, asked, name, facts, payload)
        if why:
            lines.append(f"backend {_said(name, why)}")
        else:
            fallback.append(name)
    if not {HEURISTIC, REVIEW} & {backend, *fallback} and _unfit(policy, asked, HEURISTIC, facts, payload) is None:
        fallback.append(HEURISTIC)
    for place, name in enumerate(fallback, start=1):
        resting = facts[name].resting if name in facts else None
        lines.append(f"backend {name}: fallback {place}" + (f" ({resting})" if resting else ""))
    return Route(
        name=rule,
        tier=can.tier,
        backend=backend,
        fallback=tuple(fallback),
        max_qubits=then.max_qubits,
        budget_seconds=then.budget_seconds,
        queue_seconds=then.queue_seconds,
        depth=then.depth,
        shots=then.shots,
        cost_ceiling=asked.cost_ceiling,
        priority=then.priority,
        policy_version=policy.version,
        features=features,
        explanation=tuple(lines),
        device=can.device,
    )


def _why_first(name: str, asked: Asked, facts: Mapping[str, Facts]) -> str:
    found = facts[name]
    words = ["asked for" if name == asked.backend else "the first that can be used"]
    if found.estimate is not None:
        words.append(
            f"a job is estimated at {found.estimate.execution_seconds:.2g} s" if not found.capabilities.metered
            else f"a job costs at least {found.estimate.cost:.2f}"
            + (f", there are {found.jobs} at most" if found.jobs > 1 else "")
        )  # fmt: skip
    shown = found.shown
    if shown.jobs:
        words.append(f"against classical on {asked.family}: {shown.wins} won, {shown.ties} tied, {shown.losses} lost")
    if found.resting:
        words.append(f"just now {found.resting}")
    return "; ".join(words)


def _unfit(policy: Policy, asked: Asked, name: str, facts: Mapping[str, Facts], payload: int) -> str | None:
    """Why a fallback is left out."""
    if name == HEURISTIC and asked.kind != "sample":
        return f"{name}: nothing classical answers {asked.kind} jobs"
    if name in (CACHED, REVIEW) or (name == HEURISTIC and name not in facts and name not in policy.killed):
        return None
    why = _forbidden(policy, asked, name, facts)
    if why is None and facts[name].capabilities.max_variables < payload:
        why = f"{name}: it takes {facts[name].capabilities.max_variables} variables, the payload may have {payload}"
    return why


def _said(name: str, why: str) -> str:
    return f"{name}: passed by, {why.removeprefix(f'{name}: ').removeprefix(f'backend {name} ')}"


def _nowhere(what: str, sentences: list[str], lines: list[str]) -> NoRoute:
    error = NoRoute(f"{what}: {'; '.join(sentences)}", FailureClass.CAPABILITY, not_sent=True)
    error.explanation = tuple(lines)
    return error
