"""Arms whose clients end with models of their own: what they are judged by, and beside what."""

import pytest
from made import result

from fedkeras.compare import table, words
from fedkeras.compare.arms import names_of, parse_arms, with_those_beside
from fedkeras.compare.differences import OWN, figures_of, metric_of, paired_differences

PERSONAL = "fedavg+local-layers:keep=classifier"
COUNTS = {"0": 10, "1": 30}


def made(arm, seed, own, **more):
    return result(arm, seed, more.pop("accuracy", 0.9), own, own_examples=COUNTS, **more)


def two_seeds():
    local = [made("local", 1, [0.5, 0.7]), made("local", 2, [0.6, 0.8])]
    own = [made(PERSONAL, seed, [0.9, 0.9], accuracy=None, loss=None, curve=[], personal=True) for seed in (1, 2)]
    return [*local, *own]


@pytest.mark.parametrize(
    ("typed", "all_of_them"),
    [
        (PERSONAL, f"{PERSONAL},local,fedavg"),
        (f"local,{PERSONAL},fedavg,fedavg+ditto:lambda=1", f"local,{PERSONAL},fedavg,fedavg+ditto:lambda=1"),
        ("fedprox:proximal-mu=1+fine-tuning", "fedprox:proximal-mu=1+fine-tuning,local,fedprox:proximal-mu=1.0"),
        ("fedavg,local", "fedavg,local"),
    ],
)
def test_alone_and_the_shared_model_stand_beside_them(typed, all_of_them):
    found = names_of(with_those_beside(parse_arms(typed), ""))
    assert found.replace("mu=1.0", "mu=1") == all_of_them.replace("mu=1.0", "mu=1")


def test_all_arms_go_by_what_clients_hold_out_each_example_counted_once():
    results = two_seeds()
    assert metric_of(results) == OWN
    assert figures_of(results)["local"] == {1: pytest.approx(0.65), 2: pytest.approx(0.75)}
    (found,) = paired_differences(results)
    assert (found.arm, found.other) == (PERSONAL, "local") and found.mean == pytest.approx(0.2)


def test_a_client_that_is_new_to_one_arm_counts_in_none():
    results = two_seeds()
    results[2] = result(PERSONAL, 1, None, [0.9], own_examples=COUNTS, personal=True, new={"1": 0.5}, loss=None)
    assert figures_of(results)["local"] == {1: pytest.approx(0.5), 2: pytest.approx(0.75)}
    line = next(line for line in table.lines_of(results) if line.arm == "local")
    assert line.own_accuracy.mean == pytest.approx((0.5 + 0.75) / 2)


def test_the_table_has_a_column_for_it_and_words_say_what_is_compared():
    results = two_seeds()
    lines = table.lines_of(results)
    heads = table.heads_of(lines)
    assert heads[4] == "accuracy, all" and len(heads) == len(table.cells_of(lines[0], heads)) == len(table.HEADS) + 1
    assert table.cells_of(lines[1], heads)[1:5] == ("-", "-", "-", "0.9000 ± 0.0000")
    text = " ".join(words.paragraph(results))
    assert "compared is accuracy on what each holds out" in text and "Together against alone:" in text
    assert "central test set" not in text


def test_without_such_an_arm_nothing_changes():
    results = [made("local", 1, [0.5, 0.7]), made("fedavg", 1, [0.9, 0.9])]
    assert metric_of(results) == "accuracy" and table.heads_of(table.lines_of(results)) == table.HEADS
