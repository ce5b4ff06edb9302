"""Assembly of everything Dagster loads, and nothing else.

``build_defs(**overrides)`` is the seam for tests: any resource, the home or the environment can be replaced. Importing
this module is cheap; ``defs`` is assembled when Dagster first asks for it.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from resources.environments import SETTINGS, current_environment
from resources.home import Home


def build_defs(
    *,
    environment: str | None = None,
    home: Home | None = None,
    loggers: dict[str, dg.LoggerDefinition] | None = None,
    **resources: Any,
) -> dg.Definitions:
    """All definitions of one environment.

    Args:
        environment: ``dev``, ``staging`` or ``production``; default from ``HYBRID_ENV``.
        home: where state lives; default from ``HYBRID_HOME``.
        loggers: replacements of Dagster's, by name.
        resources: replacements by name (``settings``, ``dispatcher``, ``lake``, ``dbt``).
    """
    # the assets bring dagster_dbt, pandas and pandera: seconds that nobody pays who only imports this module
    from hybrid_assets import automation, contracts, jobs, sensors
    from hybrid_assets.assets.baseline_comparisons import baseline_comparisons
    from hybrid_assets.assets.baseline_runs import baseline_runs
    from hybrid_assets.assets.control_snapshot import control_snapshot
    from hybrid_assets.assets.decisions import decisions
    from hybrid_assets.assets.encoded_problems import encoded_problems
    from hybrid_assets.assets.landed_files import landed_files
    from hybrid_assets.assets.normalized_inputs import normalized_inputs
    from hybrid_assets.assets.publication import dbt_models, published_warehouse, report
    from hybrid_assets.assets.quantum_jobs import quantum_jobs
    from hybrid_assets.assets.quantum_samples import quantum_samples
    from hybrid_assets.assets.scored_candidates import scored_candidates
    from resources.assembly import resources_for

    name = environment or current_environment()
    schemas = tuple((table, contracts.arrow_schema(table)) for table in contracts.TABLES)
    watching, scheduled = sensors.build(SETTINGS[name].sensors_run)
    return dg.Definitions(
        # the story, in order
        assets=[
            landed_files,
            normalized_inputs,
            encoded_problems,
            quantum_jobs,
            quantum_samples,
            scored_candidates,
            baseline_runs,
            baseline_comparisons,
            decisions,
            control_snapshot,
            dbt_models,
            published_warehouse,
            report,
        ],
        resources=resources_for(name, home or Home.from_environment(), schemas, resources),
        jobs=[
            jobs.instance_line,
            jobs.baselines_again,
            jobs.publication,
            jobs.process_batch,
            jobs.maintenance,
            jobs.approval,
            jobs.cancellation,
        ],
        sensors=[*watching, *automation.build(SETTINGS[name].sensors_run)],
        schedules=scheduled,
        # stages and publications are short: a process per step costs more than the step
        executor=dg.in_process_executor,
        loggers=loggers,
    )


def __getattr__(name: str) -> dg.Definitions:
    """``defs`` for Dagster, assembled when it is first asked for."""
    if name != "defs":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault("defs", build_defs())


def __dir__() -> list[str]:
    return sorted({*globals(), "defs"})
