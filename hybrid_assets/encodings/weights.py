"""Penalty weights: proven bounds, the verdict on a weight, and the feasible states they speak about.

The question throughout: can an infeasible state undercut every feasible one? With f the objective, f* the least value
of a feasible state and V(x) the sum of squared violations (slack at its best; V ≥ 1 for infeasible x, all data being
integer), it cannot if w·V(x) > f* − f(x) for all infeasible x.

Not here: building the model (``penalty``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.encodings.arrays import LinearConstraint, QuadraticForm, higher_values, states, subset_sums

if TYPE_CHECKING:
    from hybrid_assets.encodings.base import EncodedProblem, Verdict

#: Terms of degree 3 and more: ascending indices → coefficient.
Higher = Mapping[tuple[int, ...], float]

#: Largest program that is enumerated (2^20 states take about 0.1 s).
ENUMERATED = 20
#: Low-energy states drawn when a weight is neither proven nor enumerable.
SAMPLES = 200


@dataclass(frozen=True)
class Judgement:
    """A verdict on a weight and, in words, how it was reached."""

    verdict: Verdict
    evidence: str


@dataclass(frozen=True)
class Count:
    """``low ≤ number of ones among indices ≤ high``: a constraint whose coefficients are all 1 or all −1."""

    indices: np.ndarray
    low: int
    high: int


def counts(constraints: list[LinearConstraint]) -> list[Count] | None:
    """The constraints as counts over disjoint sets of variables; ``None`` when they are not."""
    found = []
    for c in constraints:
        if len(set(c.coefficients.tolist())) != 1 or abs(int(c.coefficients[0])) != 1:
            return None
        m, target = len(c.indices), c.rhs * int(c.coefficients[0])
        if c.sense == "eq":
            found.append(Count(c.indices, target, target))
        else:
            found.append(Count(c.indices, 0, target) if c.coefficients[0] > 0 else Count(c.indices, target, m))
    everything = np.concatenate([c.indices for c in found]) if found else np.array([], dtype=np.int64)
    return found if len(np.unique(everything)) == len(everything) else None


def bounds(
    objective: QuadraticForm, constraints: list[LinearConstraint], higher: Higher | None = None
) -> dict[str, float]:
    """Every proven bound that applies, by name: any weight above one of them makes the encoding exact. None reads f*.

    - ``range``: (upper bound of f over all states) − (lower bound of f over all states); V ≥ 1 does the rest.
    - ``marginal``: for counts over disjoint sets. Let D bound, at any state with too few (too many) ones in a set, the
      change of f by the cheapest item to add (remove). An infeasible x becomes feasible in v = Σ v_j such steps, so
      f* ≤ f(x) + D·v ≤ f(x) + D·V(x), because v_j ≤ v_j² for integers. Hence any w > D is enough.
    - ``monotone``: for inequalities in which every variable has a harmless value, the same in all of them (knapsacks,
      packings, covers). Setting one variable of a violated inequality to it takes at least 1 from the violation and
      adds to no other, so an infeasible x is feasible after at most Σ v_j such flips; with D the dearest that is ever
      the cheapest at hand, as above.

    Args:
        higher: terms of f of degree 3 and more: indices → coefficient.
    """
    higher = higher or {}
    low, high = objective.range()
    coefficients = np.array(list(higher.values()))
    low, high = low + float(np.minimum(coefficients, 0).sum()), high + float(np.maximum(coefficients, 0).sum())
    found = {"range": high - low}
    groups = counts(constraints)
    harmless = _harmless(constraints)
    if groups is not None:
        found["marginal"] = _marginal(objective, groups, higher)
    elif harmless is not None:
        found["monotone"] = _monotone(objective, constraints, harmless, higher)
    return found


def solvable(constraints: list[LinearConstraint], n: int) -> bool | None:
    """Whether some state satisfies all constraints (each possible by itself); ``None``: not known, n above 20."""
    if counts(constraints) is not None or _harmless(constraints) is not None:
        return True
    return bool((_squared_violations(constraints, n) == 0).any()) if n <= ENUMERATED else None


def judge(
    objective: QuadraticForm,
    constraints: list[LinearConstraint],
    encoded: EncodedProblem,
    decode: Callable[[EncodedProblem, np.ndarray], np.ndarray],
    seed: int,
    higher: Higher | None = None,
    groups: list[LinearConstraint] | None = None,
) -> Judgement:
    """Whether an infeasible state can undercut every feasible one, for the weight as encoded.

    Enumeration up to 20 variables; else the proven bounds; else the lowest states that simulated annealing finds.

    Args:
        higher: terms of the objective of degree 3 and more.
        groups: constraints that the sampler keeps by itself: states outside them are no counter-examples.
    """
    weight = encoded.penalty_weight or 0.0
    n = len(objective.linear)
    higher = higher or {}
    if n <= ENUMERATED:
        values, violations = _enumerate(objective, constraints, higher)
        inside = _squared_violations(groups, n) == 0 if groups else np.ones(2**n, dtype=bool)
        feasible = inside & (violations == 0)
        if not feasible.any():
            return Judgement("refuted", f"none of all {len(values)} states is feasible")
        energies = values + weight * violations
        energies[feasible | ~inside] = np.inf
        worst, least = int(np.argmin(energies)), float(values[feasible].min())
        if energies[worst] > least:
            return Judgement(
                "proven",
                f"enumeration of {int(inside.sum())} states: the lowest infeasible energy {energies[worst]:.6g} lies "
                f"above the lowest feasible one {least:.6g}",
            )
        return Judgement(
            "refuted",
            f"enumeration of {int(inside.sum())} states: infeasible state {_text(states(np.array([worst]), n)[0])} "
            f"with energy {energies[worst]:.6g} is not above the lowest feasible energy {least:.6g}",
        )
    proven = {"range": bounds(objective, [], higher)["range"]} if groups else bounds(objective, constraints, higher)
    name = min(proven, key=lambda known: proven[known])
    if weight > proven[name]:
        return Judgement("proven", f"weight {weight:.6g} > {name} bound {proven[name]:.6g} per unit of violation")
    return sampled(constraints + (groups or []), encoded, decode, seed)


def sampled(
    constraints: list[LinearConstraint],
    encoded: EncodedProblem,
    decode: Callable[[EncodedProblem, np.ndarray], np.ndarray],
    seed: int,
) -> Judgement:
    """The verdict of ``SAMPLES`` annealed low-energy states: one infeasible state among them that undercuts the best
    feasible one refutes; otherwise nothing is proven."""
    from dwave.samplers import SimulatedAnnealingSampler

    q = encoded.bqm.num_variables
    drawn = SimulatedAnnealingSampler().sample(encoded.bqm, num_reads=SAMPLES, num_sweeps=200, seed=seed % 2**31)
    order = np.argsort(np.asarray(list(drawn.variables)))
    bits = drawn.record.sample[:, order]
    energies = encoded.bqm.energies((bits, range(q)))
    assignments = np.array([decode(encoded, b) for b in bits])
    feasible = _feasible(constraints, assignments)
    least = float(energies[feasible].min()) if feasible.any() else np.inf
    lowest = int(np.argmin(np.where(feasible, np.inf, energies)))
    if not feasible.all() and energies[lowest] <= least:
        return Judgement(
            "refuted",
            f"infeasible state {_text(assignments[lowest])} with energy {energies[lowest]:.6g} is not above the best "
            f"of {int(feasible.sum())} feasible ones among {SAMPLES} annealed samples ({least:.6g})",
        )
    return Judgement(
        "no counter-example", f"no infeasible state undercuts the best feasible one in {SAMPLES} annealed samples"
    )


def feasible_share(constraints: list[LinearConstraint], n: int, rng: np.random.Generator) -> float:
    """Share of uniformly random assignments that satisfy all constraints.

    Closed form for counts over disjoint sets, enumeration up to 20 variables, else 4,096 random assignments.
    """
    groups = counts(constraints)
    if groups is not None:
        share = 1.0
        for g in groups:
            ways = sum(comb(len(g.indices), k) for k in range(max(g.low, 0), min(g.high, len(g.indices)) + 1))
            share *= ways / 2 ** len(g.indices)
        return share
    if n <= ENUMERATED:
        return float(np.mean(_squared_violations(constraints, n) == 0))
    drawn = rng.integers(0, 2, (4096, n), dtype=np.int8)
    return float(np.mean(_feasible(constraints, drawn)))


def feasible_points(constraints: list[LinearConstraint], n: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Up to ``count`` random feasible assignments, int8, shape ``(m, n)``; fewer where they are hard to find."""
    groups = counts(constraints)
    if groups is not None:
        points = rng.integers(0, 2, (count, n), dtype=np.int8)
        for g in groups:
            for point in points:
                ones = rng.integers(max(g.low, 0), min(g.high, len(g.indices)) + 1)
                point[g.indices] = 0
                point[rng.permutation(g.indices)[:ones]] = 1
        return points
    if n <= ENUMERATED:
        feasible = np.flatnonzero(_squared_violations(constraints, n) == 0)
        return states(rng.choice(feasible, min(count, len(feasible)), replace=False), n)
    drawn = rng.integers(0, 2, (4096, n), dtype=np.int8)
    return drawn[_feasible(constraints, drawn)][:count]


def _marginal(objective: QuadraticForm, groups: list[Count], higher: Higher) -> float:
    """The largest, over the sets, of what the cheapest needed addition or removal can cost; see ``bounds``."""
    couplings = objective.dense()
    dearer, cheaper = _reach(len(objective.linear), higher)
    worst = 0.0
    for g in groups:
        size = len(g.indices)
        inside = couplings[np.ix_(g.indices, g.indices)]
        np.fill_diagonal(inside, np.inf)
        inside = np.sort(inside, axis=1)[:, : size - 1]  # each item's couplings with the others, weakest first
        outside = np.delete(couplings[g.indices], g.indices, axis=1)
        linear = objective.linear[g.indices]
        if g.low > 0:  # below it at most low-1 others are ones, so one of the low cheapest items is free to add
            dearest = np.maximum(inside[:, size - g.low :], 0.0).sum(axis=1)
            cost = np.sort(linear + dearest + np.maximum(outside, 0.0).sum(axis=1) + dearer[g.indices])
            worst = max(worst, float(cost[g.low - 1]))
        if g.high < size:  # above it at least high others are ones; one of the size-high cheapest items is among them
            gain = inside[:, : g.high].sum(axis=1) + np.minimum(inside[:, g.high :], 0.0).sum(axis=1)
            cost = np.sort(-linear - gain - np.minimum(outside, 0.0).sum(axis=1) + cheaper[g.indices])
            worst = max(worst, float(cost[size - g.high - 1]))
    return worst


def _monotone(
    objective: QuadraticForm, constraints: list[LinearConstraint], harmless: np.ndarray, higher: Higher
) -> float:
    """The largest, over the inequalities, of what the cheapest flip that helps can cost; see ``bounds``.

    A violated inequality has more activity at harmful values than its room, so among these variables is one that is no
    dearer than the one with which the dearest of all, added up, pass the room.
    """
    n = len(objective.linear)
    dearer, cheaper = _reach(n, higher)
    for reach, clipped in ((dearer, np.maximum(objective.values, 0.0)), (cheaper, np.maximum(-objective.values, 0.0))):
        reach += np.bincount(objective.rows, clipped, n) + np.bincount(objective.cols, clipped, n)
    known = np.zeros(n, dtype=np.int8)
    known[: len(harmless)] = harmless
    cost = np.where(known == 1, objective.linear + dearer, cheaper - objective.linear)
    worst = 0.0
    for c in constraints:
        if c.redundant:
            continue
        order = np.argsort(-cost[c.indices], kind="stable")
        passed = np.cumsum(np.abs(c.coefficients[order])) > c.rhs - c.range[0]
        worst = max(worst, float(cost[c.indices[order[int(np.argmax(passed))]]]))
    return worst


def _harmless(constraints: list[LinearConstraint]) -> np.ndarray | None:
    """Per variable the value that never harms an inequality, −1 where it is in none (int8, up to the largest index
    used); ``None`` where a variable has no such value or a constraint is an equation."""
    used = max((int(c.indices.max(initial=-1)) for c in constraints), default=-1) + 1
    value = np.full(used, -1, dtype=np.int8)
    for c in constraints:
        wanted = (c.coefficients < 0).astype(np.int8)
        known = value[c.indices]
        if c.sense == "eq" or not c.possible or ((known >= 0) & (known != wanted)).any():
            return None
        value[c.indices] = wanted
    return value


def _reach(n: int, higher: Higher) -> tuple[np.ndarray, np.ndarray]:
    """The most that terms of degree 3 and more can add to f when a variable becomes 1, and when it becomes 0."""
    dearer, cheaper = np.zeros(n), np.zeros(n)
    for indices, coefficient in higher.items():
        dearer[list(indices)] += max(coefficient, 0.0)
        cheaper[list(indices)] += max(-coefficient, 0.0)
    return dearer, cheaper


def _enumerate(
    objective: QuadraticForm, constraints: list[LinearConstraint], higher: Higher
) -> tuple[np.ndarray, np.ndarray]:
    """Objective and sum of squared violations of all states."""
    n = len(objective.linear)
    values = objective.all_values()
    return values + higher_values(higher, n) if higher else values, _squared_violations(constraints, n)


def _squared_violations(constraints: list[LinearConstraint], n: int) -> np.ndarray:
    total = np.zeros(2**n)
    for c in constraints:
        weights = np.zeros(n)
        weights[c.indices] = c.coefficients
        total += c.excess(subset_sums(weights)) ** 2
    return total


def _feasible(constraints: list[LinearConstraint], assignments: np.ndarray) -> np.ndarray:
    holds = np.ones(len(assignments), dtype=bool)
    for c in constraints:
        holds &= c.violation(assignments) == 0
    return holds


def _text(bits: np.ndarray) -> str:
    return "".join(map(str, bits))
