"""Stage 7: classical solvers on the same instance with the same budget."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from hybrid_assets import plots
from hybrid_assets.assets.reading import instance_in
from hybrid_assets.assets.stage import failure, picture, preview, stage, stored
from hybrid_assets.checks import CheckContext
from hybrid_assets.solvers.run import run_baselines
from resources.dispatcher import Dispatcher
from resources.failures import HybridError
from resources.lake import Lake


@stage(
    "baseline_runs",
    deps=["normalized_inputs"],
    code_version="1",
    kinds={"ortools", "scipy"},
    description="An exact solver with its proven bound, and heuristics, each with the whole wall-clock budget on one "
    "thread. A best known value never reaches them.",
)
def baseline_runs(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], dispatcher: dg.ResourceParam[Dispatcher]
) -> Iterator[Any]:
    """Run this partition's baselines."""
    normalized_inputs = lake.partition("normalized_inputs", context.partition_key)
    family, instance, resolved = instance_in(normalized_inputs, dispatcher.artifacts)
    try:
        rows = run_baselines(family, instance, context.partition_key, resolved.budget, resolved.seed, context.log.info)
    except HybridError as error:
        raise failure(error) from None
    frame = pd.DataFrame(rows)
    yield from stored(
        "baseline_runs",
        rows,
        CheckContext(context.partition_key, family, instance),
        {
            "runs": preview(frame[["solver", "status", "objective", "bound", "seconds", "time_to_best", "threads"]]),
            "trajectories": picture(plots.trajectories(rows, instance.sense, context.partition_key)),
        },
    )
