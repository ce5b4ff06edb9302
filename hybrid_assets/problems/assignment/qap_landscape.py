"""The ``qap`` family as the proposal engine walks it.

Here: blocks of disjoint swaps, blocks that reassign a few facilities among their locations, descent. Not here: the
compiled swap costs (``qap_moves``), the family itself (``qap``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from hybrid_assets.problems.assignment.qap import cost, placed
from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.landscape import Block, MoveLandscape, State, Step

#: Swaps looked at per swap taken, where the cheapest are wanted.
LOOKED_AT = 4


@dataclass(frozen=True)
class Reassignment:
    """Facilities and the locations they hold between them, both int64 of shape ``(k,)``; bit ``k·i + l``."""

    facilities: np.ndarray
    locations: np.ndarray


class QapLandscape(MoveLandscape):
    """Placements, always feasible; a state's data is the location of every facility.

    ``cheap`` and ``random`` are disjoint swaps: no term of the cost meets more than two of them, so the expansion is
    exact. ``reassign`` gives k facilities with large flows between them any of their k locations: k² one-hot binaries,
    a group per facility, and a weight on two facilities at one location that no gain can pay. Bits that break
    this are repaired as the family repairs them.
    """

    kinds: ClassVar[tuple[str, ...]] = ("cheap", "reassign", "random")
    pairwise: ClassVar[frozenset[str]] = frozenset({"cheap", "random"})

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.flow = np.ascontiguousarray(instance.arrays["flow"])
        self.distance = np.ascontiguousarray(instance.arrays["distance"])

    def start(self, seed: int) -> State:
        """The first facility at a random location, the others in the order of their flow where they cost least."""
        rng, n = np.random.default_rng(seed), self.instance.size
        bits = np.zeros((n, n), dtype=bool)
        bits[rng.integers(n), rng.integers(n)] = True
        return self._state(placed(self.instance, bits))

    def state_of(self, values: np.ndarray) -> State:
        """The placement itself."""
        return self._state(np.asarray(values).astype(np.int64))

    def values(self, state: State) -> np.ndarray:
        """The placement itself."""
        return state.data

    def _state(self, places: np.ndarray) -> State:
        return State(places, cost(self.instance, places))

    def moves(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Sequence[tuple[int, int]]:
        """Disjoint pairs of facilities: random ones, or the cheapest of several times as many."""
        order, wanted = rng.permutation(self.instance.size), min(size, self.instance.size // 2)
        if kind == "random":
            return [(int(r), int(s)) for r, s in order[: 2 * wanted].reshape(-1, 2)]
        pairs = rng.integers(0, self.instance.size, (LOOKED_AT * wanted, 2))
        pairs = np.concatenate([pairs[pairs[:, 0] != pairs[:, 1]], order[: 2 * wanted].reshape(-1, 2)])
        used: set[int] = set()
        chosen: list[tuple[int, int]] = []
        for k in np.argsort(self._singles(state, pairs), kind="stable"):
            r, s = int(pairs[k, 0]), int(pairs[k, 1])
            if len(chosen) < wanted and not {r, s} & used:
                chosen.append((r, s))
                used |= {r, s}
        return chosen

    def played(self, state: State, moves: Sequence[tuple[int, int]]) -> State:
        """The placement after these swaps."""
        places = state.data.copy()
        for r, s in moves:
            places[r], places[s] = places[s], places[r]
        return self._state(places)

    def block(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Block | None:
        """Swaps by their closed form, or a reassignment."""
        if kind == "reassign":
            return self._reassignment(state, size, rng)
        block = super().block(state, kind, size, rng)
        if block is None or kind != "cheap":
            return block
        return replace(block, evaluations=block.evaluations + LOOKED_AT * block.size)

    def expansion(self, state: State, moves: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        """Each swap alone by its compiled sum, pairs of disjoint swaps all at once."""
        pairs = np.array(moves)
        return self._singles(state, pairs), self._pairs(state, pairs)

    def apply(self, state: State, block: Block, bits: np.ndarray) -> Step:
        """Make the swaps, or put the facilities where the bits say."""
        if not isinstance(block.move, Reassignment):
            return super().apply(state, block, bits)
        facilities, locations, k = block.move.facilities, block.move.locations, len(block.move.facilities)
        if np.array_equal(bits, block.current):
            return Step(state, evaluations=0)
        chosen = np.asarray(bits).reshape(k, k) != 0
        if (chosen.sum(axis=0) == 1).all() and (chosen.sum(axis=1) == 1).all():
            places = state.data.copy()
            places[facilities] = locations[chosen.argmax(axis=1)]
            return Step(self._state(places))
        n = self.instance.size
        wanted = np.zeros((n, n), dtype=bool)
        wanted[np.arange(n), state.data] = True
        wanted[np.ix_(facilities, locations)] = chosen
        return Step(self._state(placed(self.instance, wanted)), True)

    def polish(self, state: State, evaluations: int) -> Step:
        """Steepest descent over all swaps."""
        from hybrid_assets.problems.assignment.qap_moves import descend

        places = state.data.copy()
        spent = descend(self.flow, self.distance, places, 1e-12 * max(1.0, abs(state.cost)), evaluations)
        better = self._state(places)
        return Step(better if better.cost < state.cost else state, evaluations=int(spent))

    def _singles(self, state: State, pairs: np.ndarray) -> np.ndarray:
        """Cost of each swap alone; ``pairs`` has shape ``(q, 2)``."""
        from hybrid_assets.problems.assignment.qap_moves import swap_cost

        return np.array([swap_cost(self.flow, self.distance, state.data, r, s) for r, s in pairs])

    def _pairs(self, state: State, pairs: np.ndarray) -> np.ndarray:
        """What two disjoint swaps cost beyond each alone, strictly upper triangular."""
        old = state.data[pairs]
        new = old[:, ::-1]

        def between(one: np.ndarray, two: np.ndarray) -> np.ndarray:
            return self.distance[one[:, :, None, None], two[None, None, :, :]]

        change = between(new, new) - between(new, old) - between(old, new) + between(old, old)
        there = self.flow[pairs[:, :, None, None], pairs[None, None, :, :]]
        both = np.einsum("tiuj,tiuj->tu", there, change)
        return np.triu(both + both.T, 1)

    def _reassignment(self, state: State, size: int, rng: np.random.Generator) -> Block | None:
        n, places = self.instance.size, state.data
        k = min(int(np.sqrt(size)), n)
        if k < 2:
            return None
        facilities = self._cluster(k, rng)
        locations = places[facilities]
        rest = np.setdiff1d(np.arange(n), facilities)
        at, flow, distance = places[rest], self.flow, self.distance
        linear = np.outer(flow[facilities, facilities], distance[locations, locations])
        linear += flow[np.ix_(facilities, rest)] @ distance[np.ix_(locations, at)].T
        linear += flow[np.ix_(rest, facilities)].T @ distance[np.ix_(at, locations)]
        inner, among = flow[np.ix_(facilities, facilities)], distance[np.ix_(locations, locations)]
        products = np.einsum("ij,lm->iljm", inner, among) + np.einsum("ji,ml->iljm", inner, among)
        # without the locations' constraints no answer is below this sum of minima, so the weight pays for any gain
        off = ~np.eye(k, dtype=bool)
        lowest = linear.min(axis=1).sum() + products.min(axis=(1, 3))[np.triu_indices(k, 1)].sum()
        now = np.trace(linear) + (inner * among)[off].sum()
        weight = 1.1 * (now - lowest) + 1e-9 * max(1.0, abs(now))
        products[:, np.arange(k), :, np.arange(k)] += weight * off
        couplings = np.where(np.arange(k)[:, None, None, None] < np.arange(k)[None, None, :, None], products, 0.0)
        return Block(
            kind="reassign",
            linear=linear.ravel(),
            couplings=couplings.reshape(k * k, k * k),
            offset=float((flow[np.ix_(rest, rest)] * distance[np.ix_(at, at)]).sum()),
            current=np.eye(k, dtype=np.int8).ravel(),
            groups=tuple(tuple(range(k * i, k * i + k)) for i in range(k)),
            move=Reassignment(facilities, locations),
            evaluations=k * k + (k * (k - 1) // 2) ** 2,
        )

    def _cluster(self, k: int, rng: np.random.Generator) -> np.ndarray:
        """A random facility, then others drawn by their flow to those chosen (any, where there is none)."""
        flow = np.abs(self.flow) + np.abs(self.flow.T)
        chosen = [int(rng.integers(self.instance.size))]
        pull = flow[chosen[0]].copy()
        for _ in range(k - 1):
            pull[chosen] = 0.0
            weight = pull if pull.any() else np.ones(len(pull))
            weight[chosen] = 0.0
            chosen.append(int(rng.choice(len(pull), p=weight / weight.sum())))
            pull += flow[chosen[-1]]
        return np.array(chosen, dtype=np.int64)
