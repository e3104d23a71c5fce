"""docs/security.md: each cell of the table of attackers names tests that there are, or says that it is out of reach."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
CONFIGURATIONS = ["loopback", "passphrase", "TLS", "both", "client certificates"]
ATTACKERS = ["a stranger", "a listener", "somebody in the middle", "another user", "a client", "the server"]


def tables() -> list[list[list[str]]]:
    """The cells of each table below the heading, without the lines of dashes."""
    text = PAGE.partition("## Who can do what")[2].partition("\n## ")[0]
    rows = [line for line in text.splitlines() if not line.startswith("|---")]
    blocks = re.findall(r"(?:^\|.*\n)+", "\n".join(rows) + "\n", flags=re.MULTILINE)
    return [[[cell.strip() for cell in row.strip("|").split("|")] for row in block.splitlines()] for block in blocks]


def test_each_cell_is_backed_by_a_test_or_out_of_reach() -> None:
    table, tests = tables()
    assert table[0] == ["", *CONFIGURATIONS]
    assert [re.match(r"\*\*(.+?)\*\*", row[0])[1] for row in table[1:]] == ATTACKERS
    named = {row[0]: row[1] for row in tests[1:]}
    used = set()
    for row in table[1:]:
        assert len(row) == 1 + len(CONFIGURATIONS)
        for cell in row[1:]:
            numbers = re.findall(r"\[(\d+)\]", cell)
            assert numbers or "out of reach" in cell, cell
            used.update(numbers)
    assert used == {*named}
    for entry in named.values():
        path, _, functions = entry.partition(": ")
        source = (ROOT / path).read_text(encoding="utf-8")
        for function in functions.split(", "):
            assert f"def {function}(" in source, f"{path}: {function}"
