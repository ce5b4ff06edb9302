"""What raw samples say about an encoding: how many are feasible, and how many left the groups.

Here: shares of shots, before anything is repaired. Not here: audits, which see no samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hybrid_assets.encodings.base import EncodedProblem, Encoding
    from hybrid_assets.problems.base import Program


#: How far a constraint's left side may be off, as in dimod's own check.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Shares:
    """What one job's raw shots are like: ``feasible_mass`` and, for encodings with groups, ``leakage``."""

    feasible_mass: float
    leakage: float | None


def shares(
    encoding: Encoding, program: Program, encoded: EncodedProblem, bits: np.ndarray, counts: np.ndarray
) -> Shares:
    """Both shares; arguments as for ``feasible_mass``."""
    left = leakage(encoded, bits, counts) if encoded.detail.get("groups") else None
    return Shares(feasible_mass(encoding, program, encoded, bits, counts), left)


def feasible_mass(
    encoding: Encoding, program: Program, encoded: EncodedProblem, bits: np.ndarray, counts: np.ndarray
) -> float:
    """Share of raw shots that decode to assignments which satisfy all constraints of the program.

    Args:
        bits: distinct read-outs, int8, shape ``(m, q)``.
        counts: shots of each, shape ``(m,)``.
    """
    if not program.cqm.constraints:
        return 1.0
    decoded = np.stack([encoding.decode(encoded, row) for row in bits])
    holds = np.ones(len(bits), dtype=bool)
    for comparison in program.cqm.constraints.values():
        over = comparison.lhs.energies((decoded, range(decoded.shape[1]))) - comparison.rhs
        sense = comparison.sense.value
        holds &= (
            (over <= TOLERANCE)
            if sense == "<="
            else (over >= -TOLERANCE)
            if sense == ">="
            else (np.abs(over) <= TOLERANCE)
        )
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
