"""Parameter schedules for QAOA and the statistic by which they are compared.

Here: the linear ramp and the CVaR. Not here: circuits, or the loop that chooses a schedule (``qaoa``).
"""

from __future__ import annotations

import math

import numpy as np

#: Height of the mixer's ramp, radians. On dense Gaussian, sparse Gaussian, MaxCut and penalized selection problems
#: of 6 to 14 variables and depths 3 to 20, 0.6 was within noise of the best fixed value.
MIXER_RAMP = 0.6


def linear_ramp(length: float, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear ramp: γ_l = Δ_γ·(l−½)/p and β_l = Δ_β·(1−(l−½)/p) for l = 1 … p.

    ``length`` is Δ_γ, where the phase ramp ends; Δ_β is ``MIXER_RAMP``. In this parametrization the best length
    hardly depends on depth: 2 to 4 for Gaussian problems and MaxCut, 6 and more where a penalty dominates.

    Args:
        length: Δ_γ > 0, in units of 1/√(Σh²+ΣJ²).
        depth: number of layers p.

    Returns:
        γ (units of 1/√(Σh²+ΣJ²)) and β (radians), both of shape ``(depth,)``.

    Source: J. A. Montañez-Barrera, K. Michielsen, "Toward a linear-ramp QAOA protocol", npj Quantum Information (2025),
    doi:10.1038/s41534-025-01082-1.
    """
    at = (np.arange(1, depth + 1) - 0.5) / depth
    return length * at, MIXER_RAMP * (1.0 - at)


def cvar(energies: np.ndarray, alpha: float, weights: np.ndarray | None = None) -> float:
    """Conditional value at risk: the mean of the lowest ⌈α·N⌉ of N sampled energies, or of the lowest share α of a
    distribution with these probabilities (``weights``, not negative, same shape).

    Source: P. K. Barkoutsos et al., "Improving variational quantum optimization using CVaR", Quantum 4, 256 (2020).
    """
    if weights is not None:
        order = np.argsort(energies)
        below = np.minimum(np.cumsum(weights[order]) / weights.sum(), alpha)
        return float(np.diff(below, prepend=0.0) @ energies[order] / alpha)
    kept = math.ceil(alpha * len(energies))
    return float(np.partition(energies, kept - 1)[:kept].mean())
