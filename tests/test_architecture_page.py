"""docs/architecture.md: its links lead somewhere, its names stand in the code, its pictures are those that are made."""

import importlib
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PICTURES = ROOT / "docs" / "pictures"
WORDS = ("Client manager", "Round loop", "Strategy", "Virtual clients", "Edge clients", "gRPC")
SMALLEST, NARROWEST = 13, 400  # letters in units of a picture; pixels that a phone has for it


def sections() -> dict[str, str]:
    """The page's text by heading."""
    _, *pieces = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


@pytest.mark.parametrize("word", WORDS)
def test_each_word_has_a_picture_its_place_and_something_to_try(word: str) -> None:
    text = sections()[word]
    assert len(re.findall(r"!\[.+\]\(pictures/[\w-]+\.svg\)", text)) == 1
    for part in ("**What it is.**", "**Here**", "**In Flower**", "**Try it"):
        assert part in text


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[\w-]+)?\)", PAGE.read_text())
    assert len(links) > 40
    assert [link for link in links if not (PAGE.parent / link).exists()] == []


def test_the_steps_of_a_round_are_functions_of_the_files_named() -> None:
    rows = re.findall(r"^\| (\d+) `(\w+)` \| (.+?) \|", sections()["One round, step by step"], re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 11))
    for _, name, where in rows:
        files = [(PAGE.parent / link).read_text() for link in re.findall(r"\]\(([^)]+)\)", where)]
        assert any(re.search(rf"def {name}\(", text) for text in files), name
    drawn = re.findall(r">(\d+) (\w+)[:<]", (PICTURES / "one-round.svg").read_text())
    assert [(number, name) for number, name, _ in rows] == [(number, name) for number, name in drawn]


def test_the_pictures_are_those_that_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PICTURES))
    pictures = importlib.import_module("architecture").PICTURES
    for name, draw in pictures.items():
        draw().write(tmp_path / "made.svg")
        assert (tmp_path / "made.svg").read_text() == (PICTURES / f"{name}.svg").read_text(), name
        root = ElementTree.parse(tmp_path / "made.svg").getroot()
        assert root.find("{http://www.w3.org/2000/svg}title").text
        assert f"pictures/{name}.svg" in PAGE.read_text()


def test_pictures_follow_light_and_dark_and_can_be_read_on_a_phone() -> None:
    for path in sorted(PICTURES.glob("*.svg")):
        text = path.read_text()
        assert "prefers-color-scheme:dark" in text
        width = int(re.search(r'viewBox="0 0 (\d+) ', text)[1])
        sizes = [int(size) for size in re.findall(r"font-size:(\d+)px", text)]
        assert min(sizes) >= SMALLEST
        assert min(sizes) * NARROWEST / width >= 9


def test_the_arithmetic_of_the_strategy() -> None:
    sent, examples = (1, 2, 9), (10, 10, 20)
    mean = sum(value * count for value, count in zip(sent, examples, strict=True)) / sum(examples)
    picture = (PICTURES / "strategy.svg").read_text()
    assert f">fedavg: {mean:g}<" in picture
    assert f">fedmedian: {sorted(sent)[1]}<" in picture
