"""Penalties for inequalities whose coefficients are no short decimals: rounded to a grid, with the error declared.

Here: the encoding. Not here: how a constraint is rounded (``arrays.linear_constraint``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hybrid_assets.encodings.arrays import LinearConstraint, linear_constraints
from hybrid_assets.encodings.penalty import Penalty, binary, checked
from resources.failures import InputError

if TYPE_CHECKING:
    from hybrid_assets.problems.base import Program

#: Steps of the grid in the sum of a constraint's absolute coefficients: about as many values as its slack can take.
STEPS = 1024


class Discretised(Penalty):
    """``Penalty`` of the rounded program. Coefficients are rounded away from feasibility, so no infeasible state is let
    in; feasible ones that come closer to a constraint than the audit's ``discretisation_error`` may be lost, hence
    approximate."""

    name: ClassVar[str] = "discretised"
    version: ClassVar[str] = "1"
    exact: ClassVar[bool] = False

    def accepts(self, program: Program) -> bool:
        """As ``Penalty``, with any coefficients in inequalities."""
        return accepts_rounded(program)

    def constraints(self, program: Program) -> list[LinearConstraint]:
        """The rounded constraints.

        Raises:
            InputError: not accepted, or the grid leaves a constraint without a solution.
            InfeasibleError: a constraint that was not rounded can never hold.
        """
        return rounded(program, self.name)

    def _check_solvable(self, program: Program, active: list[LinearConstraint]) -> None:
        exact = [c for c in active if not c.error]
        super()._check_solvable(program, exact)
        if len(exact) < len(active):
            try:
                super()._check_solvable(program, active)
            except InputError:
                raise _too_coarse(program, ", ".join(c.label for c in active if c.error)) from None


def accepts_rounded(program: Program) -> bool:
    """Binaries ``0 … n-1``, no terms above degree 2, hard linear constraints; any coefficients in inequalities."""
    return not program.higher and binary(program) and linear_constraints(program.cqm, STEPS) is not None


def rounded(program: Program, name: str) -> list[LinearConstraint]:
    """The constraints, rounded where they have to be, for the encoding ``name``.

    Raises:
        InputError: not accepted, or the grid leaves a constraint without a solution.
        InfeasibleError: a constraint that was not rounded can never hold.
    """
    found = linear_constraints(program.cqm, STEPS) if accepts_rounded(program) else None
    for c in found or []:
        if c.error and not c.possible:
            raise _too_coarse(program, c.label)
    return checked(program, name, found)


def _too_coarse(program: Program, labels: str) -> InputError:
    return InputError(
        program.form,
        f"constraint {labels}",
        f"rounded to {STEPS} steps nothing satisfies it",
        "give its coefficients as integers or decimals of few digits",
    )
