"""Stage 8: quantum, surrogate, random and classical side by side at an equal budget."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from hybrid_assets.assets.reading import instance_in, known, prepared_in
from hybrid_assets.assets.stage import failure, preview, stage, stored
from hybrid_assets.checks import CheckContext
from hybrid_assets.evidence.comparison import compare
from hybrid_assets.proposals.rounds import random_mean
from resources.dispatcher import Dispatcher
from resources.failures import HybridError
from resources.lake import Lake


@stage(
    "baseline_comparisons",
    deps=["normalized_inputs", "encoded_problems", "scored_candidates", "baseline_runs"],
    code_version="1",
    kinds={"pandas"},
    description="Gaps against the best known, proven or found objective, quantum lift over the random control, who won "
    "at this budget. The best known value enters here and nowhere before.",
)
def baseline_comparisons(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], dispatcher: dg.ResourceParam[Dispatcher]
) -> Iterator[Any]:
    """Compare the arms of this partition."""
    normalized_inputs = lake.partition("normalized_inputs", context.partition_key)
    encoded_problems = lake.partition("encoded_problems", context.partition_key)
    scored_candidates = lake.partition("scored_candidates", context.partition_key)
    baseline_runs = lake.partition("baseline_runs", context.partition_key)
    family, instance, resolved = instance_in(normalized_inputs, dispatcher.artifacts)
    try:
        prepared = prepared_in(encoded_problems, family, instance, dispatcher.artifacts)
    except HybridError as error:
        raise failure(error) from None
    current = str(scored_candidates["envelope_digest"].iloc[0])
    row = compare(
        instance=context.partition_key,
        family=family.name,
        envelope_digest=current,
        sense=instance.sense,
        candidates=scored_candidates.to_dict("records"),
        baselines=baseline_runs.to_dict("records"),
        random_mean=random_mean(family, instance, prepared, resolved.seed),
        best_known=known(normalized_inputs["best_known"].iloc[0]),
        budget_seconds=resolved.budget,
        gap_kind=family.gap_kind,
        tolerance=family.tolerance,
    )
    yield from stored(
        "baseline_comparisons",
        [row],
        CheckContext(context.partition_key, family, instance, envelope_digest=current),
        {
            "winner": row["winner"],
            "comparison": preview(
                pd.DataFrame([row])[
                    [
                        "best_quantum",
                        "best_random",
                        "best_surrogate",
                        "best_classical",
                        "best_classical_solver",
                        "bound",
                        "reference",
                        "reference_kind",
                        "quantum_gap",
                        "classical_gap",
                        "quantum_lift",
                    ]
                ]
            ),
            **{
                name: float(row[name])
                for name in ("quantum_gap", "classical_gap", "quantum_lift")
                if row[name] is not None
            },
        },
    )
