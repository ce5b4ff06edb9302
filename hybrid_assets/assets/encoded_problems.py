"""Stage 3: the mathematical program in quantum-ready form, with its audit."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import dagster as dg

from hybrid_assets import registry
from hybrid_assets.assets.envelopes import plan_of, qubit_budget
from hybrid_assets.assets.reading import instance_in
from hybrid_assets.assets.stage import failure, stage, stored
from hybrid_assets.checks import CheckContext
from hybrid_assets.proposals.prepared import prepare
from hybrid_assets.proposals.trips import first_trip
from resources.dispatcher import Dispatcher
from resources.failures import HybridError
from resources.lake import Lake


@stage(
    "encoded_problems",
    deps=["normalized_inputs"],
    code_version="1",
    kinds={"python"},
    description="The program narrowed to the qubit budget where needed and encoded as a QUBO, with the audit: "
    "penalty adequacy, density, decode round trips, feasible share.",
)
def encoded_problems(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    dispatcher: dg.ResourceParam[Dispatcher],
) -> Iterator[Any]:
    """Model, narrow, encode and audit this partition's instance."""
    normalized_inputs = lake.partition("normalized_inputs", context.partition_key)
    family, instance, resolved = instance_in(normalized_inputs, dispatcher.artifacts)
    if resolved.backend in dispatcher.backend_names:
        # its SDK loads while the problem is encoded
        dispatcher.backend(resolved.backend).warm()
    try:
        plan = plan_of(family, instance, resolved, dispatcher)
        prepared = first_trip(family, instance, plan) if plan else None
        if prepared is None:
            # it fits, or no neighbourhood has anything to offer: narrowed once
            limit = qubit_budget(resolved, dispatcher)
            prepared = prepare(family, instance, limit, resolved.seed, resolved.encoding)
        encoding = registry.encoding(prepared.encoded.encoding)
        audit = encoding.audit(prepared.narrowed.program, prepared.encoded, resolved.seed)
    except HybridError as error:
        raise failure(error) from None
    narrowed, encoded = prepared.narrowed, prepared.encoded
    record: dict[str, Any] = {}
    size = len(narrowed.fixed)
    if prepared.leg is not None and plan is not None:
        size = family.program_size(instance)
        record = {
            "narrowed": True,
            "method": "proposal engine: sub-programs conditioned on an incumbent, one trip after the other",
            "kept": len(narrowed.kept),
            "of": size,
            "neighbourhoods": [block.kind for block in prepared.leg.blocks],
            "start": prepared.leg.state.cost,
            "walk": plan.record,
        }
    elif narrowed.narrowed:
        assignment = json.dumps({"kept": narrowed.kept.tolist(), "fixed": narrowed.fixed.tolist()}).encode()
        record = {**narrowed.record, "assignment_ref": dispatcher.artifacts.put(assignment)}
    row = {
        "instance": context.partition_key,
        "family": family.name,
        "input_digest": instance.digest,
        "encoding": encoded.encoding,
        "encoding_version": encoded.version,
        "exact": encoding.exact,
        "encoding_digest": encoded.digest,
        "payload_ref": dispatcher.artifacts.put(encoded.payload()),
        "program_form": prepared.program.form,
        "program_digest": prepared.program.digest,
        "program_variables": size,
        "encoded_variables": audit.variables,
        "interactions": audit.interactions,
        "density": audit.density,
        "offset": float(encoded.bqm.offset),
        "coefficient_range": audit.coefficient_range,
        "narrowed": bool(record),
        "narrowing": json.dumps(record),
        "kept_variables": len(narrowed.kept),
        "penalty_weight": audit.penalty_weight,
        "penalty_verdict": audit.penalty_verdict,
        "penalty_evidence": audit.penalty_evidence,
        "round_trips": audit.round_trips,
        "feasible_share": audit.feasible_share,
        "discretisation_error": audit.discretisation_error,
        "auxiliary_variables": audit.auxiliary_variables,
        "native_terms": audit.native_terms,
        "preparation_depth": audit.preparation_depth,
    }
    yield from stored(
        "encoded_problems",
        [row],
        CheckContext(context.partition_key, family, instance),
        {
            "variables": audit.variables,
            "interactions": audit.interactions,
            "density": audit.density,
            "narrowed": f"{len(narrowed.kept)} of {size} variables" if record else "no",
            "audit": dg.MetadataValue.json(asdict(audit)),
        },
    )
