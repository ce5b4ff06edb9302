"""Quadratic penalties with binary slack: an exact encoding of programs with integer linear constraints.

Here: ``Penalty``, the construction of the penalised model and its audit. Not here: where the weight's bounds come from
(``weights``), or other encodings.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hybrid_assets.encodings.arrays import LinearConstraint, QuadraticForm, linear_constraints
from hybrid_assets.encodings.base import EncodedProblem, Encoding, EncodingAudit
from hybrid_assets.encodings.weights import Judgement, bounds, feasible_points, feasible_share, judge
from resources.failures import InfeasibleError, InputError, InvariantError

if TYPE_CHECKING:
    from hybrid_assets.problems.base import Program

#: The weight is the smallest proven bound times this, so that floating point cannot close the gap.
MARGIN = 1.1
#: Smallest weight as a share of the objective's largest coefficient, for objectives that need hardly any penalty.
MIN_SHARE = 0.01
#: Random points of each kind (uniform, feasible) in an audit.
POINTS = 32


def slack_coefficients(span: int) -> list[int]:
    """Binary digits 1, 2, 4, … with a shortened last one: their subsets sum to exactly the values ``0 … span``."""
    coefficients: list[int] = []
    while span > 0:
        digit = min(1 << len(coefficients), span)
        coefficients.append(digit)
        span -= digit
    return coefficients


def slack_bits(value: int, coefficients: list[int]) -> list[int]:
    """Bits whose coefficients add up to ``value``, largest first."""
    bits = [0] * len(coefficients)
    for k in sorted(range(len(coefficients)), key=lambda k: -coefficients[k]):
        if coefficients[k] <= value:
            bits[k], value = 1, value - coefficients[k]
    return bits


def penalize(program: Program, weight: float) -> EncodedProblem:
    """Objective + ``weight``·Σ(activity + slack − rhs)², for any weight; ``Penalty.encode`` chooses a proven one.

    Constraints that every state satisfies are dropped and listed in ``detail["redundant"]``.

    Raises:
        InputError: a constraint that this encoding cannot express.
        InfeasibleError: a constraint that no state can satisfy.
    """
    constraints = _constraints(program)
    objective = QuadraticForm.of(program.cqm)
    active = [c for c in constraints if not c.redundant]
    q = len(objective.linear)
    linear, offset = [objective.linear], objective.offset
    rows, cols, values = [objective.rows], [objective.cols], [objective.values]
    layout = []
    for c in active:
        slack = slack_coefficients(c.rhs - c.range[0]) if c.sense == "le" else []
        layout.append(
            {
                "label": c.label,
                "sense": c.sense,
                "indices": c.indices.tolist(),
                "coefficients": c.coefficients.tolist(),
                "rhs": c.rhs,
                "slack_start": q,
                "slack_coefficients": slack,
            }
        )
        where = np.concatenate([c.indices, np.arange(q, q + len(slack))])
        a = np.concatenate([c.coefficients, slack]).astype(float)
        q += len(slack)
        i, j = np.triu_indices(len(a), 1)
        rows.append(where[i])
        cols.append(where[j])
        values.append(2.0 * weight * a[i] * a[j])
        linear.append(np.bincount(where, weight * (a * a - 2.0 * c.rhs * a), q))
        offset += weight * c.rhs**2
    total = np.zeros(q)
    for part in linear:
        total[: len(part)] += part
    model = (
        QuadraticForm.build(total, np.concatenate(rows), np.concatenate(cols), np.concatenate(values), offset)
        if active
        else objective
    )
    return EncodedProblem(
        encoding=Penalty.name,
        version=Penalty.version,
        bqm=model.bqm(),
        program_variables=len(objective.linear),
        penalty_weight=float(weight) if active else None,
        detail={"constraints": layout, "redundant": [c.label for c in constraints if c.redundant]},
    )


class Penalty(Encoding):
    """Objective + weight·violation², binary slack for inequalities, the weight from a proven bound.

    Unconstrained programs pass through. See ``weights.bounds`` for the proofs.
    """

    name: ClassVar[str] = "penalty"
    version: ClassVar[str] = "1"
    exact: ClassVar[bool] = True

    def accepts(self, program: Program) -> bool:
        """Binaries named ``0 … n-1``; every constraint hard, linear, with integer coefficients."""
        return _binary(program) and linear_constraints(program.cqm) is not None

    def encode(self, program: Program) -> EncodedProblem:
        """The penalised model; ``detail`` holds the slack layout, the redundant constraints and every bound computed.

        The weight is ``MARGIN`` times the smallest proven bound.

        Raises:
            InputError: not accepted.
        InfeasibleError: no assignment satisfies the constraints.
        """
        active = [c for c in _constraints(program) if not c.redundant]
        if not active:
            return penalize(program, 0.0)
        objective = QuadraticForm.of(program.cqm)
        proven = bounds(objective, active)
        chosen = min(proven, key=lambda name: proven[name])
        largest = float(np.abs(np.concatenate([objective.linear, objective.values])).max(initial=0.0))
        weight = max(MARGIN * proven[chosen], MIN_SHARE * largest) or 1.0
        encoded = penalize(program, weight)
        record = {"bounds": proven, "chosen": chosen, "margin": MARGIN}
        return replace(encoded, detail={**encoded.detail, "weight": record})

    def embed(self, encoded: EncodedProblem, assignment: np.ndarray) -> np.ndarray:
        """The assignment with every slack as close to its constraint as it gets."""
        bits = np.zeros(encoded.bqm.num_variables, dtype=np.int8)
        bits[: encoded.program_variables] = assignment
        for c in encoded.detail["constraints"]:
            coefficients = c["slack_coefficients"]
            activity = int(np.dot(bits[c["indices"]].astype(np.int64), c["coefficients"]))
            start = c["slack_start"]
            bits[start : start + len(coefficients)] = slack_bits(c["rhs"] - activity, coefficients)
        return bits

    def decode(self, encoded: EncodedProblem, bits: np.ndarray) -> np.ndarray:
        """The program's bits; slack is left behind."""
        return np.asarray(bits)[: encoded.program_variables].astype(np.int8)

    def audit(self, program: Program, encoded: EncodedProblem, seed: int) -> EncodingAudit:
        """Verdict on the weight as encoded, shape of the model, and exact agreement on random points.

        Raises:
            InvariantError: decode(embed(x)) ≠ x, or the energy is not objective + penalty.
        """
        constraints = _constraints(program)
        active = [c for c in constraints if not c.redundant]
        rng = np.random.default_rng(seed)
        uniform = rng.integers(0, 2, (POINTS, encoded.program_variables), dtype=np.int8)
        points = np.vstack([uniform, feasible_points(active, encoded.program_variables, POINTS, rng)])
        self._agree(program, encoded, constraints, points)

        biases = encoded.bqm.to_numpy_vectors()
        q, interactions = encoded.bqm.num_variables, encoded.bqm.num_interactions
        sizes = np.abs(np.concatenate([biases.linear_biases, biases.quadratic.biases]))
        sizes = sizes[sizes > 0]
        verdict = (
            judge(QuadraticForm.of(program.cqm), active, encoded, self.decode, seed)
            if active
            else Judgement("not needed", "no constraint can be violated")
        )
        return EncodingAudit(
            variables=q,
            interactions=interactions,
            density=interactions / (q * (q - 1) / 2) if q > 1 else 0.0,
            penalty_weight=encoded.penalty_weight,
            penalty_verdict=verdict.verdict,
            penalty_evidence=verdict.evidence,
            round_trips=len(points),
            feasible_share=feasible_share(active, encoded.program_variables, rng),
            coefficient_range=float(sizes.max() / sizes.min()) if len(sizes) else 1.0,
        )

    def _agree(
        self, program: Program, encoded: EncodedProblem, constraints: list[LinearConstraint], points: np.ndarray
    ) -> None:
        """Round trip and energy of every point, against the program as dimod evaluates it."""
        embedded = np.array([self.embed(encoded, x) for x in points])
        if not all(np.array_equal(self.decode(encoded, bits), x) for bits, x in zip(embedded, points, strict=True)):
            raise InvariantError("the penalty encoding does not decode to the assignment that was embedded")
        expected = np.asarray(program.cqm.objective.energies((points, range(encoded.program_variables))), dtype=float)
        for c, comparison in zip(constraints, program.cqm.constraints.values(), strict=True):
            lhs, sign = comparison.lhs, -1 if comparison.sense.value == ">=" else 1
            activity = np.rint(lhs.energies((points, range(encoded.program_variables))) - lhs.offset).astype(np.int64)
            expected = expected + (encoded.penalty_weight or 0.0) * c.excess(sign * activity) ** 2
        energies = encoded.bqm.energies((embedded, range(encoded.bqm.num_variables)))
        vectors = encoded.bqm.to_numpy_vectors()
        size = np.abs(vectors.linear_biases).sum() + np.abs(vectors.quadratic.biases).sum() + abs(vectors.offset)
        wrong = np.flatnonzero(np.abs(energies - expected) > 1e-12 * size)
        if len(wrong):
            k = wrong[0]
            raise InvariantError(
                f"the penalty encoding's energy is not objective + penalty: {energies[k]!r} instead of "
                f"{expected[k]!r} at {''.join(map(str, points[k]))}"
            )


def _binary(program: Program) -> bool:
    cqm = program.cqm
    labels = set(cqm.variables)
    return labels == set(range(len(labels))) and all(cqm.vartype(v).name == "BINARY" for v in labels)


def _constraints(program: Program) -> list[LinearConstraint]:
    """All constraints in canonical form.

    Raises:
        InputError: one has none.
        InfeasibleError: one can never hold.
    """
    constraints = linear_constraints(program.cqm) if _binary(program) else None
    if constraints is None:
        raise InputError(
            program.form,
            "constraints",
            "the penalty encoding takes binaries 0 … n-1 and hard linear constraints with integer coefficients only",
            "model it with such constraints or choose another encoding",
        )
    for c in constraints:
        if not c.possible:
            low, high = c.range
            raise InfeasibleError(
                program.form,
                f"constraint {c.label}",
                f"no assignment satisfies it: its left side lies between {low} and {high}, it asks for "
                f"{'' if c.sense == 'eq' else 'at most '}{c.rhs}",
                "correct the constraint",
            )
    return constraints
