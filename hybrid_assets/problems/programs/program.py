"""The ``program`` family: anything written as a mathematical program over bounded whole numbers.

Here: bounds and rows as the platform holds them, the objective and named violations, completion and control. Not here:
readers (``program_files``, ``lp_text``, ``mps_text``), the expansion over bits and the repair (``program_bits``),
pictures (``program_plots``).

Formats, recognised by content: LP and MPS text, dimod CQM files, polynomials in JSON (HUBO). Integers become binary
digits, so their bounds must be finite (missing ones are inferred from the constraints where these imply them);
continuous variables are refused. Objectives may have any degree, constraints up to two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_assets.problems.base import (
    PROGRAM_VARIABLES,
    Evaluation,
    FamilyOptions,
    Instance,
    ProblemFamily,
    Program,
    Reference,
    Solution,
)
from hybrid_assets.problems.programs import program_files
from hybrid_assets.problems.programs.polynomial import Layout
from hybrid_assets.problems.programs.program_bits import Bits, slack_of
from hybrid_assets.problems.programs.program_files import RawProgram
from hybrid_assets.problems.programs.program_rows import Table, bounded, row_text, table_of
from hybrid_assets.problems.source import SourceFile
from resources.envelope import PostProcessing
from resources.failures import InfeasibleError, InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hybrid_assets.problems.flips import FlipLandscape

#: Entries of the constraints and products up to which HiGHS is asked where repairs fail, and its nodes: a fixed amount
#: of work, the same on every machine.
EXACT_ENTRIES, EXACT_PRODUCTS, NODES = 20_000, 300, 100
#: Repairs before a feasible point is given up, feasible points that descend, flips per bit of a walk among them.
TRIES, STARTS, WALK = 20, 6, 4
#: Steps of the descent that ends the search for a reference.
DESCENT = 20_000
#: Constraints that are listed for people.
LISTED = 50


class MathematicalProgram(ProblemFamily):
    """Bounded whole numbers; a solution's values are those of the file's variables, shape ``(n,)``."""

    name = "program"
    version = "1"
    title = "mathematical program (LP, MPS, CQM, polynomial)"
    options = FamilyOptions

    def __init__(self) -> None:
        # expanding takes longer than what is done with it, and the same instance is asked about again and again
        self._expanded: tuple[str, Bits] | None = None

    def _bits(self, instance: Instance) -> Bits:
        known = self._expanded
        if known is None or known[0] != instance.digest:
            known = self._expanded = (instance.digest, Bits.of(instance))
        return known[1]

    def recognises(self, source: SourceFile) -> bool:
        """Whether the content is one of the formats above."""
        return program_files.format_of(source) is not None

    def read(self, source: SourceFile) -> Sequence[RawProgram]:
        """Parse one program."""
        return [program_files.read(source)]

    def normalize(self, raw: RawProgram, options: FamilyOptions, name: str) -> Instance:
        """Bound the variables, scale the constraints to whole numbers, refuse what has no solution.

        Arrays: ``lower``, ``upper``, ``step`` (int64, ``(n,)``), ``offset``; the terms of the objective and of the rows
        as ``…_start``, ``…_member``, ``…_value`` with ``row_of``; ``row_sense`` (−1, 0, 1), ``row_rhs`` in the scaled
        row's units, ``row_side`` in the file's, ``row_scale`` between them, ``row_whole``.

        Raises:
            InputError: continuous or unbounded variables, a constraint of degree three.
            InfeasibleError: no assignment satisfies the constraints, by their ranges or proven by HiGHS.
        """
        lower, upper, step, notes = bounded(raw)
        table: Table = table_of(raw, lower, upper, step)
        arrays = {"lower": lower, "upper": upper, "step": step, **table.arrays}
        settings = {**options.model_dump(mode="json"), "rows": list(table.names)}
        notes = [*raw.notes, *notes, *table.notes]
        digits = len(Layout.of(lower, upper, step).owner)
        wide = int(((upper - lower) // step > 1).sum())
        if wide:
            notes.append(f"{wide} integers stand in the model as binary digits, {digits} bits in all")
        if digits == 0:
            notes.append("every variable is fixed by its bounds")
        instance = Instance(
            self.name, name, len(raw.names), raw.sense, arrays, settings, tuple(raw.names), tuple(notes)
        )
        self._refuse_impossible(raw.file, instance)
        return instance

    def _refuse_impossible(self, file: str, instance: Instance) -> None:
        if not table_rows(instance) or self.program_size(instance) > PROGRAM_VARIABLES:
            return
        bits = self._bits(instance)
        if bits.holds(bits.repaired(np.zeros(bits.size, dtype=np.int8))):
            return
        _, impossible = _by_highs(bits, self.model(instance))
        if impossible:
            raise InfeasibleError(
                file, "constraints", "HiGHS proves that they contradict each other", "relax or correct one of them"
            )

    def program_size(self, instance: Instance) -> int:
        """Binary digits of all variables."""
        a = instance.arrays
        return sum(int(span).bit_length() for span in ((a["upper"] - a["lower"]) // a["step"]).tolist())

    def model(self, instance: Instance) -> Program:
        """The polynomial and its constraints over binary digits; terms of degree three and more in ``higher``.

        Raises:
            InputError: more than 5,000 bits, or too many terms over bits.
        """
        if (size := self.program_size(instance)) > PROGRAM_VARIABLES:
            raise InputError(
                instance.name,
                "variables",
                f"{size} bits would make a program too large to hold",
                f"use narrower bounds; the limit is {PROGRAM_VARIABLES}",
            )
        form = "the file's own" if instance.sense == "min" else "the file's own, negated"
        return self._bits(instance).program(form, instance.settings["rows"])

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        """Objective and what is broken: constraints in the file's units, ``bounds of x``, ``x is whole``."""
        a = instance.arrays
        x = np.asarray(values, dtype=float)
        broken: dict[str, float] = {}
        outside = np.maximum(np.maximum(a["lower"] - x, x - a["upper"]), 0.0)
        for i in np.flatnonzero(outside).tolist():
            broken[f"bounds of {instance.labels[i]}"] = float(outside[i])
        steps = (x - a["lower"]) / a["step"]
        for i in np.flatnonzero(np.abs(steps - np.rint(steps)) > 1e-9).tolist():
            broken[f"{instance.labels[i]} is whole"] = float(abs(steps[i] - np.rint(steps[i])))
        objective = float(a["offset"][0] + _products(a, "objective", x).sum())
        activity = np.bincount(a["row_of"], _products(a, "row", x), len(a["row_rhs"]))
        sense, beyond = a["row_sense"], activity - a["row_rhs"]
        over = np.where(sense == 0, np.abs(beyond), np.where(sense < 0, beyond, -beyond))
        for r in np.flatnonzero(over > slack_of(a)).tolist():
            amount = abs(float(activity[r] / a["row_scale"][r] - a["row_side"][r]))
            broken[instance.settings["rows"][r]] = amount
        return Evaluation(objective, broken)

    def complete(self, instance: Instance, assignment: np.ndarray) -> Solution:
        """The numbers behind the bits; where they break linear constraints, after a feasibility jump."""
        layout = Layout.of(instance.arrays["lower"], instance.arrays["upper"], instance.arrays["step"])
        values = layout.values(assignment)
        found = self.evaluate(instance, values)
        if found.feasible:
            return Solution(values, found)
        bits = self._bits(instance)
        values = layout.values(bits.repaired(assignment))
        return Solution(values, self.evaluate(instance, values), PostProcessing.REPAIRED)

    def assignment(self, instance: Instance, values: np.ndarray) -> np.ndarray:
        """Binary digits of the values."""
        a = instance.arrays
        return Layout.of(a["lower"], a["upper"], a["step"]).bits(np.rint(np.asarray(values, dtype=float)))

    def reference(self, instance: Instance, program: Program, seed: int) -> Reference:
        """The best of several repaired random assignments after descent; HiGHS with 100 nodes where no repair works.

        Undecided is what costs little to flip.

        Raises:
            InputError: neither found a feasible point.
        """
        bits = self._bits(instance)
        starts, how = self._feasible(bits, seed), "best of repaired random assignments"
        if not starts:
            found, _ = _by_highs(bits, program)
            starts, how = [] if found is None or not bits.holds(found) else [found], f"HiGHS with {NODES} nodes"
        if not starts:
            raise InputError(
                instance.name,
                "constraints",
                f"no point that satisfies them was found by {TRIES} repairs or HiGHS with {NODES} nodes",
                "look at the exact baselines, or relax the constraints",
            )
        landscape = self.landscape(instance)
        states = [landscape.state_of(bits.layout.values(start)) for start in starts]
        best = min((landscape.polish(state, DESCENT).state for state in states), key=lambda state: state.cost)
        return Reference(best.data, -np.abs(best.cache.fields), f"{how}, then descent; cheapest flips first")

    @staticmethod
    def _feasible(bits: Bits, seed: int) -> list[np.ndarray]:
        """Up to ``STARTS`` feasible points, from all zeros and from random bits."""
        rng = np.random.default_rng(seed)
        found: list[np.ndarray] = []
        for attempt in range(TRIES):
            start = rng.integers(0, 2, bits.size, dtype=np.int8) if attempt else np.zeros(bits.size, dtype=np.int8)
            point = bits.repaired(start, rng)
            if bits.holds(point):
                found.append(point)
            if len(found) == STARTS:
                break
        return found

    def random_assignments(
        self, instance: Instance, count: int, seed: int, free: np.ndarray | None = None, base: np.ndarray | None = None
    ) -> np.ndarray:
        """Random feasible assignments: uniform without constraints.

        With constraints random bits are kept where they are feasible, repaired where that works, and replaced by a
        random walk from a feasible point where it does not; such draws are random but not uniform.
        """
        bits, rng = self._bits(instance), np.random.default_rng(seed)
        chosen = np.arange(bits.size) if free is None else np.asarray(free, dtype=np.int64)
        start = np.zeros(bits.size, dtype=np.int8) if base is None else np.asarray(base, dtype=np.int8)
        draws = np.tile(start, (count, 1))
        draws[:, chosen] = rng.integers(0, 2, (count, len(chosen)), dtype=np.int8)
        anchor = base
        for k in range(count):
            if bits.holds(draws[k]):
                continue
            found = bits.repaired(draws[k], rng, chosen)
            if not bits.holds(found):
                if anchor is None:
                    anchor = self.reference(instance, self.model(instance), seed).assignment
                found = _walked(bits, np.array(anchor, dtype=np.int8), chosen, rng)
            draws[k] = found
        return draws

    def landscape(self, instance: Instance) -> FlipLandscape:
        """The bits of the program, one by one; exact where constraints are linear."""
        from hybrid_assets.problems.flips import FlipLandscape

        return FlipLandscape(self, instance, faithful=True)

    def baselines(self, instance: Instance) -> Sequence[str]:
        """The exact solvers of programs."""
        return ("highs", "scip-program", "cpsat-program")

    def constraints(self, instance: Instance) -> Mapping[str, Any]:
        """The constraints as text, the first 50, and the bounds of integers."""
        a, names = instance.arrays, instance.settings["rows"]
        wide = np.flatnonzero((a["upper"] - a["lower"]) // a["step"] > 1)[:LISTED].tolist()
        return {
            "constraints": len(names),
            **{names[r]: row_text(instance, r) for r in range(min(LISTED, len(names)))},
            "bounds": {instance.labels[i]: [int(a["lower"][i]), int(a["upper"][i])] for i in wide},
        }

    def plot_instance(self, instance: Instance) -> Figure:
        """Which variables meet in which constraints."""
        from hybrid_assets.problems.programs import program_plots

        return program_plots.incidence(instance)

    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        """The table of variables, and how far every constraint is from its side."""
        from hybrid_assets.problems.programs import program_plots

        return program_plots.solutions(instance, {k: (v, self.evaluate(instance, v)) for k, v in solutions.items()})


def table_rows(instance: Instance) -> int:
    """Number of constraints."""
    return len(instance.settings["rows"])


def _products(a: Mapping[str, np.ndarray], kind: str, x: np.ndarray) -> np.ndarray:
    """Value of every term."""
    start = a[f"{kind}_start"]
    if len(start) <= 1:
        return np.zeros(0)
    return a[f"{kind}_value"] * np.multiply.reduceat(x[a[f"{kind}_member"]], start[:-1])


def _by_highs(bits: Bits, program: Program) -> tuple[np.ndarray | None, bool]:
    """A point that HiGHS finds within its nodes, and whether it proves that there is none."""
    from hybrid_assets.solvers.highs import within_nodes
    from hybrid_assets.solvers.linearized import Linearized

    products = sum(len(key) > 1 for terms in (bits.objective, *bits.rows) for key in terms)
    if products > EXACT_PRODUCTS or sum(map(len, bits.rows)) > EXACT_ENTRIES or bits.size == 0:
        return None, False
    return within_nodes(Linearized.of(program), NODES)


def _walked(bits: Bits, point: np.ndarray, free: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random walk of single and double flips that never leaves the feasible points."""
    for _ in range(WALK * len(free)):
        flips = rng.choice(free, min(len(free), int(rng.integers(1, 3))), replace=False)
        point[flips] ^= 1
        if not bits.holds(point):
            point[flips] ^= 1
    return point
