"""Each sentence's condition, on numbers made up for it."""

import pytest
from made import result

from fedkeras.compare.words import paragraph


def arm(name, *accuracies, **more):
    return [result(name, 42 + place, value, **more) for place, value in enumerate(accuracies)]


def said(*groups):
    return " ".join(paragraph([one for group in groups for one in group]))


LOCAL = arm("local", 0.80, 0.82, 0.78)
FEDAVG = arm("fedavg", 0.90, 0.91, 0.89)


def test_the_answer_with_its_interval():
    """Differences 10, 9, 11 points: mean 10, deviation 1, and t at 0.975 with two degrees of freedom is 4.303."""
    text = said(LOCAL, FEDAVG)
    assert text.startswith(
        "Together against alone: fedavg is 10.0 points better than local (95 % interval 7.5 to 12.5, 3 pairs)."
    )
    assert "chance" not in text and "hold together" not in text and "not shown" not in text


def test_alone_may_be_better():
    text = said(FEDAVG, arm("local", 0.95, 0.96, 0.94))
    assert "Together against alone: local is 5.0 points above fedavg with each of 3 seeds alike" in text
    text = said(FEDAVG, arm("local", 0.95, 0.96, 0.945))
    assert "local is 5.2 points better than fedavg (95 % interval" in text


@pytest.mark.parametrize("alone", [(0.899, 0.912, 0.889), (0.80, 0.81, 0.895)])
def test_no_difference_is_shown(alone):
    text = said(FEDAVG, arm("local", *alone))
    assert "no difference between fedavg and local is shown (mean " in text and "better than" not in text
    assert "A difference that is not shown may be there all the same, and 3 seeds show large ones only." in text


def test_one_seed_judges_nothing():
    text = said(arm("local", 0.8), arm("fedavg", 0.9), arm("centralised", 0.95))
    assert "fedavg is 10.0 points above local with seed 42 (one pair, which is not judged)." in text
    assert "All this is one seed" in text and "--repeats 5" in text
    assert "interval" not in text and "better than" not in text


def test_best_and_share_of_centralised():
    text = said(arm("centralised", 0.96, 0.97, 0.96), FEDAVG, arm("fedmedian", 0.48, 0.46, 0.48))
    assert "centralised has the highest mean accuracy on the central test set, 0.9633." in text
    assert "Of the arms trained together fedavg has the highest mean accuracy: fedavg is 42.7 points better" in text
    assert "fedavg reaches 93.4 % of the centralised accuracy: centralised is 6.3 points better than fedavg (95" in text
    assert "alone" not in text
    assert "All 3 intervals hold together with 95 %: each is wider for their number." in text


def test_the_best_may_be_a_tie_or_not_told_apart():
    assert "The first two: fedavg and fedmedian have the same accuracy with each of 3 seeds." in said(
        FEDAVG, arm("fedmedian", 0.90, 0.91, 0.89)
    )
    text = said(FEDAVG, arm("fedmedian", 0.901, 0.915, 0.889))
    assert "fedmedian has the highest mean accuracy" in text and "no difference between" in text
    assert said(FEDAVG).startswith("fedavg reaches a mean accuracy of 0.9000 on the central test set.")


def test_the_best_of_several_answers():
    text = said(LOCAL, FEDAVG, arm("split-shared", 0.95, 0.96, 0.945))
    assert "Together against alone: split-shared is 15.2 points better than local" in text


def test_two_baselines_are_compared_with_each_other():
    assert "Pooled data against clients alone: centralised is 10.0 points better than local" in said(
        arm("centralised", 0.90, 0.91, 0.89), LOCAL
    )


def test_weakest_clients():
    local = [result("local", 42, 0.6, own=[0.5, 0.9], central=[0.4, 0.8])]
    local += [result("local", 43, 0.6, own=[0.7, 0.8], central=[0.5, 0.7])]
    fed = [result("fedavg", 42, 0.9, own=[0.8, 0.9]), result("fedavg", 43, 0.9, own=[0.9, 0.7])]
    text = said(local, fed)
    assert "The weakest of the clients' own models has 0.4500 on the central test set." in text
    assert "the weakest client gets 0.7500 with fedavg's model, 0.6000 with its own." in text
    assert (
        "fedavg's model is ahead of the client's own in 2 of 4 cases (clients and seeds), behind in 1; these are"
        in text
    )
    assert "1 of 2 clients, behind in 0" in said(local[:1], [result("fedavg", 42, 0.9, own=[0.8, 0.9])])
    assert "fedavg and local have the same accuracy with seed 42." in said(local[:1], [result("fedavg", 42, 0.6)])


def test_no_held_out_examples_no_sentence_of_them():
    assert "held-out" not in said(LOCAL, FEDAVG)


def test_cost():
    text = said(FEDAVG, arm("centralised", 0.9, 0.9, 0.9, seconds=0.5))
    assert "Between server and clients went: fedavg 4.0 MB." in text
    assert "The rounds took: fedavg 2.0 s, centralised 0.5 s." in text


def test_pairs_are_of_the_seeds_that_both_have():
    text = said(arm("centralised", 0.80, 0.95, 0.96), arm("fedavg", 0.85))
    assert text.startswith("Not every arm has every seed: means below are of seed 42, which all have, those of the")
    assert "fedavg has the highest mean accuracy on the central test set, 0.8500." in text
    assert "fedavg reaches 106.2 % of the centralised accuracy: fedavg is 5.0 points above centralised with" in text
    text = said(LOCAL, arm("fedavg", 0.9, 0.91, 0.89), arm("fedmedian", 0.91, 0.91))
    assert "Not every arm has every seed: means below are of seeds 42, 43," in text
    assert "no difference between fedmedian and local is shown (mean 10.0 points" in text and "2 pairs)" in text
    assert "Not every" not in said(FEDAVG, LOCAL)
    nothing = [result("fedavg", 42, 0.9), result("local", 43, 0.8)]
    assert paragraph(nothing) == ["No seed is finished in every arm yet, so nothing is compared."]


def test_what_is_no_number_is_left_out_and_said():
    text = said(LOCAL, arm("fedavg", 0.9, None, 0.91))
    assert text.startswith(
        "Left out, as accuracy or loss is no number there: fedavg with seed 43. No difference counts what diverged."
    )
    assert "better than local (95 % interval" not in text and "2 pairs" in text
    blown_up = [*arm("fedavg", 0.9, 0.91), result("fedavg", 44, 0.1, loss=None)]
    assert "fedavg with seed 44" in said(LOCAL, blown_up) and "0.1" not in said(LOCAL, blown_up)


def test_without_accuracy_losses_are_compared():
    text = said([result("fedavg", 42, None, loss=0.3)], [result("local", 42, None, loss=0.2)])
    assert text.startswith(
        "The model has no accuracy, so losses are compared. Together against alone: local's loss is 0.100 below "
        "fedavg's with seed 42 (one pair, which is not judged). local has the lowest mean loss on the central test set"
    )
    rows = {"fedavg": (0.30, 0.31, 0.33), "local": (0.40, 0.42, 0.43)}
    text = said(*([result(name, 42 + i, None, loss=x) for i, x in enumerate(row)] for name, row in rows.items()))
    assert "fedavg is better than local by 0.103 in loss (95 % interval 0.089 to 0.118, 3 pairs)." in text
    assert "nothing can be compared" in said([result("fedavg", 42, None, loss=None)])
    assert paragraph([]) == ["No arm run is finished yet."]
