"""Groups with exactly one 1 as domain walls: one bit less per group, and neighbours only instead of a clique.

Here: the encoding. Not here: penalties of the other constraints (``slack``, ``weights``).

Chancellor, "Domain wall encoding of discrete variables for quantum annealing and QAOA", Quantum Science and Technology
4, 2019: a group of m variables becomes m − 1 bits 1…10…0, and x_k = d_{k−1} − d_k with d_0 = 1, d_m = 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hybrid_assets.encodings.arrays import LinearConstraint, QuadraticForm, exactly_one, linear_constraints
from hybrid_assets.encodings.auditing import POINTS, agree, excesses, report
from hybrid_assets.encodings.base import EncodedProblem, Encoding, EncodingAudit
from hybrid_assets.encodings.penalty import MARGIN, Penalty, checked, least_weight
from hybrid_assets.encodings.slack import fill_slack, penalised
from hybrid_assets.encodings.weights import Judgement, feasible_points, sampled, solvable
from resources.failures import InfeasibleError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from hybrid_assets.problems.base import Program


class DomainWall(Encoding):
    """Variables outside the groups first, then each group's walls, then slack of the other constraints.

    A 0 followed by a 1 inside a group costs the weight, and so do the other constraints' squared violations. Bits with
    such a wall decode to several ones in their group, which is infeasible, so that nothing is repaired silently.
    """

    name: ClassVar[str] = "domain-wall"
    version: ClassVar[str] = "1"
    exact: ClassVar[bool] = True

    def accepts(self, program: Program) -> bool:
        """What ``Penalty`` accepts, with at least one group that has exactly one 1."""
        return Penalty().accepts(program) and bool(exactly_one(linear_constraints(program.cqm) or [])[0])

    def encode(self, program: Program) -> EncodedProblem:
        """The model; ``detail`` holds the walls, the slack layout and every bound on the weight.

        Raises:
            InputError: not accepted.
            InfeasibleError: no assignment satisfies the constraints.
        """
        groups, others = self._constraints(program)
        n = len(program.cqm.variables)
        if solvable([*groups, *others], n) is False:
            raise InfeasibleError(
                program.form,
                f"constraints {', '.join(c.label for c in [*groups, *others])}",
                f"no assignment satisfies them all (all {2**n} were tried)",
                "relax or correct one of them",
            )
        walls = _layout(groups, n)
        matrix, ones = _map(walls, n)
        native = QuadraticForm.of(program.cqm)
        objective = _walled(native, groups, matrix, ones)
        low, high = objective.range()
        proven = {"range": high - low}
        if not others:
            proven["spread"] = _spread(native, groups)
        chosen = min(proven, key=lambda name: proven[name])
        weight = max(MARGIN * proven[chosen], least_weight(program, native)) or 1.0
        record = {"bounds": proven, "chosen": chosen, "margin": MARGIN}
        return self.weighted(program, weight, record)

    def weighted(self, program: Program, weight: float, record: dict[str, Any] | None = None) -> EncodedProblem:
        """The model for any weight, proven or not; ``encode`` chooses a proven one."""
        groups, others = self._constraints(program)
        n = len(program.cqm.variables)
        walls = _layout(groups, n)
        matrix, ones = _map(walls, n)
        objective = _walled(QuadraticForm.of(program.cqm), groups, matrix, ones)
        q = len(objective.linear)
        # one unit for each 0 that is followed by a 1: (1 − d_k)·d_{k+1}
        followed = np.array(
            [k for wall in walls["groups"] for k in range(wall["start"], wall["start"] + len(wall["members"]) - 2)],
            dtype=np.int64,
        )
        fenced = QuadraticForm.build(
            objective.linear + weight * np.bincount(followed + 1, minlength=q),
            np.concatenate([objective.rows, followed]),
            np.concatenate([objective.cols, followed + 1]),
            np.concatenate([objective.values, np.full(len(followed), -weight)]),
            objective.offset,
        )
        model, layout = penalised(fenced, [_moved(c, matrix, ones) for c in others], weight)
        return EncodedProblem(
            encoding=self.name,
            version=self.version,
            bqm=model.bqm(),
            program_variables=n,
            penalty_weight=float(weight),
            detail={"walls": walls, "constraints": layout, "weight": record or {}},
        )

    def expresses(self, program: Program, assignments: np.ndarray) -> np.ndarray:
        """Those with exactly one 1 in every group."""
        groups, _ = self._constraints(program)
        return np.all([c.violation(assignments) == 0 for c in groups], axis=0)

    def embed(self, encoded: EncodedProblem, assignment: np.ndarray) -> np.ndarray:
        """The walls of an assignment with exactly one 1 in every group; slack as close as it gets."""
        walls = encoded.detail["walls"]
        bits = np.zeros(encoded.bqm.num_variables, dtype=np.int8)
        bits[: len(walls["free"])] = np.asarray(assignment)[walls["free"]]
        for wall in walls["groups"]:
            position = int(np.argmax(np.asarray(assignment)[wall["members"]]))
            bits[wall["start"] : wall["start"] + position] = 1
        fill_slack(bits, encoded.detail["constraints"])
        return bits

    def decode(self, encoded: EncodedProblem, bits: np.ndarray) -> np.ndarray:
        """A 1 wherever a 1 is followed by a 0, so more than one in a group whose bits are no single wall."""
        walls = encoded.detail["walls"]
        assignment = np.zeros(encoded.program_variables, dtype=np.int8)
        assignment[walls["free"]] = bits[: len(walls["free"])]
        for wall in walls["groups"]:
            inner = np.asarray(bits)[wall["start"] : wall["start"] + len(wall["members"]) - 1]
            assignment[wall["members"]] = np.maximum(-np.diff(inner, prepend=1, append=0), 0)
        return assignment

    def audit(self, program: Program, encoded: EncodedProblem, seed: int) -> EncodingAudit:
        """Verdict on the weight as encoded (bound, else samples), and exact agreement on random walls.

        Raises:
            InvariantError: decode(embed(x)) ≠ x, or the energy is not objective + penalty.
        """
        groups, others = self._constraints(program)
        rng = np.random.default_rng(seed)
        n = encoded.program_variables
        points = np.vstack([feasible_points(c, n, POINTS, rng) for c in (groups, [*groups, *others])])
        weight = encoded.penalty_weight or 0.0
        agree(self, program, encoded, points, weight * (excesses(program, others, points) ** 2).sum(axis=0))
        proven = self.encode(program).detail["weight"]["bounds"]
        name = min(proven, key=lambda known: proven[known])
        verdict = (
            Judgement("proven", f"weight {weight:.6g} > {name} bound {proven[name]:.6g} per wall or unit of violation")
            if weight > proven[name]
            else sampled([*groups, *others], encoded, self.decode, seed)
        )
        return report(program, encoded, [*groups, *others], verdict, len(points), rng)

    def _constraints(self, program: Program) -> tuple[list[LinearConstraint], list[LinearConstraint]]:
        """The groups, and the other constraints that can be violated."""
        found = linear_constraints(program.cqm) if self.accepts(program) else None
        groups, others = exactly_one(checked(program, self.name, found))
        return groups, [c for c in others if not c.redundant]


def _layout(groups: list[LinearConstraint], n: int) -> dict[str, Any]:
    """Where everything lies: variables outside the groups, and each group's members and first wall."""
    free = np.setdiff1d(np.arange(n), np.concatenate([c.indices for c in groups]))
    start, found = len(free), []
    for c in groups:
        found.append({"members": c.indices.tolist(), "start": start})
        start += len(c.indices) - 1
    return {"free": free.tolist(), "groups": found}


def _map(walls: dict[str, Any], n: int) -> tuple[csr_array, np.ndarray]:
    """``x = matrix·d + ones``: sparse matrix of shape ``(n, q)`` and vector of shape ``(n,)``."""
    from scipy.sparse import csr_array

    free = walls["free"]
    entries = [(variable, bit, 1.0) for bit, variable in enumerate(free)]
    ones, q = np.zeros(n), len(free)
    for wall in walls["groups"]:
        members, start = wall["members"], wall["start"]
        ones[members[0]] = 1.0
        for k in range(len(members) - 1):
            entries += [(members[k], start + k, -1.0), (members[k + 1], start + k, 1.0)]
        q += len(members) - 1
    rows, cols, values = (np.array(column) for column in zip(*entries, strict=True)) if entries else ([], [], [])
    return csr_array((values, (rows, cols)), shape=(n, q)), ones


def _walled(
    native: QuadraticForm, groups: list[LinearConstraint], matrix: csr_array, ones: np.ndarray
) -> QuadraticForm:
    """The objective in the walls' bits; couplings inside a group never count and are dropped."""
    from scipy.sparse import csr_array

    n, q = matrix.shape
    group_of = np.arange(n) + len(groups)
    for k, c in enumerate(groups):
        group_of[c.indices] = k
    apart = group_of[native.rows] != group_of[native.cols]
    pairs = csr_array((native.values[apart], (native.rows[apart], native.cols[apart])), shape=(n, n))
    moved = (matrix.T @ pairs @ matrix).tocoo()
    both = pairs @ ones + pairs.T @ ones
    linear = matrix.T @ (native.linear + both)
    diagonal = moved.row == moved.col
    linear = linear + np.bincount(moved.row[diagonal], moved.data[diagonal], q)
    offset = native.offset + float(native.linear @ ones) + float(ones @ (pairs @ ones))
    return QuadraticForm.build(
        linear,
        moved.row[~diagonal].astype(np.int64),
        moved.col[~diagonal].astype(np.int64),
        moved.data[~diagonal],
        offset,
    )


def _moved(c: LinearConstraint, matrix: csr_array, ones: np.ndarray) -> LinearConstraint:
    """A constraint on the program's variables as one on the walls' bits."""
    row = np.zeros(matrix.shape[0])
    row[c.indices] = c.coefficients
    coefficients = np.rint(matrix.T @ row).astype(np.int64)
    indices = np.flatnonzero(coefficients)
    return LinearConstraint(c.label, indices, coefficients[indices], c.sense, c.rhs - round(float(row @ ones)))


def _spread(native: QuadraticForm, groups: list[LinearConstraint]) -> float:
    """The most by which two members of a group can differ in cost, whatever the rest holds (−1, 0 or 1 where a group
    has walls too many).

    A group with w walls too many costs (ones of w + 1 members) − (ones of w others); keeping the cheapest of the former
    costs at most w·spread more, group after group.
    """
    couplings = np.abs(native.dense())
    worst = 0.0
    for c in groups:
        outside = np.delete(couplings[c.indices], c.indices, axis=1).sum(axis=1)
        own = native.linear[c.indices]
        worst = max(worst, float((own + outside).max() - (own - outside).min()))
    return worst
