"""Strategies that withstand liars, against figures computed by hand, and by what they promise of any updates."""

import pytest
from toy_federation import content, floats, reply

from fedkeras import strategies
from fedkeras.federation.records import views

# Five clients on a line, and one far away. Squared distances: 1, 4, 9, 16 between neighbours' multiples.
LINE = [floats(x=[number]) for number in (0, 1, 2, 3, 4, 100)]


def replies(updates, examples=None):
    counts = examples or [1] * len(updates)
    return [
        reply(cid, content(update, count, loss=0.0))
        for cid, (update, count) in enumerate(zip(updates, counts, strict=True))
    ]


def combined(spec, answers, **args):
    arrays, _ = strategies.load(spec, args).aggregate_train(1, answers)
    return views(arrays)


def test_multikrum_by_hand():
    """f = 1 of 6: a score is of the 3 nearest: 14, 6, 6, 6, 14, 28034; the three lowest (6 - 1 - 2) are averaged."""
    assert combined("multikrum", replies(LINE))["x"].tolist() == [2]
    assert combined("multikrum", replies(LINE), num_selected=5)["x"].tolist() == [2]
    assert combined("multikrum", replies(LINE), num_selected=1)["x"].tolist() == [1], "a tie goes to the lower cid"
    assert combined("multikrum", replies(LINE), num_selected=6)["x"].tolist() == pytest.approx([110 / 6])


@pytest.mark.parametrize(("spec", "least"), [("multikrum", 5)])
def test_too_few_clients_for_the_assumption_are_refused(spec, least):
    page = strategies.load(spec)
    list(page.check(least))
    with pytest.raises(ValueError, match=rf"{spec} with num_byzantine=1 needs at least .* = {least} clients a round"):
        list(page.check(least - 1))
    with pytest.raises(ValueError, match="and 3 have answered"):
        page.aggregate_train(1, replies(LINE[:3]))


def test_a_name_may_be_spelled_with_either():
    assert type(strategies.load("trimmed-mean")) is type(strategies.load("trimmed_mean"))
