"""What a client uploads cannot be told from random numbers; where a mask is left out or bad, these tests tell it."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare
from secure_sums import Attempt, terms_of

from fedkeras.mods.secure_aggregation import client_session
from fedkeras.mods.secure_aggregation.keys import mask_key, pair_key, self_mask
from fedkeras.mods.secure_aggregation.masks import add_masks

CLIENTS, VALUES, ROUNDS = 4, 2048, 30
ALPHA = 1e-6
"""Random numbers fall below it once in a million tests; the seeds are fixed, so that they do always or never."""
UPDATE = np.arange(VALUES, dtype=np.uint32) * 3 + 1
"""As structured as can be."""


def rounds(update: np.ndarray = UPDATE, lost=None) -> list[Attempt]:
    """Client 0 sends the same update in each round; so do the others theirs."""
    others = {cid: np.full(VALUES, cid, np.uint32) for cid in range(1, CLIENTS)}
    attempts = []
    for number in range(ROUNDS):
        attempt = Attempt(
            terms_of(range(CLIENTS), VALUES, round=number), {0: update, **others}, lost or {}, seed=number
        )
        attempt.to_unmask()
        attempts.append(attempt)
    return attempts


def smallest_chance(numbers: np.ndarray) -> float:
    """The smallest p-value of chi-square tests of uint32 numbers, shape (rounds, values): each byte alone, pairs of
    values in one vector by their last bits, and the differences from round to round."""
    differences = (numbers[1:] - numbers[:-1]).reshape(-1)
    chances = [
        chisquare(_counts(part.view(np.uint8)[place::4])).pvalue
        for part in (numbers.reshape(-1), differences)
        for place in range(4)
    ]
    low = numbers.reshape(-1) & 15
    for step in (1, 2, 4, 8):
        chances.append(chisquare(_counts((low[:-step] << 4 | low[step:]).astype(np.uint8))).pvalue)
    return min(chances)


def _counts(values: np.ndarray) -> np.ndarray:
    return np.bincount(values, minlength=256)


def uploads(attempts: list[Attempt]) -> np.ndarray:
    return np.stack([attempt.uploads[0] for attempt in attempts])


def without(attempts: list[Attempt], which: str) -> np.ndarray:
    """Client 0's uploads with its self-mask or its pairwise masks taken off, by secrets that only the test knows."""
    results = []
    for attempt in attempts:
        vector, digest = attempt.uploads[0].copy(), attempt.terms.digest
        fresh = {cid: attempt._client(cid) for cid in range(CLIENTS)}  # the same seed gives the same keys
        for client in fresh.values():
            client.advertise()
        own = fresh[0]
        if which == "self-mask":
            keys = [(self_mask(own._self_seed, digest, 0).generator_key, False)]
        else:
            private = mask_key(own._mask_seed, digest, 0)
            keys = [
                (pair_key(private, fresh[cid].public_keys.masks, digest, 0, cid), False) for cid in range(1, CLIENTS)
            ]
        add_masks(vector, keys)
        results.append(vector)
    return np.stack(results)


def test_uploads_are_uniform() -> None:
    assert smallest_chance(uploads(rounds())) > ALPHA


def test_so_they_are_when_one_kind_of_mask_is_known() -> None:
    """The vector of a client that was taken for lost comes late: pairwise masks are known, the self-mask is not."""
    attempts = rounds()
    assert smallest_chance(without(attempts, "pairwise masks")) > ALPHA
    assert smallest_chance(without(attempts, "self-mask")) > ALPHA
    both = without(attempts, "self-mask") + without(attempts, "pairwise masks") - uploads(attempts)
    assert (both == UPDATE).all()  # the test's own arithmetic: without both, the update is bare


def test_two_updates_give_one_distribution() -> None:
    numbers = [uploads(rounds(update)).reshape(-1) for update in (np.zeros(VALUES, np.uint32), UPDATE << 20)]
    for place in range(4):
        table = [_counts(array.view(np.uint8)[place::4]) for array in numbers]
        assert chi2_contingency(table).pvalue > ALPHA


def test_nothing_the_server_receives_has_a_piece_of_an_update_or_a_secret() -> None:
    rng = np.random.default_rng(0)
    cohort = range(5)
    vectors = {cid: rng.integers(0, 2**32, 500, dtype=np.uint32) for cid in cohort}
    attempt = Attempt(terms_of(cohort, 500), vectors, {"mask": [4]}, seed=0)
    attempt.total()
    received = b"|".join(attempt.wire)
    for cid in cohort:
        text = vectors[cid].tobytes()
        assert not any(text[start : start + 8] in received for start in range(0, len(text) - 8, 4))
        fresh = attempt._client(cid)
        fresh.advertise()
        for secret in (fresh._message_key, fresh._mask_seed, fresh._self_seed):
            assert secret not in received


# Broken masks are found


def _no_masks(vector, keys) -> None:
    """Nothing is added."""


def _no_self_mask(vector, keys) -> None:
    add_masks(vector, list(keys)[1:])


def _no_pairwise_masks(vector, keys) -> None:
    add_masks(vector, list(keys)[:1])


def _equal_masks_each_round(vector, keys) -> None:
    add_masks(vector, [(bytes(31) + bytes([place]), added) for place, (_, added) in enumerate(keys)])


def _short_period(vector, keys) -> None:
    block = np.zeros(64, np.uint32)
    add_masks(block, keys)
    vector += np.tile(block, len(vector) // 64)


def _too_few_bits(vector, keys) -> None:
    mask = np.zeros_like(vector)
    add_masks(mask, keys)
    vector += mask >> 1


def _repeated_values(vector, keys) -> None:
    mask = np.zeros_like(vector)
    add_masks(mask, keys)
    mask[1::2] = mask[::2]
    vector += mask


@pytest.mark.parametrize(
    ("broken", "seen_in"),
    [
        (_no_masks, "uploads"),
        (_equal_masks_each_round, "uploads"),
        (_short_period, "uploads"),
        (_too_few_bits, "uploads"),
        (_repeated_values, "uploads"),
        (_no_self_mask, "pairwise masks"),
        (_no_pairwise_masks, "self-mask"),
    ],
)
def test_a_mask_that_is_bad_or_left_out_is_found(monkeypatch: pytest.MonkeyPatch, broken, seen_in: str) -> None:
    monkeypatch.setattr(client_session, "add_masks", broken)
    attempts = rounds()
    numbers = uploads(attempts) if seen_in == "uploads" else without(attempts, seen_in)
    assert smallest_chance(numbers) < ALPHA
