"""Market split as the proposal engine walks it: bits and the residuals of all rows.

A block is a few bits with the residuals that the others leave; its energy is the sum of squared residuals, exactly that
of the program. The cost of a state is the objective Σ|r|, so blocks are models of it (``exact`` is false): equal at 0.

Here: ``MarketSplitLandscape``. Not here: compiled loops (``marketsplit_loops``).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.landscape import Block, Landscape, State, Step

#: A block of q bits is drawn from this many times q candidates.
POOL = 3


class MarketSplitLandscape(Landscape):
    """``State.data``: int8 bits; ``cache``: residuals Ax − b, int64 ``(m,)``.

    Neighbourhoods: ``random``; ``impact`` (bits whose flip changes the squared residuals least); ``row`` (bits with the
    largest coefficients in the row with the largest residual, or a random row where all are met).
    """

    kinds: ClassVar[tuple[str, ...]] = ("random", "impact", "row")

    def __init__(self, instance: Instance) -> None:
        self.matrix, self.targets = instance.arrays["matrix"], instance.arrays["targets"]
        self.squares = (self.matrix**2).sum(axis=0)

    def start(self, seed: int) -> State:
        """Uniformly random bits: targets are about half of the rows' sums."""
        return self.state_of(np.random.default_rng(seed).integers(0, 2, (self.matrix.shape[1],), dtype=np.int8))

    def state_of(self, values: np.ndarray) -> State:
        """The state of these bits."""
        bits = np.array(values, dtype=np.int8)
        return self._state(bits, self.matrix @ bits.astype(np.int64) - self.targets)

    def values(self, state: State) -> np.ndarray:
        """The bits."""
        return state.data.copy()

    def block(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Block | None:
        """The squared residuals as a polynomial of a few bits."""
        n = self.matrix.shape[1]
        pool = np.arange(n)
        if kind == "impact":
            sign = 1 - 2 * state.data.astype(np.int64)
            change = np.abs(2 * sign * (state.cache @ self.matrix) + self.squares)
            pool = np.argsort(change, kind="stable")[: POOL * size]
        elif kind == "row":
            off = np.abs(state.cache)
            row = int(np.argmax(off)) if off.any() else int(rng.integers(0, len(off)))
            pool = np.argsort(-self.matrix[row], kind="stable")[: POOL * size]
        picked = np.sort(rng.choice(pool, min(size, len(pool)), replace=False))
        current = state.data[picked].copy()
        columns = self.matrix[:, picked].astype(np.float64)
        rest = state.cache - columns @ current
        gram = columns.T @ columns
        linear = 2 * rest @ columns + np.diag(gram)
        return Block(kind, linear, np.triu(2 * gram, 1), float(rest @ rest), current, exact=False, move=picked)

    def apply(self, state: State, block: Block, bits: np.ndarray) -> Step:
        """Put the bits in."""
        delta = np.asarray(bits).astype(np.int64) - block.current
        if not delta.any():
            return Step(state, evaluations=0)
        data = state.data.copy()
        data[block.move] = bits
        return Step(self._state(data, state.cache + self.matrix[:, block.move] @ delta))

    def polish(self, state: State, evaluations: int) -> Step:
        """Descent on Σ|r| over single flips and pairs."""
        from hybrid_assets.problems.packing.marketsplit_loops import descend

        data, residual = state.data.copy(), state.cache.copy()
        spent = descend(data, residual, np.ascontiguousarray(self.matrix.T), evaluations)
        return Step(self._state(data, residual), False, int(spent))

    @staticmethod
    def _state(bits: np.ndarray, residual: np.ndarray) -> State:
        return State(bits, float(np.abs(residual).sum()), True, residual)
