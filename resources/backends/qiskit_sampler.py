"""Qiskit's ``BackendSamplerV2`` in two halves: sending circuits to a device, and reading its answer, perhaps in another
process.

Here: what the sampler asks of a ``BackendV2``, and the bits it makes of a ``Result``. Not here: which device, whose
jobs and which errors (``qiskit_provider``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.failures import BackendError, FailureClass

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.providers import BackendV2


class _Sent(Exception):
    """Ends the sampler's thread once the provider has the job: nobody waits for the result in this process."""


def send(device: BackendV2, circuits: Sequence[QuantumCircuit], shots: int, seed: int | None) -> Any:
    """The provider's job, as ``BackendSamplerV2`` asks for it; returns as soon as the provider has it.

    Args:
        circuits: compiled, without free angles; no more than the device takes in one job.
        shots: of each circuit.
        seed: ``None`` for a device that takes none.
    """
    from qiskit.primitives import BackendSamplerV2

    jobs: list[Any] = []

    def run(run_input: Any, **options: Any) -> Any:
        kept = {name: value for name, value in options.items() if name != "seed_simulator" or seed is not None}
        jobs.append(device.run(run_input, **kept))
        raise _Sent

    sampler = BackendSamplerV2(backend=_relay(device, run), options={"seed_simulator": seed})
    with suppress(_Sent):
        sampler.run(circuits, shots=shots).result()
    return jobs[0]


def read(device: BackendV2, result: Any, circuits: int, qubits: int, shots: int) -> list[np.ndarray]:
    """The bits of each circuit of a finished job, int8, shape ``(shots, qubits)``, qubit 0 first.

    Args:
        result: the ``Result`` of the provider's job.

    Raises:
        BackendError: class ``backend``: circuits or shots are missing.
    """
    from qiskit import QuantumCircuit
    from qiskit.primitives import BackendSamplerV2

    # the sampler would take a circuit without single shots for one that read zeros
    each = [len(getattr(one.data, "memory", ())) for one in result.results]
    if each != [shots] * circuits:
        raise BackendError(
            f"the Qiskit provider answered {len(each)} circuits with {sorted(set(each))} single shots, asked were "
            f"{circuits} with {shots}",
            FailureClass.BACKEND,
        )
    like, answered = QuantumCircuit(qubits, qubits), SimpleNamespace(result=lambda: result)
    sampler = BackendSamplerV2(backend=_relay(device, lambda run_input, **options: answered))
    answer = sampler.run([like] * circuits, shots=shots).result()
    return [one.data.c.to_bool_array(order="little").astype(np.int8) for one in answer]


def _relay(device: BackendV2, run: Callable[..., Any]) -> BackendV2:
    """A ``BackendV2`` like ``device`` whose ``run`` is another: between the sampler and the provider's job."""
    from qiskit.providers import BackendV2, Options

    class Relay(BackendV2):
        target = property(lambda self: device.target)
        # one job, whatever its size: the answer of one is read
        max_circuits = None

        @classmethod
        def _default_options(cls) -> Options:
            return Options()

        def run(self, run_input: Any, **options: Any) -> Any:
            return run(run_input, **options)

    return Relay(name=device.name)
