"""From read-out bits to the samples of a job document; what any backend of any vendor needs.

Not here: how the bits were made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from resources.envelope import JobEnvelope, SampleCount
from resources.failures import BackendError, FailureClass

if TYPE_CHECKING:
    import dimod


def check_payload(envelope: JobEnvelope, payload: dimod.BinaryQuadraticModel) -> None:
    """Refuse a payload that is not a BINARY model over 0 … q−1 of the announced size.

    Raises:
        BackendError: class ``circuit``.
    """
    announced = envelope.payload_variables
    if payload.vartype.name != "BINARY" or set(payload.variables) != set(range(announced)):
        raise BackendError(
            f"the payload must be a BINARY quadratic model over variables 0 … {announced - 1}, it is a "
            f"{payload.vartype.name} model of {payload.num_variables}",
            FailureClass.CIRCUIT,
        )


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
