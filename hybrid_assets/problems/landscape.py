"""The ``Landscape`` seam: an instance as the proposal engine sees it, one small sub-program after the other.

Here: ``State`` (an incumbent), ``Block`` (a sub-program of a few binaries, conditioned on the rest of the incumbent)
and the abstract landscapes: ``Landscape``, and ``MoveLandscape`` for families whose natural steps are moves. Not here:
any family's neighbourhoods, the engine that walks (``proposals``), or encodings of whole programs (``encodings``).

A block is the unit of work of every arm: the quantum proposer and all its controls answer the same blocks.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np


@dataclass(frozen=True)
class State:
    """An incumbent; immutable (landscapes copy what they change).

    Attributes:
        data: what the landscape walks on (bits, a permutation, bins …), an integer or float array.
        cost: its value, minimized: the objective with the family's sense turned round, plus what the landscape charges
            for violations where it walks through infeasible states.
        feasible: whether ``cost`` is that of a feasible solution.
        cache: anything the landscape derives from ``data`` and wants to keep (fields, route loads …).
    """

    data: np.ndarray
    cost: float
    feasible: bool = True
    cache: Any = field(default=None, compare=False, repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of ``data``: names the state in a frozen replay."""
        return hashlib.sha256(np.ascontiguousarray(self.data).tobytes()).hexdigest()


@dataclass(frozen=True)
class Block:
    """A sub-program over ``q`` binaries, minimized: ``offset + linear·x + Σ_{i<j} couplings[i,j] x_i x_j`` and higher
    terms.

    Attributes:
        kind: the neighbourhood that made it, one of ``Landscape.kinds``.
        linear: float64, shape ``(q,)``.
        couplings: float64, shape ``(q, q)``, strictly upper triangular.
        offset: the constant.
        current: int8, shape ``(q,)``: the bits that leave the incumbent as it is; they satisfy ``groups``.
        groups: disjoint index sets with exactly one 1 in each (constraint-preserving proposers use them; others get a
            penalty). Constraints that this cannot express are either part of the terms above or repaired by ``apply``.
        higher: terms of degree 3 and more: indices (ascending) → coefficient.
        exact: whether the energy difference of two feasible bit strings is the difference in cost after ``apply``; else
            it is a model of it (say which in the family's docstring).
        move: what ``Landscape.apply`` needs to know.
        evaluations: objective evaluations spent on building it, charged to every arm that uses it.
    """

    kind: str
    linear: np.ndarray
    couplings: np.ndarray
    offset: float
    current: np.ndarray
    groups: tuple[tuple[int, ...], ...] = ()
    higher: Mapping[tuple[int, ...], float] = field(default_factory=dict)
    exact: bool = True
    move: Any = field(default=None, compare=False, repr=False)
    evaluations: int = 0

    @property
    def size(self) -> int:
        """Number of binaries."""
        return len(self.linear)

    @property
    def spread(self) -> float:
        """Standard deviation of the terms up to degree 2 over uniformly random bits; 1 where they are constant."""
        fields = self.linear / 2 + (self.couplings.sum(axis=0) + self.couplings.sum(axis=1)) / 4
        return float(np.sqrt(np.sum(fields**2) + np.sum((self.couplings / 4) ** 2))) or 1.0

    def energies(self, bits: np.ndarray) -> np.ndarray:
        """Energies, float64, of bits of shape ``(m, q)``; groups are not penalised here."""
        x = np.asarray(bits, dtype=np.float64)
        values = self.offset + x @ self.linear + np.einsum("mi,ij,mj->m", x, self.couplings, x, optimize=True)
        for indices, coefficient in self.higher.items():
            values = values + coefficient * x[:, list(indices)].prod(axis=1)
        return values

    def allowed(self, bits: np.ndarray) -> np.ndarray:
        """Whether bits of shape ``(m, q)`` have exactly one 1 in every group; bool, shape ``(m,)``."""
        holds = np.ones(len(bits), dtype=bool)
        for group in self.groups:
            holds &= np.asarray(bits)[:, list(group)].sum(axis=1) == 1
        return holds


@dataclass(frozen=True)
class Step:
    """What became of a proposal.

    Attributes:
        state: the new state; feasible where the landscape promises it.
        repaired: whether bits were changed classically to get there.
        evaluations: objective or ΔE evaluations spent.
    """

    state: State
    repaired: bool = False
    evaluations: int = 1


class Landscape(ABC):
    """One instance of one family, walked by the engine. Holds the instance; keeps no incumbent of its own.

    Every random choice comes from the generator that is passed in, so that a walk is reproducible.
    """

    #: Names of the neighbourhoods, most useful first; the engine's bandit chooses among them.
    kinds: ClassVar[tuple[str, ...]]

    @abstractmethod
    def start(self, seed: int) -> State:
        """A cheap feasible state (a constructive heuristic; no long search), the same for the same seed."""

    @abstractmethod
    def state_of(self, values: np.ndarray) -> State:
        """The state behind a solution in the family's terms (warm start from any solver's answer)."""

    @abstractmethod
    def values(self, state: State) -> np.ndarray:
        """The solution in the family's terms, shape ``(instance.size,)``; ``evaluate`` of it is what counts."""

    @abstractmethod
    def block(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Block | None:
        """A sub-program of at most ``size`` binaries (at least 2), conditioned on the rest of ``state``.

        ``None`` when this neighbourhood has nothing to offer here. Never looks for the block's optimum.
        """

    @abstractmethod
    def apply(self, state: State, block: Block, bits: np.ndarray) -> Step:
        """The state after the block's bits (int8, shape ``(q,)``) are put into ``state``, repaired where needed.

        ``apply(state, block, block.current)`` is ``state`` itself.
        """

    @abstractmethod
    def polish(self, state: State, evaluations: int) -> Step:
        """A local descent of the family's simplest kind (one flip, 2-opt, swap …), at most about ``evaluations``."""

    def shaken(self, state: State, rng: np.random.Generator) -> State:
        """A perturbed state, for restarts; by default a random answer to a random block."""
        for kind in rng.permutation(self.kinds):
            block = self.block(state, str(kind), 12, rng)
            if block is not None:
                return self.apply(state, block, random_bits(block, 1, rng)[0]).state
        return state


class MoveLandscape(Landscape):
    """A landscape of moves: bit ``k`` says whether move ``k`` of a set is made.

    The block is the second-order expansion of the cost in the moves: singles and pairs are evaluated, q + q(q−1)/2
    evaluations in all, which the block declares. It is exact for the neighbourhoods in ``pairwise`` (disjoint position
    swaps of a tour or a quadratic assignment: no term meets more than two of them). Subclasses say what a move is and
    what a set of moves costs.
    """

    #: Neighbourhoods whose expansion is exact.
    pairwise: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def moves(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Sequence[Any]:
        """At most ``size`` moves of this neighbourhood that can be made in any combination."""

    @abstractmethod
    def played(self, state: State, moves: Sequence[Any]) -> State:
        """The state after these moves, in the given order; infeasible ones are allowed and charged in ``cost``."""

    def repair(self, state: State) -> Step:
        """A feasible state near an infeasible one; by default there is nothing to repair."""
        return Step(state, evaluations=0)

    def expansion(self, state: State, moves: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """What each move costs alone, and each pair beyond that (strictly upper triangular); overwrite where a compiled
        loop or a closed form says it."""
        q = len(moves)
        linear = np.array([self.played(state, [move]).cost for move in moves]) - state.cost
        couplings = np.zeros((q, q))
        for i in range(q):
            for j in range(i + 1, q):
                couplings[i, j] = self.played(state, [moves[i], moves[j]]).cost - state.cost - linear[i] - linear[j]
        return linear, couplings

    def block(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Block | None:
        """The second-order expansion in the moves."""
        moves = list(self.moves(state, kind, size, rng))[:size]
        q = len(moves)
        if q < 2:
            return None
        linear, couplings = self.expansion(state, moves)
        return Block(
            kind=kind,
            linear=linear,
            couplings=couplings,
            offset=state.cost,
            current=np.zeros(q, dtype=np.int8),
            exact=kind in self.pairwise,
            move=tuple(moves),
            evaluations=q + q * (q - 1) // 2,
        )

    def apply(self, state: State, block: Block, bits: np.ndarray) -> Step:
        """Make the chosen moves, then repair."""
        if not np.any(bits):
            return Step(state, evaluations=0)
        state = self.played(state, [move for move, bit in zip(block.move, bits, strict=True) if bit])
        if state.feasible:
            return Step(state)
        repaired = self.repair(state)
        return Step(repaired.state, True, 1 + repaired.evaluations)


def random_bits(block: Block, count: int, rng: np.random.Generator) -> np.ndarray:
    """Uniformly random bits that satisfy the block's groups; int8, shape ``(count, q)``."""
    bits = rng.integers(0, 2, (count, block.size), dtype=np.int8)
    for group in block.groups:
        members = np.asarray(group)
        bits[:, members] = 0
        bits[np.arange(count), members[rng.integers(0, len(members), count)]] = 1
    return bits
