"""Landing: files become instances with stable keys, and bad input leaves nothing behind."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.landing import Address, check_file, instance_of, land, land_found, recognise, scan, slug
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.request import Request
from resources.artifacts import ArtifactStore
from resources.failures import InputError
from resources.ledger import Landing, Ledger

GRAPH = "3 3\n1 2 1\n2 3 1\n1 3 -2\n"
QUBO = "3 2\n1 2 1.5\n2 2 -1\n"
TWO_QUBOS = "2\n3 3\n1 1 1\n2 3 1\n1 3 -2\n3 3\n1 1 1\n2 3 1\n1 3 -5\n"


@dataclass
class Place:
    root: Path

    def __post_init__(self) -> None:
        self.ledger, self.artifacts = Ledger.at(self.root / "ledger.db"), ArtifactStore(self.root / "artifacts")
        self.inbox = self.root / "inbox"

    def write(self, name: str, text: str = GRAPH) -> Path:
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def land(self, path: Path, family: str = "maxcut", member: int = 0, request: Request | None = None) -> Landing:
        return land(self.ledger, self.artifacts, path, family, SourceFile.open(path), member, request or Request())

    def land_inbox(self) -> list[Landing]:
        return [landed for found in scan(self.inbox) for landed in land_found(self.ledger, self.artifacts, found)]

    def stored(self) -> tuple[int, list[Landing]]:
        return sum(1 for p in self.artifacts.root.rglob("*") if p.is_file()), self.ledger.landings()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# --- recognising and addressing -------------------------------------------------------------------------------------


def source(text: str) -> SourceFile:
    return SourceFile("some.txt", text.encode(), "0" * 64)


def test_a_family_is_recognised_from_content_alone() -> None:
    assert recognise(source(QUBO)) == "qubo"
    assert recognise(source("date,A,B\n2020-01-01,1,2\n2020-01-02,2,3\n2020-01-03,3,2\n")) == "portfolio"


def test_an_ambiguous_file_names_its_candidates_and_how_to_choose(place: Place) -> None:
    with pytest.raises(InputError) as error:
        recognise(source(GRAPH))
    assert str(error.value) == (
        "some.txt: format: it can be read as maxcut or as qubo; say which with --family maxcut or --family qubo."
    )
    path = place.write("maxcut/g.txt")
    assert check_file(Address(path, 0), "maxcut", Request())[0] == "maxcut"
    assert check_file(Address(path, 0), "qubo", Request())[0] == "qubo"


def test_content_of_no_family_names_them_all() -> None:
    with pytest.raises(InputError, match=r"no format that any family reads; give a file of one of: .*maxcut.*qubo"):
        recognise(source("once upon a time\n"))


def test_addresses(tmp_path: Path) -> None:
    assert Address.parse("dir/f.txt") == Address(Path("dir/f.txt"), 0)
    assert Address.parse("dir/f.txt#3") == Address(Path("dir/f.txt"), 3)
    real = tmp_path / "odd#7"
    real.write_text(QUBO)
    assert Address.parse(str(real)) == Address(real, 0)
    assert Address.parse(f"{real}#2") == Address(real, 2)
    for wrong in ("f#", "f#0", "f#-1", "f#x", "f#1.5", "f#²", "f#" + "9" * 5000, "x" * 300 + "#y"):
        with pytest.raises(InputError, match="not a positive integer; write FILE#1"):
            Address.parse(wrong)


def test_one_of_several_instances_has_to_be_named(place: Place) -> None:
    path = place.write("two.txt", TWO_QUBOS)
    first, second = (check_file(Address(path, n), "qubo", Request())[2] for n in (1, 2))
    assert first.digest != second.digest
    with pytest.raises(InputError, match=r"two.txt: file: it holds 2 instances; name one, e.g. two.txt#1 … two.txt#2"):
        check_file(Address(path, 0), "qubo", Request())
    with pytest.raises(InputError, match=r"two.txt: #3: it holds 2 instance\(s\); use a number from 1 to 2"):
        check_file(Address(path, 3), "qubo", Request())


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=90))
def test_a_slug_is_a_short_lower_case_word(name: str) -> None:
    made = slug(name)
    assert 1 <= len(made) <= 60
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not made.startswith("-")
    assert not made.endswith("-")
    assert slug(made) == made


def test_slugs_forget_suffixes_and_case() -> None:
    assert slug("Karate Club.TXT") == slug("karate_club.mc.gz") == "karate-club"
    assert slug("..") == "instance"
    assert slug("a" * 59 + " b") == "a" * 59


# --- landing --------------------------------------------------------------------------------------------------------


def test_what_landed_is_kept_whatever_happens_to_the_file(place: Place) -> None:
    path = place.write("maxcut/g.txt")
    landed = place.land(path, request=Request(owner="me"))
    assert (landed.instance, landed.options, landed.state) == ("maxcut.g", {"owner": "me"}, "present")
    assert place.ledger.landing("maxcut.g") == landed
    before = instance_of(landed, place.artifacts)
    path.unlink()
    assert instance_of(landed, place.artifacts).digest == before.digest


def test_the_same_file_lands_once(place: Place) -> None:
    path = place.write("maxcut/g.txt")
    assert place.land(path) == place.land(path)
    files, landings = place.stored()
    assert (files, len(landings)) == (1, 1)
    path.write_text(GRAPH.replace("-2", "-3"))
    assert place.land(path).instance == "maxcut.g"
    files, landings = place.stored()
    assert (files, len(landings)) == (2, 1)


def test_two_files_with_one_name_have_two_stable_keys(place: Place) -> None:
    one, other = place.write("a/g.txt"), place.write("b/G.TXT", GRAPH.replace("-2", "5"))
    keys = [place.land(path).instance for path in (one, other, one, other)]
    assert keys[0] == "maxcut.g"
    assert keys[1].startswith("maxcut.g-")
    assert keys[:2] == keys[2:]
    assert len(place.stored()[1]) == 2


def test_many_files_with_one_name_landed_at_once_lose_nothing(place: Place) -> None:
    paths = [place.write(f"{n}/g.txt", GRAPH.replace("-2", str(n))) for n in range(12)]
    with ThreadPoolExecutor(12) as pool:
        landed = list(pool.map(lambda path: Place(place.root).land(path), paths))
    assert len({found.instance for found in landed}) == 12
    assert {found.path for found in place.ledger.landings()} == {str(p.resolve()) for p in paths}
    assert [place.land(path) for path in paths] == landed


@pytest.mark.parametrize(
    ("name", "content", "family", "constraints"),
    [
        ("empty.txt", b"", None, {}),
        ("words.txt", b"once upon a time", None, {}),
        ("header.txt", b"3\n1 2 1\n", "maxcut", {}),
        ("loop.txt", b"3 1\n1 1 1\n", "maxcut", {}),
        ("twice.txt", b"3 2\n1 2 1\n2 1 1\n", "maxcut", {}),
        ("negative.txt", b"3 1\n-1 2 1\n", "maxcut", {}),
        ("nan.txt", b"3 1\n1 2 nan\n", "qubo", {}),
        ("huge.txt", b"3 1\n1 2 1e308\n", "qubo", {}),
        ("binary.txt", bytes(range(256)), "maxcut", {}),
        ("ambiguous.txt", GRAPH.encode(), None, {}),
        ("damaged.gz", gzip.compress(GRAPH.encode(), mtime=0)[:-5], "maxcut", {}),
        ("option.txt", GRAPH.encode(), "maxcut", {"colour": "red"}),
        ("unknown.txt", GRAPH.encode(), "knapsack", {}),
    ],
)
def test_bad_input_is_one_sentence_and_stores_nothing(
    place: Place, name: str, content: bytes, family: str | None, constraints: dict[str, str]
) -> None:
    place.land(place.write("maxcut/good.txt"))
    before = place.stored()
    path = place.inbox / name
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        check_file(Address(path, 0), family, Request.model_validate({"constraints": constraints}))
    assert "\n" not in str(error.value)
    assert place.stored() == before


# --- the inbox ------------------------------------------------------------------------------------------------------


def test_a_scan_sees_data_files_and_nothing_else(place: Place) -> None:
    for name in ("maxcut/g.txt", "qubo/q.txt", "maxcut/no suffix"):
        place.write(name)
    for ignored in (
        "g.yaml",
        "notes.md",
        ".hidden",
        ".g.txt.Ab3",
        "g.txt.part",
        "g.txt.filepart",
        "g.crdownload",
        "g.TMP",
        "g.txt~",
        ".g.txt.swp",
        "#g.txt#",
        "folder/deep.txt",
    ):
        place.write(f"maxcut/{ignored}")
    place.write("nobody/x.txt")
    (place.inbox / "maxcut" / "dangling.txt").symlink_to(place.inbox / "gone")
    assert [(f.family, f.path.name) for f in scan(place.inbox)] == [
        ("maxcut", "g.txt"),
        ("maxcut", "no suffix"),
        ("qubo", "q.txt"),
    ]
    assert scan(place.root / "missing") == []


def test_a_stamp_changes_with_the_file_and_with_its_yaml(place: Place) -> None:
    path = place.write("maxcut/g.txt")
    stamps = [scan(place.inbox)[0].stamp]
    path.write_text(GRAPH + "\n")
    stamps.append(scan(place.inbox)[0].stamp)
    beside = place.write("maxcut/g.yaml", "shots: 10\n")
    stamps.append(scan(place.inbox)[0].stamp)
    beside.write_text("shots: 1000\n")
    stamps.append(scan(place.inbox)[0].stamp)
    assert len(set(stamps)) == 4
    beside.unlink()
    assert scan(place.inbox)[0].stamp == stamps[1] == scan(place.inbox)[0].stamp


def test_the_inbox_lands_every_instance_with_the_yaml_beside(place: Place) -> None:
    place.write("qubo/two.txt", TWO_QUBOS)
    place.write("qubo/two.yaml", "shots: 9\n")
    assert [(found.instance, found.member, found.options) for found in place.land_inbox()] == [
        ("qubo.two-1", 1, {"shots": 9}),
        ("qubo.two-2", 2, {"shots": 9}),
    ]
    assert place.stored()[0] == 1


@pytest.mark.parametrize(("text", "beside"), [("", ""), ("words", ""), (GRAPH, "colour: red"), (GRAPH, "shots: 0")])
def test_a_bad_file_in_the_inbox_stores_nothing(place: Place, text: str, beside: str) -> None:
    place.write("maxcut/g.txt", text)
    place.write("maxcut/g.yaml", beside)
    with pytest.raises(InputError):
        place.land_inbox()
    assert place.stored() == (0, [])


def test_an_instance_that_its_file_no_longer_holds_is_marked(place: Place) -> None:
    place.write("qubo/two.txt", TWO_QUBOS)
    place.land_inbox()
    place.write("qubo/two.txt", QUBO)
    assert [found.instance for found in place.land_inbox()] == ["qubo.two"]
    assert {found.instance: found.state for found in place.ledger.landings()} == {
        "qubo.two": "present",
        "qubo.two-1": "deleted",
        "qubo.two-2": "deleted",
    }


def test_a_retired_instance_comes_back_only_with_another_content_or_request(place: Place) -> None:
    place.write("maxcut/g.txt")
    place.land_inbox()
    place.ledger.mark_landing("maxcut.g", "retired")
    assert place.land_inbox() == []
    assert [found.state for found in place.ledger.landings()] == ["retired"]
    place.write("maxcut/g.yaml", "shots: 9\n")
    assert [found.state for found in place.land_inbox()] == ["present"]


def test_a_deleted_file_that_comes_back_is_present_again(place: Place) -> None:
    place.write("maxcut/g.txt")
    place.land_inbox()
    place.ledger.mark_landing("maxcut.g", "deleted")
    assert [found.state for found in place.land_inbox()] == ["present"]
    assert [found.state for found in place.ledger.landings()] == ["present"]
