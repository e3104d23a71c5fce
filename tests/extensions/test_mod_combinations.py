"""Which mods go together is said by docs/privacy.md, and each pair is what the page says."""

import json
import re
from itertools import combinations, product
from pathlib import Path

import pytest

from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.mods.attacks import ATTACKS
from fedkeras.mods.chain import BUILT_IN, make_mods
from fedkeras.reports import read_rows

PAGE = Path(__file__).resolve().parents[2] / "docs" / "privacy.md"
OPTIONS = {
    "dp": "dp:epsilon=2,delta=1e-3",
    "dp-sgd": "dp-sgd:epsilon=2,delta=1e-3",
    "compress": "compress:up=int8",
    "control-variates": "control-variates",
    "secure-aggregation": "secure-aggregation",
    "stragglers": "stragglers:share=0.3",
    "local-layers": "local-layers:keep=classifier",
    "ditto": "ditto:lambda=0.1",
    "fine-tuning": "fine-tuning:epochs=2",
    **{name: name for name in ATTACKS},
}
GROUPS = {"attack": ATTACKS, "own-model": ("local-layers", "ditto", "fine-tuning")}
KINDS = [name for name in BUILT_IN if not any(name in group for group in GROUPS.values())] + [*GROUPS]
"""As the page has them: what is said of an attack holds of all, and so of models of clients' own."""


def pairs() -> dict[tuple[str, str], bool]:
    """{(first, second): whether the page says that they go together}."""
    rows = re.findall(r"^\| `([\w-]+)` \| `([\w-]+)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    return {(first, second): not words.startswith("refused") for first, second, words in rows}


def check(*names: str) -> None:
    text = "; ".join(OPTIONS[name] for name in names)
    config = Config(mods=text, client_weights="uniform", rest_after=0, num_partitions=20)
    make_mods(text).check(config)


def test_the_page_has_each_pair_once():
    wanted = [*combinations(KINDS, 2), *((group, group) for group in GROUPS)]
    assert sorted(map(sorted, pairs())) == sorted(map(sorted, wanted))


@pytest.mark.parametrize(
    ("names", "together"), pairs().items(), ids=lambda each: "; ".join(each) if isinstance(each, tuple) else ""
)
def test_a_pair_does_what_the_page_says(names, together):
    for pair in product(*(GROUPS.get(name, (name,)) for name in names)):
        if together:
            check(*pair)
            continue
        for order in (pair, pair[::-1]):
            with pytest.raises(UserError, match=r"^--mods [\w-]+ does not go with") as refused:
                check(*order)
            assert "\n" not in str(refused.value)


@pytest.mark.parametrize("outer", ["dp", "secure-aggregation", "compress"])
def test_three_go_where_each_two_do(outer):
    order = ("compress", "stragglers", "dp-sgd") if outer == "compress" else ("stragglers", outer, "dp-sgd")
    check(*order)


@pytest.mark.parametrize("names", [("dp-sgd", "dp"), ("stragglers", "compress"), ("dp-sgd", "compress")])
def test_the_order_is_said_where_it_matters(names):
    with pytest.raises(UserError, match=r"name (dp-sgd last|compress once, and first)"):
        check(*names)


RUN = {
    "num_partitions": 4, "num_server_rounds": 1, "model": "logistic_regression", "client_weights": "uniform",
    "rest_after": 0,
}  # fmt: skip
COUNTED = {"dp-sgd-noise", "dp-sgd-rate", "dp-sgd-steps"}


@pytest.mark.parametrize(
    ("outer", "taken_part"), [("dp:epsilon=8,delta=1e-3", "a secret"), ("secure-aggregation", "not told of single")]
)
def test_under_a_mod_that_hides_clients_what_dp_sgd_counts_from_is_not_sent(outer, taken_part, tmp_path):
    """And who took part is what the outer mod makes of it."""
    sent = set()

    def app(message, context):
        reply = client.app(message, context)
        for fields in reply.content.values():
            sent.update(fields)
        return reply

    config = Config(mods=f"{outer}; dp-sgd:epsilon=8,delta=1e-3", **RUN)
    folder = server.in_process(config, app, tmp_path)
    assert not sent & COUNTED
    assert not {column.replace("-", "_") for row in read_rows(folder.history_path) for column in row} & {
        name.replace("-", "_") for name in COUNTED
    }
    chosen = json.loads((folder.path / "config.json").read_text())["chosen"]
    assert chosen["who took part"].startswith(taken_part)
    page = folder.report_path.read_text()
    assert f"who took part is {taken_part}" in page
    assert "<h2" in page and "Privacy of examples" in page and "steps a round" not in page, "a table of nobody"
