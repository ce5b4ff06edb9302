"""What every audit does: exact agreement on given points, and the shape of the model.

Here: the checks that are the same for all encodings. Not here: verdicts on weights (``weights``), or what an encoding
thinks the penalty of a point is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid_assets.encodings.arrays import LinearConstraint
from hybrid_assets.encodings.base import EncodedProblem, Encoding, EncodingAudit
from hybrid_assets.encodings.weights import Judgement, feasible_share
from hybrid_assets.problems.base import Program
from resources.failures import InvariantError

#: Random points of each kind (uniform, feasible) in an audit.
POINTS = 32


def activities(program: Program, constraints: Sequence[LinearConstraint], points: np.ndarray) -> np.ndarray:
    """Left sides of the constraints at points, shape ``(m, n)``, as dimod evaluates them: int64, shape ``(c, m)``.

    Rounded constraints are evaluated as rounded: dimod's know nothing of their grid.
    """
    found = np.zeros((len(constraints), len(points)), dtype=np.int64)
    named = {str(label): comparison.lhs for label, comparison in program.cqm.constraints.items()}
    for k, c in enumerate(constraints):
        if c.error:
            found[k] = points[:, c.indices].astype(np.int64) @ c.coefficients
        else:
            lhs = named[c.label]
            found[k] = np.rint(c.scale * (lhs.energies((points, range(points.shape[1]))) - lhs.offset))
    return found


def excesses(program: Program, constraints: Sequence[LinearConstraint], points: np.ndarray) -> np.ndarray:
    """Distance of points, shape ``(m, n)``, to each constraint: float64, shape ``(c, m)``."""
    found = np.zeros((len(constraints), len(points)))
    for k, (c, activity) in enumerate(zip(constraints, activities(program, constraints, points), strict=True)):
        found[k] = c.excess(activity)
    return found


def agree(
    encoding: Encoding, program: Program, encoded: EncodedProblem, points: np.ndarray, penalty: np.ndarray
) -> None:
    """Round trip and energy of every point, against the program as dimod evaluates it.

    Args:
        points: assignments, int8, shape ``(m, n)``.
        penalty: what each of them pays, shape ``(m,)``.

    Raises:
        InvariantError: decode(embed(x)) ≠ x, or the energy is not objective + penalty.
    """
    embedded = np.array([encoding.embed(encoded, x) for x in points])
    if not all(np.array_equal(encoding.decode(encoded, b), x) for b, x in zip(embedded, points, strict=True)):
        raise InvariantError(f"the {encoding.name} encoding does not decode to the assignment that was embedded")
    expected = program.energies(points) + penalty
    energies = encoded.bqm.energies((embedded, range(encoded.bqm.num_variables)))
    vectors = encoded.bqm.to_numpy_vectors()
    size = np.abs(vectors.linear_biases).sum() + np.abs(vectors.quadratic.biases).sum() + abs(vectors.offset)
    wrong = np.flatnonzero(np.abs(energies - expected) > 1e-12 * size)
    if len(wrong):
        k = wrong[0]
        raise InvariantError(
            f"the {encoding.name} encoding's energy is not objective + penalty: {energies[k]!r} instead of "
            f"{expected[k]!r} at {''.join(map(str, points[k]))}"
        )


def report(
    program: Program,
    encoded: EncodedProblem,
    constraints: list[LinearConstraint],
    judgement: Judgement,
    round_trips: int,
    rng: np.random.Generator,
    **more: Any,
) -> EncodingAudit:
    """The audit as a document.

    Args:
        constraints: all that can be violated, for the feasible share.
        more: further fields of ``EncodingAudit``.
    """
    biases = encoded.bqm.to_numpy_vectors()
    q, interactions = encoded.bqm.num_variables, encoded.bqm.num_interactions
    sizes = np.abs(np.concatenate([biases.linear_biases, biases.quadratic.biases]))
    sizes = sizes[sizes > 0]
    return EncodingAudit(
        variables=q,
        interactions=interactions,
        density=interactions / (q * (q - 1) / 2) if q > 1 else 0.0,
        penalty_weight=encoded.penalty_weight,
        penalty_verdict=judgement.verdict,
        penalty_evidence=judgement.evidence,
        round_trips=round_trips,
        feasible_share=feasible_share(constraints, encoded.program_variables, rng),
        coefficient_range=float(sizes.max() / sizes.min()) if len(sizes) else 1.0,
        discretisation_error=max((c.error for c in constraints), default=0.0),
        auxiliary_variables=q - encoded.program_variables,
        native_terms=program.cqm.objective.num_interactions + len(program.higher),
        **more,
    )
