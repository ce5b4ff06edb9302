"""Stage 6: decoded, completed, re-scored in business terms, with confidence and the random control."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import pandas as pd

from hybrid_assets.assets.reading import instance_in, prepared_in
from hybrid_assets.assets.stage import failure, preview, stage, stored
from hybrid_assets.checks import CheckContext
from hybrid_assets.proposals.scoring import score
from resources.dispatcher import Dispatcher
from resources.envelope import PostProcessing
from resources.failures import HybridError
from resources.lake import Lake


@stage(
    "scored_candidates",
    deps=["normalized_inputs", "encoded_problems", "quantum_samples"],
    code_version="1",
    kinds={"pandas"},
    description="The best candidates of every round: objective, feasibility, violations, confidence (reproducibility, "
    "not optimality), evidence class; beside them the random control with the same number of draws.",
)
def scored_candidates(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], dispatcher: dg.ResourceParam[Dispatcher]
) -> Iterator[Any]:
    """Score this partition's samples."""
    normalized_inputs = lake.partition("normalized_inputs", context.partition_key)
    encoded_problems = lake.partition("encoded_problems", context.partition_key)
    quantum_samples = lake.partition("quantum_samples", context.partition_key)
    family, instance, resolved = instance_in(normalized_inputs, dispatcher.artifacts)
    try:
        prepared, walking = prepared_in(encoded_problems, family, instance, dispatcher.artifacts)
        results = {job_id: dispatcher.stored_result(job_id) for job_id in sorted(set(quantum_samples["job_id"]))}
        energies: dict[str, Sequence[float]] = {job_id: result.run_energies for job_id, result in results.items()}
        tuning = {job_id: result.tuning_shots for job_id, result in results.items()}
        selected = {
            job_id: result.discarded_shots
            for job_id, result in results.items()
            if result.post_processing is PostProcessing.POSTSELECTED
        }
        rows = score(
            family,
            instance,
            prepared,
            quantum_samples,
            energies,
            context.partition_key,
            resolved.seed,
            walking,
            tuning,
            selected,
        )
    except HybridError as error:
        raise failure(error) from None
    current = str(quantum_samples["envelope_digest"].iloc[0])
    frame = pd.DataFrame(rows)
    shares = ["feasible_mass", *(["leakage"] if frame["leakage"].notna().any() else [])]
    raw = frame.drop_duplicates(["arm", "round"]).groupby("arm")[shares].mean().round(4).reset_index()
    yield from stored(
        "scored_candidates",
        [{**row, "envelope_digest": current} for row in rows],
        CheckContext(
            context.partition_key,
            family,
            instance,
            envelope_digest=current,
            best_class={
                "uniform random": "classical",
                **dict(quantum_samples[["backend", "evidence_class"]].itertuples(index=False)),
            },
        ),
        {
            "candidates": len(rows),
            "feasible": int(frame["feasible"].sum()),
            "raw_shots": preview(raw),
            "best": preview(
                frame[
                    [
                        "arm",
                        "round",
                        "rank",
                        "objective",
                        "feasible",
                        "confidence",
                        "confidence_low",
                        "confidence_high",
                        "evidence_class",
                        "post_processing",
                    ]
                ].sort_values(["arm", "rank", "round"])
            ),
        },
    )
