"""From read-out bits to the samples of a job document; what any backend of any vendor needs.

Not here: how the bits were made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from resources.envelope import SampleCount

if TYPE_CHECKING:
    import dimod


def counted(payload: dimod.BinaryQuadraticModel, bits: np.ndarray) -> tuple[SampleCount, ...]:
    """Distinct read-outs with the payload's own energies, sorted by energy and bits.

    Args:
        payload: BINARY model over 0 … n−1.
        bits: int8 array of shape ``(shots, n)``, variable 0 first.
    """
    distinct, counts = np.unique(bits, axis=0, return_counts=True)
    energies = payload.energies((distinct, range(distinct.shape[1])))
    texts = ["".join(map(str, row)) for row in distinct.tolist()]
    rows = sorted(zip(energies.tolist(), texts, counts.tolist(), strict=True))
    return tuple(SampleCount(bits=text, energy=energy, count=count) for energy, text, count in rows)
