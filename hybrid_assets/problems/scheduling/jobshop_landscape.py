"""The job shop as the proposal engine walks it: machine sequences, moved operation by operation.

Here: states, neighbourhoods, their second-order energies, repair, polish. Not here: the loops (``jobshop_kernels``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.landscape import Block, MoveLandscape, State, Step
from hybrid_assets.problems.move_expansion import expansion, pairs
from hybrid_assets.problems.scheduling.jobshop import lanes, priority_rules

if TYPE_CHECKING:
    from hybrid_assets.problems.scheduling.jobshop import JobShop


class JobShopLandscape(MoveLandscape):
    """``State.data`` lists the operations machine by machine in processing order; each starts as early as it can.

    A move ``(u, v, after)`` takes operation u out and puts it just after (or before) v on their machine. Moves of a set
    can contradict each other (a cycle); their energy is then that of the repaired sequences, and ``apply`` says that it
    repaired. Energies are the makespan and, below one time unit, how much work lies near the critical path, expanded to
    second order in the moves: a model, never exact.

    Kinds: ``critical`` exchanges neighbours on critical paths (N1 of van Laarhoven et al. 1992), ``blocks`` moves
    operations to the ends of critical blocks (N6 of Balas & Vazacopoulos 1998), ``window`` exchanges neighbours within
    an interval of time, ``machine`` on one machine.
    """

    kinds = ("blocks", "critical", "window", "machine")

    def __init__(self, family: JobShop, instance: Instance) -> None:
        from hybrid_assets.problems.scheduling import jobshop_kernels

        self._kernels = jobshop_kernels
        a = instance.arrays
        self._jobs, self._durations = a["jobs"], a["durations"]
        self._machines, self._offsets = lanes(a)
        self._project = family.project(instance)

    def _state(self, sequence: np.ndarray) -> State:
        """The state of sequences; contradicting ones cost what their repair costs."""
        paths = self._kernels.paths(sequence, self._offsets, self._jobs, self._durations)
        if paths[0] >= 0:
            return State(sequence, float(paths[0]), cache=paths)
        repaired = self._kernels.repaired(sequence, self._offsets, self._jobs)
        paths = self._kernels.paths(repaired, self._offsets, self._jobs, self._durations)
        return State(sequence, float(paths[0]), feasible=False, cache=repaired)

    def start(self, seed: int) -> State:
        """The best active schedule of the priority rules, each with and without some noise from the seed."""
        rng = np.random.default_rng(seed)
        states = []
        for rule in priority_rules(self._project):
            for noise in (0.0, 0.3):
                priority = rule[:-1] + noise * np.ptp(rule) * rng.random(len(rule) - 1)
                sequence = self._kernels.dispatched(
                    priority, self._jobs, self._machines, self._durations, self._offsets
                )
                states.append(self._state(sequence))
        return min(states, key=lambda state: state.cost)

    def state_of(self, values: np.ndarray) -> State:
        """The sequences in which operations start, semi-active: never longer than the schedule given."""
        order = self._project.by_start(np.append(values, np.inf))[:-1]
        sequence = order[np.argsort(self._machines[order], kind="stable")]
        return self.repair(self._state(sequence)).state

    def values(self, state: State) -> np.ndarray:
        """Start times of all operations."""
        if state.cache is None:
            state = self._state(state.data)
        return np.asarray(state.cache[1]).copy()

    def moves(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Sequence[Any]:
        """Moves of one neighbourhood, drawn without repetition."""
        found = self._block_moves(state, rng) if kind == "blocks" else self._neighbours(state, kind, rng)
        if kind in ("blocks", "critical") and len(found) > size:
            found = found[np.sort(rng.choice(len(found), size, replace=False))]
        return [tuple(move) for move in found[:size].tolist()]

    def _paths(self, state: State) -> Any:
        return self._state(state.data).cache if state.cache is None else state.cache

    def _block_moves(self, state: State, rng: np.random.Generator) -> np.ndarray:
        paths = self._paths(state)
        moves = [
            self._kernels.block_moves(*paths, self._jobs, self._durations, int(first))  # type: ignore[call-arg]
            for first in rng.integers(0, 1_000, 2)
        ]
        return np.unique(np.concatenate(moves), axis=0)

    def _neighbours(self, state: State, kind: str, rng: np.random.Generator) -> np.ndarray:
        """Exchanges of neighbours as moves of the former behind the latter; int64, shape ``(count, 3)``."""
        makespan, heads, tails, _, right = self._paths(state)
        former = state.data[right[state.data] >= 0]
        latter = right[former]
        if kind == "critical":
            ends = heads[former] + self._durations[former]
            chosen = (ends + tails[former] == makespan) & (heads[latter] == ends)
            chosen &= heads[latter] + self._durations[latter] + tails[latter] == makespan
            former = former[chosen]
        elif len(former):
            middle = heads[former[rng.integers(len(former))]]
            if kind == "machine":
                former = former[self._machines[former] == rng.choice(self._machines[former])]
            # the ones nearest to one moment, in order of time
            former = former[np.argsort(np.abs(heads[former] - middle), kind="stable")]
        former = former[self._jobs[former] != self._jobs[right[former]]]
        return np.column_stack([former, right[former], np.ones_like(former)])

    def block(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Block | None:
        """The second-order expansion of the energies in the moves, all in one compiled loop."""
        moves = self.moves(state, kind, size, rng)
        if len(moves) < 2:
            return None
        energies = self._kernels.energies(
            state.data,
            self._offsets,
            self._jobs,
            self._machines,
            self._durations,
            np.array(moves, dtype=np.int64),
            pairs(len(moves)),
        )
        return expansion(kind, moves, energies)

    def played(self, state: State, moves: Sequence[Any]) -> State:
        """The moves made one after the other."""
        sequence = state.data.copy()
        for u, v, after in moves:
            self._kernels.shift(sequence, self._offsets, self._machines[u], u, v, after)
        return self._state(sequence)

    def repair(self, state: State) -> Step:
        """Operations that a contradiction blocks are let past the ones they wait for."""
        return Step(state, evaluations=0) if state.feasible else Step(self._state(state.cache), True)

    def polish(self, state: State, evaluations: int) -> Step:
        """Steepest descent over N6 moves."""
        sequence, _, spent = self._kernels.descent(
            state.data, self._offsets, self._jobs, self._machines, self._durations, evaluations
        )
        return Step(self._state(sequence), evaluations=int(spent))
