"""What all stages share: the decorator with groups, owners, column docs and checks, and the way a table is stored.

Here: glue between Dagster and the contracts. Not here: any stage's own work, or the invariants (``checks``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from hybrid_assets import checks, contracts, plots
from hybrid_assets.partitions import instances
from resources.envelope import digest_of
from resources.failures import HybridError, InfeasibleError, InputError, InvariantError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Group of each stage in the UI: the story's chapters, in order.
GROUPS = {
    "normalized_inputs": "1_inputs",
    "encoded_problems": "2_quantum",
    "quantum_jobs": "2_quantum",
    "quantum_samples": "2_quantum",
    "scored_candidates": "3_evidence",
    "baseline_runs": "3_evidence",
    "baseline_comparisons": "3_evidence",
    "decisions": "4_decisions",
}
OWNERS = ["team:hybrid-assets"]
#: The pool of the stages that talk to quantum backends.
QUANTUM = "quantum"
#: Columns that differ between equal answers; they are no part of a data version.
VOLATILE = frozenset(
    {
        "seconds",
        "time_to_best",
        "trajectory",
        "evaluations",
        "quantum_seconds",
        "classical_seconds",
        "seconds_by_phase",
        "decided_at",
        "correlation_id",
        "cached",
        # estimates: calibrations and prices change them
        "coupling_map",
        "estimated_logical_two_qubit_gates",
        "estimated_logical_depth",
        "estimated_two_qubit_gates",
        "estimated_depth",
        "device_seconds",
        "device_cost",
        "device_priced_as",
    }
)


def stage(
    table: str,
    *,
    code_version: str,
    kinds: set[str],
    description: str,
    deps: list[Any] | None = None,
    output_required: bool = True,
    pool: str | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Declare the asset that stores ``table``, one partition per instance.

    Args:
        output_required: whether every successful run stores something; a stage that may be pending yields nothing.
        pool: Dagster's, shared by all runs; its limit is how many of its stages run at the same time.
    """
    out = dg.AssetOut(
        group_name=GROUPS[table],
        kinds=kinds | {"delta"},
        owners=OWNERS,
        description=description,
        code_version=code_version,
        io_manager_key="lake",
        is_required=output_required,
        metadata={"dagster/column_schema": column_schema(table), "dagster/table_name": table},
    )
    return dg.multi_asset(
        name=table,
        outs={table: out},
        deps=deps,
        partitions_def=instances,
        check_specs=check_specs(table),
        # the one switch that also lets the checks go without a result
        can_subset=not output_required,
        pool=pool,
    )


def check_specs(table: str) -> list[dg.AssetCheckSpec]:
    """The schema and the invariants of a table as blocking checks of each partition."""
    found = [
        ("schema", "columns, types and ranges are those of the contract"),
        *((check.name, check.description) for check in checks.of(table)),
    ]
    with warnings.catch_warnings():
        # without a partition of its own, one instance's failed check would be forgotten with the next instance's
        # good one; the parameter is a preview in this pinned version of Dagster
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(name, asset=table, description=description, blocking=True, partitions_def=instances)
            for name, description in found
        ]


def column_schema(table: str) -> dg.TableSchema:
    """The contract's columns as Dagster shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                type_,
                description=description,
                constraints=dg.TableColumnConstraints(nullable=bool(contracts.TABLES[table].columns[name].nullable)),
            )
            for name, type_, description in contracts.column_docs(table)
        ]
    )


def stored(
    table: str, rows: list[dict[str, Any]], context: checks.CheckContext, metadata: Mapping[str, Any]
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Check the rows, then hand them to the lake; a violation stores nothing.

    The data version is the digest of the rows without the columns that differ between equal answers (seconds, times).
    """
    version = digest_of([{k: v for k, v in row.items() if k not in VOLATILE} for row in rows])
    try:
        frame = contracts.frame_of(table, [{**row, "data_version": version} for row in rows], file=context.source)
    except InvariantError as error:
        yield dg.AssetCheckResult(check_name="schema", asset_key=table, passed=False, description=str(error))
        raise failure(error) from None
    found = {"schema": [], **{check.name: check.find(frame, context) for check in checks.of(table)}}
    broken = {name: problems for name, problems in found.items() if problems}
    results = [
        dg.AssetCheckResult(
            check_name=name, asset_key=table, passed=not problems, description="; ".join(problems[:3]) or None
        )
        for name, problems in found.items()
    ]
    if broken:
        yield from results
        raise dg.Failure("; ".join(f"{name}: {problems[0]}" for name, problems in broken.items()), allow_retries=False)
    yield dg.MaterializeResult(
        value=frame,
        data_version=dg.DataVersion(version),
        check_results=results,
        metadata={"dagster/partition_row_count": len(frame), **metadata},
    )


def failure(error: HybridError) -> dg.Failure:
    """A Dagster failure with the error's own sentence; input errors are nobody's to retry."""
    return dg.Failure(
        str(error),
        metadata={"failure_class": str(error.failure_class), "infeasible": isinstance(error, InfeasibleError)},
        allow_retries=not isinstance(error, InputError),
    )


def preview(frame: pd.DataFrame, limit: int = 10) -> dg.MarkdownMetadataValue:
    """The first rows as a table."""
    return dg.MetadataValue.md(markdown_table(frame.head(limit)))


def picture(figure: Figure) -> dg.MarkdownMetadataValue:
    """The figure as Markdown metadata, shown in the asset's page."""
    shown = dg.MetadataValue.md(f"![plot]({plots.data_uri(figure)})")
    # the artists refer to each other; cleared, they go at once instead of at some later collection
    figure.clear()
    return shown


def markdown_table(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table, numbers to six digits."""

    def cell(value: Any) -> str:
        if value is None or value is pd.NA or (isinstance(value, float) and value != value):
            return "–"
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        return text.replace("|", "\\|")[:120]

    header = "| " + " | ".join(map(str, frame.columns)) + " |\n|" + "---|" * len(frame.columns)
    body = "\n".join("| " + " | ".join(cell(v) for v in row) + " |" for row in frame.itertuples(index=False))
    return f"{header}\n{body}"
