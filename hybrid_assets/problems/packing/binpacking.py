"""The ``binpacking`` family: put all items into as few bins of one capacity as possible.

Formats, recognised by content: OR-Library binpack (Falkenauer, Journal of Heuristics 2, 1996): the number of instances,
then for each a name, ``capacity items bins`` (the best known number, never used) and the sizes; and one instance as the
number of items, the capacity and the sizes, one number a line (Scholl, Klein & Jürgens, Computers & Operations Research
24, 1997). Sizes with up to six decimals are scaled to whole numbers, exactly.

Program: items in falling size, item r in one of the bins 0 … r (bins are numbered by their largest item, which removes
most symmetry), of as many bins as best fit needs; the bins beyond Martello and Toth's lower bound L2, the last one at
least, have a binary that says whether they are used.

Here: the family. Not here: compiled loops, the walk (``binpacking_landscape``), pictures (``packing_plots``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from hybrid_assets.problems.number_text import MAX_DECIMALS, MAX_ITEMS, Words, scaled
from hybrid_assets.problems.source import SourceFile
from resources.envelope import PostProcessing
from resources.failures import InfeasibleError, InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hybrid_assets.problems.packing.binpacking_landscape import BinPackingLandscape

#: Steps per item of the chain behind a random assignment.
CHAIN_STEPS = 20
#: Evaluations of the descent behind the point for narrowing and the number of bins in the program.
DESCENT = 2_000_000
#: Largest sum of scaled sizes: its square stays within 64 bits.
MAX_SUM = 2**31


@dataclass(frozen=True)
class RawBins:
    """One instance as its file gives it: name of the file, capacity, sizes (float64, shape ``(n,)``)."""

    file: str
    capacity: float
    sizes: np.ndarray


@dataclass(frozen=True)
class Layout:
    """Where the program's variables are: item of rank r (by falling size) in bin j is ``starts[r] + j``.

    Attributes:
        order: item of each rank, shape ``(n,)``.
        starts: first variable of each rank, shape ``(n + 1,)``; the last entry is the first bin variable.
        fewest, most: bins without a binary of their own (they are always open), and bins in all.
    """

    order: np.ndarray
    starts: np.ndarray
    fewest: int
    most: int

    @property
    def size(self) -> int:
        """Number of variables."""
        return int(self.starts[-1]) + self.most - self.fewest

    @property
    def options(self) -> np.ndarray:
        """Number of bins open to each rank, shape ``(n,)``."""
        return np.diff(self.starts)


class BinPacking(ProblemFamily):
    """Values: the bin of every item, whole numbers from 0. ``Instance.arrays``: ``sizes`` int64 (n,), ``capacity``
    int64 (1,), both times ``scale`` (1,)."""

    name = "binpacking"
    version = "1"
    title = "bin packing (OR-Library binpack, or count, capacity and sizes line by line)"
    options = FamilyOptions

    def recognises(self, source: SourceFile) -> bool:
        """Whether the content is one of the formats above."""
        return not source.is_binary and (_is_library(source) or _is_lines(source))

    def read(self, source: SourceFile) -> Sequence[RawBins]:
        """All instances of the file."""
        words, found = Words.of(source), []
        if not _is_library(source):
            n = words.whole("the number of items", 1, MAX_ITEMS)
            capacity = float(words.numbers(1, "capacities")[0])
            found.append(RawBins(words.file, capacity, words.numbers(n, "sizes")))
            words.end(f"the {n} sizes")
            return found
        for _ in range(count := words.whole("the number of instances", 1, 10_000)):
            words.word("the instance's name")
            capacity = float(words.numbers(1, "capacities")[0])
            n = words.whole("the number of items", 1, MAX_ITEMS)
            words.numbers(1, "best known numbers of bins")
            found.append(RawBins(words.file, capacity, words.numbers(n, "sizes")))
        words.end(f"the {count} instances")
        return found

    def normalize(self, raw: RawBins, options: FamilyOptions, name: str) -> Instance:
        """Scale to whole numbers.

        Raises:
            InfeasibleError: an item is larger than a bin.
            InputError: a size of 0, too many decimals, or sums too large.
        """
        over = raw.sizes > raw.capacity
        if over.any():
            k = int(np.argmax(over))
            raise InfeasibleError(
                raw.file,
                f"item {k + 1}",
                f"its size {raw.sizes[k]:g} is above the capacity {raw.capacity:g}, so no packing exists",
                "correct the size or the capacity",
            )
        if not raw.sizes.all():
            k = int(np.argmin(raw.sizes))
            raise InputError(raw.file, f"item {k + 1}", "its size is 0", "remove it: it fits anywhere")
        whole = scaled(np.append(raw.sizes, raw.capacity))
        if whole is None:
            raise InputError(
                raw.file,
                "sizes",
                f"a size or the capacity has more than {MAX_DECIMALS} decimals",
                "round the sizes up and the capacity down",
            )
        if float(whole[0].astype(np.float64).sum()) > MAX_SUM:
            raise InputError(raw.file, "sizes", "they add up to more than 2^31", "rescale them")
        arrays = {"sizes": whole[0][:-1], "capacity": whole[0][-1:], "scale": np.array([float(whole[1])])}
        notes = () if whole[1] == 1 else ("sizes with decimals scaled to whole numbers, exactly",)
        labels = tuple(str(i) for i in range(1, len(raw.sizes) + 1))
        return Instance(self.name, name, len(labels), "min", arrays, options.model_dump(mode="json"), labels, notes)

    def program_size(self, instance: Instance) -> int:
        """Items times bins, symmetry removed, and the bins that may stay closed."""
        return layout(instance).size

    def model(self, instance: Instance) -> Program:
        """The number of bins, one bin per item, no bin above its capacity.

        Raises:
            InputError: more than 5,000 variables.
        """
        import dimod

        where = layout(instance)
        if where.size > PROGRAM_VARIABLES:
            raise InputError(
                instance.name,
                "items",
                f"items times bins make {where.size} variables, a program too large to hold",
                f"use the proposal engine, or an instance with at most {PROGRAM_VARIABLES}",
            )
        capacity = int(instance.arrays["capacity"][0])
        cqm = dimod.ConstrainedQuadraticModel()
        cqm.add_variables(dimod.BINARY, range(where.size))
        first = int(where.starts[-1])
        cqm.set_objective(
            dimod.BinaryQuadraticModel(
                {first + k: 1.0 for k in range(where.most - where.fewest)}, {}, float(where.fewest), dimod.BINARY
            )
        )
        contents: list[list[tuple[int, int]]] = [[] for _ in range(where.most)]
        for r, (start, count) in enumerate(zip(where.starts.tolist(), where.options.tolist(), strict=False)):
            cqm.add_constraint([(start + j, 1) for j in range(count)], "==", 1, label=f"item-{where.order[r] + 1}")
            for j in range(count):
                contents[j].append((start + j, int(instance.arrays["sizes"][where.order[r]])))
        for j, terms in enumerate(contents):
            used = [(first + j - where.fewest, -capacity)] if j >= where.fewest else []
            cqm.add_constraint(terms + used, "<=", 0 if used else capacity, label=f"bin-{j}")
        return Program(cqm, "number of bins")

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        """Number of bins in use; violations ``capacity of bin k`` in the file's units."""
        used, index = np.unique(np.asarray(values).astype(np.int64), return_inverse=True)
        a = instance.arrays
        excess = (np.bincount(index, a["sizes"]) - a["capacity"][0]) / a["scale"][0]
        return Evaluation(
            float(len(used)), {f"capacity of bin {used[b]}": float(excess[b]) for b in np.flatnonzero(excess > 0)}
        )

    def complete(self, instance: Instance, assignment: np.ndarray) -> Solution:
        """The bins chosen; an item in several stays in the first, one in none and the smallest ones of overfull bins
        go where they fit best, to a new bin where they fit nowhere."""
        from hybrid_assets.problems.packing.binpacking_loops import best_fit, evict

        where, sizes = layout(instance), instance.arrays["sizes"]
        capacity, bits = int(instance.arrays["capacity"][0]), np.asarray(assignment)
        bins, homeless, repaired = np.full(instance.size, -1, dtype=np.int64), [], False
        loads = np.zeros(where.most + instance.size, dtype=np.int64)
        for r, item in enumerate(where.order.tolist()):
            chosen = np.flatnonzero(bits[where.starts[r] : where.starts[r + 1]])
            repaired |= len(chosen) != 1
            if len(chosen):
                bins[item] = chosen[0]
                loads[chosen[0]] += sizes[item]
            else:
                homeless.append(item)
        # a bin in use whose binary says that it is not
        repaired |= bool((loads[where.fewest : where.most][bits[where.starts[-1] :] == 0] > 0).any())
        best_fit(sizes, bins, loads, capacity, np.array(homeless, dtype=np.int64))
        repaired |= evict(sizes, bins, loads, capacity, where.order) > 0
        post = PostProcessing.REPAIRED if repaired else PostProcessing.RAW
        return Solution(bins, self.evaluate(instance, bins), post)

    def assignment(self, instance: Instance, values: np.ndarray) -> np.ndarray:
        """Bins renumbered by their largest item; a packing with more bins than the program has gives the reference."""
        where = layout(instance)
        bins = numbered(np.asarray(values).astype(np.int64)[where.order])
        if bins.max() >= where.most:
            bins = numbered(packed(instance)[where.order])
        bits = np.zeros(where.size, dtype=np.int8)
        bits[where.starts[:-1] + bins] = 1
        bits[where.starts[-1] :] = np.arange(where.fewest, where.most) <= bins.max()
        return bits

    def reference(self, instance: Instance, program: Program, seed: int) -> Reference:
        """Best fit decreasing with descent; the items and bins of the least load come first."""
        where = layout(instance)
        bits = self.assignment(instance, packed(instance))
        bins = np.flatnonzero(bits[: where.starts[-1]]) - where.starts[:-1]
        loads = np.bincount(bins, instance.arrays["sizes"][where.order], where.most)
        loads[loads == 0] = np.inf
        rank = np.empty(where.most)
        rank[np.argsort(loads, kind="stable")] = np.arange(where.most)
        rows = np.repeat(np.arange(instance.size), where.options)
        columns = np.arange(int(where.starts[-1])) - where.starts[rows]
        priority = -np.concatenate([np.maximum(rank[bins[rows]], rank[columns]), rank[where.fewest :]])
        return Reference(bits, priority, "best fit decreasing and descent; the lightest bins and their items first")

    def random_assignments(
        self, instance: Instance, count: int, seed: int, free: np.ndarray | None = None, base: np.ndarray | None = None
    ) -> np.ndarray:
        """Feasible packings by a symmetric chain of relocations and exchanges (uniform in the long run over what they
        reach), 20 steps per item from ``base`` or best fit; bins are marked as used exactly where they are."""
        from hybrid_assets.problems.packing.binpacking_loops import mix

        where, rng = layout(instance), np.random.default_rng(seed)
        start = self.assignment(instance, packed(instance)) if base is None else np.asarray(base, dtype=np.int8)
        vary = np.ones(where.size, dtype=bool)
        if free is not None:
            vary[:] = False
            vary[free] = True
        first = int(where.starts[-1])
        allowed = np.zeros((instance.size, where.most), dtype=bool)
        rows = np.repeat(np.arange(instance.size), where.options)
        columns = np.arange(first) - where.starts[rows]
        allowed[rows, columns] = vary[:first]
        # bins that are fixed as closed
        allowed[:, where.fewest :] &= (vary | (start == 1))[first:]
        sizes, capacity = instance.arrays["sizes"][where.order], int(instance.arrays["capacity"][0])
        bins = np.flatnonzero(start[:first]) - where.starts[:-1]
        loads = np.bincount(bins, sizes, where.most).astype(np.int64)
        draws = np.tile(start, (count, 1))
        for draw in draws:
            own, filled = bins.copy(), loads.copy()
            mix(sizes, own, filled, capacity, allowed, CHAIN_STEPS * instance.size, rng)
            draw[:first] = 0
            draw[where.starts[:-1] + own] = 1
            draw[first:] = np.where(vary[first:], filled[where.fewest :] > 0, start[first:])
        return draws

    def landscape(self, instance: Instance) -> BinPackingLandscape:
        """Packings that always fit; see ``binpacking_landscape``."""
        from hybrid_assets.problems.packing.binpacking_landscape import BinPackingLandscape

        return BinPackingLandscape(instance)

    def baselines(self, instance: Instance) -> Sequence[str]:
        """Arc flow first: where it proves the optimum, the others may stop there."""
        small = ("cpsat-program",) if self.program_size(instance) <= PROGRAM_VARIABLES else ()
        return ("arc-flow", *small, "fit-decreasing")

    def constraints(self, instance: Instance) -> Mapping[str, Any]:
        """The capacity, and bounds of the number of bins."""
        a, where = instance.arrays, layout(instance)
        return {"capacity": float(a["capacity"][0] / a["scale"][0]), "bins": [fewest_bins(instance), where.most]}

    def told(self, instance: Instance, values: np.ndarray) -> list[str]:
        """The items of every bin."""
        bins = np.asarray(values).astype(np.int64)
        return [
            f"bin {k}: " + " ".join(instance.labels[i] for i in np.flatnonzero(bins == b).tolist())
            for k, b in enumerate(np.unique(bins).tolist(), 1)
        ]

    def plot_instance(self, instance: Instance) -> Figure:
        """Sizes as shares of a bin."""
        from hybrid_assets.problems.packing import packing_plots

        return packing_plots.sizes(instance)

    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        """Fill chart: every bin as a stack of its items."""
        from hybrid_assets.problems.packing import packing_plots

        titles = {k: f"{k}: {self.evaluate(instance, v).objective:g} bins" for k, v in solutions.items()}
        return packing_plots.bins(instance, {titles[k]: v for k, v in solutions.items()})


def layout(instance: Instance) -> Layout:
    """The program's variables, without building it."""
    order = np.argsort(-instance.arrays["sizes"], kind="stable")
    most = len(np.unique(packed(instance)))
    starts = np.concatenate([[0], np.cumsum(np.minimum(np.arange(1, instance.size + 1), most))])
    # the last bin always has a binary: an objective needs a term
    return Layout(order, starts, min(fewest_bins(instance), most - 1), most)


def packed(instance: Instance) -> np.ndarray:
    """Bins of best fit decreasing and descent; int64, shape ``(n,)``, always the same."""
    from hybrid_assets.problems.packing.binpacking_loops import best_fit, descend

    sizes, capacity = instance.arrays["sizes"], int(instance.arrays["capacity"][0])
    # two bins that are neighbours in time hold more than one capacity together
    bins, loads = np.full(instance.size, -1, dtype=np.int64), np.zeros(2 * sizes.sum() // capacity + 2, dtype=np.int64)
    best_fit(sizes, bins, loads, capacity, np.argsort(-sizes, kind="stable"))
    descend(sizes, bins, loads, capacity, DESCENT)
    return bins


def numbered(bins: np.ndarray) -> np.ndarray:
    """Bins renumbered 0, 1, … in the order of their first item."""
    _, first, index = np.unique(bins, return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return place[index]


def fewest_bins(instance: Instance) -> int:
    """No packing of the instance has fewer bins."""
    return fewest(instance.arrays["sizes"], int(instance.arrays["capacity"][0]))


def fewest(sizes: np.ndarray, capacity: int) -> int:
    """The lower bound L2 (Martello & Toth, Discrete Applied Mathematics 28, 1990), in O(n log n).

    For every α ≤ capacity/2: items above capacity − α share no bin with another one of at least α, further ones above
    half the capacity share none with each other; what the room beside the latter cannot take of the items from α to
    half the capacity needs bins of its own.

    Args:
        sizes: int64, shape ``(n,)``, above 0 and at most ``capacity``.
    """
    sizes = np.sort(sizes)
    sums = np.concatenate([[0], np.cumsum(sizes)])
    half = int(np.searchsorted(2 * sizes, capacity, side="right"))
    alphas = np.unique(np.append(sizes[:half], 0))
    huge = np.searchsorted(sizes, capacity - alphas, side="right")
    small = np.searchsorted(sizes, alphas, side="left")
    beside = (huge - half) * capacity - (sums[huge] - sums[half])
    extra = np.maximum(-(-(sums[half] - sums[np.minimum(small, half)] - beside) // capacity), 0)
    return int((len(sizes) - half + extra).max())


def _is_library(source: SourceFile) -> bool:
    """A count, a name that is no number, and three numbers."""
    lines = [line.split() for line in source.head.splitlines() if line.strip()][:3]
    return (
        [len(line) for line in lines] == [1, 1, 3]
        and lines[0][0].isdigit()
        and not _numeric(lines[1][0])
        and all(map(_numeric, lines[2]))
    )


def _is_lines(source: SourceFile) -> bool:
    """One number a line, the first of which counts those after the second."""
    first = source.head.split(maxsplit=1)[:1]
    # longer numbers count no lines of any file, and Python converts no more than 4,300 digits
    if not first or not (first[0].isascii() and first[0].isdigit() and len(first[0]) < 10):
        return False
    lines = [line.split() for line in source.text.splitlines() if line.strip()]
    return (
        len(lines) >= 3
        and int(lines[0][0]) == len(lines) - 2
        and all(len(line) == 1 and _numeric(line[0]) for line in lines)
    )


def _numeric(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False
