"""Each sentence's condition, on numbers made up for it."""

import pytest
from made import result

from fedkeras.compare.words import gap, paragraph, points


def arm(name, *accuracies, **more):
    return [result(name, 42 + place, value, **more) for place, value in enumerate(accuracies)]


def said(*groups):
    return " ".join(paragraph([one for group in groups for one in group]))


LOCAL = arm("local", 0.80, 0.82, 0.78)
FEDAVG = arm("fedavg", 0.90, 0.91, 0.89)


def test_worth_it_when_the_difference_is_seen():
    text = said(LOCAL, FEDAVG)
    assert "training together is worth it by these numbers: fedavg is 10.0 points above" in text
    assert "more than the spread over 3 seeds (2.0)" in text
    assert "chance" not in text and "roughly" not in text


def test_not_worth_it_when_alone_is_better():
    text = said(FEDAVG, arm("local", 0.95, 0.96, 0.94))
    assert "training together is not worth it by these numbers: fedavg is 5.0 points below" in text


@pytest.mark.parametrize(
    "alone",
    [
        (0.899, 0.909, 0.889),  # the same sign each time, but far less than the spread
        (0.80, 0.81, 0.895),  # more than the spread in the mean, with signs that differ
    ],
)
def test_not_told_apart(alone):
    text = said(FEDAVG, arm("local", *alone))
    assert "these numbers do not tell fedavg from training alone" in text and "worth it" not in text


def test_one_seed_claims_nothing():
    text = said(arm("local", 0.8), arm("fedavg", 0.9), arm("centralised", 0.95))
    assert "training together won with this seed: fedavg is 10.0 points above" in text
    assert "All this is one seed" in text and "--repeats 3" in text
    assert "spread" not in text and "by these numbers" not in text
    assert "training alone won with this seed" in said(arm("local", 0.9), arm("fedavg", 0.8))


def test_two_seeds_are_few():
    assert "Two seeds show the spread only roughly." in said(arm("local", 0.8, 0.8), arm("fedavg", 0.9, 0.91))


def test_best_and_share_of_centralised():
    text = said(arm("centralised", 0.96, 0.96, 0.96), FEDAVG, arm("fedmedian", 0.48, 0.48, 0.48))
    assert "centralised has the highest accuracy on the central test set, 0.9600, 6.0 points above fedavg" in text
    assert "fedavg reaches 93.8 % (6.0 points below), fedmedian reaches 50.0 % (48.0 points below)" in text
    assert "alone" not in text
    assert "above, within the spread" in said(arm("centralised", 0.9, 0.89, 0.9), FEDAVG)


def test_the_best_may_be_a_tie_or_not_told_apart():
    assert "0.9000, and fedmedian the same." in said(FEDAVG, arm("fedmedian", 0.90, 0.91, 0.89))
    assert "so not told apart" in said(FEDAVG, arm("fedmedian", 0.901, 0.905, 0.889))
    assert said(FEDAVG).startswith("fedavg reaches 0.9000 on the central test set.")


def test_the_best_of_several_answers():
    text = said(LOCAL, FEDAVG, arm("split-shared", 0.95, 0.96, 0.94))
    assert "worth it by these numbers: split-shared is 15.0 points above" in text


def test_weakest_clients():
    local = [result("local", 42, 0.6, own=[0.5, 0.9], central=[0.4, 0.8])]
    local += [result("local", 43, 0.6, own=[0.7, 0.8], central=[0.5, 0.7])]
    fed = [result("fedavg", 42, 0.9, own=[0.8, 0.9]), result("fedavg", 43, 0.9, own=[0.9, 0.7])]
    text = said(local, fed)
    assert "gets 0.6000 on average, and the weakest client's own model 0.4500" in text
    assert "the weakest client gets 0.7500 with fedavg's model, 0.6000 with its own." in text
    assert "better than training alone in 2 of 4 cases (clients and seeds), worse in 1." in text
    assert "1 of 2 clients, worse in 0." in said(local[:1], [result("fedavg", 42, 0.9, own=[0.8, 0.9])])
    assert "0 of 2 clients, worse in 2: for examples such as their own, clients do better alone." in said(
        local[:1], [result("fedavg", 42, 0.9, own=[0.4, 0.8])]
    )
    assert "alone was as good with this seed" in said(local[:1], [result("fedavg", 42, 0.6)])


def test_no_held_out_examples_no_sentence_of_them():
    assert "held-out" not in said(LOCAL, FEDAVG)


def test_cost():
    text = said(FEDAVG, arm("centralised", 0.9, 0.9, 0.9, seconds=0.5))
    assert "Between server and clients went: fedavg 4.0 MB." in text
    assert "The rounds took: fedavg 2.0 s, centralised 0.5 s." in text


def test_arms_whose_seeds_are_not_all_there_are_compared_on_those_they_share():
    arms = {"fedavg": {42: FEDAVG[0], 43: FEDAVG[1]}, "local": {42: LOCAL[0]}}
    assert gap(arms, "fedavg", "local").seeds == 1
    assert gap({**arms, "local": {99: LOCAL[0]}}, "fedavg", "local") is None
    assert "chance" in said(FEDAVG, LOCAL[:1])


def test_order_share_and_difference_are_of_the_same_seeds():
    text = said(arm("centralised", 0.80, 0.95), arm("fedavg", 0.85))
    assert "Compared on seed 42, which every arm has finished; the table's means are over all finished seeds." in text
    assert "fedavg has the highest accuracy on the central test set, 0.8500, 5.0 points above centralised." in text
    assert "fedavg reaches 106.2 % (5.0 points above)" in text and "0.8750" not in text
    assert "Compared on seeds 42, 43," in said(FEDAVG, LOCAL[:2]) and "Compared on" not in said(FEDAVG, LOCAL)
    nothing = [result("fedavg", 42, 0.9), result("local", 43, 0.8)]
    assert paragraph(nothing) == ["No seed is finished in every arm yet, so nothing is compared."]
    lost = [result("fedavg", 42, None, loss=0.3), result("fedavg", 43, None, loss=0.1)]
    assert "local has the lowest loss" in said(lost, [result("local", 42, None, loss=0.2)])


def test_without_accuracy_the_losses_speak():
    text = said([result("fedavg", 42, None, loss=0.3)], [result("local", 42, None, loss=0.2)])
    assert text == "The model has no accuracy; local has the lowest loss on the central test set, 0.2000."
    assert "nothing can be compared" in said([result("fedavg", 42, None, loss=None)])
    assert paragraph([]) == ["No arm run is finished yet."]


def test_points_have_the_digits_that_matter():
    assert [points(value) for value in (0.1234, -0.0083, 0.0)] == ["12.3", "0.83", "0.00"]
