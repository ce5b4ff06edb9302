"""Narrowing to the qubit budget: keep the variables most worth deciding, condition the rest on a reference point.

Here: the choice of variables, the conditioned program and the way back. Not here: where the reference and the
priorities come from (``ProblemFamily.reference``), or encodings.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_assets.encodings.arrays import linear_constraint
from hybrid_assets.problems.base import Program
from resources.failures import InputError, InvariantError

if TYPE_CHECKING:
    import dimod

    from hybrid_assets.problems.base import Reference


@dataclass(frozen=True)
class Narrowed:
    """A program over the kept variables only.

    Attributes:
        program: over ``0 … q-1``; its energy is that of the lifted assignment in the original program.
        kept: int64 array of shape ``(q,)``, ascending: variable ``i`` of ``program`` is ``kept[i]`` of the original.
        fixed: int8 array of shape ``(n,)``: the reference assignment that all other variables are held at.
        record: what was done, JSON-able: ``narrowed``, ``method``, ``kept``, ``of``, ``reference_energy`` and, per
            constraint, the constant its fixed variables contribute.
    """

    program: Program
    kept: np.ndarray
    fixed: np.ndarray
    record: dict[str, Any]

    @property
    def narrowed(self) -> bool:
        """Whether any variable was fixed."""
        return len(self.kept) < len(self.fixed)

    def lift(self, assignment: np.ndarray) -> np.ndarray:
        """Assignments of the kept variables, shape ``(q,)`` or ``(m, q)``, as assignments of all: int8, last axis n."""
        assignment = np.asarray(assignment)
        whole = np.broadcast_to(self.fixed, (*assignment.shape[:-1], len(self.fixed))).astype(np.int8)
        whole[..., self.kept] = assignment
        return whole


def narrow(program: Program, reference: Reference, max_variables: int) -> Narrowed:
    """Keep the ``max_variables`` variables of highest priority (ties: lowest index) and fix the others.

    A program that fits is returned as it is. The fixed variables' share of the objective moves into its offset, their
    share of a constraint to its constant; constraints without kept variables are checked and dropped.

    Raises:
        InputError: ``max_variables`` is not positive.
        InvariantError: the reference is malformed or cannot be completed to satisfy a constraint.
    """
    cqm = program.cqm
    n = len(cqm.variables)
    if max_variables < 1:
        raise InputError("max_variables", "value", f"it is {max_variables}", "allow at least one variable")
    fixed = np.asarray(reference.assignment)
    priority = np.asarray(reference.priority, dtype=float)
    if fixed.shape != (n,) or priority.shape != (n,) or np.isnan(priority).any() or not np.isin(fixed, (0, 1)).all():
        raise InvariantError(f"a reference needs one bit and one priority for each of the {n} variables")
    fixed = fixed.astype(np.int8)
    record: dict[str, Any] = {
        "narrowed": n > max_variables,
        "method": reference.method,
        "kept": min(n, max_variables),
        "of": n,
        "reference_energy": float(program.energies(fixed[None])[0]) if n else float(cqm.objective.offset),
        "constraint_constants": {},
    }
    if n <= max_variables:
        return Narrowed(program, np.arange(n, dtype=np.int64), fixed, record)

    kept = np.sort(np.argsort(-priority, kind="stable")[:max_variables]).astype(np.int64)
    rest = np.delete(np.arange(n), kept)
    smaller = cqm.fix_variables([(int(v), float(fixed[v])) for v in rest], inplace=False)
    for label, comparison in list(smaller.constraints.items()):
        constant = float(comparison.lhs.offset)
        record["constraint_constants"][str(label)] = constant
        if not (_possible(label, comparison) or comparison.lhs.is_soft()):
            raise InvariantError(
                f"narrowing to {max_variables} of {n} variables leaves constraint {label!r} without a solution: the "
                f"fixed variables contribute {constant:g}, it asks for {comparison.sense.value} "
                f"{float(comparison.rhs):g}"
            )
        if not comparison.lhs.num_variables:
            smaller.remove_constraint(label)
    smaller.relabel_variables({int(v): i for i, v in enumerate(kept)})
    higher = _conditioned(program, kept, fixed, smaller)
    return Narrowed(Program(smaller, f"{program.form}, {len(kept)} of {n} variables", higher), kept, fixed, record)


def _conditioned(
    program: Program, kept: np.ndarray, fixed: np.ndarray, smaller: dimod.ConstrainedQuadraticModel
) -> dict[tuple[int, ...], float]:
    """What is left of the terms of degree 3 and more; those of lower degree go into the objective of ``smaller``."""
    position = {int(v): i for i, v in enumerate(kept)}
    higher: dict[tuple[int, ...], float] = {}
    for indices, coefficient in program.higher.items():
        free = tuple(position[k] for k in indices if k in position)
        if not all(fixed[k] for k in indices if k not in position):
            continue
        if len(free) > 2:
            higher[free] = higher.get(free, 0.0) + coefficient
        elif len(free) == 2:
            smaller.objective.add_quadratic(*free, coefficient)
        elif free:
            smaller.objective.add_linear(*free, coefficient)
        else:
            smaller.objective.offset += coefficient
    return {term: coefficient for term, coefficient in higher.items() if coefficient}


def _possible(label: Hashable, comparison: Any) -> bool:
    """Whether a constraint can hold, judged by the range of its activity."""
    if comparison.lhs.num_variables:
        linear = linear_constraint(str(label), comparison)
        return linear is None or linear.possible
    distance = float(comparison.lhs.offset) - float(comparison.rhs)
    slack = 1e-9 * max(1.0, abs(float(comparison.rhs)))
    return {"==": abs(distance) <= slack, "<=": distance <= slack, ">=": distance >= -slack}[comparison.sense.value]
