"""Groups with exactly one 1 left to the mixer: no penalty for them, energies exact inside the subspace.

Here: the encoding. Not here: the mixer and its start state (``resources.circuits``), or what samples say about leakage
(``samples``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hybrid_assets.encodings.arrays import LinearConstraint, QuadraticForm, exactly_one, linear_constraints
from hybrid_assets.encodings.auditing import POINTS, agree, excesses, report
from hybrid_assets.encodings.base import EncodedProblem, EncodingAudit
from hybrid_assets.encodings.penalty import MARGIN, Penalty, checked, least_weight
from hybrid_assets.encodings.weights import Judgement, bounds, feasible_points, judge

if TYPE_CHECKING:
    from hybrid_assets.problems.base import Program


class OneHotXY(Penalty):
    """``detail["groups"]`` are for XY mixers on W states; the other constraints are penalised as by ``Penalty``.

    Exact for samplers that keep the groups, meaningless for any other (an annealer, an X mixer): ask for it by name.
    """

    name: ClassVar[str] = "one-hot-xy"
    version: ClassVar[str] = "1"
    exact: ClassVar[bool] = True

    def accepts(self, program: Program) -> bool:
        """What ``Penalty`` accepts, with at least one group that has exactly one 1."""
        return super().accepts(program) and bool(exactly_one(linear_constraints(program.cqm) or [])[0])

    def encode(self, program: Program) -> EncodedProblem:
        """The model; ``detail`` holds the groups, the slack layout and the bound on the weight.

        Raises:
            InputError: not accepted.
            InfeasibleError: no assignment satisfies the constraints.
        """
        active = [c for c in self.constraints(program) if not c.redundant]
        self._check_solvable(program, [*self.groups(program), *active])
        if not active:
            return self.weighted(program, None)
        weight, record = self.weight(program, active)
        return self.weighted(program, weight, {"weight": record})

    def constraints(self, program: Program) -> list[LinearConstraint]:
        """The constraints that the mixer does not keep, redundant ones too."""
        return self._split(program)[1]

    def groups(self, program: Program) -> list[LinearConstraint]:
        """The constraints that the mixer keeps."""
        return self._split(program)[0]

    def objective(self, program: Program) -> tuple[QuadraticForm, dict[str, Any]]:
        """The objective as it is, and the groups."""
        form, _ = super().objective(program)
        return form, {"groups": [c.indices.tolist() for c in self.groups(program)]}

    def weight(self, program: Program, active: list[LinearConstraint]) -> tuple[float, dict[str, Any]]:
        """From the range bound: the others repair step by step, which would leave the groups."""
        objective = QuadraticForm.of(program.cqm)
        proven = {"range": bounds(objective, [])["range"]}
        weight = max(MARGIN * proven["range"], least_weight(program, objective)) or 1.0
        return weight, {"bounds": proven, "chosen": "range", "margin": MARGIN}

    def expresses(self, program: Program, assignments: np.ndarray) -> np.ndarray:
        """Those with exactly one 1 in every group."""
        return np.all([c.violation(assignments) == 0 for c in self.groups(program)], axis=0)

    def audit(self, program: Program, encoded: EncodedProblem, seed: int) -> EncodingAudit:
        """Verdict on the weight inside the subspace, exact agreement on random points of it, preparation depth.

        Raises:
            InvariantError: decode(embed(x)) ≠ x, or the energy is not objective + penalty.
        """
        groups, others = self._split(program)
        active = [c for c in others if not c.redundant]
        rng = np.random.default_rng(seed)
        n = encoded.program_variables
        points = np.vstack([feasible_points(c, n, POINTS, rng) for c in (groups, [*groups, *active])])
        penalty = (encoded.penalty_weight or 0.0) * (excesses(program, active, points) ** 2).sum(axis=0)
        agree(self, program, encoded, points, penalty)
        objective = QuadraticForm.of(program.cqm)
        verdict = (
            judge(objective, active, encoded, self.decode, seed, groups=groups)
            if active
            else Judgement("not needed", "no constraint can be violated inside the groups")
        )
        return report(
            program,
            encoded,
            [*groups, *active],
            verdict,
            len(points),
            rng,
            preparation_depth=preparation_depth(encoded.detail["groups"]),
        )

    def _split(self, program: Program) -> tuple[list[LinearConstraint], list[LinearConstraint]]:
        found = linear_constraints(program.cqm) if self.accepts(program) else None
        return exactly_one(checked(program, self.name, found))


def preparation_depth(groups: list[list[int]]) -> int:
    """Layers of two-qubit gates that prepare all groups' W states side by side.

    Halving (Cruz et al., "Efficient quantum algorithms for GHZ and W states", Advanced Quantum Technologies 2, 2019): a
    controlled rotation and a CNOT per level, ⌈log₂ m⌉ levels, with all-to-all connections.
    """
    return max(2 * (len(group) - 1).bit_length() for group in groups)
