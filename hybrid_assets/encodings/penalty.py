"""Quadratic penalties with binary slack: an exact encoding of programs with integer linear constraints.

Here: ``Penalty``, which also is what encodings with other weights, constraints or objectives derive from. Not here: the
terms themselves (``slack``), where the weight's bounds come from (``weights``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hybrid_assets.encodings.arrays import LinearConstraint, QuadraticForm, linear_constraints
from hybrid_assets.encodings.auditing import POINTS, agree, excesses, report
from hybrid_assets.encodings.base import EncodedProblem, Encoding, EncodingAudit
from hybrid_assets.encodings.slack import fill_slack, penalised, slack_of
from hybrid_assets.encodings.weights import Judgement, bounds, feasible_points, judge, solvable
from resources.failures import InfeasibleError, InputError

if TYPE_CHECKING:
    from hybrid_assets.problems.base import Program

#: The weight is the smallest proven bound times this, so that floating point cannot close the gap.
MARGIN = 1.1
#: Smallest weight as a share of the objective's largest coefficient, for objectives that need hardly any penalty.
MIN_SHARE = 0.01


class Penalty(Encoding):
    """Objective + weight·violation², binary slack for inequalities, the weight from a proven bound.

    Unconstrained programs pass through; constraints that every state satisfies are dropped and listed in
    ``detail["redundant"]``. See ``weights.bounds`` for the proofs.
    """

    name: ClassVar[str] = "penalty"
    version: ClassVar[str] = "1"
    exact: ClassVar[bool] = True

    def accepts(self, program: Program) -> bool:
        """Binaries named ``0 … n-1``; no terms above degree 2; every constraint hard, linear, with integer or decimal
        coefficients."""
        return not program.higher and binary(program) and linear_constraints(program.cqm) is not None

    def encode(self, program: Program) -> EncodedProblem:
        """The penalised model; ``detail`` holds the slack layout, the redundant constraints and every bound computed.

        The weight is ``MARGIN`` times the smallest proven bound.

        Raises:
            InputError: not accepted.
            InfeasibleError: no assignment satisfies the constraints.
        """
        active = [c for c in self.constraints(program) if not c.redundant]
        if not active:
            return self.weighted(program, None)
        self._check_solvable(program, active)
        weight, record = self.weight(program, active)
        return self.weighted(program, weight, {"weight": record})

    def extra_variables(self, program: Program) -> int:
        """Bits of slack."""
        return sum(len(slack_of(c)) for c in self.constraints(program) if not c.redundant)

    def weighted(
        self, program: Program, weight: float | None, detail: Mapping[str, Any] | None = None
    ) -> EncodedProblem:
        """The model for any weight, proven or not; ``None`` where nothing is penalised.

        Raises:
            InputError: a constraint that this encoding cannot express.
            InfeasibleError: a constraint that no state can satisfy.
        """
        constraints = self.constraints(program)
        active = [c for c in constraints if not c.redundant]
        objective, found = self.objective(program)
        model, layout = penalised(objective, active, weight or 0.0)
        return EncodedProblem(
            encoding=self.name,
            version=self.version,
            bqm=model.bqm(),
            program_variables=len(program.cqm.variables),
            penalty_weight=None if weight is None or not active else float(weight),
            detail={
                "constraints": layout,
                "redundant": [c.label for c in constraints if c.redundant],
                **found,
                **(detail or {}),
            },
        )

    def constraints(self, program: Program) -> list[LinearConstraint]:
        """The constraints that are penalised, redundant ones too.

        Raises:
            InputError: the program is not accepted.
            InfeasibleError: one of them can never hold.
        """
        found = linear_constraints(program.cqm) if self.accepts(program) else None
        return checked(program, self.name, found)

    def objective(self, program: Program) -> tuple[QuadraticForm, dict[str, Any]]:
        """The objective in quadratic form, auxiliary variables last, and what ``detail`` has to know about them."""
        return QuadraticForm.of(program.cqm), {}

    def weight(self, program: Program, active: list[LinearConstraint]) -> tuple[float, dict[str, Any]]:
        """The weight for these constraints, and how it came about, JSON-able."""
        objective = QuadraticForm.of(program.cqm)
        proven = bounds(objective, active, program.higher)
        chosen = min(proven, key=lambda name: proven[name])
        weight = max(MARGIN * proven[chosen], least_weight(program, objective)) or 1.0
        return weight, {"bounds": proven, "chosen": chosen, "margin": MARGIN}

    def embed(self, encoded: EncodedProblem, assignment: np.ndarray) -> np.ndarray:
        """The assignment with every slack as close to its constraint as it gets."""
        bits = np.zeros(encoded.bqm.num_variables, dtype=np.int8)
        bits[: encoded.program_variables] = assignment
        fill_slack(bits, encoded.detail["constraints"])
        return bits

    def decode(self, encoded: EncodedProblem, bits: np.ndarray) -> np.ndarray:
        """The program's bits; slack is left behind."""
        return np.asarray(bits)[: encoded.program_variables].astype(np.int8)

    def audit(self, program: Program, encoded: EncodedProblem, seed: int) -> EncodingAudit:
        """Verdict on the weight as encoded, shape of the model, and exact agreement on random points.

        Raises:
            InvariantError: decode(embed(x)) ≠ x, or the energy is not objective + penalty.
        """
        active = [c for c in self.constraints(program) if not c.redundant]
        rng = np.random.default_rng(seed)
        uniform = rng.integers(0, 2, (POINTS, encoded.program_variables), dtype=np.int8)
        feasible = feasible_points(active, encoded.program_variables, POINTS, rng)
        points = np.vstack([uniform, feasible]) if active else uniform
        penalty = (encoded.penalty_weight or 0.0) * (excesses(program, active, points) ** 2).sum(axis=0)
        agree(self, program, encoded, points, penalty)
        verdict = (
            judge(QuadraticForm.of(program.cqm), active, encoded, self.decode, seed, program.higher)
            if active
            else Judgement("not needed", "no constraint can be violated")
        )
        return report(program, encoded, active, verdict, len(points), rng)

    def _check_solvable(self, program: Program, active: list[LinearConstraint]) -> None:
        n = len(program.cqm.variables)
        if solvable(active, n) is False:
            raise InfeasibleError(
                program.form,
                f"constraints {', '.join(c.label for c in active)}",
                f"no assignment satisfies them all (all {2**n} were tried)",
                "relax or correct one of them",
            )


def least_weight(program: Program, objective: QuadraticForm) -> float:
    """The weight below which none goes: a small share of the objective's largest coefficient."""
    everything = np.concatenate([objective.linear, objective.values, list(program.higher.values())])
    return MIN_SHARE * float(np.abs(everything).max(initial=0.0))


def binary(program: Program) -> bool:
    """Whether the variables are the binaries ``0 … n-1``."""
    cqm = program.cqm
    labels = set(cqm.variables)
    return labels == set(range(len(labels))) and all(cqm.vartype(v).name == "BINARY" for v in labels)


def checked(program: Program, name: str, constraints: list[LinearConstraint] | None) -> list[LinearConstraint]:
    """The constraints, if there are any to speak of and each can hold by itself.

    Raises:
        InputError: they are ``None``: the encoding ``name`` does not take the program.
        InfeasibleError: one can never hold.
    """
    if constraints is None:
        raise InputError(
            program.form,
            "constraints",
            f"the {name} encoding takes binaries 0 … n-1 and hard linear constraints with integer coefficients only, "
            "or decimals of few digits",
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
