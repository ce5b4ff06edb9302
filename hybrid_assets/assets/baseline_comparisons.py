"""Stage 8: quantum, surrogate, random and classical side by side at an equal budget."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from hybrid_assets.assets.reading import instance_in, known, prepared_in, records
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
        prepared, _ = prepared_in(encoded_problems, family, instance, dispatcher.artifacts)
    except HybridError as error:
        raise failure(error) from None
    current = str(scored_candidates["envelope_digest"].iloc[0])
    row = compare(
        instance=context.partition_key,
        family=family.name,
        envelope_digest=current,
        sense=instance.sense,
        candidates=records(scored_candidates),
        baselines=records(baseline_runs),
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
            "comparison": preview(side_by_side(row)),
            "gap": f"{row['gap_definition']}, reference: {row['reference_kind']}",
            **{
                name: float(row[name])
                for name in ("quantum_gap", "classical_gap", "quantum_lift")
                if row[name] is not None
            },
        },
    )


def side_by_side(row: dict[str, Any]) -> pd.DataFrame:
    """A comparison turned on its side for people: one line per arm, then what the arms are held against."""
    lines = [
        (f"quantum ({row['quantum_evidence_class']})", row["best_quantum"], row["quantum_gap"]),
        ("random control", row["best_random"], row["random_gap"]),
        ("surrogate", row["best_surrogate"], row["surrogate_gap"]),
        (f"classical ({row['best_classical_solver']})", row["best_classical"], row["classical_gap"]),
        ("best known", row["best_known"], None),
        ("proven bound", row["bound"], None),
    ]
    return pd.DataFrame([line for line in lines if line[1] is not None], columns=["arm", "objective", "gap"])
