"""Penalties with a smaller weight than the proven one: found downwards, re-audited by samples.

Here: the search. Not here: the proven bounds it starts from and the verdict of samples (``weights``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from hybrid_assets.encodings.arrays import LinearConstraint, QuadraticForm
from hybrid_assets.encodings.penalty import Penalty, least_weight
from hybrid_assets.encodings.weights import sampled

if TYPE_CHECKING:
    from hybrid_assets.problems.base import Program

#: Each step divides the weight by this; at most so many steps.
FACTOR, STEPS = 2.0, 12


class Adaptive(Penalty):
    """``Penalty`` with the smallest weight that annealed samples do not refute: flatter, so easier to sample, but
    nothing is proven, hence approximate.

    From the proven weight down in factors of ``FACTOR`` until a sampled infeasible state undercuts the best feasible
    one; then up again while fresh samples refute. ``detail["weight"]["search"]`` lists every (weight, verdict). The
    samples are classical work on the encoded model, spent before any sampler is asked.
    """

    name: ClassVar[str] = "adaptive"
    version: ClassVar[str] = "1"
    exact: ClassVar[bool] = False

    def weight(self, program: Program, active: list[LinearConstraint]) -> tuple[float, dict[str, Any]]:
        """The weight for these constraints, and the search for it, JSON-able."""
        proven, record = super().weight(program, active)
        least = least_weight(program, QuadraticForm.of(program.cqm))
        search: list[tuple[float, str]] = []

        def refuted(weight: float, seed: int) -> bool:
            verdict = sampled(active, self.weighted(program, weight), self.decode, seed).verdict
            search.append((weight, verdict))
            return verdict == "refuted"

        weight = proven
        for _ in range(STEPS):
            if weight / FACTOR < least or refuted(weight / FACTOR, 0):
                break
            weight /= FACTOR
        while weight < proven and refuted(weight, 1):
            weight *= FACTOR
        return weight, {**record, "search": search}
