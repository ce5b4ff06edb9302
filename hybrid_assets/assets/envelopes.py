"""Binding a run's context into envelopes: stages 4 and 5 must make the same ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import dagster as dg

from hybrid_assets.problems.base import Instance, ProblemFamily
from hybrid_assets.proposals.rounds import envelope_for
from hybrid_assets.request import Resolved
from resources.envelope import JobEnvelope
from resources.environments import Settings


def maker(
    context: dg.AssetExecutionContext,
    family: ProblemFamily,
    instance: Instance,
    resolved: Resolved,
    settings: Settings,
) -> Callable[..., JobEnvelope]:
    """``envelope_for`` with everything bound but the round."""
    return partial(
        envelope_for,
        instance=instance,
        key=context.partition_key,
        resolved=resolved,
        fallback=settings.fallback,
        correlation_id=correlation_id(context),
        algorithm=settings.algorithm,
        environment=settings.environment,
        jobs=family.rounds * (resolved.repetitions if family.rounds > 1 else 1),
    )


def correlation_id(context: dg.AssetExecutionContext) -> str:
    """The id that follows one request through all tables and logs: the root run's."""
    return context.run.tags.get("hybrid/correlation_id") or context.run.root_run_id or context.run.run_id
