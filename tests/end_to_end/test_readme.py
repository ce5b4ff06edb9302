"""The README keeps its word: what it shows is executed, on plug-ins found as a third party's would be."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from hybrid_assets import cli, registry
from hybrid_assets.landing import Address, options_of, recognise
from hybrid_assets.problems.base import ProblemFamily
from hybrid_assets.problems.conformance import FamilyConformance, source
from hybrid_assets.request import Request, parse
from hybrid_assets.session import Session, open_session
from resources import warehouse
from resources.backends.base import QuantumBackend
from resources.backends.conformance import BackendConformance
from resources.environments import backend_factories
from resources.failures import InputError
from resources.home import PROJECT, Home

README = (PROJECT / "README.md").read_text(encoding="utf-8")
EXAMPLES = PROJECT / "examples"
NUMBERS = b"8\n7\n6\n5\n4\n13\n21\n2\n"


def blocks(language: str) -> list[str]:
    """The README's code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The examples as an installed package whose entry points are those that the README shows."""
    site = tmp_path_factory.mktemp("site")
    package = site / "examples-0.1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: examples\nVersion: 0.1\n")
    groups = tomllib.loads(blocks("toml")[0])["project"]["entry-points"]
    lines = [line for group, found in groups.items()
             for line in (f"[{group}]", *(f"{name} = {place}" for name, place in found.items()))]  # fmt: skip
    (package / "entry_points.txt").write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        patch.syspath_prepend(EXAMPLES)
        yield


@pytest.fixture(scope="module")
def session(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """The example family's instance, answered through the example backend, and published."""
    place = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        patch.delenv("HYBRID_ENV", raising=False)
        (place / "numbers.txt").write_bytes(NUMBERS)
        with open_session(home=Home(place / "var")) as session:
            request = Request(backend="descent", shots=50, budget=60.0)
            landing = session.land_file(Address.parse(str(place / "numbers.txt")), None, request)
            outcome = session.process(landing.instance)
            assert outcome.problem is None
            assert session.publish() is None
            yield session


def test_the_examples_go_through_the_whole_line(session: Session) -> None:
    document = cli.answer(session, "numberpartition.numbers")
    assert document["feasible"]
    # 33 to 33, which the exact baseline proves; the backend is a surrogate and says so
    assert document["objective"] == document["best_classical"] == 0.0
    numbers = [int(line) for line in NUMBERS.split()]
    assert sum(n if pile else -n for n, pile in zip(numbers, document["solution"], strict=True)) == 0
    assert document["best_surrogate"] is not None
    assert document["best_quantum"] is None
    (job,) = session.dispatcher.ledger.jobs()
    assert (job.backend, job.state, job.fallback_path) == ("descent", "succeeded", "[]")


@pytest.mark.parametrize("sql", blocks("sql"))
def test_sql(session: Session, sql: str) -> None:
    found = warehouse.query(session.home.warehouse, sql)
    assert len(found) == 1


def test_python_query(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(session.home.root.parent)
    (code,) = (block for block in blocks("python") if "warehouse.duckdb" in block)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "README.md", "exec"), {})
    assert "numberpartition.numbers" in said.getvalue()


def test_the_report_shows_the_example(session: Session) -> None:
    assert 'id="numberpartition.numbers"' in session.home.report.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["numberpartition", "descent"])
def test_the_examples_are_shown_whole(name: str) -> None:
    code = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert f"<!-- examples/{name}.py -->\n```python\n{code}```\n" in README
    # "about thirty lines" of code: neither imports nor docstrings nor blanks
    body = [line for line in code.splitlines() if line.strip() and not re.match(r'(from|import|\s*""")', line)]
    assert len(body) <= 32


@pytest.mark.usefixtures("installed")
class TestExampleFamily(FamilyConformance):
    def family(self) -> ProblemFamily:
        return registry.family("numberpartition")

    def examples(self) -> Sequence[bytes]:
        return [NUMBERS, b"10\n20\n30\n40"]


@pytest.mark.usefixtures("installed")
class TestExampleBackend(BackendConformance):
    def backend(self) -> QuantumBackend:
        return backend_factories()["descent"]()


def test_the_options_are_all_there_are() -> None:
    (text,) = blocks("yaml")
    document = yaml.safe_load(text)
    assert set(document) == set(Request.model_fields)
    request = parse(document, "README.md")
    portfolio = registry.family("portfolio")
    assert set(request.constraints) == set(portfolio.options.model_fields)
    options_of(portfolio, request.constraints, "README.md")


def _commands() -> Iterator[Any]:
    for line in "".join(blocks("sh")).splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words.pop(0)
        if words:
            yield pytest.param(words, id=" ".join(words))


@pytest.mark.parametrize("words", [*_commands()])
def test_commands_exist(words: list[str]) -> None:
    program, name, *rest = words[: words.index(">")] if ">" in words else words
    if program == "make":
        assert re.search(rf"^{name}:", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        return
    assert program == ".venv/bin/hybrid"
    group = typer.main.get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    command = group.commands[name]
    if isinstance(command, typer.core.TyperGroup):
        command, (name, *rest) = command.commands[rest[0]], rest
    command.make_context(name, rest)


def test_an_ambiguous_file_is_refused_until_something_decides() -> None:
    plain = b"3 2\n1 2 1\n2 3 1\n"
    with pytest.raises(InputError, match=r"maxcut or as qubo.*--family maxcut or --family qubo"):
        recognise(source(plain))
    assert recognise(source(b"# a maxcut instance\n" + plain)) == "maxcut"
    assert recognise(source(b"# a qubo instance\n" + plain)) == "qubo"


def test_exit_codes_are_the_command_s() -> None:
    assert f"{cli.BAD_INPUT} bad input, {cli.NO_ANSWER} no feasible answer" in README


@pytest.mark.parametrize("variable", re.findall(r"^\| `([A-Z_]+)` \|", README, flags=re.MULTILINE))
def test_variables_are_read_somewhere(variable: str) -> None:
    places = [*PROJECT.glob("resources/**/*.py"), PROJECT / "Makefile", PROJECT / "setup.sh"]
    assert any(re.search(rf"[\"'{{$(]{variable}\b", place.read_text(encoding="utf-8")) for place in places)


@pytest.mark.parametrize("page", [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))],
                         ids=lambda page: page.name)  # fmt: skip
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_pictures_are_small() -> None:
    pictures = list((PROJECT / "docs" / "pictures").glob("*.png"))
    assert pictures
    assert all(picture.stat().st_size < 250_000 for picture in pictures)
