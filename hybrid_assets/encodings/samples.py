"""What raw samples say about an encoding: how many are feasible, and how many left the groups.

Here: shares of shots, before anything is repaired. Not here: audits, which see no samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hybrid_assets.encodings.base import EncodedProblem, Encoding
    from hybrid_assets.problems.base import Program


def feasible_mass(
    encoding: Encoding, program: Program, encoded: EncodedProblem, bits: np.ndarray, counts: np.ndarray
) -> float:
    """Share of raw shots that decode to assignments which satisfy all constraints of the program, as dimod says.

    Args:
        bits: distinct read-outs, int8, shape ``(m, q)``.
        counts: shots of each, shape ``(m,)``.
    """
    decoded = [encoding.decode(encoded, row) for row in bits]
    holds = [program.cqm.check_feasible(dict(enumerate(map(int, assignment)))) for assignment in decoded]
    return float(np.average(holds, weights=counts))


def leakage(encoded: EncodedProblem, bits: np.ndarray, counts: np.ndarray) -> float:
    """Share of raw shots with none or several ones in one of ``detail["groups"]``: 0 for a perfect device.

    Args:
        bits, counts: as above.
    """
    left = np.zeros(len(bits), dtype=bool)
    for group in encoded.detail["groups"]:
        left |= np.asarray(bits)[:, group].sum(axis=1) != 1
    return float(np.average(left, weights=counts))
