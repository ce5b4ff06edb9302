"""Programs with terms of degree 3 and more as a quadratic model: products of pairs, then penalties.

Here: the encoding. Not here: the substitution and its proof (``substitution``), weights of constraints (``weights``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hybrid_assets.encodings.arrays import QuadraticForm, linear_constraints
from hybrid_assets.encodings.base import EncodedProblem
from hybrid_assets.encodings.penalty import Penalty, binary
from hybrid_assets.encodings.slack import fill_slack
from hybrid_assets.encodings.substitution import substituted

if TYPE_CHECKING:
    from hybrid_assets.problems.base import Program


class Quadratized(Penalty):
    """Bits of the program, then of the products, then slack; the least energy over the products is the polynomial's
    value in every state, so what holds of ``Penalty`` holds here. ``detail["products"]`` lists (first, second,
    strength); the audit counts native terms and quadratic ones."""

    name: ClassVar[str] = "quadratized"
    version: ClassVar[str] = "1"
    exact: ClassVar[bool] = True

    def accepts(self, program: Program) -> bool:
        """As ``Penalty``, with terms of any degree in the objective."""
        return binary(program) and linear_constraints(program.cqm) is not None

    def extra_variables(self, program: Program) -> int:
        """Products and bits of slack."""
        return len(substituted(QuadraticForm.of(program.cqm), program.higher)[1]) + super().extra_variables(program)

    def objective(self, program: Program) -> tuple[QuadraticForm, dict[str, Any]]:
        """The objective with products in place of pairs."""
        form, products = substituted(QuadraticForm.of(program.cqm), program.higher)
        return form, {"products": [(p.first, p.second, p.strength) for p in products]}

    def embed(self, encoded: EncodedProblem, assignment: np.ndarray) -> np.ndarray:
        """The assignment, its products, and every slack as close to its constraint as it gets."""
        bits = np.zeros(encoded.bqm.num_variables, dtype=np.int8)
        bits[: encoded.program_variables] = assignment
        for k, (first, second, _) in enumerate(encoded.detail["products"], start=encoded.program_variables):
            bits[k] = bits[first] & bits[second]
        fill_slack(bits, encoded.detail["constraints"])
        return bits
