"""Stage 1: files found in the inbox, observed; the content digest is the data version.

Here: the asset, and what the event log keeps of a landed file. Not here: landing itself (``landing``).
"""

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


def register(instance: dg.DagsterInstance, landing: Landing) -> None:
    """Make the partition and observe the file, unless both are known with this version."""
    if not instance.has_dynamic_partition("instances", landing.instance):
        instance.add_dynamic_partitions("instances", [landing.instance])
    newest = instance.get_latest_data_version_record(landed_files.key, partition_key=landing.instance)
    known = newest.event_log_entry.asset_observation if newest else None
    if known is None or known.tags.get(DATA_VERSION_TAG) != landed_version(landing):
        instance.report_runless_asset_event(observation(landing))


def observation(landing: Landing, description: str | None = None) -> dg.AssetObservation:
    """What the event log keeps about a landed file."""
    return dg.AssetObservation(
        asset_key=landed_files.key,
        description=description,
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
