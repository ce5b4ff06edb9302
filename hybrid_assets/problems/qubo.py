"""The ``qubo`` family: quadratic unconstrained binary optimization, x'Qx over bits.

Here: its formats and its conventions, the objective, the pictures. Not here: line parsing (``coordinate``), what it
shares with other families without constraints (``unconstrained``), solvers.

Formats, recognised by content:

- Biq Mac ``.sparse``: ``n m``, then ``i j q`` with i <= j from 1; Q is symmetric, so an off-diagonal entry counts
  twice and a diagonal one once; minimized (Wiegele, Biq Mac Library, 2007).
- OR-Library ``bqp``: the number of instances, then each as above; maximized (Beasley, OR-Library, 1990).
- qbsolv ``.qubo``: ``p qubo topology maxNodes nNodes nCouplers``, then ``i i q`` and ``i j q`` with i < j from 0; every
  entry counts once; minimized; comment lines begin with ``c``.
- dimod: JSON of ``to_serializable``, binary of ``to_file``, COO text with its vartype header (indices from 0); spins
  s become bits by s = 2x − 1, offset kept; minimized.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_assets.plots import small_figure
from hybrid_assets.problems.base import Evaluation, FamilyOptions, Instance, Sense, no_bits
from hybrid_assets.problems.coordinate import (
    COO_HEADER,
    DIMOD_MAGIC,
    MAX_COEFFICIENT,
    MAX_VARIABLES,
    Lines,
    Triplets,
    families_of,
)
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.problems.unconstrained import Quadratic, UnconstrainedFamily, draw_matrix
from resources.failures import InputError

if TYPE_CHECKING:
    import dimod
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class RawQubo:
    """One instance as its file gives it.

    Attributes:
        file: the file's name, for messages.
        quadratic: the polynomial, every pair's coefficient in full.
        sense: whether the file's objective is minimized or maximized.
        labels: one name per variable.
        notes: what reading did.
    """

    file: str
    quadratic: Quadratic
    sense: Sense
    labels: tuple[str, ...]
    notes: tuple[str, ...]


class Qubo(UnconstrainedFamily):
    """Quadratic unconstrained binary optimization; a maximized file keeps its sense and its objective."""

    name = "qubo"
    version = "1"
    title = "quadratic unconstrained binary optimization (QUBO)"
    form = "QUBO"

    def recognises(self, source: SourceFile) -> bool:
        """Whether the content is one of the formats above."""
        return self.name in families_of(source)

    def read(self, source: SourceFile) -> Sequence[RawQubo]:
        """Parse any of the formats above; only OR-Library files hold more than one instance."""
        if source.content.startswith(DIMOD_MAGIC) or source.head.lstrip().startswith("{"):
            return [_read_dimod(source)]
        declared = COO_HEADER.match(source.head)
        lines = Lines.of(source)
        if declared:
            return [_read_coo(lines, declared[1])]
        if lines.lines[0].startswith("p"):
            return [_read_qbsolv(lines)]
        if lines.lines[0].isdigit():
            return _read_orlib(lines)
        size, entries = lines.integers(0, "n m")
        found = lines.entries(1, lines.counted(1, entries, "entries"), size, loops=True, lower=False)
        return [_raw(lines.name, size, found, 2.0, "min", "Biq Mac sparse: off-diagonal entries count twice")]

    def normalize(self, raw: RawQubo, options: FamilyOptions, name: str) -> Instance:
        """Drop zero coefficients and store the polynomial.

        Arrays: ``linear`` (n,), ``rows`` and ``cols`` (rows < cols), ``values`` and ``offset`` (1,).

        Raises:
            InputError: nothing is left to decide.
        """
        q = raw.quadratic
        kept = q.values != 0
        if not kept.any() and not q.linear.any():
            raise InputError(
                raw.file,
                "coefficients",
                "all of them are zero, so there is nothing to decide",
                "give at least one coefficient that is not zero",
            )
        dropped = int(np.sum(~kept))
        notes = raw.notes + ((f"{dropped} zero couplings dropped",) if dropped else ())
        return Instance(
            family=self.name,
            name=name,
            size=len(q.linear),
            sense=raw.sense,
            arrays={
                "linear": q.linear,
                "rows": q.rows[kept],
                "cols": q.cols[kept],
                "values": q.values[kept],
                "offset": np.array([q.offset]),
            },
            settings=options.model_dump(mode="json"),
            labels=raw.labels,
            notes=notes,
        )

    def minimized(self, instance: Instance) -> Quadratic:
        """The polynomial, negated when the file's objective is maximized."""
        sign = -1.0 if instance.sense == "max" else 1.0
        q = _polynomial(instance)
        return Quadratic(sign * q.linear, q.rows, q.cols, sign * q.values, sign * q.offset)

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        """x'Qx plus the offset, in the file's own terms; violation ``values that are no bits``."""
        return Evaluation(_polynomial(instance).at(values), no_bits(values))

    def plot_instance(self, instance: Instance) -> Figure:
        """The matrix as a heat map."""
        figure = small_figure(5.5, 4.5)
        axes = figure.subplots()
        draw_matrix(axes, _polynomial(instance))
        axes.set(
            title=f"{instance.name}: Q, {instance.size} variables, {len(instance.arrays['values'])} couplings",
            xlabel="variable",
            ylabel="variable",
        )
        return figure

    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        """For every solution the matrix with the chosen variables first: what lies in the upper left block counts."""
        figure = small_figure(4.8 * max(1, len(solutions)), 4.2)
        panels = np.atleast_1d(figure.subplots(1, max(1, len(solutions))))
        for axes, (label, values) in zip(panels, solutions.items(), strict=False):
            draw_matrix(axes, _polynomial(instance), values)
            axes.set(
                title=f"{label}: {self.evaluate(instance, values).objective:g}, {int(np.sum(values))} ones",
                xlabel="variables, ones first",
            )
        return figure


def _polynomial(instance: Instance) -> Quadratic:
    a = instance.arrays
    return Quadratic(a["linear"], a["rows"], a["cols"], a["values"], float(a["offset"][0]))


def _raw(file: str, size: int, found: Triplets, counted: float, sense: Sense, note: str, base: int = 1) -> RawQubo:
    """Split entries into linear and quadratic parts; ``counted`` is what an off-diagonal entry counts."""
    linear = np.zeros(size)
    diagonal = found.rows == found.cols
    linear[found.rows[diagonal]] = found.values[diagonal]
    pairs = ~diagonal
    quadratic = Quadratic(linear, found.rows[pairs], found.cols[pairs], counted * found.values[pairs], 0.0)
    labels = tuple(str(v) for v in range(base, base + size))
    return RawQubo(file, quadratic, sense, labels, (note,))


def _read_orlib(lines: Lines) -> list[RawQubo]:
    (instances,) = lines.integers(0, "instances")
    note = "OR-Library bqp: maximized, off-diagonal entries count twice"
    found, at = [], 1
    for _ in range(instances):
        size, entries = lines.integers(at, "n m")
        stop = at + 1 + entries
        if stop > len(lines.lines):
            raise lines.error(
                at,
                f"it promises {entries} entries, the file has {len(lines.lines) - at - 1} more lines",
                "correct the header or complete the list",
            )
        block = lines.entries(at + 1, stop, size, loops=True, lower=False)
        found.append(_raw(lines.name, size, block, 2.0, "max", note))
        at = stop
    if not found:
        raise lines.error(0, "it promises no instance", "give the number of instances that follow")
    if at < len(lines.lines):
        raise lines.error(at, f"data goes on after the last of {instances} instances", "correct the counts")
    return found


def _read_qbsolv(lines: Lines) -> RawQubo:
    words = lines.lines[0].split()
    if words[:2] != ["p", "qubo"] or len(words) != 6:
        raise lines.error(0, f"the header is {lines.lines[0][:60]!r}", "write 'p qubo topology n nodes couplers' there")
    # the topology may be a number or a word; only the counts after it matter
    size, nodes, couplers = lines.integers(0, "n nodes couplers", " ".join(words[:3]))
    found = lines.entries(
        1, lines.counted(1, nodes + couplers, "nodes and couplers"), size, base=0, loops=True, lower=False
    )
    diagonal = int(np.sum(found.rows == found.cols))
    if diagonal != nodes:
        raise lines.error(
            0,
            f"it promises {nodes} nodes, the file has {diagonal} diagonal entries",
            "correct the header or complete the list",
        )
    return _raw(lines.name, size, found, 1.0, "min", "qbsolv: every entry counts once", base=0)


def _read_coo(lines: Lines, vartype: str) -> RawQubo:
    if vartype not in ("BINARY", "SPIN"):
        raise InputError(lines.name, "vartype", f"it is {vartype!r}", "declare BINARY or SPIN")
    last = max(
        (int(word) for line in lines.lines for word in line.split()[:2] if word.isascii() and word.isdigit()), default=0
    )
    if last >= MAX_VARIABLES:
        raise InputError(lines.name, "index", f"the largest is {last}", f"use indices below {MAX_VARIABLES}")
    size = last + 1
    found = lines.entries(0, len(lines.lines), size, base=0, loops=True, lower=True)
    raw = _raw(lines.name, size, found, 1.0, "min", f"dimod COO, {vartype}: every entry counts once", base=0)
    if vartype == "BINARY":
        return raw
    return RawQubo(
        raw.file,
        _bits_from_spins(raw.quadratic),
        "min",
        raw.labels,
        (*raw.notes, "spins became bits by s = 2x - 1, offset kept"),
    )


def _bits_from_spins(spin: Quadratic) -> Quadratic:
    """s = 2x − 1 in Σ h s + Σ J s s: linear 2h − 2ΣJ, couplings 4J, offset + ΣJ − Σh."""
    neighbours = np.zeros(len(spin.linear))
    np.add.at(neighbours, spin.rows, spin.values)
    np.add.at(neighbours, spin.cols, spin.values)
    offset = spin.offset + float(spin.values.sum()) - float(spin.linear.sum())
    return Quadratic(2 * spin.linear - 2 * neighbours, spin.rows, spin.cols, 4 * spin.values, offset)


def _read_dimod(source: SourceFile) -> RawQubo:
    """A binary quadratic model in one of dimod's own formats."""
    import dimod

    def load() -> dimod.BinaryQuadraticModel:
        if source.content.startswith(DIMOD_MAGIC):
            return dimod.BinaryQuadraticModel.from_file(io.BytesIO(source.content))
        return dimod.BinaryQuadraticModel.from_serializable(json.loads(source.text))

    bqm = _loaded(source.name, load)
    size = bqm.num_variables
    if not 1 <= size <= MAX_VARIABLES:
        raise InputError(source.name, "variables", f"it has {size}", f"give between 1 and {MAX_VARIABLES}")
    labels = list(bqm.variables)
    linear, (heads, tails, biases), offset = bqm.to_numpy_vectors(variable_order=labels)[:3]
    for what, values in (("linear", linear), ("quadratic", biases), ("offset", np.array([offset]))):
        if not np.isfinite(values).all() or np.abs(values).max(initial=0.0) > MAX_COEFFICIENT:
            raise InputError(
                source.name,
                f"{what} biases",
                f"one is not finite or larger than {MAX_COEFFICIENT:g}",
                "give finite biases, rescaled if need be",
            )
    rows, cols = np.minimum(heads, tails).astype(np.int64), np.maximum(heads, tails).astype(np.int64)
    order = np.lexsort((cols, rows))
    quadratic = Quadratic(
        np.asarray(linear, dtype=np.float64),
        rows[order],
        cols[order],
        np.asarray(biases, dtype=np.float64)[order],
        float(offset),
    )
    notes: tuple[str, ...] = (f"dimod model, {bqm.vartype.name}",)
    if bqm.vartype is dimod.SPIN:
        quadratic = _bits_from_spins(quadratic)
        notes += ("spins became bits by s = 2x - 1, offset kept",)
    return RawQubo(source.name, quadratic, "min", tuple(map(str, labels)), notes)


def _loaded(name: str, load: Callable[[], Any]) -> dimod.BinaryQuadraticModel:
    """The model, or the input error; dimod's readers raise whatever the damage leads to."""
    try:
        return load()
    except Exception as error:
        cause = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(
            name, "file", f"dimod cannot read it ({cause})", "write it again with dimod's to_file or to_serializable"
        ) from None
