"""What a job would take and cost on a device, whoever runs it: a backend's estimate with a reference device's price.

Here: which device's price counts for a job that runs on a simulator. Not here: how long it would take there
(``backends.device_time``), prices of what is really sent (``money``, ``gates``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from resources import money
from resources.backends.base import Capabilities, Estimate
from resources.control_plane import ControlPlane
from resources.delivery import as_sent
from resources.envelope import JobEnvelope
from resources.failures import BackendError, HybridError
from resources.policy import POLICIES, Policy, load


def expected(plane: ControlPlane, envelope: JobEnvelope) -> Estimate | None:
    """The estimate of the envelope's first backend, with seconds and price of a device; ``None`` where it gives none.

    The price is the backend's own where it is a device with a price, else that of a reference device of its kind
    (gates or annealing): the first that the policy in force lists, or the shipped production policy.
    """
    try:
        backend = plane.backend(envelope.backend)
        can, sent = backend.capabilities(), as_sent(backend, envelope)
        estimate = backend.estimate(sent)
    except BackendError:
        return None
    return priced(plane, envelope.backend, can, estimate, sent.program.circuits * sent.algorithm.shots)


def priced(plane: ControlPlane, name: str, can: Capabilities, estimate: Estimate, shots: int) -> Estimate:
    """An estimate of the backend ``name`` with seconds and price of a device.

    Args:
        shots: of all circuits together.
    """
    if can.tier == "hardware":
        seconds = estimate.execution_seconds
        cost = max(estimate.cost, money.price(plane.policy, name, shots=shots, seconds=seconds))
        known = name in plane.policy.prices or cost > 0
        return replace(
            estimate,
            device_seconds=seconds,
            device_cost=cost if known else None,
            priced_as=f"{name}, {plane.policy.currency}" if known else None,
        )
    if estimate.device_seconds is None:
        return estimate
    annealing = can.algorithms == ("annealing",)
    for policy, reference in _references(plane, annealing, estimate.coupling_map):
        cost = money.price(policy, reference, shots=shots, seconds=estimate.device_seconds)
        return replace(estimate, device_cost=cost, priced_as=f"{reference}, {policy.currency}")
    return estimate


def _references(plane: ControlPlane, annealing: bool, coupling_map: str) -> Iterator[tuple[Policy, str]]:
    """Devices whose price may stand for a simulator's, best first, each with its policy."""
    for policy in (plane.policy, load("production", POLICIES / "production.yaml")):
        for name, price in policy.prices.items():
            try:
                device = plane.backend(name).capabilities()
            except HybridError:
                continue
            if device.tier != "hardware" or (device.algorithms == ("annealing",)) != annealing:
                continue
            # seconds of trapped ions are no seconds of a superconducting device; a price per shot is either's
            if annealing or coupling_map != "full" or not price.per_second:
                yield policy, name
