"""Stage 2: the validated, typed instance, from the bytes that landed."""

import json
from collections.abc import Iterator
from typing import Any

import dagster as dg

from hybrid_assets import registry
from hybrid_assets.assets.landed_files import landed_files
from hybrid_assets.assets.stage import failure, picture, stage, stored
from hybrid_assets.checks import CheckContext
from hybrid_assets.landing import instance_of
from hybrid_assets.request import parse, resolve
from hybrid_assets.routes import decide
from resources.dispatcher import Dispatcher
from resources.envelope import canonical_json
from resources.environments import Settings
from resources.failures import HybridError
from resources.lake import Lake


@stage(
    "normalized_inputs",
    code_version="1",
    kinds={"pandas"},
    deps=[landed_files],
    description="The validated, typed instance: family, size, content digest, constraints extracted, what "
    "normalization found, and where the policy routes it. The numeric payload is content-addressed (`payload_ref`).",
)
def normalized_inputs(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    dispatcher: dg.ResourceParam[Dispatcher],
    settings: dg.ResourceParam[Settings],
) -> Iterator[Any]:
    """Validate and type the landed file of this partition, and decide once where its jobs go."""
    key = context.partition_key
    landing = dispatcher.ledger.landing(key)
    if landing is None or landing.state == "retired":
        raise dg.Failure(
            f"{key}: no file has landed for this partition; drop one into the inbox or use `hybrid solve`.",
            allow_retries=False,
        )
    family = registry.family(landing.family)
    try:
        instance = instance_of(landing, dispatcher.artifacts)
        request = parse(landing.options, landing.name)
        if request.encoding is not None:
            # an unknown one is refused before anything is computed
            registry.encoding(request.encoding)
        route = decide(key, family, instance.size, lambda: instance, request, settings, dispatcher, lake)
    except HybridError as error:
        raise failure(error) from None
    resolved = resolve(request, settings, route)
    row = {
        "instance": key,
        "family": landing.family,
        "name": instance.name,
        "source_file": landing.name,
        "source_digest": landing.source_digest,
        "member": landing.member,
        "size": instance.size,
        "sense": instance.sense,
        "input_digest": instance.digest,
        "payload_ref": dispatcher.artifacts.put(instance.to_bytes()),
        "owner": resolved.owner,
        "sensitivity": resolved.sensitivity,
        "deadline": resolved.deadline,
        "best_known": request.best_known,
        "best_known_source": request.best_known_source,
        "options": canonical_json(resolved.model_dump()),
        "constraints": canonical_json(dict(family.constraints(instance))),
        "notes": json.dumps(list(instance.notes)),
        "environment": settings.environment,
    }
    yield from stored(
        "normalized_inputs",
        [row],
        CheckContext(landing.name, family, instance),
        {
            "size": instance.size,
            "owner": resolved.owner,
            "route": f"{route.name}: {' → '.join((route.backend, *route.fallback))} ({route.tier})",
            "policy_version": route.policy_version,
            "routing": dg.MetadataValue.md("\n".join(f"1. {line}" for line in route.explanation)),
            "constraints": dg.MetadataValue.json(dict(family.constraints(instance))),
            "notes": dg.MetadataValue.md("\n".join(f"- {n}" for n in instance.notes) or "nothing to note"),
            "shape": picture(family.plot_instance(instance)),
        },
    )
