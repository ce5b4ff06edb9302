"""Stage 6: decoded, completed, re-scored in business terms, with confidence and the random control."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from hybrid_assets import plots
from hybrid_assets.assets.reading import instance_in, prepared_in
from hybrid_assets.assets.stage import failure, preview, stage, stored
from hybrid_assets.checks import CheckContext
from hybrid_assets.proposals.scoring import score
from resources.dispatcher import Dispatcher
from resources.failures import HybridError


@stage(
    "scored_candidates",
    code_version="1",
    kinds={"pandas"},
    description="The best candidates of every round: objective, feasibility, violations, confidence (reproducibility, "
    "not optimality), evidence class; beside them the random control with the same number of draws.",
)
def scored_candidates(
    context: dg.AssetExecutionContext, normalized_inputs: pd.DataFrame, encoded_problems: pd.DataFrame,
    quantum_samples: pd.DataFrame, dispatcher: dg.ResourceParam[Dispatcher],
) -> Iterator[Any]:
    """Score this partition's samples."""
    family, instance, resolved = instance_in(normalized_inputs, dispatcher.artifacts)
    try:
        prepared = prepared_in(encoded_problems, family, instance, dispatcher.artifacts)
        energies = {job_id: dispatcher.stored_result(job_id).run_energies for job_id in set(quantum_samples["job_id"])}
        rows = score(family, instance, prepared, quantum_samples, energies, context.partition_key, resolved.seed)
    except HybridError as error:
        raise failure(error) from None
    current = str(quantum_samples["envelope_digest"].iloc[0])
    frame = pd.DataFrame(rows)
    best = {"quantum": frame[frame["arm"] != "random_control"], "random": frame[frame["arm"] == "random_control"]}
    pictures = plots.best_values(best, instance.sense)
    yield from stored(
        "scored_candidates", [{**row, "envelope_digest": current} for row in rows],
        CheckContext(context.partition_key, family, instance, envelope_digest=current,
                     best_class={"uniform random": "classical",
                                 **dict(quantum_samples[["backend", "evidence_class"]].itertuples(index=False))}),
        {
            "candidates": len(rows),
            "feasible": int(frame["feasible"].sum()),
            "best": preview(frame[["arm", "round", "rank", "objective", "feasible", "confidence", "confidence_low",
                                   "confidence_high", "evidence_class", "post_processing"]]
                            .sort_values(["arm", "rank", "round"])),
            "picture": plots.as_markdown(family.plot_solution(instance, pictures)),
        },
    )
