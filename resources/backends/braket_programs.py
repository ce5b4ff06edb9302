"""Estimate and kernel jobs on Amazon Braket: programs of Pauli rotations in Braket's gates.

Here: the circuit of a program, the plan of a job that all Braket devices share, a simulated sweep of angles, and the
program set, one task with all circuits of a job, with the reading of its result. Not here: QAOA circuits and the
simulators (``braket``), requests to the cloud (``braket_aws``), programs and their values (``circuits.pauli``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from resources.backends.measuring import noted, reading_again
from resources.circuits.device import CouplingMapName, Routed, estimate_program
from resources.circuits.pauli import PauliStructure, Reading
from resources.envelope import JobEnvelope
from resources.failures import BackendError, FailureClass, redacted
from resources.payloads import Payload, reading_of

if TYPE_CHECKING:
    from braket.circuits import Circuit
    from braket.ir.openqasm import ProgramSet

#: The action under which a device says that it runs program sets, and how large.
ACTION = "braket.ir.openqasm.program_set"


@lru_cache(maxsize=32)
def pauli_circuit(structure: PauliStructure) -> Circuit:
    """The rotations in H, Rx, Rz and ZZ with the free angles ``a0``, ``a1`` … in their order, turned for the read-out;
    qubit i on qubit i, nothing measured. A rotation by a string of weight w takes max(0, 2·w − 3) gates ZZ."""
    from braket.circuits import Circuit, FreeParameter

    circuit, n = Circuit(), structure.variables

    def turned(letters: list[tuple[int, str]], back: bool = False) -> None:
        """To or from the basis in which each qubit's Pauli is Z."""
        for qubit, letter in letters:
            if letter == "X":
                circuit.h(qubit)
            elif letter == "Y":
                circuit.rx(qubit, -math.pi / 2 if back else math.pi / 2)

    def cnot(control: int, target: int) -> None:
        circuit.h(target).zz(control, target, -math.pi / 2)
        circuit.rz(control, math.pi / 2).rz(target, math.pi / 2).h(target)

    for qubit in [qubit for qubit, bit in enumerate(structure.initial) if bit]:
        circuit.rx(qubit, math.pi)
    for place, pauli in enumerate(structure.paulis):
        support = [(qubit, letter) for qubit, letter in enumerate(pauli) if letter != "I"]
        wires, angle = [qubit for qubit, _ in support], FreeParameter(f"a{place}")
        chain = list(pairwise(wires[:-1]))
        turned(support)
        for pair in chain:
            cnot(*pair)
        if len(wires) > 1:
            circuit.zz(wires[-2], wires[-1], angle)
        else:
            circuit.rz(wires[0], angle)
        for pair in reversed(chain):
            cnot(*pair)
        turned(support, back=True)
    turned(list(enumerate(structure.basis)))
    # a qubit that no gate touches is not in the circuit
    for qubit in set(range(n)) - {int(qubit) for qubit in circuit.qubits}:
        circuit.rz(qubit, 0.0)
    return circuit


def two_qubit_gates(circuit: Circuit) -> int:
    """Number of gates on two qubits."""
    return sum(len(gate.target) == 2 for gate in circuit.instructions)


def plan_program(envelope: JobEnvelope, payload: Payload) -> tuple[Reading, dict[str, Any]]:
    """What is read out, and the JSON-able record that ``program_trip.answer_program`` needs; depth and gates are those
    of the circuits as sent.

    Raises:
        BackendError: class ``circuit``, when the payload is not what the envelope says.
    """
    reading, started = reading_of(envelope, payload), time.perf_counter()
    circuits = [pauli_circuit(one.structure) for one in reading.measurements]
    depth, gates = max(circuit.depth for circuit in circuits), max(map(two_qubit_gates, circuits))
    record = {
        "envelope_digest": envelope.digest,
        "reading": noted(reading),
        "confusion": None,
        "compile_seconds": time.perf_counter() - started,
        "result": {
            "depth": depth,
            "two_qubit_gates": gates,
            "logical_depth": depth,
            "logical_two_qubit_gates": gates,
            "parameters": {"bases": list(reading.bases)},
        },
    }
    return reading, record


def estimated(coupling_map: CouplingMapName, envelope: JobEnvelope) -> Routed:
    """Worst case of one of the program's circuits; a CNOT in these gates is three layers deeper."""
    routed = estimate_program(coupling_map, envelope.payload_variables, envelope.program)
    deeper = 3 * envelope.program.two_qubit_gates
    return replace(routed, depth=routed.depth + deeper, logical_depth=routed.logical_depth + deeper)


class Simulated(Protocol):
    """A circuit of ``braket.Program``."""

    def sample(self, inputs: dict[str, float], shots: int, seed: int) -> np.ndarray:
        """Bits, shape ``(shots, qubits)``."""


@dataclass(frozen=True)
class Sweep:
    """The template (``circuits.templates``) of a simulated circuit."""

    program: Simulated
    depth: int
    two_qubit_gates: int

    def sample(self, angles: np.ndarray, shots: int, seed: int) -> np.ndarray:
        """As ``Template.sample``, one circuit after the other."""
        rng = np.random.default_rng(seed)
        return np.stack([self.program.sample(inputs_of(row), shots, int(rng.integers(2**31 - 1))) for row in angles])


def inputs_of(angles: np.ndarray) -> dict[str, float]:
    """Angles of a circuit by their names in it."""
    return {f"a{place}": angle for place, angle in enumerate(angles.tolist())}


# --- program sets ---------------------------------------------------------------------------------------------------


def program_set(reading: Reading) -> ProgramSet:
    """All circuits of a job: a parametric program per measurement, or its circuits themselves without rotations."""
    from braket.program_sets import CircuitBinding
    from braket.program_sets import ProgramSet as Circuits

    programs: list[Any] = []
    for measurement in reading.measurements:
        circuit, angles = pauli_circuit(measurement.structure), measurement.angles
        if angles.shape[1]:
            columns = {f"a{place}": column.tolist() for place, column in enumerate(angles.T)}
            programs.append(CircuitBinding(circuit, input_sets=columns))
        else:
            programs += [circuit] * len(angles)
    return Circuits(programs).to_ir()


def check_size(name: str, told: dict[str, Any], circuits: int, shots: int) -> None:
    """Refuse a job that the device ``name`` cannot run as one program set.

    Args:
        told: capabilities document of the device.
        shots: of all circuits together.

    Raises:
        BackendError: class ``capability``.
    """
    limits = (told.get("action") or {}).get(ACTION)
    if limits is None:
        raise BackendError(
            f"Braket's {name} runs no program sets, which estimate and kernel jobs need", FailureClass.CAPABILITY
        )
    most, most_shots = limits["maximumExecutables"], limits["maximumTotalShots"]
    least = limits.get("minimumTotalShots") or 1
    if circuits > most or not least <= shots <= most_shots:
        raise BackendError(
            f"Braket's {name} takes at most {most} circuits and {least} to {most_shots} shots in a program set, the "
            f"job has {circuits} and {shots}",
            FailureClass.CAPABILITY,
        )


def circuits_of(record: dict[str, Any]) -> int:
    """How many circuits the job of this record has."""
    return reading_again(record["reading"]).circuits


def read(
    text: bytes, note: dict[str, Any], shots: int, fetch: Callable[[str], bytes]
) -> tuple[list[np.ndarray], float]:
    """Bits of each circuit of a program set (int8, shape ``(shots, qubits)``, qubit 0 first) in the order of the job's
    measurements, and seconds executed, 0 if untold.

    Args:
        text: the stored result; its parts are in it, or in files of their own.
        note: the reading's (``measuring.noted``).
        shots: of one circuit.
        fetch: content of a stored file by its path.

    Raises:
        BackendError: class ``backend``: a circuit failed.
        ValueError, KeyError, TypeError, AttributeError: it is no such result.
    """
    from braket.schema_common import BraketSchemaBase
    from braket.task_result import ProgramSetExecutableFailure, ProgramSetTaskResult
    from braket.tasks.measurement_utils import measurements_from_measurement_probabilities

    whole, reading = ProgramSetTaskResult.parse_raw(text), reading_again(note)

    def part(of: Any) -> Any:
        if not isinstance(of, str):
            return of
        return BraketSchemaBase.parse_raw_schema(fetch(f"{whole.s3Location[1]}/{of}").decode())

    bits: list[np.ndarray] = []
    seconds = 0.0
    for program in map(part, whole.programResults):
        simulated = program.additionalMetadata.simulatorMetadata
        seconds += float(simulated.executionDuration or 0.0) * 1e-3 if simulated else 0.0
        results = sorted(map(part, program.executableResults), key=lambda one: one.inputsIndex)
        if [one.inputsIndex for one in results] != list(range(len(results))):
            raise ValueError("a circuit is missing")
        for one in results:
            if isinstance(one, ProgramSetExecutableFailure):
                reason = redacted(one.failureMetadata.failureReason, 200)
                raise BackendError(f"circuit {len(bits)} of the program set failed: {reason}", FailureClass.BACKEND)
            found = one.measurements or measurements_from_measurement_probabilities(one.measurementProbabilities, shots)
            order = [list(one.measuredQubits).index(qubit) for qubit in range(reading.program.qubits)]
            bits.append(np.asarray(found, dtype=np.int8)[:, order])
            if len(bits[-1]) != shots:
                raise ValueError("shots are missing")
    if len(bits) != reading.circuits:
        raise ValueError(f"{len(bits)} of {reading.circuits} circuits")
    return bits, seconds
