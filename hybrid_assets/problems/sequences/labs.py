"""The ``labs`` family: a binary sequence of given length with the lowest autocorrelation.

Here: its formats, the sidelobe energy, the program of degree four, the pictures. Not here: the polynomial
(``labs_polynomial``), neighbourhoods (``labs_landscape``), flips (``labs_moves``), solvers.

Formats: QOBLIB's class 02 as JSON (``{"problem": "LABS", "n": 13}``), and one line of text (``labs 13`` or
``N = 13``). The instance is the length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.plots import small_figure
from hybrid_assets.problems.base import Evaluation, FamilyOptions, Instance, Program, Reference
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.problems.unconstrained import BitFamily
from resources.failures import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hybrid_assets.problems.sequences.labs_landscape import LabsLandscape

#: Longest sequence, and longest one that is modelled as a whole (122,000 terms of degree 3 and 4).
MAX_LENGTH, MODELLED_LENGTH = 2_000, 80
#: Larger files are something else.
MAX_CHARACTERS = 4_096
#: Descents of ``reference``.
DESCENTS = 30

_COMMENT = re.compile(r"^\s*[#%].*$", re.MULTILINE)
_LINE = re.compile(r"\s*(?:labs\s*:?\s*(?:n\s*=?\s*)?|n\s*=\s*)(\S+)\s*", re.IGNORECASE)
_FIX = f'write \'labs 13\', or {{"problem": "LABS", "n": 13}}, with a length from 2 to {MAX_LENGTH}'


@dataclass(frozen=True)
class RawLength:
    """A file's name and the length it asks for."""

    file: str
    length: int


class Labs(BitFamily):
    """Low-autocorrelation binary sequences; bit x stands for the element 1 − 2x.

    Minimized is E = Σ_k C_k² with C_k = Σ_i s_i s_{i+k} (Golay's merit factor is n²/2E).
    """

    name = "labs"
    version = "1"
    title = "low-autocorrelation binary sequence (LABS)"

    def recognises(self, source: SourceFile) -> bool:
        """One of the two formats, whatever the length says."""
        if len(source.content) > MAX_CHARACTERS or source.is_binary:
            return False
        text = _COMMENT.sub("", source.head)
        if text.lstrip().startswith("{"):
            document = _document(text)
            return isinstance(document, dict) and str(document.get("problem")).lower() == "labs"
        return _LINE.fullmatch(text) is not None

    def read(self, source: SourceFile) -> Sequence[RawLength]:
        """The length."""
        text = _COMMENT.sub("", source.text)
        if text.lstrip().startswith("{"):
            document = _document(text)
            if not isinstance(document, dict) or str(document.get("problem")).lower() != "labs":
                raise InputError(source.name, "file", "it is no JSON object with the problem 'LABS'", _FIX)
            given, place = document.get("n"), "n"
        else:
            found = _LINE.fullmatch(text)
            if found is None:
                raise InputError(source.name, "file", "it does not say which length the sequence has", _FIX)
            word = found[1]
            number = 1 + source.text[: source.text.find(word)].count("\n")
            given, place = int(word) if word.isascii() and word.isdigit() and len(word) < 9 else word, f"line {number}"
        if type(given) is not int or not 2 <= given <= MAX_LENGTH:
            raise InputError(source.name, place, f"the length is {str(given)[:40]!r}", _FIX)
        return [RawLength(source.name, given)]

    def normalize(self, raw: RawLength, options: FamilyOptions, name: str) -> Instance:
        """An instance without arrays: its size says everything."""
        return Instance(
            family=self.name,
            name=name,
            size=raw.length,
            sense="min",
            arrays={},
            settings=options.model_dump(mode="json"),
            labels=tuple(f"s{i}" for i in range(1, raw.length + 1)),
            notes=(f"an energy of {lowest_energy(raw.length)} would be that of a Barker sequence",),
        )

    def model(self, instance: Instance) -> Program:
        """The energy as a polynomial of degree four over the bits.

        Raises:
            InputError: more than 80 bits.
        """
        import dimod

        from hybrid_assets.problems.sequences.labs_polynomial import sidelobe_polynomial

        n = instance.size
        if n > MODELLED_LENGTH:
            raise InputError(
                instance.name,
                "n",
                f"the program of {n} bits is too large to hold",
                f"use at most {MODELLED_LENGTH}, or a solver that needs no program",
            )
        energy = sidelobe_polynomial(np.zeros(n, dtype=np.int8), np.arange(n))
        cqm = dimod.ConstrainedQuadraticModel()
        cqm.set_objective(
            dimod.BinaryQuadraticModel.from_numpy_vectors(
                energy.linear, (energy.rows, energy.cols, energy.values), energy.offset, dimod.BINARY
            )
        )
        return Program(cqm, "sidelobe energy of degree four", energy.higher)

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        """The sidelobe energy."""
        return Evaluation(float((correlations(values)[1:] ** 2).sum()))

    def landscape(self, instance: Instance) -> LabsLandscape:
        """Some bits of the sequence, given the others."""
        from hybrid_assets.problems.sequences.labs_landscape import LabsLandscape

        return LabsLandscape(instance)

    def reference(self, instance: Instance, program: Program, seed: int) -> Reference:
        """The best of some descents; bits whose flip costs least are most worth deciding."""
        walk = self.landscape(instance)
        states = (walk.polish(walk.start(seed + k), 100 * instance.size).state for k in range(DESCENTS))
        best = min(states, key=lambda state: state.cost)
        return Reference(
            best.data,
            best.cost - walk.flipped(best.data).astype(np.float64),
            f"best of {DESCENTS} descents; bits in the order of what their flip costs",
        )

    def baselines(self, instance: Instance) -> Sequence[str]:
        """Branch and bound, which proves optima to about 30 elements, then tabu search."""
        return ("labs-branch", "labs-tabu")

    def plot_instance(self, instance: Instance) -> Figure:
        """How many products each correlation has: all there is to know beforehand."""
        figure = small_figure(5.5, 3.4)
        axes = figure.subplots()
        shifts = np.arange(1, instance.size)
        axes.bar(shifts, instance.size - shifts, color="#4c72b0")
        axes.set_xlabel("shift k")
        axes.set_ylabel("products in C(k)")
        axes.set_title(f"{instance.name}: sequences of length {instance.size}")
        return figure

    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        """The autocorrelation of every solution, with energy and merit factor, above the sequence itself."""
        rows = max(1, len(solutions))
        figure = small_figure(7.0, 2.6 * rows)
        figure.subplots_adjust(hspace=0.6)
        panels = np.atleast_1d(figure.subplots(rows, 1))
        for axes, (label, values) in zip(panels, solutions.items(), strict=False):
            c, n = correlations(values), instance.size
            energy = float((c[1:] ** 2).sum())
            axes.bar(np.arange(1, n), c[1:], color="#4c72b0")
            axes.axhline(0.0, color="0.3", linewidth=0.8)
            axes.set_ylabel("C(k)")
            axes.set_title(f"{label}: E = {energy:g}, merit factor {merit_factor(n, energy):.3f}", fontsize=10)
        panels[-1].set_xlabel("shift k")
        return figure


def correlations(values: np.ndarray) -> np.ndarray:
    """Aperiodic autocorrelations C_0 … C_{n−1} of bits of shape ``(n,)``; float64, whole."""
    spins = 1.0 - 2.0 * (np.asarray(values) > 0.5)
    return np.rint(np.correlate(spins, spins, mode="full")[len(spins) - 1 :])


def merit_factor(length: int, energy: float) -> float:
    """Golay's n²/2E."""
    return length**2 / (2.0 * energy)


def lowest_energy(length: int) -> int:
    """A bound that needs no search: C_k has the parity of n − k, so every other one is at least 1 from 0."""
    return length // 2


def _document(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
