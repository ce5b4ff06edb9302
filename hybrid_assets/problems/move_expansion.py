"""A block from the energies of moves and pairs of moves, for landscapes whose compiled loops score them all at once.

Here: the order of the pairs and the block made of their energies. Not here: what a move is (landscapes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid_assets.problems.landscape import Block


def pairs(count: int) -> np.ndarray:
    """What to score: ``(-1, -1)``, the incumbent, then all ``(i, j)`` with ``i <= j``; equal members are one move.

    Returns:
        int64, shape ``(1 + count (count + 1) / 2, 2)``.
    """
    rows, cols = np.triu_indices(count)
    return np.vstack([[[-1, -1]], np.column_stack([rows, cols])]).astype(np.int64)


def expansion(kind: str, moves: Sequence[Any], energies: np.ndarray) -> Block:
    """The second-order expansion, declared as a model, from the energies of ``pairs(len(moves))``."""
    q = len(moves)
    table = np.zeros((q, q))
    table[np.triu_indices(q)] = energies[1:] - energies[0]
    linear = np.diagonal(table).copy()
    return Block(
        kind=kind,
        linear=linear,
        couplings=np.triu(table - linear[:, None] - linear[None, :], 1),
        offset=float(energies[0]),
        current=np.zeros(q, dtype=np.int8),
        exact=False,
        move=tuple(moves),
        evaluations=len(energies) - 1,
    )
