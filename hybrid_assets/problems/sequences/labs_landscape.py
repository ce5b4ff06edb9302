"""The ``labs`` family as the proposal engine walks it.

Here: blocks of some bits, given the others, and descent. Not here: the polynomial (``labs_polynomial``), compiled flips
(``labs_moves``), the family itself (``labs``).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.landscape import Block, Landscape, State, Step
from hybrid_assets.problems.sequences.labs import correlations


class LabsLandscape(Landscape):
    """Binary sequences; a state's data are the bits.

    Every block is the energy in the chosen bits, given the others: exact, of degree four. ``window`` chooses
    consecutive bits, ``impact`` those whose flips cost least with some chance for all, ``random`` any.
    """

    kinds: ClassVar[tuple[str, ...]] = ("impact", "window", "random")

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    def start(self, seed: int) -> State:
        """A random sequence: no construction is known that does better than a descent from one."""
        return self._state(np.random.default_rng(seed).integers(0, 2, self.instance.size, dtype=np.int8))

    def state_of(self, values: np.ndarray) -> State:
        """The bits themselves."""
        return self._state((np.asarray(values) > 0.5).astype(np.int8))

    def values(self, state: State) -> np.ndarray:
        """The bits themselves."""
        return state.data

    def _state(self, bits: np.ndarray) -> State:
        return State(bits, float((correlations(bits)[1:] ** 2).sum()))

    def flipped(self, bits: np.ndarray) -> np.ndarray:
        """The energy after each flip alone; int64, shape ``(n,)``."""
        from hybrid_assets.problems.sequences.labs_moves import all_flips

        energies = np.empty(len(bits), dtype=np.int64)
        all_flips(1 - 2 * bits.astype(np.int64), energies)
        return energies

    def block(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Block | None:
        """The energy in at most ``size`` bits."""
        from hybrid_assets.problems.sequences.labs_polynomial import sidelobe_polynomial

        n = self.instance.size
        q, spent = min(size, n), 0
        if q < 2:
            return None
        if kind == "window":
            free = int(rng.integers(n - q + 1)) + np.arange(q)
        elif kind == "random":
            free = np.sort(rng.permutation(n)[:q])
        else:
            # ranks plus noise: mostly cheap flips, never always the same
            rank = np.argsort(np.argsort(self.flipped(state.data), kind="stable"), kind="stable")
            free, spent = np.sort(np.argsort(rank + rng.exponential(n / 4, n), kind="stable")[:q]), n
        energy = sidelobe_polynomial(state.data, free)
        couplings = np.zeros((q, q))
        couplings[energy.rows, energy.cols] = energy.values
        return Block(
            kind=kind,
            linear=energy.linear,
            couplings=couplings,
            offset=energy.offset,
            current=state.data[free].copy(),
            higher=energy.higher,
            move=free,
            # multiplied are up to 3q terms per correlation, where an evaluation multiplies n
            evaluations=spent + 1 + 9 * q * q // n,
        )

    def apply(self, state: State, block: Block, bits: np.ndarray) -> Step:
        """Put the bits in."""
        data = state.data.copy()
        data[block.move] = bits
        return Step(self._state(data))

    def polish(self, state: State, evaluations: int) -> Step:
        """Steepest descent over single flips."""
        from hybrid_assets.problems.sequences.labs_moves import descend

        spins = 1 - 2 * state.data.astype(np.int64)
        spent = descend(spins, evaluations)
        return Step(self._state((spins < 0).astype(np.int8)), evaluations=int(spent))
