"""Quality: the accepted answer, every baseline and every arm against best known values, family by family.

    HYBRID_INSTANCES=folder .venv/bin/python -m benchmarks.quality [--set development] [--seeds N] [--seconds T]

Two budgets, named in every table: ``portfolio`` is T seconds for everything together and is what the accepted answer
is claimed for; ``arm`` is T seconds on one thread for one arm. ``--replay N`` adds the frozen-replay tables, ``--json``
and ``--plot`` keep the runs and the picture of gap against time. Runs go one after the other; the load of the machine
and the share of a core that the runs got stand below every table.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from benchmarks import quality_instances as instances
from benchmarks import quality_runs, quality_tables
from benchmarks.quality_tables import Subject
from hybrid_assets.proposals.arms import ARMS

#: Arms of the development set: the quantum one and the controls that say most about it.
FEW = "qaoa,none,uniform,exact"


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", dest="set_", default="development", choices=[*instances.SETS, "all"])
    parser.add_argument("--instances", help="names, with commas between them: only these of the manifest")
    parser.add_argument("--seeds", type=int, help="5; for the development set 2")
    parser.add_argument("--seconds", type=float, help="of both budgets; by default the set's own")
    parser.add_argument("--arms", help=f"names, with commas, of {', '.join(ARMS)}; none at all: ''")
    parser.add_argument("--baselines", help="which have the budget to themselves (all): names, with commas; none: ''")
    parser.add_argument("--replay", type=int, default=0, metavar="N", help="blocks of the frozen log")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="a picture per set: the set's name is put before the suffix")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    asked = arguments(given)
    entries = instances.manifest(instances.folder())
    sets = [name for name in instances.SETS if name != "development"] if asked.set_ == "all" else [asked.set_]
    document: dict[str, object] = {}
    for name in sets:
        seconds, members = instances.SETS[name]
        names = asked.instances.split(",") if asked.instances else members.split()
        few = name == "development"
        arms = (FEW if few else ",".join(ARMS)) if asked.arms is None else asked.arms
        subjects = measured(
            instances.chosen(entries, names),
            asked.seconds or seconds,
            asked.seeds or (2 if few else 5),
            [arm for arm in arms.split(",") if arm],
            None if asked.baselines is None else asked.baselines.split(","),
            f"## {name}",
        )
        document[name] = [asdict(run) for subject in subjects for run in subject.runs]
        if asked.plot and subjects:
            path = asked.plot.with_stem(f"{asked.plot.stem}-{name}")
            quality_tables.plot(subjects, asked.seconds or seconds, path)
    if asked.replay:
        document["replay"] = replays(instances.chosen(entries, instances.REPLAYED.split()), asked.replay)
    if asked.json:
        asked.json.write_text(json.dumps(document))


def measured(
    entries: list[instances.Entry],
    seconds: float,
    seeds: int,
    arms: list[str],
    solvers: list[str] | None,
    title: str,
) -> list[Subject]:
    """Run the entries and print the tables of their families, each as soon as it is complete."""
    subjects: list[Subject] = []
    print(title, flush=True)
    for family_name in dict.fromkeys(entry.family for entry in entries):
        group: list[Subject] = []
        for entry in entries:
            if entry.family != family_name:
                continue
            family, instance = instances.load(entry)
            quality_runs.warm(family, instance, arms)
            found = list(quality_runs.runs(family, instance, seconds, seeds, arms, solvers))
            mean = quality_runs.random_mean(family, instance)
            group.append(Subject.of(entry, family, instance, mean, found))
        print(f"\n### {family_name}\n\n{quality_tables.accepted(group, seconds, seeds)}", flush=True)
        if table := quality_tables.alone(group, seconds, seeds):
            print(f"\n{table}", flush=True)
        subjects += group
    return subjects


def replays(entries: list[instances.Entry], blocks: int) -> dict[str, object]:
    """Print the frozen-replay tables."""
    print("\n## Frozen replay", flush=True)
    document: dict[str, object] = {}
    for entry in entries:
        rows = quality_runs.replayed(*instances.load(entry), blocks)
        if rows:
            print(f"\n{quality_tables.replay_table(entry.name, rows, rows[0].blocks)}", flush=True)
            document[entry.name] = [asdict(row) for row in rows]
    return document


if __name__ == "__main__":
    main()
