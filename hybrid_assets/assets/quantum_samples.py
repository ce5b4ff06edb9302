"""Stage 5: reconciled results; unmaterialized while a job is pending."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from hybrid_assets import plots
from hybrid_assets.assets.envelopes import maker
from hybrid_assets.assets.reading import instance_in, prepared_in
from hybrid_assets.assets.stage import QUANTUM, failure, picture, stage, stored
from hybrid_assets.assets.stand_ins import with_stand_ins
from hybrid_assets.checks import CheckContext
from hybrid_assets.line import CONTINUES
from hybrid_assets.proposals.rounds import random_energies, run_rounds
from hybrid_assets.proposals.trips import run_trips
from resources.dispatcher import Dispatcher
from resources.environments import Settings
from resources.failures import HybridError
from resources.lake import Lake
from resources.ledger_tables import TERMINAL


@stage(
    "quantum_samples",
    deps=["normalized_inputs", "encoded_problems", "quantum_jobs"],
    code_version="1",
    kinds={"qiskit", "pennylane"},
    output_required=False,
    pool=QUANTUM,
    description="Distinct read-outs with energies and counts of every round, with backend and evidence class. "
    "Families that refine send their later rounds here.",
)
def quantum_samples(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    dispatcher: dg.ResourceParam[Dispatcher],
    settings: dg.ResourceParam[Settings],
) -> Iterator[Any]:
    """Collect the job's samples and run the rounds that follow from them; yield nothing while one is pending."""
    normalized_inputs = lake.partition("normalized_inputs", context.partition_key)
    encoded_problems = lake.partition("encoded_problems", context.partition_key)
    quantum_jobs = lake.partition("quantum_jobs", context.partition_key)
    continues = CONTINUES in context.run.tags and context.run.parent_run_id is None
    try:
        family, instance, resolved = instance_in(normalized_inputs, dispatcher.artifacts)
        prepared, walking = prepared_in(encoded_problems, family, instance, dispatcher.artifacts)
        current = quantum_jobs["envelope_digest"].iloc[0]
        make = maker(context, family, instance, resolved, settings, dispatcher, walking.plan if walking else None)
        envelope = make(prepared=prepared, payload_ref=encoded_problems["payload_ref"].iloc[0])
        if envelope.digest != current:
            raise dg.Failure(
                f"{context.partition_key}: the current envelope is {envelope.digest[:12]}…, the submitted "
                f"job answers {current[:12]}…; materialize quantum_jobs again.",
                allow_retries=False,
            )
        make = with_stand_ins(make, dispatcher)
        before = lake.read("quantum_samples", [context.partition_key])
        ended = before.loc[before["envelope_digest"] == current, "job_id"].nunique()
        # who asks again in person gets a new attempt of what has failed; a sensor gets the reason
        ask = dispatcher.result if continues else dispatcher.run
        if walking is not None:
            rounds = run_trips(walking, make, ask, dispatcher.artifacts.put, resolved.budget, ended)
        else:
            rounds = run_rounds(
                family,
                instance,
                prepared,
                make,
                ask,
                dispatcher.artifacts.put,
                resolved.repetitions,
                resolved.budget,
                ended,
            )
    except HybridError as error:
        raise failure(error) from None
    if rounds is None:
        for job in dispatcher.ledger.jobs(instance=context.partition_key):
            if job.state not in TERMINAL:
                context.log.info(f"pending: {job.job_id} on {job.backend} is {job.state}")
        return
    rows = [
        {
            "instance": context.partition_key,
            "family": family.name,
            "envelope_digest": current,
            "round": done.envelope.round,
            "repetition": done.envelope.repetition,
            "round_digest": done.envelope.digest,
            "job_id": dispatcher.job_id(done.envelope),
            "rank": rank,
            "bits": sample.bits,
            "energy": sample.energy,
            "count": sample.count,
            "shots": done.result.shots,
            "seconds": done.result.timings.total,
            "backend": done.result.backend,
            "evidence_class": str(done.result.evidence_class),
            "cached": done.result.cached,
        }
        for done in rounds
        for rank, sample in enumerate(done.result.samples, start=1)
    ]
    last = rounds[-1]
    yield from stored(
        "quantum_samples",
        rows,
        CheckContext(
            context.partition_key,
            family,
            instance,
            rounds=tuple(rounds),
            envelope_digest=current,
            best_class={
                d.result.backend: str(dispatcher.backend(d.result.backend).capabilities().evidence_class)
                for d in rounds
            },
        ),
        {
            "energies": picture(
                plots.energy_histogram(
                    rounds[0].result.samples,
                    random_energies(rounds[0].prepared, resolved.seed),
                    f"{context.partition_key}: round 0 on {rounds[0].result.backend}",
                )
            ),
            "rounds": len(rounds),
            "shots": sum(d.result.shots for d in rounds),
            "tuning_shots": sum(d.result.tuning_shots for d in rounds),
            "depth": last.result.depth,
            "two_qubit_gates": last.result.two_qubit_gates,
            "backend": f"{last.result.backend} {last.result.backend_version}",
            "evidence_class": str(last.result.evidence_class),
            "seconds": round(sum(d.result.timings.total for d in rounds), 3),
            "parameters": dg.MetadataValue.json(last.result.parameters),
        },
    )
