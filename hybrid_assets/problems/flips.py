"""The landscape of the bits: a family walked through the variables of its program.

Here: ``FlipLandscape``, its blocks and repairs. Not here: the loops (``flip_loops``), landscapes of moves, the engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.encodings.arrays import QuadraticForm
from hybrid_assets.problems.base import Instance, ProblemFamily, Program, Solution
from hybrid_assets.problems.landscape import Block, Landscape, State, Step
from hybrid_assets.problems.unconstrained import UnconstrainedFamily

if TYPE_CHECKING:
    import dimod

    from hybrid_assets.problems.flip_loops import Arrays

#: Constraints up to this many members count as couplings between them when a cluster grows.
COUPLING_MEMBERS = 10
#: A broken constraint costs this many times what any bit of the block can gain.
CHARGE = 2.0
#: Members per part of a domain block.
DOMAIN_SIZES = (2, 4, 8, 16)
#: Gains below this share of the polynomial's largest term are rounding.
ROUNDING = 1e-10


@dataclass(frozen=True)
class Derived:
    """What goes with the bits of a state: fields ``(n,)``, activities ``(m,)``, and the solution where the bits do not
    stand for it."""

    fields: np.ndarray
    activity: np.ndarray
    values: np.ndarray | None = None


@dataclass(frozen=True)
class Domains:
    """The move of a block whose bits flip whole parts: variables ``places`` ``(m,)`` and the ``part`` of each."""

    places: np.ndarray
    part: np.ndarray


class FlipLandscape(Landscape):
    """A family walked over the bits of ``family.model(instance)``; a state's data are those bits, int8, shape ``(n,)``.

    Blocks are the program conditioned on all other bits: exact where no constraint is charged. An equality whose part
    in the block reduces to exactly-one becomes a group; any other constraint that the block could break is charged
    with a square penalty (see ``flip_loops.charges``), and what is broken all the same is repaired by ``complete``.
    Without constraints and higher terms there are also blocks whose bits flip whole parts of a cluster (``domain``):
    exact as well, and large steps for few bits. A block costs one pass over its variables' couplings, choosing it one
    over the variables.
    """

    kinds = ("cluster", "domain", "impact", "constraint", "random")

    def __init__(self, family: ProblemFamily, instance: Instance, faithful: bool = False) -> None:
        """Build the arrays of the program.

        Args:
            faithful: whether the program's energy of an assignment that meets its constraints is the (minimized)
                objective of ``complete`` of it, and such an assignment is left as it is. Otherwise every state is
                completed and evaluated by the family, and no block is exact.

        Raises:
            InputError: the program is too large to hold.
        """
        self.family, self.instance = family, instance
        constraints: list[_Constraint] = []
        higher: dict[tuple[int, ...], float] = {}
        form: QuadraticForm
        if isinstance(family, UnconstrainedFamily):
            q = family.minimized(instance)
            form = QuadraticForm(q.linear, q.rows, q.cols, q.values, q.offset)
        else:
            form, higher = QuadraticForm.of(self.program.cqm), dict(self.program.higher)
            for comparison in self.program.cqm.constraints.values():
                if comparison.lhs.is_linear() and not comparison.lhs.is_soft():
                    constraints.append(_Constraint.of(comparison))
                else:
                    faithful = False
        self.faithful, self.offset = faithful, form.offset
        self.arrays = _arrays(form, higher, constraints)
        self.members = [c.indices for c in constraints if len(c.indices) > 1]
        size = len(form.linear)
        reach = np.abs(form.linear)
        for side in (form.rows, form.cols):
            reach = reach + np.bincount(side, np.abs(form.values), size)
        for indices, value in higher.items():
            reach[list(indices)] += abs(value)
        self._weight = np.where(reach > 0, reach, 1.0)
        largest = max(float(np.abs(form.linear).max(initial=0.0)), float(np.abs(form.values).max(initial=0.0)))
        self._small = ROUNDING * max([largest, *map(abs, higher.values())])
        # what a unit of violation costs a state that could not be repaired: more than the objective can give
        self._charge = 1.0 + float(reach.sum())
        p = self.arrays
        self._pulls = p.start, p.other, np.abs(p.value)
        if higher or constraints:
            self._pulls = _pulls(form, higher, constraints, float(reach.mean()))

    @cached_property
    def program(self) -> Program:
        """The whole program, for the family's reference point."""
        return self.family.model(self.instance)

    # -- states --------------------------------------------------------------------------------------------------

    def start(self, seed: int) -> State:
        """The family's reference point."""
        return self._settled(self.family.reference(self.instance, self.program, seed).assignment)[0]

    def state_of(self, values: np.ndarray) -> State:
        """The bits behind a solution."""
        bits = np.asarray(self.family.assignment(self.instance, values), dtype=np.int8)
        state = self._standing(bits) if self.faithful else None
        if state is not None:
            return state
        return self._completed(bits, Solution(values, self.family.evaluate(self.instance, values)))

    def values(self, state: State) -> np.ndarray:
        """The solution that the bits stand for."""
        if state.cache.values is not None:
            return state.cache.values
        return self.family.complete(self.instance, state.data).values

    def _standing(self, bits: np.ndarray) -> State | None:
        """The state of bits that stand for themselves; ``None`` where they break a constraint."""
        from hybrid_assets.problems import flip_loops

        activity = flip_loops.activities(self.arrays, bits)
        if not flip_loops.met(self.arrays, activity):
            return None
        cost = self.offset + flip_loops.energy(self.arrays, bits)
        return State(bits, cost, True, Derived(flip_loops.fields(self.arrays, bits), activity))

    def _completed(self, bits: np.ndarray, solution: Solution) -> State:
        from hybrid_assets.problems import flip_loops

        evaluation = solution.evaluation
        cost = -evaluation.objective if self.instance.sense == "max" else evaluation.objective
        cost += self._charge * sum(evaluation.violations.values())
        derived = Derived(
            flip_loops.fields(self.arrays, bits), flip_loops.activities(self.arrays, bits), solution.values
        )
        return State(bits, cost, evaluation.feasible, derived)

    def _settled(self, bits: np.ndarray) -> tuple[State, bool]:
        """The state at or near these bits, and whether bits had to be changed."""
        bits = np.array(bits, dtype=np.int8)
        state = self._standing(bits) if self.faithful else None
        if state is not None:
            return state, False
        solution = self.family.complete(self.instance, bits)
        kept = np.array(self.family.assignment(self.instance, solution.values), dtype=np.int8)
        changed = not np.array_equal(kept, bits)
        state = self._standing(kept) if self.faithful else None
        return state or self._completed(kept, solution), changed

    # -- blocks --------------------------------------------------------------------------------------------------

    def block(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Block | None:
        """The program over a few chosen bits, conditioned on the others, or over flips of domains."""
        if kind == "domain":
            return self._domain_block(state, size, rng)
        chosen = self._chosen(state, kind, min(size, len(state.data)), rng)
        if chosen is None or len(chosen) < 2:
            return None
        from hybrid_assets.problems import flip_loops

        p, x = self.arrays, state.data
        linear, couplings = flip_loops.conditioned(p, x, chosen)
        higher: dict[tuple[int, ...], float] = {}
        if len(p.term_value):
            self._add_terms(*flip_loops.conditioned_terms(p, x, chosen), linear, couplings, higher)
        current = x[chosen]
        groups: tuple[tuple[int, ...], ...] = ()
        charged = False
        if len(p.low):
            present, single, pair, group = flip_loops.charges(p, x, state.cache.activity, chosen)
            names = np.unique(group[group >= 0])
            groups = tuple(tuple(np.flatnonzero(group == name).tolist()) for name in names)
            charged = present > 0 or bool(single.any() or pair.any())
            if charged:
                gain = np.abs(linear) + np.abs(couplings).sum(axis=0) + np.abs(couplings).sum(axis=1)
                weight = CHARGE * (float(gain.max()) + sum(map(abs, higher.values())) or 1.0)
                # from flips d = c + s·x to bits
                s, c = 1.0 - 2.0 * current, current.astype(np.float64)
                both = pair + pair.T
                linear = linear + weight * s * (single + both @ c)
                couplings = couplings + weight * np.outer(s, s) * pair
        x = current.astype(np.float64)
        here = float(x @ linear + x @ couplings @ x)
        here += sum(v * float(x[list(indices)].prod()) for indices, v in higher.items())
        offset = state.cost - here
        return Block(kind, linear, couplings, offset, current, groups, higher, self.faithful and not charged, chosen)

    def _domain_block(self, state: State, size: int, rng: np.random.Generator) -> Block | None:
        """Bit a flips part a of a cluster; ``None`` with constraints or higher terms."""
        p = self.arrays
        if len(p.low) or len(p.term_value) or not self.faithful:
            return None
        from hybrid_assets.problems import cluster_loops

        members = self._cluster(state, min(len(state.data), size * int(rng.choice(DOMAIN_SIZES))), rng)
        if members is None or len(members) < 2:
            return None
        part = cluster_loops.domains(p, state.data, members, size, int(rng.integers(1, 2**62)))
        # a cluster in more pieces than there are bits loses the last of them
        members, part = members[part < size], part[part < size]
        count = int(part.max()) + 1
        if count < 2:
            return None
        linear, couplings = cluster_loops.domain_costs(p, state.data, state.cache.fields, members, part, count)
        current = np.zeros(count, dtype=np.int8)
        return Block("domain", linear, couplings, state.cost, current, move=Domains(members, part))

    def _chosen(self, state: State, kind: str, size: int, rng: np.random.Generator) -> np.ndarray | None:
        """Different variables of a block, int64; ``None`` where the neighbourhood has none."""
        n = len(state.data)
        if kind == "random":
            return rng.choice(n, size, replace=False, shuffle=False)
        if kind == "constraint":
            return self._constrained(state, size, rng)
        if kind == "impact":
            undecided = np.abs(state.cache.fields) / self._weight
            # the least decided of a random part, so that blocks differ while the state does not
            part = min(n, int(2 * size * (n / (2 * size)) ** rng.random()) if n > 2 * size else n)
            pool = rng.choice(n, max(part, size), replace=False, shuffle=False)
            return pool[np.argpartition(undecided[pool], size - 1)[:size]]
        return self._cluster(state, size, rng)

    def _cluster(self, state: State, size: int, rng: np.random.Generator) -> np.ndarray | None:
        """A connected cluster around a random or an undecided variable."""
        start, other, pull = self._pulls
        if not len(other):
            return None
        from hybrid_assets.problems import cluster_loops

        undecided = np.abs(state.cache.fields) / self._weight
        pool = rng.integers(0, len(undecided), int(rng.choice([1, 8])))
        seed = int(pool[np.argmin(undecided[pool])])
        return cluster_loops.grown(start, other, pull, undecided + undecided.mean() + 1e-12, seed, rng.random(size))

    def _constrained(self, state: State, size: int, rng: np.random.Generator) -> np.ndarray | None:
        """Variables of one or two constraints, ones and zeros alike where there are more than fit."""
        if not self.members:
            return None
        first = self.members[rng.integers(len(self.members))]
        sets = [first]
        if rng.random() < 0.5 and len(self.members) > 1:
            sets.append(self.members[rng.integers(len(self.members))])
        members = rng.permutation(np.unique(np.concatenate(sets)))
        if len(members) <= size:
            return members
        ones, zeros = members[state.data[members] == 1], members[state.data[members] == 0]
        half = max(size - len(zeros), min(len(ones), int(rng.integers(1, max(2, size // 2 + 1)))))
        return np.concatenate([ones[:half], zeros[: size - half]])

    @staticmethod
    def _add_terms(
        masks: np.ndarray,
        values: np.ndarray,
        linear: np.ndarray,
        couplings: np.ndarray,
        higher: dict[tuple[int, ...], float],
    ) -> None:
        """Adds terms given by masks of block places to a block's own, in place."""
        unique, inverse = np.unique(masks, return_inverse=True)
        totals = np.bincount(inverse, values, len(unique))
        for mask, total in zip(unique.tolist(), totals.tolist(), strict=True):
            places = tuple(k for k in range(len(linear)) if mask >> k & 1)
            if len(places) == 1:
                linear[places[0]] += total
            elif len(places) == 2:
                couplings[places] += total
            elif total:
                higher[places] = total

    def apply(self, state: State, block: Block, bits: np.ndarray) -> Step:
        """Put the bits in their places; complete and repair where they do not stand for a solution."""
        bits = np.ascontiguousarray(bits, dtype=np.int8)
        if np.array_equal(bits, block.current):
            return Step(state, evaluations=0)
        from hybrid_assets.problems import flip_loops

        x = state.data.copy()
        if isinstance(block.move, Domains):
            g = state.cache.fields.copy()
            chosen = block.move.places[bits[block.move.part] == 1]
            cost = flip_loops.flips(self.arrays, chosen, 1 - x[chosen], x, g, state.cache.activity)
            return Step(State(x, state.cost + cost, True, Derived(g, state.cache.activity)))
        if not self.faithful or not state.feasible:
            x[block.move] = bits
            new, changed = self._settled(x)
            return Step(new, changed)
        g, activity = state.cache.fields.copy(), state.cache.activity.copy()
        cost = flip_loops.flips(self.arrays, block.move, bits, x, g, activity)
        if flip_loops.met_by(self.arrays, block.move, activity):
            return Step(State(x, state.cost + cost, True, Derived(g, activity)))
        new, changed = self._settled(x)
        return Step(new, changed, 2)

    def polish(self, state: State, evaluations: int) -> Step:
        """Steepest descent over flips, and over swaps where there are constraints; broken ones get no worse."""
        from hybrid_assets.problems import flip_loops

        x, g, activity = state.data.copy(), state.cache.fields.copy(), state.cache.activity.copy()
        gained, looked = flip_loops.descend(self.arrays, x, g, activity, evaluations, self._small)
        if gained == 0.0:
            return Step(state, evaluations=looked)
        if self.faithful and state.feasible:
            return Step(State(x, state.cost + gained, True, Derived(g, activity)), True, looked)
        new = self._settled(x)[0]
        better = (new.feasible, -new.cost) > (state.feasible, -state.cost)
        return Step(new if better and new.cost <= state.cost else state, better, looked + 1)


@dataclass(frozen=True)
class _Constraint:
    """``low ≤ Σ coefficients·x[indices] ≤ high``."""

    indices: np.ndarray
    coefficients: np.ndarray
    low: float
    high: float

    @classmethod
    def of(cls, comparison: dimod.sym.Comparison) -> _Constraint:
        terms = sorted((int(v), float(bias)) for v, bias in comparison.lhs.iter_linear() if bias != 0)
        rhs, sense = float(comparison.rhs) - float(comparison.lhs.offset), str(comparison.sense.value)
        return cls(
            np.array([v for v, _ in terms], dtype=np.int64),
            np.array([bias for _, bias in terms], dtype=np.float64),
            -np.inf if sense == "<=" else rhs,
            np.inf if sense == ">=" else rhs,
        )


def _lists(keys: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Start positions ``(size + 1,)`` and the order that sorts entries by key, keeping their order within one."""
    order = np.argsort(keys, kind="stable")
    return np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=size))]).astype(np.int64), order


def _arrays(form: QuadraticForm, higher: dict[tuple[int, ...], float], constraints: list[_Constraint]) -> Arrays:
    from hybrid_assets.problems.flip_loops import Arrays

    n = len(form.linear)
    ends = np.concatenate([form.rows, form.cols]).astype(np.int64)
    start, order = _lists(ends, n)
    terms = sorted(higher)
    lengths = np.array([len(t) for t in terms], dtype=np.int64)
    member = np.array([v for t in terms for v in t], dtype=np.int64)
    in_start, by_member = _lists(member, n)
    sizes = np.array([len(c.indices) for c in constraints], dtype=np.int64)
    variables = np.concatenate([c.indices for c in constraints] or [np.empty(0, np.int64)])
    of_start, by_variable = _lists(variables, n)
    return Arrays(
        linear=np.ascontiguousarray(form.linear, dtype=np.float64),
        start=start,
        other=np.concatenate([form.cols, form.rows]).astype(np.int64)[order],
        value=np.tile(form.values, 2).astype(np.float64)[order],
        term_start=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        term_member=member,
        term_value=np.array([higher[t] for t in terms], dtype=np.float64),
        in_start=in_start,
        in_term=np.repeat(np.arange(len(terms)), lengths)[by_member],
        of_start=of_start,
        of_constraint=np.repeat(np.arange(len(constraints)), sizes)[by_variable],
        of_value=np.concatenate([c.coefficients for c in constraints] or [np.empty(0)])[by_variable],
        low=np.array([c.low for c in constraints], dtype=np.float64),
        high=np.array([c.high for c in constraints], dtype=np.float64),
        even=np.array(
            [
                c.low == c.high and len(c.indices) > 0 and np.ptp(c.coefficients) == 0 and c.coefficients[0] > 0
                for c in constraints
            ],
            dtype=np.bool_,
        ),
    )


def _pulls(
    form: QuadraticForm, higher: dict[tuple[int, ...], float], constraints: list[_Constraint], scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How strongly variables belong together: start positions, neighbours, pulls, by variable."""
    n = len(form.linear)
    rows, cols, pulls = [form.rows], [form.cols], [np.abs(form.values)]
    groups = [(np.array(t, dtype=np.int64), abs(value)) for t, value in higher.items()]
    groups += [(c.indices, scale) for c in constraints if len(c.indices) <= COUPLING_MEMBERS]
    for members, pull in groups:
        i, j = np.triu_indices(len(members), 1)
        rows.append(members[i])
        cols.append(members[j])
        pulls.append(np.full(len(i), pull))
    joined = QuadraticForm.build(np.zeros(n), np.concatenate(rows), np.concatenate(cols), np.concatenate(pulls), 0.0)
    start, order = _lists(np.concatenate([joined.rows, joined.cols]), n)
    return start, np.concatenate([joined.cols, joined.rows])[order], np.tile(joined.values, 2)[order]
