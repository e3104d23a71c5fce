"""What a client of a secure sum refuses, each in one line: a server that asks for too much gets nothing."""

import dataclasses

import numpy as np
import pytest
from secure_sums import Attempt, no_secrets, terms_of, vectors_of

from fedkeras.mods.secure_aggregation.client_session import SumClient
from fedkeras.mods.secure_aggregation.encoding import Integers, Quantised
from fedkeras.mods.secure_aggregation.failures import ProtocolRefused
from fedkeras.mods.secure_aggregation.keys import PublicKeys
from fedkeras.mods.secure_aggregation.terms import Terms

VECTOR = np.zeros(4, np.uint32)


def seven(lost=None) -> Attempt:
    """Seven clients, five shares open a secret."""
    attempt = Attempt(terms_of(range(7)), vectors_of(range(7), 4), lost or {})
    assert (attempt.terms.threshold, attempt.terms.least_survivors) == (5, 5)
    return attempt


def refused(step, *arguments, match: str) -> None:
    with pytest.raises(ProtocolRefused, match=match) as error:
        step(*arguments)
    assert "\n" not in str(error.value)


# Terms


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"threshold": 3}, "3 shares would open a client's secrets.* 4 are the least"),
        ({"threshold": 0}, "0 shares"),
        ({"threshold": 8}, "8 shares"),
        ({"cohort": (1, 2, 3, 4, 5, 6, 7)}, "client 0 is asked .* not part of"),
        ({"cohort": (0, 1), "degree": 1, "threshold": 2}, "2 clients is asked for, and 3 are the least"),
        ({"cohort": (0, 1, 2, 3, 4, 5, 5)}, "each client once"),
        ({"cohort": (0, 2, 1, 3, 4, 5, 6)}, "ascending"),
        ({"degree": 3}, "cannot have 3 neighbours"),
        ({"degree": 8}, "cannot have 8 neighbours"),
        ({"degree": 0}, "cannot have 0 neighbours"),
        ({"cohort": tuple(range(10_001))}, "10001 clients"),
        (
            {"cohort": tuple(range(2000)), "degree": 1999, "threshold": 1500, "encoding": Integers(1, 2000)},
            "cannot have 1999 neighbours",
        ),
        ({"version": 2}, "version 2 is asked for, and this is 1"),
        ({"length": 0}, "no vectors of 0 values"),
        ({"length": 2**40}, "no vectors"),
        ({"graph_seed": b"short"}, "32 bytes"),
        ({"round": -1}, "a round"),
        ({"max_dropout": 0.5}, "max-dropout must be a fraction"),
        ({"colluding": -0.1}, "colluding must be a fraction"),
        ({"colluding": 0.49, "threshold": 4, "cohort": tuple(range(7))}, None),
        ({"encoding": Integers(2**31, 7)}, "do not fit a sum of 32 bits"),
        ({"encoding": Integers(10, 6)}, "for sums of 6 clients, and of 7 they could overflow"),
        ({"encoding": Quantised(1.0, 10**9, 7)}, "leave 0 bits a value"),
        ({"encoding": Quantised(float("nan"), 1, 7)}, "clip range"),
        ({"encoding": Quantised(1.0, 1, 7, "down")}, "rounding is stochastic or nearest"),
    ],
)
def test_terms_that_a_client_does_not_accept(changes, reason: str | None) -> None:
    terms = dataclasses.replace(terms_of(range(7)), **changes)
    if reason is None:  # just safe enough: 4 colluders of 7 are what 0.49 is, and a threshold of 4 is not above that
        refused(SumClient, terms, 0, match="5 are the least that is safe")
    else:
        refused(SumClient, terms, 0, match=reason)


def test_sparse_terms_with_a_threshold_that_colluders_reach() -> None:
    """A plan for 30 colluders of 300 is refused where 60 are said to collude, and so is one with fewer shares."""
    terms = terms_of(range(300), colluding=0.1)
    SumClient(terms, 0)
    refused(SumClient, dataclasses.replace(terms, colluding=0.2), 0, match="are the least that is safe")
    refused(
        SumClient, dataclasses.replace(terms, threshold=terms.threshold - 3), 0, match="would open a client's secrets"
    )


def test_sparse_terms_whose_ring_falls_apart() -> None:
    """Nobody colludes, and 30 of 100 may be lost: with 4 neighbours each, two gaps of two leave some clients alone."""
    terms = terms_of(range(100), colluding=0.0, max_dropout=0.3)
    refused(SumClient, dataclasses.replace(terms, degree=4, threshold=3), 0, match="3 shares would open")


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[1]", b"null", b"\xff\xff", b'{"encoding":{"kind":"none"}}', b"[" * 100_000]
)
def test_terms_that_are_none(data: bytes) -> None:
    refused(Terms.from_bytes, data, match="cannot be read")


@pytest.mark.parametrize("word", ["round", "cohort", "threshold", "degree", "length"])
def test_terms_with_a_number_that_is_none(word: str) -> None:
    text = terms_of(range(7)).to_bytes().decode()
    start = text.index(f'"{word}":') + len(word) + 3
    end = text.index("]" if word == "cohort" else ",", start)
    for wrong in ("1.5", "true", '"1"', "null"):
        changed = f"{text[:start]}{'[' if word == 'cohort' else ''}{wrong}{text[end:]}"
        refused(Terms.from_bytes, changed.encode(), match="cannot be read")


# Steps


def test_steps_out_of_order_and_twice() -> None:
    attempt = seven()
    session = attempt.clients[0]
    for step in (lambda: session.share({}), lambda: session.mask({}, VECTOR), lambda: session.unmask([0], [])):
        refused(step, match="'advertise' comes next")
    attempt.to_share()
    refused(session.advertise, match="asks for 'advertise' .*'share' comes next")
    refused(session.mask, {}, VECTOR, match="'share' comes next")
    attempt = seven()
    attempt.to_unmask()
    session = attempt.clients[0]
    refused(session.mask, attempt.letters[0], VECTOR, match="'unmask' comes next")


# The roster


def test_keys_that_a_client_does_not_accept() -> None:
    attempt = Attempt(terms_of(range(40)), vectors_of(range(40), 4))
    attempt.to_share()
    session, roster = attempt.clients[0], attempt.rosters[0]
    some, other, *_ = sorted(roster)
    stranger = next(cid for cid in range(1, 40) if cid not in roster)
    own = session.public_keys
    small_order = PublicKeys(bytes(32), roster[some].masks, roster[some].self_mask_check)
    for changed, reason in [
        ({**roster, stranger: attempt.clients[stranger].public_keys}, f"client {stranger}, who is no neighbour"),
        ({**roster, 0: own}, "client 0, who is no neighbour"),
        ({**roster, some: roster[other]}, f"clients {some} and {other} are said to have the same key"),
        ({**roster, some: own}, f"clients 0 and {some} are said to have the same key"),
        ({**roster, some: dataclasses.replace(roster[some], masks=own.messages)}, "have the same key"),
        ({**roster, some: small_order}, f"client {some} advertised are no X25519 keys"),
        ({**roster, some: dataclasses.replace(roster[some], masks=bytes(32))}, "no X25519 keys"),
        ({**roster, some: dataclasses.replace(roster[some], masks=b"short")}, "no X25519 keys"),
        (dict(list(roster.items())[:4]), "only 5 have advertised keys, and 6 are needed"),
    ]:
        refused(session.share, changed, match=reason)
    assert sorted(session.share(roster)) == sorted(roster)  # a step that refused leaves the session as it was


# Letters


def test_letters_that_a_client_does_not_accept() -> None:
    attempt = seven()
    attempt.to_mask()
    session, letters = attempt.clients[0], attempt.letters[0]
    other = seven()
    other.to_mask()
    for position in (0, 11, 12, 40, 59):
        changed = bytearray(letters[3])
        changed[position] ^= 1
        refused(session.mask, {**letters, 3: bytes(changed)}, VECTOR, match="client 3 were changed")
    for changed, reason in [
        ({**letters, 3: letters[4]}, "client 3 were changed"),
        ({**letters, 3: attempt.letters[1][3]}, "client 3 were changed"),
        ({**letters, 3: other.letters[0][3]}, "client 3 were changed"),
        ({**letters, 3: b""}, "client 3 were changed"),
        ({**letters, 9: letters[3]}, "client 9, who is no neighbour"),
        (dict(list(letters.items())[:3]), "only 4 have shared their secrets, and 5 are needed"),
    ]:
        refused(session.mask, changed, VECTOR, match=reason)
    for vector in (np.zeros(5, np.uint32), np.zeros(4, np.int64), np.zeros((1, 4), np.uint32)):
        refused(session.mask, letters, vector, match="this secure sum is of 4 uint32")
    assert (session.mask(letters, attempt.vectors[0]) != attempt.vectors[0]).any()


def test_a_letter_of_a_client_whose_keys_never_came() -> None:
    attempt = seven({"advertise": [6]})
    attempt.to_mask()
    refused(attempt.clients[0].mask, {**attempt.letters[0], 6: bytes(60)}, VECTOR, match="its keys were never sent")


# The last question

ALL = range(7)


@pytest.mark.parametrize(
    ("survivors", "dropped", "reason"),
    [
        ([0, 1, 2, 3, 4, 5, 6], [3], "both secrets of client 3"),
        ([0, 1, 2, 3, 4, 5, 6, 3], [], "client 3, or names it twice"),
        ([0, 1, 2, 3, 4], [5, 6, 6], "client 6, or names it twice"),
        ([1, 2, 3, 4, 5, 6], [0], "own vector is not part of"),
        ([1, 2, 3, 4, 5, 6], [], "own vector is not part of"),
        ([0, 1, 2, 3], [4, 5, 6], "a sum of 4 clients, and 5 are the least"),
        ([0], [1, 2, 3, 4, 5, 6], "a sum of 1 clients"),
        ([0, 1, 2, 3, 4, 5, 6, 7], [], "client 7, who is not of the cohort"),
        ([0, 1, 2, 3, 4, 5], [6, 99], "client 99, who is not of the cohort"),
        ([0, 1, 2, 3, 4, 5], [], "contradicts itself on whether client 6 shared"),
    ],
)
def test_questions_that_a_client_does_not_answer(survivors, dropped, reason: str) -> None:
    attempt = seven()
    attempt.to_unmask()
    session = attempt.clients[0]
    refused(session.unmask, survivors, dropped, match=reason)
    refused(session.unmask, list(ALL), [], match="this attempt is over for this client")
    assert b'"held":{}' in session.to_bytes()


def test_a_second_question_in_one_attempt_even_of_a_restored_client() -> None:
    attempt = seven()
    attempt.shares()
    session = SumClient.from_bytes(attempt.clients[0].to_bytes())
    refused(session.unmask, list(ALL), [], match="'unmask' .*this attempt is over for this client")


def test_a_secret_of_one_who_never_shared() -> None:
    attempt = seven({"share": [6]})
    attempt.to_unmask()
    refused(attempt.clients[0].unmask, [0, 1, 2, 3, 4, 5], [6], match="contradicts itself on whether client 6 shared")


def test_too_few_survivors_beside_it_though_clients_enough_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedkeras.mods.secure_aggregation.client_session.split", no_secrets)
    terms = terms_of(range(100), max_dropout=0.2)
    attempt = Attempt(terms, vectors_of(range(100), 4))
    attempt.to_unmask()
    gone = terms.graph[0][: terms.degree + 2 - terms.threshold]
    alive = [cid for cid in range(100) if cid not in gone]
    assert len(alive) >= terms.least_survivors
    refused(attempt.clients[0].unmask, alive, gone, match="have survived, and 20 are needed")


def test_a_server_that_tells_two_stories_gets_one_secret_at_most() -> None:
    """However it divides the clients into those that hear of client 0's loss and those that do not."""
    attempt = seven()
    attempt.to_unmask()
    stored = {cid: client.to_bytes() for cid, client in attempt.clients.items()}
    for hearing in range(7):
        answers = []
        for cid in ALL:
            survivors, dropped = ([1, 2, 3, 4, 5, 6], [0]) if 0 < cid <= hearing else (list(ALL), [])
            answers.append(SumClient.from_bytes(stored[cid]).unmask(survivors, dropped))
        self_mask = sum(0 in shares.self_masks for shares in answers)
        mask_key = sum(0 in shares.mask_keys for shares in answers)
        assert self_mask + mask_key == 7
        assert min(self_mask, mask_key) < attempt.terms.threshold
