"""Blocks that deal the places of a few positions out anew, for tours and for the plans of a fleet.

Here: the one-hot sub-program, how its bits become an order, and how bits that are none are repaired. Not here: which
positions to choose (``tour``, ``fleet``).

Bit ``r·k + c`` puts the place of the c-th chosen position into the r-th. The length is a sum over neighbouring
positions, so that k² binaries with one group for each position say it exactly; a place in two positions costs a
penalty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid_assets.problems.landscape import Block, State


@dataclass(frozen=True)
class Reordering:
    """The chosen positions, ascending."""

    positions: tuple[int, ...]


def reordering_block(distance: np.ndarray, scale: int, state: State, kind: str, positions: np.ndarray) -> Block:
    """The sub-program of k positions of a closed sequence of places.

    Args:
        distance: int64, shape ``(n, n)``, in units of ``1 / scale``.
        state: its ``data`` is the sequence, int64.
        kind: the neighbourhood's name.
        positions: ascending, shape ``(k,)``.
    """
    sequence, k = state.data, len(positions)
    n, places = len(sequence), sequence[positions]
    rank = np.full(n, -1, dtype=np.int64)
    rank[positions] = np.arange(k)
    linear, couplings = np.zeros((k, k)), np.zeros((k, k, k, k))
    for left in sorted(set(positions.tolist()) | set(((positions - 1) % n).tolist())):
        right = (left + 1) % n
        a, b = rank[left], rank[right]
        if a < 0:
            linear[b] += distance[sequence[left], places]
        elif b < 0:
            linear[a] += distance[places, sequence[right]]
        else:
            couplings[a, :, b, :] += distance[np.ix_(places, places)]
    # the length of two steps is at most twice the largest distance
    charge = 4.0 * float(distance[places].max()) + 1.0
    for a in range(k):
        for b in range(a + 1, k):
            couplings[a, range(k), b, range(k)] += charge
    square = couplings.reshape(k * k, k * k) / scale
    square = np.triu(square, 1) + np.tril(square, -1).T
    bits = np.eye(k)
    current = bits.reshape(-1)
    offset = state.cost - float((linear * bits).sum()) / scale - float(current @ square @ current)
    return Block(
        kind=kind,
        linear=linear.reshape(-1) / scale,
        couplings=square,
        offset=offset,
        current=current.astype(np.int8),
        groups=tuple(tuple(range(r * k, (r + 1) * k)) for r in range(k)),
        move=Reordering(tuple(positions.tolist())),
        evaluations=k * k,
    )


def reordered(sequence: np.ndarray, move: Reordering, bits: np.ndarray) -> tuple[np.ndarray, bool]:
    """The sequence after the bits, and whether they had to be repaired."""
    positions = np.array(move.positions)
    order, repaired = dealt(np.asarray(bits).reshape(len(positions), -1))
    new = sequence.copy()
    new[positions] = sequence[positions[order]]
    return new, repaired


def dealt(table: np.ndarray) -> tuple[np.ndarray, bool]:
    """Which column each row takes, shape ``(k,)``, from bits of shape ``(k, k)``, and whether any had to be changed.

    A row takes its first column that no row before it took; rows without one take what is left, in order.
    """
    k = len(table)
    columns, free = np.full(k, -1, dtype=np.int64), np.ones(k, dtype=bool)
    for row in range(k):
        wanted = np.flatnonzero((table[row] > 0) & free)
        if len(wanted):
            columns[row] = wanted[0]
            free[wanted[0]] = False
    columns[columns < 0] = np.flatnonzero(free)
    return columns, not (np.all(table.sum(axis=0) == 1) and np.all(table.sum(axis=1) == 1))
