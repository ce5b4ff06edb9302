"""How long a device takes for one shot of a circuit, from the durations that its target knows.

Here: schedules. Not here: what a device without durations takes (``backends.device_time``), errors and idle decay
(``device``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.transpiler import Target


def shot_seconds(circuit: QuantumCircuit, target: Target) -> float | None:
    """Seconds from the first instruction to the end of the last when each starts as soon as its qubits are free;
    ``None`` where the target does not know the duration of one of them.

    Args:
        circuit: on the target's qubits and in its instructions, without delays; free angles don't matter.
    """
    index = {qubit: position for position, qubit in enumerate(circuit.qubits)}
    free_at = [0.0] * circuit.num_qubits
    for instruction in circuit.data:
        qubits = tuple(index[qubit] for qubit in instruction.qubits)
        end = max((free_at[qubit] for qubit in qubits), default=0.0)
        if instruction.operation.name != "barrier":
            known = target.get(instruction.operation.name)
            duration = getattr(known.get(qubits) if known else None, "duration", None)
            if duration is None:
                return None
            end += duration
        for qubit in qubits:
            free_at[qubit] = end
    return max(free_at, default=0.0)


def layers_seconds(depth: int, target: Target) -> float | None:
    """Seconds of ``depth`` layers as long as the target's median two-qubit gate (or its longest gate, without any),
    and a read-out; ``None`` where it knows no duration."""
    known: dict[int, list[float]] = {}
    for name in target.operation_names:
        for qubits, properties in (target[name] or {}).items():
            duration = getattr(properties, "duration", None)
            if qubits is not None and duration is not None:
                known.setdefault(0 if name == "measure" else len(qubits), []).append(duration)
    if not (known.get(1) or known.get(2)):
        return None
    layer = float(np.median(known[2])) if known.get(2) else max(known[1])
    return depth * layer + max(known.get(0, [0.0]))
