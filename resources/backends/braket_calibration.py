"""What a Braket device publishes about itself, as a calibration snapshot.

Here: reading the capabilities document in the forms that the vendors use. Not here: asking for it (``braket_aws``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: How many of a unit are a second.
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
#: IonQ's own names.
_IONQ = {"one_qubit_fidelity": "1Q", "two_qubit_fidelity": "2Q", "readout_fidelity": "spam"}


def snapshot(capabilities: dict[str, Any]) -> dict[str, Any]:
    """Time, mean coherence times (seconds) and mean fidelities from a device's capabilities document.

    Superconducting devices publish them per qubit and pair (versions 1 and 2 of Braket's standardized properties), ion
    traps for the whole device (version 3, or IonQ's own ``provider.fidelity``). What a device does not say is left out.
    """
    told = capabilities.get("standardized") or {}
    qubits = list((told.get("oneQubitProperties") or {}).values())
    pairs = [pair["twoQubitGateFidelity"] for pair in (told.get("twoQubitProperties") or {}).values()]
    singles = (
        [entry for qubit in qubits for entry in qubit["oneQubitFidelity"]] or told.get("singleQubitFidelity") or []
    )
    numbers: dict[str, list[float]] = {
        f"{name.lower()}_seconds": [
            float(at[name]["value"]) * _SECONDS[at[name]["unit"].lower()] for at in (told, *qubits) if at.get(name)
        ]
        for name in ("T1", "T2")
    }
    numbers["one_qubit_fidelity"] = _of(singles, "RANDOMIZED_BENCHMARKING")
    numbers["two_qubit_fidelity"] = [max(float(gate["fidelity"]) for gate in pair) for pair in pairs if pair]
    numbers["two_qubit_fidelity"] += [float(entry["fidelity"]) for entry in told.get("twoQubitGateFidelity") or []]
    numbers["readout_fidelity"] = _of(singles, "READOUT")
    numbers["readout_fidelity"] += [float(entry["fidelity"]) for entry in told.get("readoutFidelity") or []]
    own = (capabilities.get("provider") or {}).get("fidelity") or {}
    for name, theirs in _IONQ.items():
        if not numbers[name] and theirs in own:
            numbers[name] = [float(own[theirs]["mean"])]
    time = told.get("updatedAt") or (capabilities.get("service") or {}).get("updatedAt")
    means = {name: float(np.mean(values)) for name, values in numbers.items() if values}
    return {"time": str(time) if time else None, **means}


def _of(entries: list[dict[str, Any]], kind: str) -> list[float]:
    """Fidelities of one kind; one whose kind is not told is a gate's."""
    told = [((entry.get("fidelityType") or {}).get("name", "RANDOMIZED_BENCHMARKING"), entry) for entry in entries]
    return [float(entry["fidelity"]) for name, entry in told if name == kind]
