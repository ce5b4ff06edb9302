"""Circuits with free angles, QAOA's and those of Pauli programs: built and transpiled once per structure, bound often.

Here: the template protocol and its two SDK forms. Not here: which angles to bind (``ising``, ``qaoa``). Templates are
kept in a bounded cache per SDK; ``cache_info().misses`` of the two functions counts compilations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from resources.circuits.ising import Structure
from resources.circuits.pauli import PauliStructure

if TYPE_CHECKING:
    from pennylane.operation import Operator
    from pennylane.tape import QuantumScript
    from qiskit import QuantumCircuit

#: What decides a circuit's shape.
Shape = Structure | PauliStructure


class Template(Protocol):
    """A compiled circuit. ``depth`` and ``two_qubit_gates`` are those of the circuit as executed, read-out apart."""

    @property
    def depth(self) -> int:
        """Layers of gates."""

    @property
    def two_qubit_gates(self) -> int:
        """Number of two-qubit gates."""

    def sample(self, angles: np.ndarray, shots: int, seed: int) -> np.ndarray:
        """Bits (int8, shape ``(k, shots, n)``, variable 0 first) for ``k`` sets of angles (shape ``(k, parameters)``),
        as one broadcast; the same seed gives the same bits."""


class QiskitTemplate:
    """A circuit that Aer can run, through its ``SamplerV2`` with these options."""

    def __init__(self, circuit: QuantumCircuit, options: dict[str, object]) -> None:
        self._circuit, self._options = circuit, options
        self.depth: int = circuit.depth(lambda instruction: instruction.operation.name != "measure")
        self.two_qubit_gates: int = circuit.num_nonlocal_gates()

    def sample(self, angles: np.ndarray, shots: int, seed: int) -> np.ndarray:
        """As ``Template.sample``, one call of the primitive."""
        from qiskit_aer.primitives import SamplerV2

        sampler, free = SamplerV2(options={"backend_options": self._options}, seed=seed), kept(self._circuit)
        if free:
            (answer,) = sampler.run([(self._circuit, angles[:, free])], shots=shots).result()
        else:
            # nothing to broadcast: Aer would run the first set and answer zeros for all others
            (answer,) = sampler.run([(self._circuit,)], shots=len(angles) * shots).result()
        # Qiskit's registers are little-endian: "little" puts qubit 0 first
        bits = answer.data.c.to_bool_array(order="little").astype(np.int8)
        return bits.reshape(len(angles), shots, -1)


def kept(circuit: QuantumCircuit) -> list[int]:
    """Places of the free angles that compilation has left, in the order in which the circuit takes them: what cannot
    change a read-out goes."""
    return [parameter.index for parameter in circuit.parameters]


def logical_circuit(structure: Shape) -> QuantumCircuit:
    """The circuit with free angles ``angle[0] …`` in the order of ``structure.parameters``; variable i on qubit i, read
    out into bit i of the register ``c``. QAOA in H, RZ, RZZ and RX, Pauli rotations as such."""
    from qiskit import QuantumCircuit
    from qiskit.circuit import ParameterVector

    if isinstance(structure, PauliStructure):
        return _pauli_circuit(structure)
    n = structure.variables
    angle = iter(ParameterVector("angle", structure.parameters))
    circuit = QuantumCircuit(n, n)
    circuit.h(range(n))
    for _ in range(structure.depth):
        for i in structure.fields:
            circuit.rz(next(angle), i)
        for i, j in structure.edges:
            circuit.rzz(next(angle), i, j)
        circuit.rx(next(angle), range(n))
    circuit.measure(range(n), range(n))
    return circuit


def _pauli_circuit(structure: PauliStructure) -> QuantumCircuit:
    from qiskit import QuantumCircuit
    from qiskit.circuit import ParameterVector
    from qiskit.circuit.library import PauliEvolutionGate
    from qiskit.quantum_info import SparsePauliOp

    n = structure.variables
    circuit, angles = QuantumCircuit(n, n), ParameterVector("angle", structure.parameters)
    for qubit in [qubit for qubit, bit in enumerate(structure.initial) if bit]:
        circuit.x(qubit)
    for pauli, angle in zip(structure.paulis, angles, strict=True):
        support = [qubit for qubit, letter in enumerate(pauli) if letter != "I"]
        letters = "".join(pauli[qubit] for qubit in support)
        if len(support) == 1:
            getattr(circuit, f"r{letters.lower()}")(angle, support[0])
        else:
            # Qiskit's labels have qubit 0 last, and its gate is exp(−i·time·P)
            circuit.append(PauliEvolutionGate(SparsePauliOp(letters[::-1]), time=angle / 2), support)
    for qubit, letter in enumerate(structure.basis):
        if letter == "Y":
            circuit.sdg(qubit)
        if letter in "XY":
            circuit.h(qubit)
    circuit.measure(range(n), range(n))
    return circuit.decompose(gates_to_decompose="PauliEvolution")


def swap_network(structure: Structure) -> QuantumCircuit:
    """The circuit of ``logical_circuit`` for qubits on a line, where only neighbours interact.

    In n rounds of each layer neighbours interact and change places, so that every pair meets once; RZZ and SWAP share
    one CX and take three. Variable i starts at place i and is still read out into bit i.

    Source: I. D. Kivlichan et al., "Quantum simulation of electronic structure with linear depth and connectivity",
    Phys. Rev. Lett. 120, 110501 (2018), doi:10.1103/PhysRevLett.120.110501.
    """
    from qiskit import QuantumCircuit
    from qiskit.circuit import ParameterVector

    n, angles = structure.variables, ParameterVector("angle", structure.parameters)
    fields, edges = len(structure.fields), {edge: index for index, edge in enumerate(structure.edges)}
    circuit, variable_at = QuantumCircuit(n, n), list(range(n))
    circuit.h(range(n))
    for layer in range(structure.depth):
        first = layer * (fields + len(edges) + 1)
        for index, variable in enumerate(structure.fields):
            circuit.rz(angles[first + index], variable_at.index(variable))
        for turn in range(n):
            # nothing follows the last round, so nobody changes places in it
            final = turn == n - 1 and layer == structure.depth - 1
            for left in range(turn % 2, n - 1, 2):
                a, b = variable_at[left : left + 2]
                edge = edges.get((min(a, b), max(a, b)))
                if edge is not None:
                    circuit.cx(left, left + 1)
                    circuit.rz(angles[first + fields + edge], left + 1)
                    circuit.cx(*((left, left + 1) if final else (left + 1, left)))
                if not final:
                    if edge is None:
                        circuit.cx(left, left + 1)
                        circuit.cx(left + 1, left)
                    circuit.cx(left, left + 1)
                    variable_at[left : left + 2] = b, a
        circuit.rx(angles[first + fields + len(edges)], range(n))
    circuit.measure(range(n), variable_at)
    return circuit


@lru_cache(maxsize=32)
def qiskit_template(structure: Shape, method: str = "statevector", **options: object) -> QiskitTemplate:
    """The template of this structure for Aer's ``method`` with more of Aer's options (``device``, bond dimension …)."""
    from qiskit import transpile
    from qiskit_aer import AerSimulator

    options |= {"method": method, "max_parallel_threads": 1}
    circuit = logical_circuit(structure)
    return QiskitTemplate(transpile(circuit, AerSimulator(**options), optimization_level=1, seed_transpiler=0), options)


class PennyLaneTemplate:
    """A preprocessed ``QuantumScript`` (Hadamard, RZ, IsingZZ, RX) for ``lightning.qubit``."""

    def __init__(self, script: QuantumScript, angle_of_gate: np.ndarray) -> None:
        self._script, self._angle_of_gate = script, angle_of_gate
        self.depth: int = script.graph.get_depth()
        self.two_qubit_gates: int = sum(len(gate.wires) == 2 for gate in script.operations)

    def sample(self, angles: np.ndarray, shots: int, seed: int) -> np.ndarray:
        """As ``Template.sample``, one script a set of angles: the device expands broadcasts anyway."""
        import pennylane as qml
        from pennylane.measurements import Shots

        places = range(len(self._angle_of_gate))
        scripts = [
            self._script.bind_new_parameters(row[self._angle_of_gate].tolist(), places).copy(shots=Shots(shots))
            for row in angles
        ]
        # a device of its own for each call, so that the seed alone decides the bits
        device = qml.device("lightning.qubit", wires=self._script.num_wires, seed=seed)
        # wires are read out in ascending order: wire 0, the variable 0, first
        return np.stack([np.asarray(bits, dtype=np.int8).reshape(shots, -1) for bits in device.execute(scripts)])


def pennylane_gates(structure: Shape, angles: Sequence[float]) -> list[Operator]:
    """The circuit of ``structure`` with these angles, in the order of ``structure.parameters``, read-out apart: QAOA in
    Hadamard, RZ, IsingZZ and RX, or Pauli rotations."""
    import pennylane as qml

    if isinstance(structure, PauliStructure):
        return _pauli_gates(structure, angles)
    angle, wires = iter(angles), range(structure.variables)
    gates: list[Operator] = [qml.Hadamard(i) for i in wires]
    for _ in range(structure.depth):
        gates += [qml.RZ(next(angle), i) for i in structure.fields]
        gates += [qml.IsingZZ(next(angle), wires=edge) for edge in structure.edges]
        mixer = next(angle)
        gates += [qml.RX(mixer, i) for i in wires]
    return gates


def _pauli_gates(structure: PauliStructure, angles: Sequence[float]) -> list[Operator]:
    import pennylane as qml

    def to_z(letters: Sequence[tuple[int, str]]) -> list[Operator]:
        """Gates after which each qubit's Z is what its Pauli was."""
        turned: list[Operator] = []
        for qubit, letter in letters:
            turned += [qml.adjoint(qml.S(qubit))] if letter == "Y" else []
            turned += [qml.Hadamard(qubit)] if letter in "XY" else []
        return turned

    gates: list[Operator] = [qml.PauliX(qubit) for qubit, bit in enumerate(structure.initial) if bit]
    for pauli, angle in zip(structure.paulis, angles, strict=True):
        support = [(qubit, letter) for qubit, letter in enumerate(pauli) if letter != "I"]
        wires = [qubit for qubit, _ in support]
        turned, chain = to_z(support), [qml.CNOT(pair) for pair in pairwise(wires)]
        if len(wires) == 2:
            middle = [qml.IsingZZ(angle, wires)]
        else:
            middle = [*chain, qml.RZ(angle, wires[-1]), *reversed(chain)]
        gates += [*turned, *middle, *(qml.adjoint(gate) for gate in reversed(turned))]
    return gates + to_z(list(enumerate(structure.basis)))


@lru_cache(maxsize=32)
def pennylane_template(structure: Shape) -> PennyLaneTemplate:
    """The template of this structure for PennyLane's ``lightning.qubit``."""
    import pennylane as qml

    # each angle is its own number, so that every gate tells which one it takes
    gates = pennylane_gates(structure, range(structure.parameters))
    angle_of_gate = np.array([int(gate.parameters[0]) for gate in gates if gate.parameters], dtype=np.intp)
    script = qml.tape.QuantumScript(gates, [qml.sample(wires=range(structure.variables))], shots=1)
    device = qml.device("lightning.qubit", wires=structure.variables)
    (script,), _ = device.preprocess_transforms(device.setup_execution_config(circuit=script))([script])
    return PennyLaneTemplate(script, angle_of_gate)
