"""What a request means on its backend: envelopes (stages 4 and 5 must make the same ones), algorithm, qubit budget."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import dagster as dg

from hybrid_assets.problems.base import Instance, ProblemFamily
from hybrid_assets.proposals.rounds import envelope_for
from hybrid_assets.proposals.trips import Plan
from hybrid_assets.request import Resolved
from hybrid_assets.routes import jobs_of, planned, qubits_of
from resources.dispatcher import Dispatcher
from resources.envelope import Algorithm, JobEnvelope
from resources.environments import Settings


def maker(
    context: dg.AssetExecutionContext,
    family: ProblemFamily,
    instance: Instance,
    resolved: Resolved,
    settings: Settings,
    dispatcher: Dispatcher,
    plan: Plan | None,
) -> Callable[..., JobEnvelope]:
    """``envelope_for`` with everything bound but the round.

    Args:
        plan: of the walk, for an instance that is larger than the device.
    """
    name = resolved.algorithm or settings.algorithm.name
    if resolved.algorithm is None and resolved.backend in dispatcher.backend_names:
        # nobody asked for an algorithm: a backend of another kind (an annealer) does what it can
        offered = dispatcher.backend(resolved.backend).capabilities().algorithms
        name = name if name in offered else offered[0]
    return partial(
        envelope_for,
        instance=instance,
        key=context.partition_key,
        resolved=resolved if plan is None else resolved.model_copy(update={"shots": plan.shots}),
        correlation_id=correlation_id(context),
        algorithm=Algorithm.model_validate({**settings.algorithm.model_dump(), "name": name}),
        environment=settings.environment,
        jobs=plan.trips if plan else jobs_of(family, resolved.repetitions),
        walks=plan is not None,
    )


def qubit_budget(resolved: Resolved, dispatcher: Dispatcher) -> int:
    """The most variables a payload may have: the route's limit for circuits, the backend's own in any case."""
    if resolved.backend not in dispatcher.backend_names:
        return resolved.max_qubits
    return qubits_of(dispatcher.backend(resolved.backend).capabilities(), resolved.max_qubits)


def plan_of(family: ProblemFamily, instance: Instance, resolved: Resolved, dispatcher: Dispatcher) -> Plan | None:
    """How an instance that is larger than the device is walked; ``None`` when it fits, or is narrowed once instead."""
    known = resolved.backend in dispatcher.backend_names
    return planned(
        family,
        instance,
        qubit_budget(resolved, dispatcher),
        dispatcher.backend(resolved.backend).capabilities() if known else None,
        resolved.shots,
        resolved.trips,
        resolved.polish,
        resolved.seed,
        resolved.encoding,
    )


def correlation_id(context: dg.AssetExecutionContext) -> str:
    """The id that follows one request through all tables and logs: the root run's."""
    return context.run.tags.get("hybrid/correlation_id") or context.run.root_run_id or context.run.run_id
