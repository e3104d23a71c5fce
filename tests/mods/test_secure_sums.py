"""Secure aggregation: sums of survivors to the bit, by hand and under random drop-outs; none below the threshold."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from secure_sums import PHASES, Attempt, no_secrets, plain_sum, terms_of, vectors_of

from fedkeras.mods.secure_aggregation.client_session import Shares, SumClient
from fedkeras.mods.secure_aggregation.encoding import Integers, Quantised
from fedkeras.mods.secure_aggregation.failures import BelowThreshold, ProtocolRefused, SumNotCredible
from fedkeras.mods.secure_aggregation.keys import PublicKeys
from fedkeras.mods.secure_aggregation.server_session import SumServer

THREE = {2: [1, 2, 3, 4], 5: [10, 20, 30, 40], 9: [2**32 - 1, 0, 2**31, 7]}


def three(**options) -> Attempt:
    vectors = {cid: np.array(values, np.uint32) for cid, values in THREE.items()}
    return Attempt(terms_of(THREE), vectors, **options)


def test_three_clients_by_hand() -> None:
    assert three().total().tolist() == [10, 22, 2**31 + 33, 51]


@pytest.mark.parametrize("phase", PHASES[:3])
def test_two_of_three_by_hand(phase: str) -> None:
    attempt = three(lost={phase: [9]})
    assert attempt.total().tolist() == [11, 22, 33, 44]
    assert attempt.server.remaining == (2, 5)
    assert attempt.server.lost[phase] == (9,)


def test_who_is_lost_after_its_vector_is_in_the_sum() -> None:
    attempt = three(lost={"unmask": [9]})
    assert attempt.total().tolist() == [10, 22, 2**31 + 33, 51]
    assert attempt.request.survivors == (2, 5, 9)
    assert attempt.server.lost["unmask"] == (9,)


@pytest.mark.parametrize("phase", PHASES)
def test_one_of_three_is_no_sum(phase: str) -> None:
    with pytest.raises(BelowThreshold, match=f"the phase '{phase}' only 1 .*, and 2 are needed"):
        three(lost={phase: [2, 9]}).total()


def test_lost_in_different_phases_below_the_threshold() -> None:
    with pytest.raises(BelowThreshold) as error:
        three(lost={"share": [2], "mask": [9]}).total()
    assert (error.value.phase, error.value.remaining, error.value.needed) == ("mask", 1, 2)


@given(data=st.data(), clients=st.integers(3, 12), seed=st.integers(0, 2**32))
@settings(max_examples=40)
def test_random_losses_among_neighbours_all(data: st.DataObject, clients: int, seed: int) -> None:
    """Who sent a vector is in the sum, exactly, if the threshold is reached in each phase; else there is none."""
    cohort = data.draw(st.lists(st.integers(0, 500), min_size=clients, max_size=clients, unique=True))
    phase_of = {cid: data.draw(st.sampled_from((*PHASES, "", "", "", ""))) for cid in cohort}
    lost = {phase: [cid for cid in cohort if phase_of[cid] == phase] for phase in PHASES}
    terms, vectors = terms_of(cohort, 5, seed=seed), vectors_of(cohort, 5, seed)
    attempt = Attempt(terms, vectors, lost)
    left = [clients - sum(len(lost[name]) for name in PHASES[: end + 1]) for end in range(4)]
    if left[3] < terms.threshold:
        with pytest.raises(BelowThreshold) as error:
            attempt.total()
        assert error.value.phase == next(
            phase for phase, count in zip(PHASES, left, strict=True) if count < terms.threshold
        )
        return
    total = attempt.total()
    survivors = sorted(cid for cid in cohort if phase_of[cid] in ("unmask", ""))
    assert list(attempt.request.survivors) == survivors
    assert total.tolist() == plain_sum(vectors, survivors).tolist()


@given(data=st.data(), clients=st.integers(31, 45), seed=st.integers(0, 2**32))
@settings(max_examples=6)
def test_random_losses_in_a_sparse_graph(data: st.DataObject, clients: int, seed: int) -> None:
    """As many as max-dropout says are lost, in any phases: the sum is had, exactly, with few neighbours each."""
    cohort = range(7, 7 + clients)
    terms, vectors = terms_of(cohort, 3, seed=seed), vectors_of(cohort, 3, seed)
    assert terms.degree < clients - 1
    most = clients - terms.least_survivors
    gone = data.draw(st.lists(st.sampled_from(cohort), max_size=most, unique=True))
    phase_of = {cid: data.draw(st.sampled_from(PHASES)) for cid in gone}
    attempt = Attempt(terms, vectors, {phase: [cid for cid in gone if phase_of[cid] == phase] for phase in PHASES})
    survivors = [cid for cid in cohort if phase_of.get(cid, "unmask") == "unmask"]
    assert attempt.total().tolist() == plain_sum(vectors, survivors).tolist()
    assert list(attempt.request.survivors) == survivors


def test_a_sparse_graph_below_its_least_number_of_survivors() -> None:
    cohort = range(40)
    terms = terms_of(cohort)
    assert (terms.degree, terms.threshold, terms.least_survivors) == (10, 6, 36)
    with pytest.raises(BelowThreshold, match="only 35 clients are left, and 36 are needed"):
        Attempt(terms, vectors_of(cohort, 4), {"mask": range(5)}).total()


def test_a_neighbourhood_that_is_lost_is_no_sum_though_clients_enough_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the 39 holders of a client's secrets 19 are left, and 20 are needed: nothing is guessed."""
    monkeypatch.setattr("fedkeras.mods.secure_aggregation.client_session.split", no_secrets)
    cohort = range(100)
    terms = terms_of(cohort, max_dropout=0.2)
    unlucky = terms.graph[0][: terms.degree + 2 - terms.threshold]
    assert len(cohort) - len(unlucky) >= terms.least_survivors
    with pytest.raises(BelowThreshold, match="only 19 holders of client 0's secrets are left, and 20 are needed"):
        Attempt(terms, vectors_of(cohort, 4), {"mask": unlucky}).to_unmask()


def test_so_is_a_secret_of_a_lost_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 in a row of the ring: each survivor has 20 holders left, the innermost of the lost has 19."""
    monkeypatch.setattr("fedkeras.mods.secure_aggregation.client_session.split", no_secrets)
    terms = terms_of(range(100), max_dropout=0.2)
    ring = sorted(range(100), key=lambda cid: hashlib.sha256(terms.graph_seed + cid.to_bytes(8, "big")).digest())
    lost = set(ring[40:60])
    holders = {cid: len(set(terms.holders(cid)) - lost) for cid in ring}
    assert min(holders[cid] for cid in ring if cid not in lost) == 20
    assert min(holders.values()) == 19
    with pytest.raises(BelowThreshold, match="'mask' only 19 holders of client"):
        Attempt(terms, vectors_of(range(100), 4), {"mask": lost}).to_unmask()


@pytest.mark.parametrize("phase", ["advertise", "share"])
def test_so_it_is_before_any_vector_is_sent(monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    monkeypatch.setattr("fedkeras.mods.secure_aggregation.client_session.split", no_secrets)
    terms = terms_of(range(100), max_dropout=0.2)
    unlucky = terms.graph[0][: terms.degree + 2 - terms.threshold]
    with pytest.raises(BelowThreshold, match=rf"'{phase}' only 1\d holders of client \d+'s secrets are left, and 20"):
        Attempt(terms, {}, {phase: unlucky}).to_mask()


def test_means_are_those_of_the_plain_quantised_sum() -> None:
    """What comes out is, bit for bit, what the encodings added up by hand give, and near the weighted mean itself."""
    rng = np.random.default_rng(3)
    weights = {0: 5, 1: 20, 2: 75}
    encoding = Quantised(1.0, 100, 3)
    real = {cid: rng.uniform(-0.9, 0.9, 50) for cid in weights}
    encoded = {cid: encoding.encode(real[cid], weights[cid], np.random.default_rng(cid)).vector for cid in weights}
    attempt = Attempt(terms_of(weights, 50, encoding=encoding), encoded)
    total = attempt.total()
    assert total.tolist() == plain_sum(encoded, weights).tolist()
    mean, weight = encoding.decode(total, len(attempt.request.survivors))
    assert weight == 100
    expected = sum(weights[cid] * real[cid] for cid in weights) / 100
    assert np.abs(mean - expected).max() <= 3 * encoding.step / 100


def test_a_client_can_end_between_any_two_steps() -> None:
    cohort, lost = range(8), {"share": [1], "mask": [6]}
    vectors = vectors_of(cohort, 6)
    attempt = Attempt(terms_of(cohort, 6), vectors, lost, stored=True)
    assert attempt.total().tolist() == plain_sum(vectors, [0, 2, 3, 4, 5, 7]).tolist()
    assert [attempt.clients[cid].next_step for cid in (0, 1, 6)] == ["", "share", "mask"]


def test_a_client_forgets_each_secret_when_it_has_served() -> None:
    attempt = Attempt(terms_of(range(4)), vectors_of(range(4), 4), seed=0)
    own = attempt._client(0)
    own.advertise()
    secrets = [key.hex().encode() for key in (own._message_key, own._mask_seed, own._self_seed)]
    attempt.to_share()
    client = attempt.clients[0]
    assert all(secret in client.to_bytes() for secret in secrets)
    sealed = {cid: attempt.clients[cid].share(attempt.rosters[cid]) for cid in range(4)}
    assert [secret in client.to_bytes() for secret in secrets] == [True, False, True]
    client.mask({peer: sealed[peer][0] for peer in (1, 2, 3)}, attempt.vectors[0])
    assert not any(secret in client.to_bytes() for secret in secrets)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"terms":"{}","cid":0}', b"\xff"])
def test_a_state_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolRefused, match="cannot be read"):
        SumClient.from_bytes(data)


def test_a_repeated_round_has_other_keys_masks_and_letters() -> None:
    """Even with equal terms: what one attempt revealed opens nothing of the next."""
    first, second = three(), three()
    first.total(), second.total()
    assert not set(first.wire) & set(second.wire)


def test_the_attempts_number_is_in_every_key() -> None:
    """Equal randomness under another attempt's number: neither masks nor letters are the same."""
    vectors = {cid: np.zeros(4, np.uint32) for cid in range(4)}
    attempts = [Attempt(terms_of(range(4), attempt=number), vectors, seed=1) for number in (0, 1)]
    for attempt in attempts:
        attempt.to_unmask()
    for cid in range(4):
        assert (attempts[0].uploads[cid] != attempts[1].uploads[cid]).any()
        assert attempts[0].rosters[cid] != attempts[1].rosters[cid]


# Answers that are none


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda keys: {**keys, 3: PublicKeys(b"short", keys[3].masks, keys[3].self_mask_check)}, "32 bytes"),
        (lambda keys: {**keys, 3: keys[2]}, "key of client 2"),
        (lambda keys: {**keys, 3: PublicKeys(keys[3].masks, keys[3].masks, bytes(32))}, "same key twice"),
        (lambda keys: {**keys, 3: None}, "32 bytes"),
    ],
)
def test_keys_that_are_none_are_their_clients_failure(spoil, reason: str) -> None:
    attempt = Attempt(terms_of(range(4)), vectors_of(range(4), 4))
    keys = {cid: client.advertise() for cid, client in attempt.clients.items()}
    rosters = attempt.server.advertised(spoil(keys))
    assert sorted(rosters) == [0, 1, 2]
    assert all(3 not in roster for roster in rosters.values())
    assert reason in attempt.server.refused[3]


def test_letters_that_are_none_are_their_senders_failure() -> None:
    attempt = Attempt(terms_of(range(8)), vectors_of(range(8), 4))
    attempt.to_share()
    sealed = {cid: attempt.clients[cid].share(attempt.rosters[cid]) for cid in range(8)}
    sealed[6] = {peer: text[:-1] for peer, text in sealed[6].items()}
    sealed[7].popitem()
    letters = attempt.server.shared(sealed)
    assert sorted(letters) == list(range(6))
    assert all(sorted(received) == [cid for cid in range(6) if cid != own] for own, received in letters.items())
    assert sorted(attempt.server.refused) == [6, 7]


@pytest.mark.parametrize(
    ("vector", "reason"),
    [
        (np.zeros(5, np.uint32), "shape"),
        (np.zeros(4, np.int32), "uint32"),
        (np.zeros(4, np.float32), "uint32"),
        (np.zeros((4, 1), np.uint32), "shape"),
        ([0, 0, 0, 0], "uint32"),
    ],
)
def test_a_vector_that_is_none_is_its_senders_failure(vector, reason: str) -> None:
    attempt = three()
    attempt.to_mask()
    for cid in (2, 5):
        assert attempt.server.masked(cid, attempt.clients[cid].mask(attempt.letters[cid], attempt.vectors[cid]))
    assert not attempt.server.masked(9, vector)
    assert reason in attempt.server.refused[9]
    request = attempt.server.unmasking()
    assert request.dropped == (9,)
    attempt.server.unmasked({cid: attempt.clients[cid].unmask(request.survivors, request.dropped) for cid in (2, 5)})
    assert attempt.server.sum().tolist() == [11, 22, 33, 44]


def test_a_second_vector_and_a_strangers_are_not_added() -> None:
    attempt = three()
    attempt.to_mask()
    for cid in THREE:
        attempt.server.masked(cid, attempt.clients[cid].mask(attempt.letters[cid], attempt.vectors[cid]))
    assert not attempt.server.masked(2, np.ones(4, np.uint32))
    assert not attempt.server.masked(3, np.ones(4, np.uint32))
    assert list(attempt.server.refused) == [3]
    request = attempt.server.unmasking()
    attempt.server.unmasked(
        {cid: attempt.clients[cid].unmask(request.survivors, request.dropped) for cid in request.survivors}
    )
    assert attempt.server.sum().tolist() == [10, 22, 2**31 + 33, 51]


def test_shares_that_were_not_asked_for_are_their_senders_failure() -> None:
    attempt = Attempt(terms_of(range(8)), vectors_of(range(8), 4))
    shares = attempt.shares()
    shares[0] = Shares({}, {})
    shares[1] = Shares({cid: share[:-1] for cid, share in shares[1].self_masks.items()}, {})
    attempt.server.unmasked(shares)
    assert sorted(attempt.server.refused) == [0, 1]
    assert attempt.server.sum().tolist() == plain_sum(attempt.vectors, range(8)).tolist()


def _with_wrong_shares(liars: list[int], lost: list[int] = ()) -> Attempt:
    attempt = Attempt(terms_of(range(10), max_dropout=0.2), vectors_of(range(10), 4), {"mask": lost})
    shares = attempt.shares()
    for cid in liars:
        given = shares[cid]
        shares[cid] = Shares(dict.fromkeys(given.self_masks, bytes(16)), dict.fromkeys(given.mask_keys, bytes(16)))
    attempt.server.unmasked(shares)
    return attempt


@pytest.mark.parametrize("liars", [[0], [4], [9], [8, 9]])
def test_wrong_shares_are_found_and_done_without(liars: list[int]) -> None:
    attempt = _with_wrong_shares(liars)
    assert attempt.server.sum().tolist() == plain_sum(attempt.vectors, range(10)).tolist()


def test_wrong_shares_of_a_lost_clients_key_are_found_and_done_without() -> None:
    attempt = _with_wrong_shares([4], lost=[7])
    assert attempt.server.sum().tolist() == plain_sum(attempt.vectors, [0, 1, 2, 3, 4, 5, 6, 8, 9]).tolist()


def test_too_many_wrong_shares_are_no_sum_and_never_a_wrong_one() -> None:
    with pytest.raises(SumNotCredible, match="client 0's secret"):
        _with_wrong_shares([0, 2, 4, 6]).server.sum()


def test_phases_have_an_order() -> None:
    server = SumServer(terms_of(range(3)))
    vector = np.zeros(4, np.uint32)
    for step in (lambda: server.shared({}), lambda: server.masked(0, vector), server.unmasking, server.sum):
        with pytest.raises(ValueError, match="'advertise' comes next"):
            step()


def test_nobody_answers() -> None:
    with pytest.raises(BelowThreshold, match="'advertise' only 0 clients are left, and 2 are needed"):
        SumServer(terms_of(range(3))).advertised({})


def test_integers_come_back_with_their_signs() -> None:
    encoding = Integers(10, 3)
    attempt = Attempt(
        terms_of(range(3), 3, encoding=encoding),
        {0: encoding.encode([-10, 3, 0]), 1: encoding.encode([-10, -4, 0]), 2: encoding.encode([-10, 0, 10])},
    )
    assert encoding.decode(attempt.total(), 3).tolist() == [-30, -1, 10]
