"""Stage 1: files found in the inbox, observed; the content digest is the data version."""

from __future__ import annotations

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from hybrid_assets.assets.stage import OWNERS
from hybrid_assets.partitions import instances
from resources.envelope import digest_of
from resources.ledger import Landing

landed_files = dg.AssetSpec(
    "landed_files",
    group_name="1_inputs",
    kinds={"file"},
    owners=OWNERS,
    partitions_def=instances,
    description="Files in the inbox (or given to `hybrid solve`), observed: one partition per instance, its data "
    "version the digest of file content, instance number and request.",
)


def landed_version(landing: Landing) -> str:
    """Digest of everything that makes a landed file another input."""
    return digest_of([landing.source_digest, landing.member, landing.options])


def observation(landing: Landing) -> dg.AssetObservation:
    """What the event log keeps about a landed file."""
    return dg.AssetObservation(
        asset_key="landed_files",
        partition=landing.instance,
        metadata={
            "path": dg.MetadataValue.path(landing.path),
            "sha256": landing.source_digest,
            "instance_number": landing.member,
            "request": dg.MetadataValue.json(landing.options),
            "state": landing.state,
        },
        tags={DATA_VERSION_TAG: landed_version(landing)},
    )
