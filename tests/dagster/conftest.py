"""A platform in a temporary home: land files, run the line for real, look at what it left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from hybrid_assets.definitions import build_defs
from hybrid_assets.landing import Address
from hybrid_assets.line import LINE, Outcome, run_line
from hybrid_assets.request import parse
from hybrid_assets.session import Session
from resources.artifacts import ArtifactStore
from resources.backends.base import QuantumBackend
from resources.dispatcher import Dispatcher
from resources.environments import backend_factories
from resources.home import Home
from resources.ledger import Ledger

#: Six nodes and eight edges; alternating sides cut every edge, 13 in all.
RING = "6 8\n1 2 1\n2 3 2\n3 4 1\n4 5 3\n5 6 1\n6 1 2\n1 4 1\n2 5 2\n"
#: Another graph on as many nodes.
OTHER_RING = RING.replace("4 5 3", "4 5 4")
QUICK = {"budget": 0.2, "shots": 200, "depth": 2}


class Platform(Session):
    """A session whose files, requests and definitions the test gives."""

    def file(self, text: str = RING, name: str = "ring.mc") -> Path:
        """A data file outside the inbox."""
        path = self.home.root / "files" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def landed(self, text: str = RING, name: str = "ring.mc", family: str = "maxcut", **request: Any) -> str:
        """Key of a file that has landed."""
        address = Address(self.file(text, name), 0)
        return self.land_file(address, family, parse(QUICK | request, name)).instance

    def run(self, key: str, stages: Sequence[str] = LINE, defs: dg.Definitions | None = None) -> Outcome:
        """Run stages with these definitions."""
        repository = defs.get_repository_def() if defs else self.repository
        return run_line(repository.get_job("instance_line"), self.instance, key, stages)

    def with_backends(self, **backends: QuantumBackend) -> dg.Definitions:
        """Definitions whose dispatcher sends to these backends, on the same ledger."""
        factories = {**backend_factories(), **{name: (lambda b=b: b) for name, b in backends.items()}}
        dispatcher = Dispatcher(Ledger.at(self.home.ledger), ArtifactStore(self.home.artifacts), factories)
        return build_defs(environment="dev", home=self.home, dispatcher=dispatcher)

    def rows(self, table: str, key: str) -> pd.DataFrame:
        """The stored rows of an instance."""
        return self.lake.read(table, [key])

    def versions(self, key: str) -> dict[str, str]:
        """The newest data version of each stage, as Dagster knows it."""
        found = {}
        for stage in LINE:
            newest = self.instance.fetch_materializations(
                dg.AssetRecordsFilter(dg.AssetKey(stage), asset_partitions=[key]), limit=1
            ).records
            if newest and newest[0].asset_materialization:
                found[stage] = (newest[0].asset_materialization.tags or {})["dagster/data_version"]
        return found

    def evaluations(self, key: str, stage: str) -> dict[str, bool]:
        """Whether each check of a stage passed when it was last evaluated on this partition."""
        found = {}
        for check in self.repository.asset_graph.get_check_keys_for_assets({dg.AssetKey(stage)}):
            history = self.instance.event_log_storage.get_asset_check_execution_history(check, limit=20)
            for record in reversed(history):
                event = record.event.dagster_event if record.event else None
                evaluation = event.event_specific_data if event else None
                if evaluation is not None and getattr(evaluation, "partition", None) == key:
                    found[check.name] = evaluation.passed
        return found


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One platform for the tests of a file; each takes instances of its own."""
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("HYBRID_ENV", "dev")
        yield Platform(Home(tmp_path_factory.mktemp("home")).prepare(), instance)
