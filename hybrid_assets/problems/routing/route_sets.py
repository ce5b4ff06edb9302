"""All sets of customers that one vehicle can serve, each in its cheapest order: the columns of set partitioning.

Here: their enumeration by dynamic programming, and uniform draws of sets that serve everyone once. Not here: the
program made of them (``cvrp``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hybrid_assets.problems.base import Instance
    from hybrid_assets.problems.routing.fleet import Problem

#: Most customers for which draws are exactly uniform (the count is over all their subsets).
UNIFORM_CUSTOMERS = 16
_TRIES = 200


@dataclass(frozen=True)
class RouteSets:
    """The routes.

    Attributes:
        routes: customers (1 … n) in order of visit, sorted by number of customers and then by set.
        masks: the set of each, customer c as bit c − 1.
        lengths: int64, in the instance's units.
        index: set → place in the lists.
    """

    routes: tuple[tuple[int, ...], ...]
    masks: tuple[int, ...]
    lengths: np.ndarray
    index: dict[int, int]


class _Key:
    """An instance with its digest as identity."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    def __hash__(self) -> int:
        return hash(self.instance.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.instance.digest == self.instance.digest


def route_sets(instance: Instance, most: int) -> RouteSets | None:
    """All feasible routes, or ``None`` when more than ``most`` sets have to be looked at; remembered for a few
    instances."""
    return _enumerated(_Key(instance), most)


@lru_cache(maxsize=8)
def _enumerated(key: _Key, most: int) -> RouteSets | None:
    from hybrid_assets.problems.routing.fleet import problem_of

    problem = problem_of(key.instance)
    # (set, last customer) → the labels (length, time, order) that no other beats in both
    level = _first_labels(problem)
    found: dict[int, tuple[int, tuple[int, ...]]] = {}
    seen = 0
    while level:
        seen += len(level)
        if seen > most:
            return None
        for mask, labels in level.items():
            best = _closed(problem, labels)
            if best is not None:
                found[mask] = best
        following = _extended(problem, level, most - seen)
        if following is None:
            return None
        level = following
    masks = tuple(sorted(found, key=lambda mask: (mask.bit_count(), mask)))
    return RouteSets(
        tuple(found[m][1] for m in masks),
        masks,
        np.array([found[m][0] for m in masks], dtype=np.int64),
        {m: k for k, m in enumerate(masks)},
    )


Labels = dict[int, list[tuple[int, int, tuple[int, ...]]]]


def _arrival(problem: Problem, clock: int, here: int, there: int) -> int | None:
    """When service can begin, or ``None`` when that is too late."""
    distance, _, ready, due, service, limits = problem
    if not limits[3]:
        return 0
    at = max(clock + int(service[here]) + int(distance[here, there]), int(ready[there]))
    return at if at <= due[there] else None


def _first_labels(problem: Problem) -> dict[int, Labels]:
    first: dict[int, Labels] = {}
    for c in range(1, len(problem[1])):
        at = _arrival(problem, int(problem[2][0]), 0, c)
        if at is not None and problem[1][c] <= problem[5][0]:
            first[1 << (c - 1)] = {c: [(int(problem[0][0, c]), at, (c,))]}
    return first


def _closed(problem: Problem, labels: Labels) -> tuple[int, tuple[int, ...]] | None:
    """The cheapest route of a set back at the depot in time."""
    ends = [
        (far + int(problem[0][last, 0]), order)
        for last, several in labels.items()
        for far, clock, order in several
        if _arrival(problem, clock, last, 0) is not None
    ]
    return min(ends, default=None)


def _extended(problem: Problem, level: dict[int, Labels], room: int) -> dict[int, Labels] | None:
    """All sets with one customer more, or ``None`` when there are more than ``room``."""
    distance, demand, limits = problem[0], problem[1], problem[5]
    customers = range(1, len(demand))
    following: dict[int, Labels] = {}
    for mask, labels in level.items():
        load = sum(int(demand[c]) for c in customers if mask >> (c - 1) & 1)
        for c in customers:
            if mask >> (c - 1) & 1 or load + demand[c] > limits[0]:
                continue
            for last, several in labels.items():
                for far, clock, order in several:
                    at = _arrival(problem, clock, last, c)
                    if at is not None:
                        label = (far + int(distance[last, c]), at, (*order, c))
                        _keep(following.setdefault(mask | 1 << (c - 1), {}).setdefault(c, []), label)
            if len(following) > room:
                return None
    return following


def _keep(labels: list[tuple[int, int, tuple[int, ...]]], new: tuple[int, int, tuple[int, ...]]) -> None:
    """Add a label unless one is as good in length and time; drop those that it beats."""
    if any(old[0] <= new[0] and old[1] <= new[1] for old in labels):
        return
    labels[:] = [old for old in labels if not (new[0] <= old[0] and new[1] <= old[1])]
    labels.append(new)


def drawn(
    sets: RouteSets, open_: int, allowed: np.ndarray, vehicles: int, rng: np.random.Generator
) -> list[int] | None:
    """A random choice of allowed routes that serves every open customer once, or ``None``.

    Exactly uniform up to ``UNIFORM_CUSTOMERS`` open customers; above, routes are drawn one by one until it works out.

    Args:
        open_: the set of customers to serve.
        allowed: places in the lists.
        vehicles: at most this many routes.
    """
    by_customer: dict[int, list[int]] = {}
    for k in allowed.tolist():
        if sets.masks[k] & ~open_ == 0:
            by_customer.setdefault(sets.masks[k] & -sets.masks[k], []).append(k)

    @cache
    def count(rest: int, left: int) -> int:
        if rest == 0:
            return 1
        if left == 0:
            return 0
        routes = by_customer.get(rest & -rest, ())
        return sum(count(rest & ~sets.masks[k], left - 1) for k in routes if sets.masks[k] & ~rest == 0)

    exact = open_.bit_count() <= UNIFORM_CUSTOMERS
    for _ in range(1 if exact else _TRIES):
        rest, left, chosen = open_, vehicles, []
        while rest and left:
            routes = [k for k in by_customer.get(rest & -rest, ()) if sets.masks[k] & ~rest == 0]
            weights = [count(rest & ~sets.masks[k], left - 1) if exact else 1 for k in routes]
            if not sum(weights):
                break
            pick = routes[int(np.searchsorted(np.cumsum(weights), rng.integers(sum(weights)), side="right"))]
            chosen.append(pick)
            rest, left = rest & ~sets.masks[pick], left - 1
        if rest == 0:
            return chosen
    return None
