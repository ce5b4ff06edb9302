"""Unbalanced penalties: inequalities without slack, at the price of exactness.

Here: the encoding. Not here: the verdict on its penalties (``weights``).

Montañez-Barrera, Willsch, Maldonado-Romo, Michielsen, "Unbalanced penalization: a new approach to encode inequality
constraints of combinatorial problems for quantum optimization algorithms", Quantum Science and Technology 9, 2024: for
room h = rhs − activity ≥ 0 add −λ₁·h + λ₂·h², low where little room is left and rising fast where there is too little.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hybrid_assets.encodings.arrays import LinearConstraint, QuadraticForm
from hybrid_assets.encodings.auditing import POINTS, activities, agree, report
from hybrid_assets.encodings.base import EncodedProblem, Encoding, EncodingAudit
from hybrid_assets.encodings.discretised import accepts_rounded, rounded
from hybrid_assets.encodings.penalty import MARGIN
from hybrid_assets.encodings.weights import Judgement, bounds, feasible_points, judge

if TYPE_CHECKING:
    from hybrid_assets.problems.base import Program

#: λ of an inequality in units of what a typical variable of it is worth, with room in units of its mean coefficient:
#: large enough that the minimum of small random knapsacks is feasible (98 % of 60, 0.8 % above the optimum).
STRENGTH = 2.0


class Unbalanced(Encoding):
    """Objective + λ·h·(h − 1) per inequality, h its room in units of its mean absolute coefficient: nothing where the
    room is used up or just one mean item is missing, less between, more elsewhere. Equations are squared with a weight
    that is proven for them alone. No bit is added; the minimum need not be feasible or best, hence approximate.
    """

    name: ClassVar[str] = "unbalanced"
    version: ClassVar[str] = "1"
    exact: ClassVar[bool] = False

    def accepts(self, program: Program) -> bool:
        """Binaries ``0 … n-1``, no terms above degree 2, hard linear constraints; any coefficients in inequalities."""
        return accepts_rounded(program)

    def encode(self, program: Program) -> EncodedProblem:
        """The model; ``detail["penalties"]`` lists λ₁ and λ₂ per unit of each constraint's room.

        Raises:
            InputError: not accepted.
            InfeasibleError: a constraint that can never hold.
        """
        objective = QuadraticForm.of(program.cqm)
        n = len(objective.linear)
        constraints = self._constraints(program)
        linear, offset = objective.linear.copy(), objective.offset
        rows, cols, values = [objective.rows], [objective.cols], [objective.values]
        penalties = _penalties(objective, constraints)
        for c, (first, second) in zip(constraints, penalties, strict=True):
            a = c.coefficients.astype(float)
            linear += np.bincount(c.indices, first * a + second * (a * a - 2.0 * c.rhs * a), n)
            offset += second * c.rhs**2 - first * c.rhs
            i, j = np.triu_indices(len(a), 1)
            rows.append(c.indices[i])
            cols.append(c.indices[j])
            values.append(2.0 * second * a[i] * a[j])
        model = QuadraticForm.build(linear, np.concatenate(rows), np.concatenate(cols), np.concatenate(values), offset)
        listed: list[dict[str, Any]] = [
            {"label": c.label, "first": first, "second": second}
            for c, (first, second) in zip(constraints, penalties, strict=True)
        ]
        return EncodedProblem(
            encoding=self.name,
            version=self.version,
            bqm=model.bqm(),
            program_variables=n,
            penalty_weight=max((second for _, second in penalties), default=None),
            detail={"penalties": listed},
        )

    def embed(self, encoded: EncodedProblem, assignment: np.ndarray) -> np.ndarray:
        """The assignment itself."""
        return np.asarray(assignment).astype(np.int8)

    def decode(self, encoded: EncodedProblem, bits: np.ndarray) -> np.ndarray:
        """The bits themselves."""
        return np.asarray(bits).astype(np.int8)

    def audit(self, program: Program, encoded: EncodedProblem, seed: int) -> EncodingAudit:
        """Whether the model's lowest states are feasible (enumeration, else samples); exact agreement on random points.

        Raises:
            InvariantError: decode(embed(x)) ≠ x, or the energy is not objective + penalty.
        """
        constraints = self._constraints(program)
        rng = np.random.default_rng(seed)
        n = encoded.program_variables
        uniform = rng.integers(0, 2, (POINTS, n), dtype=np.int8)
        points = np.vstack([uniform, feasible_points(constraints, n, POINTS, rng)]) if constraints else uniform
        penalty = np.zeros(len(points))
        listed = encoded.detail["penalties"]
        for c, paid, activity in zip(constraints, listed, activities(program, constraints, points), strict=True):
            room = (c.rhs - activity).astype(float)
            penalty += paid["second"] * room**2 - paid["first"] * room
        agree(self, program, encoded, points, penalty)
        vectors = encoded.bqm.to_numpy_vectors(variable_order=range(n))
        pairs = vectors.quadratic
        model = QuadraticForm.build(
            vectors.linear_biases, pairs.row_indices, pairs.col_indices, pairs.biases, float(vectors.offset)
        )
        # all penalties are in the model already, so none is added per violation
        verdict = (
            judge(model, constraints, replace(encoded, penalty_weight=0.0), self.decode, seed)
            if constraints
            else Judgement("not needed", "no constraint can be violated")
        )
        return report(program, encoded, constraints, verdict, len(points), rng)

    def _constraints(self, program: Program) -> list[LinearConstraint]:
        return [c for c in rounded(program, self.name) if not c.redundant]


def _penalties(objective: QuadraticForm, constraints: list[LinearConstraint]) -> list[tuple[float, float]]:
    """λ₁ and λ₂ per unit of room, for each constraint."""
    n = len(objective.linear)
    half = 0.5 * np.abs(objective.values)
    worth = np.abs(objective.linear) + np.bincount(objective.rows, half, n) + np.bincount(objective.cols, half, n)
    equations = [c for c in constraints if c.sense == "eq"]
    weight = (MARGIN * min(bounds(objective, equations).values()) if equations else 0.0) or 1.0
    found = []
    for c in constraints:
        if c.sense == "eq":
            found.append((0.0, weight))
            continue
        unit = float(np.abs(c.coefficients).mean())
        strength = STRENGTH * float(worth[c.indices].mean()) or 1.0
        found.append((strength / unit, strength / unit**2))
    return found
