"""Seconds of a shot against sums by hand."""

from __future__ import annotations

from typing import Any

import pytest

from resources.circuits.durations import layers_seconds, shot_seconds


def target(cx: float | None = 100e-9) -> Any:
    """Three qubits in a line: SX 10 ns, CX 100 ns, read-out 1 µs."""
    from qiskit.circuit.library import CXGate, Measure, SXGate
    from qiskit.transpiler import InstructionProperties, Target

    made = Target(num_qubits=3)
    made.add_instruction(SXGate(), {(q,): InstructionProperties(duration=10e-9) for q in range(3)})
    made.add_instruction(CXGate(), {(q, q + 1): InstructionProperties(duration=cx) for q in range(2)})
    made.add_instruction(Measure(), {(q,): InstructionProperties(duration=1e-6) for q in range(3)})
    return made


def circuit() -> Any:
    from qiskit import QuantumCircuit

    made = QuantumCircuit(3, 3)
    made.sx(0)
    made.cx(0, 1)
    # waits for nobody
    made.sx(2)
    made.barrier()
    made.cx(1, 2)
    made.measure(range(3), range(3))
    return made


def test_a_shot_takes_its_longest_path() -> None:
    assert shot_seconds(circuit(), target()) == pytest.approx(10e-9 + 100e-9 + 100e-9 + 1e-6)


def test_what_a_target_does_not_know_has_no_duration() -> None:
    assert shot_seconds(circuit(), target(cx=None)) is None


def test_layers_take_as_long_as_a_two_qubit_gate() -> None:
    from qiskit.transpiler import Target

    assert layers_seconds(7, target()) == pytest.approx(7 * 100e-9 + 1e-6)
    assert layers_seconds(7, target(cx=None)) == pytest.approx(7 * 10e-9 + 1e-6)
    assert layers_seconds(7, Target(num_qubits=3)) is None
