"""The landscape of the ``tsp`` family: a tour, and small sub-programs of moves and of reorderings.

Here: start, neighbourhoods, polish. Not here: compiled loops (``tour_kernels``), formats and the whole program
(``tsp``).

All neighbourhoods are exact. Moves (``segments``, ``swap``) touch disjoint positions, and an edge has two ends, so that
no term meets more than two moves. Reorderings (``window``, ``cluster``) put k cities into k positions: k² binaries, one
group for each position; a city in two positions costs a penalty and is repaired by ``apply``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.landscape import Block, MoveLandscape, State, Step
from hybrid_assets.problems.routing.reordering import Reordering, reordered, reordering_block

#: Cities in a neighbour list.
NEAR = 10

Move = tuple[int, int, int, int]


class TourLandscape(MoveLandscape):
    """Tours of one instance; ``State.data`` is the order of visits, int64, shape ``(n,)``."""

    kinds = ("segments", "window", "cluster", "swap")
    pairwise = frozenset({"segments", "swap"})

    def __init__(self, instance: Instance) -> None:
        """Neighbour lists of the instance."""
        self.distance = np.ascontiguousarray(instance.arrays["distance"])
        self.scale = int(instance.arrays["scale"][0])
        self.symmetric = bool(np.array_equal(self.distance, self.distance.T))
        apart = self.distance.astype(np.float64)
        np.fill_diagonal(apart, np.inf)
        k = min(NEAR, len(apart) - 1)
        self.near = np.ascontiguousarray(np.argsort(apart, axis=1, kind="stable")[:, :k])
        self.towards = (
            self.near if self.symmetric else np.ascontiguousarray(np.argsort(apart.T, axis=1, kind="stable")[:, :k])
        )

    def _state(self, tour: np.ndarray) -> State:
        from hybrid_assets.problems.routing.tour_kernels import length

        return State(tour, length(self.distance, tour) / self.scale)

    def start(self, seed: int) -> State:
        """Nearest neighbour from a random city."""
        from hybrid_assets.problems.routing.tour_kernels import nearest_neighbour

        first = np.random.default_rng(seed).integers(len(self.distance))
        return self._state(nearest_neighbour(self.distance, int(first)))

    def state_of(self, values: np.ndarray) -> State:
        """The tour itself."""
        return self._state(np.array(values, dtype=np.int64))

    def values(self, state: State) -> np.ndarray:
        """The tour itself."""
        return state.data

    # -- moves ---------------------------------------------------------------------------------------------------

    def moves(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Sequence[Move]:
        """Disjoint moves that each bring a city beside a near one.

        ``swap`` exchanges two positions, ``segments`` turns a window round or exchanges its two parts.
        """
        n = len(state.data)
        place = np.empty(n, dtype=np.int64)
        place[state.data] = np.arange(n)
        taken = np.zeros(n, dtype=bool)
        found: list[Move] = []
        for _ in range(6 * size):
            city = int(rng.integers(n))
            other = int(self.near[city, rng.integers(self.near.shape[1])])
            if kind == "swap":
                i, j = int(place[city]), int((place[other] + rng.choice((-1, 1))) % n)
                move, window = (0, i, j, 0), np.array([i, j])
                useless = i == j
            else:
                move, window = self._segment(int(place[city]), int(place[other]), rng)
                useless = len(window) < 2
            if useless or taken[window].any():
                continue
            taken[window] = True
            found.append(move)
            if len(found) == size:
                break
        return found

    def _segment(self, i: int, j: int, rng: np.random.Generator) -> tuple[Move, np.ndarray]:
        """A move that joins the cities of two positions, and the positions it touches."""
        from hybrid_assets.problems.routing.tour_kernels import REVERSE, SHIFT

        n = len(self.distance)
        if (j - i) % n > n // 2:
            i, j = j, i
        span = (j - i) % n
        if span < 2 or span > max(4, n // 3):
            return (REVERSE, i, 0, 0), np.empty(0, dtype=np.int64)
        if rng.random() < 0.5:
            # i, i+1 … j: turning i+1 … j round puts j behind i
            return (REVERSE, (i + 1) % n, span, 0), (i + 1 + np.arange(span)) % n
        # i, i+1 … j-1, j …: a few cities from j on go in behind i, before i+1
        block = int(rng.integers(1, 4))
        size = span - 1 + block
        if size + 1 >= n:
            return (REVERSE, i, 0, 0), np.empty(0, dtype=np.int64)
        return (SHIFT, (i + 1) % n, span - 1, size), (i + 1 + np.arange(size)) % n

    def played(self, state: State, moves: Sequence[Move]) -> State:
        """The tour after the moves."""
        from hybrid_assets.problems.routing.tour_kernels import play

        tour, scratch = state.data.copy(), state.data.copy()
        for move in moves:
            play(tour, move, scratch)
        return self._state(tour)

    def block(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Block | None:
        """The expansion in moves, or a reordering of as many positions as fit."""
        if kind in ("window", "cluster"):
            return self._reordering(state, kind, int(np.sqrt(size)), rng)
        return super().block(state, kind, size, rng)

    def expansion(self, state: State, moves: Sequence[Move]) -> tuple[np.ndarray, np.ndarray]:
        """All moves and pairs in one compiled loop."""
        from hybrid_assets.problems.routing.tour_kernels import expansion

        single, pair = expansion(self.distance, state.data, np.array(moves, dtype=np.int64))
        return single / self.scale, pair / self.scale

    # -- reorderings ---------------------------------------------------------------------------------------------

    def _reordering(self, state: State, kind: str, k: int, rng: np.random.Generator) -> Block | None:
        tour, n = state.data, len(state.data)
        k = min(k, n)
        if k < 2:
            return None
        centre = int(rng.integers(n))
        if kind == "window":
            chosen = (centre + np.arange(k)) % n
        else:
            place = np.empty(n, dtype=np.int64)
            place[tour] = np.arange(n)
            near = self.near[tour[centre]]
            others = rng.permutation(near)[: k - 1]
            chosen = np.concatenate([[centre], place[others]])
        return reordering_block(self.distance, self.scale, state, kind, np.sort(chosen))

    def apply(self, state: State, block: Block, bits: np.ndarray) -> Step:
        """Make the moves, or deal out the cities; one left without a position takes the next free one."""
        if not isinstance(block.move, Reordering):
            return super().apply(state, block, bits)
        if np.array_equal(bits, block.current):
            return Step(state, evaluations=0)
        tour, repaired = reordered(state.data, block.move, bits)
        return Step(self._state(tour), repaired)

    def polish(self, state: State, evaluations: int) -> Step:
        """2-opt and or-opt with neighbour lists; or-opt of longer segments alone where distances are not symmetric."""
        from hybrid_assets.problems.routing.tour_kernels import descend

        tour = state.data.copy()
        spent = int(descend(self.distance, tour, self.near, self.towards, self.symmetric, evaluations))
        new = self._state(tour)
        return Step(new if new.cost < state.cost else state, evaluations=spent)
