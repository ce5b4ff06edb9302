"""A program over bits: what the ``program`` family computes on.

Here: the expansion of an instance, checks of assignments and the repair of those that break constraints. Not here:
reading, evaluation in the variables' own terms, pictures (``program``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hybrid_assets.problems.base import Instance, Program
from hybrid_assets.problems.programs.polynomial import Layout, Terms
from resources.failures import InputError

#: Most terms of an objective or a constraint over bits.
MAX_TERMS = 2_000_000
#: Entries of the constraints that one repair looks at, and its fewest and most steps.
REPAIR_WORK, FEWEST_STEPS, MOST_STEPS = 4_000_000, 40, 1_000
#: Relative excess that is no violation, as solvers have it; between whole numbers never as much as one.
EXCESS = 1e-6

SENSES = {-1: "<=", 0: "==", 1: ">="}


def objective_of(instance: Instance) -> Terms:
    """The terms of the objective over the variables, in the file's sense."""
    a = instance.arrays
    start, member, value = (a[f"objective_{part}"].tolist() for part in ("start", "member", "value"))
    return {tuple(member[start[t] : start[t + 1]]): value[t] for t in range(len(value))}


def slack_of(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """How far beyond its side each row still holds, shape ``(rows,)``."""
    slack = EXCESS * np.maximum(1.0, np.abs(arrays["row_rhs"]))
    return np.where(arrays["row_whole"] == 1, np.minimum(slack, 0.5), slack)


@dataclass(frozen=True)
class Bits:
    """An instance expanded over bits, minimized.

    Attributes:
        layout: which bits stand for which variable.
        objective: terms, the constant at the empty one.
        rows: terms of every constraint; whole numbers where the instance says so.
        sense, rhs: −1 (at most), 0 or 1 (at least), and the side, shape ``(rows,)``.
        slack: how far beyond its side a row still holds.
        row, bit, coefficient: the linear rows' entries.
        linear: bool, shape ``(rows,)``.
    """

    layout: Layout
    objective: Terms
    rows: tuple[Terms, ...]
    sense: np.ndarray
    rhs: np.ndarray
    slack: np.ndarray
    row: np.ndarray
    bit: np.ndarray
    coefficient: np.ndarray
    linear: np.ndarray

    @classmethod
    def of(cls, instance: Instance) -> Bits:
        """Expand an instance.

        Raises:
            InputError: the expansion is too large to hold.
        """
        a = instance.arrays
        layout = Layout.of(a["lower"], a["upper"], a["step"])
        sign = -1.0 if instance.sense == "max" else 1.0
        parts = [{key: sign * value for key, value in objective_of(instance).items()}]
        by_row: list[Terms] = [{} for _ in a["row_rhs"]]
        start, member = a["row_start"].tolist(), a["row_member"].tolist()
        for t, (row, value) in enumerate(zip(a["row_of"].tolist(), a["row_value"].tolist(), strict=True)):
            by_row[row][tuple(member[start[t] : start[t + 1]])] = value
        expanded = []
        for terms in parts + by_row:
            found = layout.expanded(terms, MAX_TERMS)
            if found is None:
                raise InputError(
                    instance.name,
                    "terms",
                    f"over bits an expression has more than {MAX_TERMS} terms",
                    "use narrower bounds or lower degrees",
                )
            expanded.append(found)
        objective, *rows = expanded
        objective[()] = objective.get((), 0.0) + sign * float(a["offset"][0])
        constants = np.array([row.pop((), 0.0) for row in rows])
        rhs = a["row_rhs"] - constants
        linear = np.array([all(len(key) == 1 for key in row) for row in rows], dtype=bool)
        entries = [(r, key[0], value) for r, row in enumerate(rows) if linear[r] for key, value in row.items()]
        table = np.array(entries, dtype=float).reshape(-1, 3)
        return cls(
            layout,
            objective,
            tuple(rows),
            a["row_sense"],
            rhs,
            slack_of(a),
            table[:, 0].astype(np.int64),
            table[:, 1].astype(np.int64),
            table[:, 2],
            linear,
        )

    @property
    def size(self) -> int:
        """Number of bits."""
        return len(self.layout.owner)

    def program(self, form: str, names: Sequence[str]) -> Program:
        """The program over bits ``0 … size-1``; constraints bear ``names``, those without bits are left out."""
        import dimod

        cqm = dimod.ConstrainedQuadraticModel()
        cqm.add_variables(dimod.BINARY, range(self.size))
        small = [(key, value) for key, value in self.objective.items() if len(key) <= 2]
        objective = dimod.QuadraticModel()
        objective.add_variables_from("BINARY", range(self.size))
        objective.offset = self.objective.get((), 0.0)
        objective.add_linear_from((key[0], value) for key, value in small if len(key) == 1)
        objective.add_quadratic_from((*key, value) for key, value in small if len(key) == 2)
        cqm.set_objective(objective)
        for name, terms, sense, rhs in zip(names, self.rows, self.sense.tolist(), self.rhs.tolist(), strict=True):
            if terms:
                cqm.add_constraint([(*key, value) for key, value in terms.items()], SENSES[sense], rhs, label=name)
        return Program(cqm, form, {key: value for key, value in self.objective.items() if len(key) > 2})

    def excess(self, activity: np.ndarray, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
        """How far activities lie beyond their rows' sides; 0 where they hold."""
        beyond = activity - self.rhs[rows]
        sense = self.sense[rows]
        broken = np.where(sense == 0, np.abs(beyond), np.where(sense < 0, beyond, -beyond))
        return np.where(broken > self.slack[rows], broken, 0.0)

    def activities(self, bits: np.ndarray) -> np.ndarray:
        """Left sides of all rows, float64, shape ``(rows,)``."""
        x = np.asarray(bits, dtype=float)
        found = np.bincount(self.row, self.coefficient * x[self.bit], len(self.rhs))
        for r in np.flatnonzero(~self.linear).tolist():
            found[r] = sum(value for key, value in self.rows[r].items() if all(x[k] for k in key))
        return found

    def holds(self, bits: np.ndarray) -> bool:
        """Whether no constraint is broken."""
        return not self.excess(self.activities(bits)).any()

    def repaired(
        self, bits: np.ndarray, rng: np.random.Generator | None = None, free: np.ndarray | None = None
    ) -> np.ndarray:
        """Bits near the given ones that break less, and nothing if all goes well.

        Feasibility jump (Luteberget & Sartor, Mathematical Programming Computation 15, 2023) over the linear rows: the
        flip that lowers the weighted excess most; where none does, the broken rows weigh more. Steps are bounded by the
        number of entries. Without ``rng`` ties go to the first bit.

        Args:
            free: bits that may change; default all.
        """
        x = np.array(bits, dtype=np.int8)
        activity = self.activities(x)
        weight, best, least = np.ones(len(self.rhs)), x.copy(), np.inf
        allowed = np.ones(self.size, dtype=bool)
        if free is not None:
            allowed[:] = False
            allowed[free] = True
        noise = np.zeros(self.size) if rng is None else rng.random(self.size) * 1e-9
        steps = int(np.clip(REPAIR_WORK // max(1, len(self.row)), FEWEST_STEPS, MOST_STEPS))
        for _ in range(steps):
            # nonlinear rows are only looked at, not repaired
            excess = np.where(self.linear, self.excess(activity), 0.0)
            if excess.sum() < least:
                best, least = x.copy(), float(excess.sum())
            if least == 0.0 or not allowed.any():
                break
            change = self.coefficient * (1.0 - 2.0 * x[self.bit])
            gain = self.excess(activity[self.row] + change, self.row) - excess[self.row]
            score = np.bincount(self.bit, weight[self.row] * gain, self.size) + noise
            score[~allowed] = np.inf
            pick = int(np.argmin(score))
            if score[pick] >= -1e-12:
                weight[excess > 0] += 1.0
                # a bit of a broken row moves all the same, so that no plateau holds it for ever
                touching = np.isin(self.row, np.flatnonzero(excess > 0)) & allowed[self.bit]
                if not touching.any():
                    break
                candidates = np.unique(self.bit[touching])
                pick = int(candidates[np.argmin(score[candidates])])
            mine = self.bit == pick
            activity[self.row[mine]] += change[mine]
            x[pick] = 1 - x[pick]
        return best
