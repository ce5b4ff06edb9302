"""Stage 10: dbt models into a new file, the swap, and the report. One at a time, once per burst of instances."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliResource, dbt_assets

from hybrid_assets import automation
from hybrid_assets.assets.stage import OWNERS, markdown_table
from hybrid_assets.report import write_report
from resources import warehouse
from resources.dispatcher import Dispatcher
from resources.home import Home
from resources.lake import Lake


class Translator(DagsterDbtTranslator):
    """Group, owners and automation of the models; staging models wait for the control snapshot."""

    def __init__(self) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True))

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
        """The model as Dagster shows it."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        if not unique_id.startswith("model."):
            return spec
        staging = ".stg_" in unique_id
        deps = [*spec.deps, dg.AssetDep("control_snapshot")] if staging else list(spec.deps)
        unique = {dep.asset_key: dep for dep in deps}
        return spec.replace_attributes(
            group_name="5_publication",
            owners=OWNERS,
            kinds={"dbt", "duckdb"},
            deps=list(unique.values()),
            automation_condition=automation.with_upstream,
        )


@dbt_assets(manifest=warehouse.MANIFEST, dagster_dbt_translator=Translator(), name="dbt_models")
def dbt_models(
    context: dg.AssetExecutionContext,
    dbt: DbtCliResource,
    lake: dg.ResourceParam[Lake],
    home: dg.ResourceParam[Home],
) -> Iterator[Any]:
    """Freeze the lake's versions and build every model, with its tests, into a file of this run's own."""
    build = warehouse.begin(home.warehouse, lake, context.run.run_id, home.dbt)
    try:
        with warehouse.applied(build):
            yield from dbt.cli(["build"], context=context, target_path=Path(build.env["DBT_TARGET_PATH"])).stream()
    except BaseException:
        warehouse.abandon(build)
        raise


def _marts() -> list[dg.AssetKey]:
    return [key for key in dbt_models.keys if key.path[0] == "marts"]


@dg.asset(
    group_name="5_publication",
    kinds={"duckdb"},
    owners=OWNERS,
    code_version="1",
    deps=_marts(),
    automation_condition=automation.with_upstream,
    description="The analysts' file: built aside, checked, swapped in atomically. An open reader keeps the old one.",
)
def published_warehouse(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], home: dg.ResourceParam[Home]
) -> dg.MaterializeResult:
    """Swap this run's build in."""
    build = warehouse.resume(home.warehouse, lake, context.run.run_id, home.dbt)
    publication = warehouse.finish(build)
    board = warehouse.query(home.warehouse, "select * from leaderboard order by family, instance")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(publication),
        metadata={
            "path": dg.MetadataValue.path(str(home.warehouse)),
            "publication": publication,
            "bytes": os.path.getsize(home.warehouse),
            "leaderboard": dg.MetadataValue.md(
                markdown_table(
                    board[
                        [
                            "instance",
                            "size",
                            "best_quantum",
                            "best_classical",
                            "best_known",
                            "quantum_gap",
                            "evidence_class",
                            "confidence",
                            "decision",
                            "winner",
                        ]
                    ]
                )
            ),
        },
    )


@dg.asset(
    group_name="5_publication",
    kinds={"html", "matplotlib"},
    owners=OWNERS,
    code_version="1",
    deps=[published_warehouse],
    automation_condition=automation.with_upstream,
    description="A page of plots for people: who won, by how much, with what confidence.",
)
def report(
    context: dg.AssetExecutionContext, home: dg.ResourceParam[Home], dispatcher: dg.ResourceParam[Dispatcher]
) -> dg.MaterializeResult:
    """Write the page beside the warehouse."""
    frames: dict[str, pd.DataFrame] = {
        table: warehouse.query(home.warehouse, f"select * from {table}")
        for table in ("leaderboard", "decisions", "comparisons", "baselines", "lineage")
    }
    size = write_report(
        home.report,
        frames,
        dispatcher.artifacts,
        warehouse.query(home.warehouse, "select instance, payload_ref from staging.stg_normalized_inputs"),
    )
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(str(home.report)),
            "bytes": size,
            "instances": len(frames["leaderboard"]),
        }
    )
