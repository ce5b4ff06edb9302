"""Circuits of Pauli rotations: the payload of ``estimate`` and ``kernel`` jobs, what is read out, and the values.

Every ansatz (hardware-efficient, unitary coupled cluster), Trotter step and feature map is a list of rotations
exp(−iθ/2·P) by Pauli strings, so that one small document serves all vendors. Here: the document, the circuits that it
asks for, and expectation values or state overlaps from their bits, with standard errors and read-out mitigation. Not
here: gates of a particular SDK (``templates``) or sending (``resources.backends``).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from resources.envelope import Frozen, ProgramSize, canonical_json
from resources.failures import BackendError, FailureClass

#: A Pauli string: one of I, X, Y, Z per qubit, qubit 0 first (Qiskit's labels are the other way round).
PauliString = Annotated[str, Field(pattern="^[IXYZ]+$")]
Kind = Literal["estimate", "kernel"]
#: Most circuits of one job, gates of a circuit, angles of all circuits, and different Pauli strings in its observables:
#: what a process can hold, compile, and sort into bases.
MOST_CIRCUITS, MOST_GATES, MOST_ANGLES, MOST_STRINGS = 100_000, 100_000, 20_000_000, 10_000
#: Largest sum of an observable's coefficients; squares and corrections stay finite.
LARGEST = 1e100
#: How the problem of a job that is too large ends.
SPLIT = ", split the job"
_I = ord("I")
#: Signs of read-outs held at a time.
_SIGNS_AT_ONCE = 4_000_000


class Rotation(Frozen):
    """exp(−iθ/2·P) with θ = ``factor`` · row[``parameter``], without a parameter θ = ``factor`` (radians)."""

    pauli: PauliString
    parameter: int | None = Field(default=None, ge=0)
    factor: float = 1.0


class Term(Frozen):
    """A real multiple of a Pauli string."""

    pauli: PauliString
    coefficient: float


class PauliProgram(Frozen):
    """States |φ(row)⟩ prepared by rotations of a basis state, and what is asked about them.

    An ``estimate`` job asks for ⟨φ(row)|O|φ(row)⟩ of each row and observable, a ``kernel`` job for |⟨φ(a)|φ(b)⟩|² of
    each pair of rows (there are no observables then).

    Attributes:
        initial: the basis state at the start, one 0 or 1 per qubit.
        rotations: applied in this order.
        rows: parameters of each state, all of the same length.
        observables: Hermitian sums of Pauli strings; equal strings add up.
    """

    initial: tuple[Literal[0, 1], ...] = Field(min_length=1)
    rotations: tuple[Rotation, ...] = ()
    rows: tuple[tuple[float, ...], ...] = Field(default=((),), min_length=1)
    observables: tuple[Annotated[tuple[Term, ...], Field(min_length=1)], ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> PauliProgram:
        width = len(self.rows[0])
        if any(len(row) != width for row in self.rows):
            raise ValueError("rows must have the same number of parameters")
        for where, strings in (
            ("rotations", [rotation.pauli for rotation in self.rotations]),
            ("observables", [term.pauli for terms in self.observables for term in terms]),
        ):
            if any(len(string) != self.qubits for string in strings):
                raise ValueError(f"{where}: every Pauli string must have {self.qubits} letters, one per qubit")
        if any(set(rotation.pauli) == {"I"} for rotation in self.rotations):
            raise ValueError("rotations: a rotation by the identity is a global phase, leave it out")
        highest = max((r.parameter for r in self.rotations if r.parameter is not None), default=-1)
        if highest >= width:
            raise ValueError(f"rotations: parameter {highest} is not in the rows, which have {width}")
        largest = np.abs(np.array(self.rows, dtype=float)).max(axis=0)
        if not all(
            math.isfinite(r.factor * (1.0 if r.parameter is None else largest[r.parameter])) for r in self.rotations
        ):
            raise ValueError("rotations: an angle (factor times parameter) is not finite")
        if any(sum(abs(term.coefficient) for term in terms) > LARGEST for terms in self.observables):
            raise ValueError(f"observables: the coefficients of one add up to more than {LARGEST:g}")
        return self

    @property
    def qubits(self) -> int:
        """Number of qubits."""
        return len(self.initial)

    @classmethod
    def from_bytes(cls, content: bytes) -> PauliProgram:
        """From ``to_bytes``.

        Raises:
            BackendError: class ``circuit``, with the field.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the program"
            raise BackendError(f"payload: {place}: {first['msg']}", FailureClass.CIRCUIT, not_sent=True) from None

    def to_bytes(self) -> bytes:
        """Canonical JSON: equal programs are one artefact."""
        return canonical_json(self.model_dump(mode="json")).encode()

    def angles(self) -> np.ndarray:
        """Rotation angles, radians, shape ``(rows, rotations)``."""
        rows = np.array(self.rows, dtype=float).reshape(len(self.rows), -1)
        columns = [
            np.full(len(rows), r.factor) if r.parameter is None else r.factor * rows[:, r.parameter]
            for r in self.rotations
        ]
        return np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0))


@dataclass(frozen=True)
class PauliStructure:
    """What decides a circuit's shape: equal structures share one compiled template.

    Attributes:
        initial: basis state at the start.
        paulis: Pauli string of each rotation; each has a free angle.
        basis: Pauli in whose eigenbasis each qubit is read out; I reads as Z.
    """

    initial: tuple[int, ...]
    paulis: tuple[str, ...]
    basis: str

    @property
    def variables(self) -> int:
        """Number of qubits."""
        return len(self.initial)

    @property
    def parameters(self) -> int:
        """Free angles, one per rotation."""
        return len(self.paulis)


@dataclass(frozen=True, eq=False)
class Measurement:
    """Circuits of one structure: ``angles`` has shape ``(circuits, structure.parameters)``, radians."""

    structure: PauliStructure
    angles: np.ndarray


@dataclass(frozen=True, eq=False)
class Reading:
    """What is read out for a program, and what the read-outs say.

    Attributes:
        kind: of the job.
        bases: read-out basis of each measurement, recorded with a job, so that whoever reads its answer uses the same.
    """

    program: PauliProgram
    kind: Kind
    bases: tuple[str, ...]

    @classmethod
    def of(cls, program: PauliProgram, kind: Kind) -> Reading:
        """For ``estimate``, one basis per group of qubit-wise commuting Pauli strings; for ``kernel`` there is one.

        Raises:
            BackendError: class ``circuit``: nothing is asked, or too much.
        """
        if kind == "kernel":
            if program.observables or len(program.rows) < 2:
                raise _circuit("a kernel job has no observables and at least two rows")
            found = cls(program, kind, ("Z" * program.qubits,))
        else:
            if not program.observables:
                raise _circuit("an estimate job needs observables")
            strings = {term.pauli for terms in program.observables for term in terms}
            if len(strings) > MOST_STRINGS:
                raise _circuit(f"{len(strings)} different Pauli strings are more than {MOST_STRINGS}{SPLIT}")
            found = cls(program, kind, _bases(strings))
        size = found.size
        for count, most, what in (
            (size.circuits, MOST_CIRCUITS, "circuits"),
            (size.rotations + size.two_qubit_gates, MOST_GATES, "gates of a circuit"),
            (size.circuits * size.rotations, MOST_ANGLES, "angles"),
        ):
            if count > most:
                raise _circuit(f"{count} {what} are more than {most}{SPLIT}")
        return found

    @property
    def circuits(self) -> int:
        """Circuits to be read out."""
        rows = len(self.program.rows)
        return rows * (rows - 1) // 2 if self.kind == "kernel" else rows * len(self.bases)

    @property
    def size(self) -> ProgramSize:
        """For the envelope. A rotation by a string of weight w takes 2·(w − 1) gates on two qubits."""
        there = sum(2 * (len(r.pauli) - r.pauli.count("I") - 1) for r in self.program.rotations)
        ways = 2 if self.kind == "kernel" else 1
        rotations = len(self.program.rotations)
        return ProgramSize(circuits=self.circuits, rotations=ways * rotations, two_qubit_gates=ways * there)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the values."""
        rows = len(self.program.rows)
        return (rows, rows) if self.kind == "kernel" else (rows, len(self.program.observables))

    @cached_property
    def measurements(self) -> list[Measurement]:
        """What to run. Overlaps are read from U†(b)U(a)|initial⟩, for all pairs a < b in ``combinations``' order."""
        program, angles = self.program, self.program.angles()
        paulis = tuple(rotation.pauli for rotation in program.rotations)
        if self.kind == "estimate":
            return [Measurement(PauliStructure(program.initial, paulis, basis), angles) for basis in self.bases]
        left, right = np.array(list(combinations(range(len(angles)), 2))).T
        there_and_back = np.concatenate([angles[left], -angles[right][:, ::-1]], axis=1)
        return [Measurement(PauliStructure(program.initial, paulis + paulis[::-1], self.bases[0]), there_and_back)]

    @cached_property
    def places(self) -> dict[str, int]:
        """By Pauli string of the observables, the measurement in which it is read."""
        bases, found = _letters(self.bases), {}
        for string in dict.fromkeys(term.pauli for terms in self.program.observables for term in terms):
            (letters,) = _letters([string])
            support = letters != _I
            found[string] = int(np.flatnonzero((bases[:, support] == letters[support]).all(axis=1))[0])
        return found

    def values(
        self, bits: Sequence[np.ndarray], confusion: Sequence[np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values and their standard errors, both of ``shape``.

        Args:
            bits: of each measurement, shape ``(circuits, shots, qubits)``, qubit 0 first.
            confusion: of each measurement, shape ``(qubits, 2, 2)``, entry ``[i, seen, prepared]``: values are then
                corrected for read-out errors, taken as independent. Unbiased, at the price of larger errors; overlaps
                may leave 0 … 1.

        Source: S. Bravyi et al., "Mitigating measurement errors in multiqubit experiments", Phys. Rev. A 103, 042605
        (2021), tensor product noise model.
        """
        inverse: list[np.ndarray | None] = [None] * len(bits)
        if confusion is not None:
            inverse = [np.linalg.inv(one) for one in confusion]
        if self.kind == "kernel":
            return self._overlaps(bits[0], inverse[0])
        values, variances = np.zeros(self.shape), np.zeros(self.shape)
        # a power of two near each observable: squares of very large or small coefficients stay numbers
        units = np.array([_unit(sum(abs(term.coefficient) for term in terms)) for terms in self.program.observables])
        asked: list[dict[int, list[tuple[list[int], float]]]] = [{} for _ in bits]
        for column, terms in enumerate(self.program.observables):
            together = dict.fromkeys((term.pauli for term in terms), 0.0)
            for term in terms:
                together[term.pauli] += term.coefficient / units[column]
            for string, coefficient in together.items():
                support = [i for i, letter in enumerate(string) if letter != "I"]
                asked[self.places[string]].setdefault(column, []).append((support, coefficient))
        for read, undo, columns in zip(bits, inverse, asked, strict=True):
            for block in _blocks(read):
                signs = _signs(read[block], undo)
                for column, parts in columns.items():
                    shots = np.zeros(signs.shape[:2])
                    for support, coefficient in parts:
                        shots += coefficient * signs[:, :, support].prod(axis=2)
                    apart = 2 * sum(abs(coefficient) for support, coefficient in parts if support)
                    values[block, column] += shots.mean(axis=1)
                    variances[block, column] += _variance_of_mean(shots, apart)
        return values * units, np.sqrt(variances) * units

    def _overlaps(self, bits: np.ndarray, undo: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The share of read-outs that are back at the start."""
        initial = np.array(self.program.initial)
        means, variances = np.zeros(len(bits)), np.zeros(len(bits))
        for block in _blocks(bits):
            if undo is None:
                back = (bits[block] == initial).all(axis=2).astype(float)
            else:
                # E over read-outs of this is the indicator of the prepared bit
                back = undo[np.arange(len(initial)), initial][np.arange(len(initial)), bits[block]].prod(axis=2)
            means[block], variances[block] = back.mean(axis=1), _variance_of_mean(back, 1.0)
        values, errors = np.eye(self.shape[0]), np.zeros(self.shape)
        upper = np.triu_indices(self.shape[0], 1)
        values[upper], errors[upper] = means, np.sqrt(variances)
        return values + np.triu(values, 1).T, errors + errors.T


def _signs(bits: np.ndarray, undo: np.ndarray | None) -> np.ndarray:
    """Eigenvalue of each qubit's Pauli, shape of ``bits``; corrected, so that its mean is that before read-out."""
    if undo is None:
        return 1.0 - 2.0 * bits
    both = undo[:, 0, :] - undo[:, 1, :]
    return both[np.arange(bits.shape[2]), bits.astype(np.intp)]


def _variance_of_mean(shots: np.ndarray, apart: float) -> np.ndarray:
    """Of values of shape ``(circuits, shots)``, any two of which are at most ``apart`` without noise.

    Shots that all agree do not make a value exact: what has not been seen in n shots has, by Laplace's rule of
    succession, a probability of 1/(n + 2), whose variance then counts.
    """
    count = shots.shape[1]
    unseen = apart**2 * (count + 1) / ((count + 2) ** 2 * (count + 3))
    scatter = shots.var(axis=1, ddof=min(1, count - 1)) / count
    return np.where(np.ptp(shots, axis=1) > 0, scatter, unseen)


def _blocks(bits: np.ndarray) -> Iterator[slice]:
    """Parts of the circuits whose signs fit the memory."""
    step = max(1, _SIGNS_AT_ONCE // math.prod(bits.shape[1:]))
    return (slice(start, start + step) for start in range(0, len(bits), step))


def _unit(size: float) -> float:
    return math.ldexp(1.0, math.frexp(size)[1] - 1) if size else 1.0


def _letters(strings: Collection[str]) -> np.ndarray:
    """Codes of the letters, shape ``(strings, qubits)``."""
    return np.frombuffer("".join(strings).encode(), dtype=np.uint8).reshape(len(strings), -1)


def _bases(strings: Collection[str]) -> tuple[str, ...]:
    """Bases that read all strings, first fit in order of weight, identities read by any; at least one."""
    ordered = sorted(set(strings), key=lambda s: (s.count("I"), s))
    letters = _letters(ordered)
    bases, count = np.zeros_like(letters), 0
    for string in letters:
        there, support = bases[:count], string != _I
        fits = np.flatnonzero(~((there != string) & (there != _I) & support).any(axis=1))
        if not len(fits):
            bases[count] = string
            count += 1
        else:
            bases[fits[0], support] = string[support]
    return tuple(basis.tobytes().decode().replace("I", "Z") for basis in bases[:count])


def _circuit(problem: str) -> BackendError:
    return BackendError(f"payload: {problem}", FailureClass.CIRCUIT, not_sent=True)
