"""How long a device would take for a job that runs elsewhere: a simple model per technology.

Here: the models with the sources of their numbers. Not here: gates and depth (``circuits.device``), what the seconds
cost (``device_price``), devices whose calibration says how long a circuit is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from resources.backends.base import Capabilities, Estimate
from resources.circuits.device import estimate_on


@dataclass(frozen=True)
class Pace:
    """Seconds of a job beyond its shots, of a shot beyond its gates, of a layer, and of a two-qubit gate beyond its
    layer where only one of them runs at a time."""

    job: float
    shot: float
    layer: float
    two_qubit_gate: float = 0.0


#: Job: IBM's guide to estimating usage. Shot: the repetition delay of 250 µs that IBM's devices have by default, and
#: 1.6 µs of read-out; layer: a CZ of 84 ns; the medians that IBM publishes of its Heron devices (``ibm_fez``).
SUPERCONDUCTING = Pace(job=2.0, shot=251.6e-6, layer=84e-9)
#: Shot: read-out 300 µs and reset 20 µs; layer: a one-qubit gate of 135 µs; two-qubit gates of 600 µs run one after the
#: other; what IonQ publishes of Aria (``timing`` of its characterization). Job: an assumption.
TRAPPED_IONS = Pace(job=1.0, shot=320e-6, layer=135e-6, two_qubit_gate=600e-6)
#: By coupling map; named devices that are simulated are superconducting ones.
PACES = {"full": TRAPPED_IONS}


def on_device(estimate: Estimate, shots: int) -> Estimate:
    """The estimate of a gate-model simulator with ``device_seconds``: what its circuits would take on a device of its
    coupling map; trapped ions couple every pair.

    Args:
        shots: of all circuits together.
    """
    pace = PACES.get(estimate.coupling_map, SUPERCONDUCTING)
    each = pace.shot + pace.layer * estimate.depth + pace.two_qubit_gate * estimate.two_qubit_gates
    return replace(estimate, device_seconds=pace.job + shots * each)


def unasked(can: Capabilities, variables: int, depth: int, shots: int) -> Estimate:
    """The estimate of a sample job on a device of this kind, without asking its provider: a complete graph on a
    heavy-hex lattice, or an annealer; ``execution_seconds`` are the device's."""
    if can.algorithms == ("annealing",):
        return Estimate(0.0, annealer_seconds(shots), 0.0, coupling_map="pegasus")
    routed = estimate_on("heavy-hex", variables, depth)
    estimate = Estimate(
        0.0,
        0.0,
        0.0,
        two_qubit_gates=routed.two_qubit_gates,
        depth=routed.depth,
        logical_two_qubit_gates=routed.logical_two_qubit_gates,
        logical_depth=routed.logical_depth,
        coupling_map=routed.coupling_map,
    )
    seconds = on_device(estimate, shots).device_seconds or 0.0
    return replace(estimate, execution_seconds=seconds, device_seconds=seconds)


def annealer_seconds(reads: int) -> float:
    """Access time of a quantum annealer = 16 ms of programming + reads × (20 µs anneal + 21 µs delay + 150 µs
    read-out), the upper end of what Advantage systems publish as ``problem_timing_data``."""
    return 0.016 + reads * 191e-6
