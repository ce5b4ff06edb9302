"""The rules of the house: who may import whom, what loads what, and what no file may hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("hybrid_assets", "resources")

#: Heavy packages that loading the definitions must not import (dagster_dbt's dbt brings networkx, so it is not here).
NOT_AT_IMPORT = (
    "qiskit", "qiskit_aer", "qiskit_ibm_runtime", "pennylane", "pennylane_lightning", "braket", "dimod", "dwave",
    "ortools", "pyscipopt", "highspy", "clarabel", "scipy", "sklearn", "matplotlib", "numba", "tabu",
)  # fmt: skip
#: Text that belongs to one machine, and addresses of package registries; written so that no pattern finds itself.
NOT_IN_A_FILE = {
    "a home folder": re.compile(r"(?<![\w.$}~])/(?:home|Users)/[a-z][\w.-]*/|(?<![\w.$}~/])/[r]oot/"),
    "a package registry": re.compile(
        r"https?://[^\s'\"]*(?:py[p]i|python[h]osted|[s]imple/|[a]rtifactory|[n]exus|npm[j]s|[a]naconda)", re.IGNORECASE
    ),
    "an index option": re.compile(r"--(?:extra-)?index-[u]rl|--find-[l]inks|--trusted-[h]ost"),
}


def tool(*command: str) -> str:
    """What a tool of the environment says; empty when it is content."""
    program = str(Path(sys.executable).with_name(command[0]))
    done = subprocess.run([program, *command[1:]], cwd=PROJECT, capture_output=True, text=True, timeout=240)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((PROJECT / package).rglob("*.py"))]


def tracked() -> list[Path]:
    """Files under version control; in an unpacked archive, all but hidden and generated ones."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        found = [PROJECT / name for name in listed.stdout.split("\0") if name]
    else:
        found = [
            path
            for path in PROJECT.rglob("*")
            if not any(part.startswith(".") or part in ("var", "build") for part in path.relative_to(PROJECT).parts)
        ]
    return [path for path in found if path.is_file()]


def imported(path: Path) -> set[str]:
    """Top-level packages that a module imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_the_import_contracts_hold() -> None:
    assert not tool("lint-imports", "--no-cache")


def test_ruff_finds_nothing() -> None:
    assert not tool("ruff", "check", "--no-cache", "--output-format", "concise", ".")


def test_every_file_is_formatted() -> None:
    assert not tool("ruff", "format", "--no-cache", "--check", ".")


def test_mypy_finds_nothing() -> None:
    assert not tool("mypy")


def test_resources_know_nothing_of_the_assets() -> None:
    # also inside functions and under TYPE_CHECKING
    assert [p for p in modules() if p.is_relative_to(PROJECT / "resources") and "hybrid_assets" in imported(p)] == []


def test_domain_rooms_import_no_dagster() -> None:
    rooms = ("problems", "encodings", "proposals", "solvers", "evidence")
    inside = [p for room in rooms for p in (PROJECT / "hybrid_assets" / room).rglob("*.py")]
    assert len(inside) > len(rooms)
    assert [p for p in inside if any(name.startswith("dagster") for name in imported(p))] == []


def test_every_module_says_what_lives_there() -> None:
    silent = [
        str(path.relative_to(PROJECT))
        for path in modules()
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_modules_are_short_and_no_drawer_collects_odds_and_ends() -> None:
    long = {str(p.relative_to(PROJECT)): n for p in modules() if (n := len(p.read_text().splitlines())) > 420}
    assert long == {}
    assert [p for p in modules() if p.stem in ("utils", "util", "helpers", "misc", "common")] == []


def test_loading_the_definitions_loads_no_quantum_sdk_and_no_solver() -> None:
    code = (
        "import sys, hybrid_assets.definitions\n"
        f"print(sorted({{m.split('.')[0] for m in sys.modules}} & set({NOT_AT_IMPORT!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_no_file_holds_what_belongs_to_one_machine() -> None:
    found = []
    for path in tracked():
        content = path.read_bytes()
        if b"\0" in content[:8000]:
            continue
        for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
            for what, pattern in NOT_IN_A_FILE.items():
                if pattern.search(line):
                    found.append(f"{path.relative_to(PROJECT)}:{number} holds {what}: {line.strip()[:100]}")
    assert found == []


def test_constraints_are_pins_and_nothing_else() -> None:
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line.strip() and not line.startswith("#")]
    pin = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+(?: ; [\w<>=!.'\" ()-]+)?")
    assert len(pins) > 50
    assert [line for line in pins if not pin.fullmatch(line)] == []
    assert "://" not in "\n".join(lines)


def test_the_patterns_find_what_they_are_for() -> None:
    machine, registry, option = NOT_IN_A_FILE.values()
    home, root, url = ("/{}/ada/x".format("home"), "cd /{}/z".format("root"), "-".join(("--index", "url")))
    assert all(machine.search(text) for text in (home, f"= '{home}'", root))
    assert not any(machine.search(text) for text in ("$HOME/x", "~/home/", "the root/leaf", "a/root/b"))
    assert registry.search("https://{}.example/x".format("nexus"))
    assert not registry.search("https://example.org/data")
    assert option.search(f"pip install {url} x")
