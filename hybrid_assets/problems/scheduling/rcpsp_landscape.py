"""A project as the proposal engine walks it: a list of activities that a serial schedule follows.

Here: states, neighbourhoods, their second-order energies, repair, polish. Not here: the loops (``project_kernels``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.landscape import Block, MoveLandscape, State, Step
from hybrid_assets.problems.move_expansion import expansion, pairs
from hybrid_assets.problems.scheduling.rcpsp import priority_rules

if TYPE_CHECKING:
    from hybrid_assets.problems.scheduling.rcpsp import Rcpsp

#: Farthest that an activity is shifted in the list, in places.
_REACH = 12


class RcpspLandscape(MoveLandscape):
    """``State.data`` lists the activities; each starts as early as the ones before it in the list allow.

    A move ``(u, v, after)`` takes activity u out and puts it just after (or before) v. A set of moves can put an
    activity before its predecessor; the list is then read as a priority, which ``apply`` calls repaired. Energies are
    the makespan and, below one time unit, the mean square of finishing times, expanded to second order in the moves: a
    model, never exact.

    Kinds: ``critical`` draws activities that wait for a resource to a place before one that holds it, ``neighbours``
    exchanges list neighbours around one place, ``shift`` moves activities anywhere near that precedences allow.
    """

    kinds = ("critical", "shift", "neighbours")

    def __init__(self, family: Rcpsp, instance: Instance) -> None:
        from hybrid_assets.problems.scheduling import project_kernels

        self._kernels = project_kernels
        self._project = family.project(instance)
        n = self._project.size
        self._precedes = np.zeros((n, n), dtype=bool)
        self._precedes[self._project.before, self._project.after] = True

    def _state(self, order: np.ndarray) -> State:
        """The state of a list; one against precedences costs what its reading as a priority costs."""
        starts, used = self._project.listed(order)
        return State(order, float(starts[-1]), feasible=bool(np.array_equal(order, used)), cache=(starts, used))

    def _schedule(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        return self._project.listed(state.data) if state.cache is None else state.cache

    def start(self, seed: int) -> State:
        """The best list of the priority rules, each with and without some noise from the seed, after justification."""
        rng = np.random.default_rng(seed)
        states = []
        for rule in priority_rules(self._project):
            for noise in (0.0, 0.3):
                priority = rule + noise * np.ptp(rule) * rng.random(len(rule))
                starts, order = self._project.listed(np.argsort(-priority, kind="stable"))
                states.append(self._state(self._project.justified(starts, order)[1]))
        return min(states, key=lambda state: state.cost)

    def state_of(self, values: np.ndarray) -> State:
        """The activities by start time, as early as that list allows: never longer than the schedule given."""
        return self.repair(self._state(self._project.by_start(values))).state

    def values(self, state: State) -> np.ndarray:
        """Start times of all activities."""
        return self._schedule(state)[0].copy()

    def moves(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Sequence[Any]:
        """Moves of one neighbourhood; each alone keeps the list free of contradiction."""
        order = state.data
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        if kind == "neighbours":
            former, latter = order[:-1], order[1:]
            at = np.flatnonzero(~self._precedes[former, latter])
            if not len(at):
                return []
            near = at[np.argsort(np.abs(at - rng.choice(at)), kind="stable")][:size]
            return [(int(former[k]), int(latter[k]), 1) for k in np.sort(near)]
        candidates = self._waiting(state) if kind == "critical" else np.arange(len(order))
        found: list[tuple[int, int, int]] = []
        for u in rng.permutation(candidates).tolist():
            if len(found) == size:
                break
            low, high = self._room(int(u), place)
            low, high = max(low, int(place[u]) - _REACH), min(high, int(place[u]) + _REACH)
            if kind == "critical":
                high = int(place[u])
            targets = [k for k in range(low, high + 1) if k != place[u]]
            if targets:
                to = int(rng.choice(targets))
                found.append((int(u), int(order[to]), int(to > place[u])))
        return found

    def _room(self, task: int, place: np.ndarray) -> tuple[int, int]:
        """First and last place that ``task`` may take with the others where they are."""
        (before, preds), (after, succs) = self._project.predecessors, self._project.successors
        earlier = place[preds[before[task] : before[task + 1]]]
        later = place[succs[after[task] : after[task + 1]]]
        return int(earlier.max(initial=-1)) + 1, int(later.min(initial=len(place))) - 1

    def _waiting(self, state: State) -> np.ndarray:
        """Activities that start later than their predecessors demand: a resource holds them up."""
        starts = self._schedule(state)[0]
        project = self._project
        ready = np.zeros(project.size, dtype=np.int64)
        np.maximum.at(ready, project.after, starts[project.before] + project.durations[project.before])
        return np.flatnonzero(starts > ready)

    def block(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Block | None:
        """The second-order expansion of the energies in the moves, all in one compiled loop."""
        moves, project = self.moves(state, kind, size, rng), self._project
        if len(moves) < 2:
            return None
        energies = self._kernels.list_energies(
            state.data,
            np.array(moves, dtype=np.int64),
            pairs(len(moves)),
            project.durations,
            *project.predecessors,
            project.demands,
            project.capacities,
            project.span,
        )
        return expansion(kind, moves, energies)

    def played(self, state: State, moves: Sequence[Any]) -> State:
        """The moves made one after the other."""
        order = state.data.copy()
        for u, v, after in moves:
            self._kernels.shift(order, u, v, after)
        return self._state(order)

    def repair(self, state: State) -> Step:
        """The list that its reading as a priority gives."""
        return Step(state, evaluations=0) if state.feasible else Step(self._state(state.cache[1]), True)

    def polish(self, state: State, evaluations: int) -> Step:
        """Forward-backward improvement, then a descent over exchanges in the list, then justified again."""
        project = self._project
        starts, order, spent = project.justified(*self._schedule(state))
        starts, order, more = self._kernels.list_descent(
            starts,
            order,
            project.durations,
            *project.predecessors,
            project.demands,
            project.capacities,
            project.span,
            max(0, evaluations - spent),
        )
        starts, order, last = project.justified(starts, order)
        return Step(self._state(order), evaluations=int(spent + more + last))
