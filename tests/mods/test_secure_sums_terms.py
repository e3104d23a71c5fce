"""Terms of a secure sum: graph, threshold, keys and shares; numbers by hand and the standards' own."""

import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom
from secure_sums import terms_of

from fedkeras.mods.secure_aggregation import parameters
from fedkeras.mods.secure_aggregation.graph import neighbours
from fedkeras.mods.secure_aggregation.keys import (
    hkdf,
    mask_key,
    pair_key,
    public_of,
    seal,
    self_mask,
    shared_secret,
    unseal,
)  # fmt: skip
from fedkeras.mods.secure_aggregation.masks import BLOCK, add_masks
from fedkeras.mods.secure_aggregation.sharing import join, split
from fedkeras.mods.secure_aggregation.terms import Terms

# The graph


@given(clients=st.integers(5, 80), half=st.integers(1, 20), seed=st.binary(min_size=32, max_size=32))
@settings(max_examples=40)
def test_the_graph_is_regular_symmetric_and_connected(clients: int, half: int, seed: bytes) -> None:
    degree = min(2 * half, 2 * ((clients - 2) // 2))
    cohort = [7 * cid + 3 for cid in range(clients)]
    graph = neighbours(cohort, degree, seed)
    assert sorted(graph) == cohort
    assert {len(set(around)) for around in graph.values()} == {degree}
    assert all(cid not in around and cid in graph[peer] for cid, around in graph.items() for peer in around)
    reached, edge = {cohort[0]}, [cohort[0]]
    while edge:
        edge = [peer for cid in edge for peer in graph[cid] if peer not in reached and not reached.add(peer)]
    assert reached == set(cohort)
    assert neighbours(cohort[::-1], degree, seed) == graph  # the same for all, however they hold the cohort


def test_another_seed_is_another_graph() -> None:
    graphs = [neighbours(range(50), 10, bytes([number]) * 32) for number in range(2)]
    assert graphs[0] != graphs[1]


def test_neighbours_are_drawn_evenly() -> None:
    """Over 400 graphs each other client is client 0's neighbour as often, within five deviations."""
    counts = np.zeros(20)
    for number in range(400):
        for peer in neighbours(range(20), 4, number.to_bytes(32, "big"))[0]:
            counts[peer] += 1
    share = 4 / 19
    assert counts[0] == 0
    assert np.abs(counts[1:] - 400 * share).max() < 5 * math.sqrt(400 * share * (1 - share))


def test_a_ring_by_hand() -> None:
    """Five clients with two neighbours each: a ring, whatever its order."""
    graph = neighbours(range(5), 2, bytes(32))
    walk = [0, graph[0][0]]
    while len(walk) < 5:
        walk.append(next(peer for peer in graph[walk[-1]] if peer != walk[-2]))
    assert sorted(walk) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="no even degree 3"):
        neighbours(range(5), 3, bytes(32))


# Degree and threshold


@pytest.mark.parametrize(
    ("clients", "max_dropout", "threshold"),
    [(3, 0.1, 2), (3, 0.0, 3), (4, 0.1, 3), (5, 0.1, 4), (10, 0.1, 7), (10, 0.4, 6), (30, 0.1, 21), (30, 0.3, 21)],
)
def test_small_cohorts_by_hand(clients: int, max_dropout: float, threshold: int) -> None:
    """Above two thirds where drop-outs leave room, never below a majority; all are neighbours."""
    assert parameters.choose(clients, max_dropout, 0.1) == (clients - 1, threshold)
    assert clients - threshold >= parameters.whole(max_dropout, clients)
    assert 2 * threshold > clients


def test_hundred_clients_by_hand() -> None:
    """Ten are lost. Of 20 neighbours all ten may be, and 10 are left of 11 needed: 100 C(20, 10) / C(99, 10) = 1.19e-6
    is above 2^-20 = 9.5e-7. Of 22 neighbours the 12 that are needed are left always."""
    failing = Fraction(100 * math.comb(20, 10), math.comb(99, 10))
    assert float(failing) == pytest.approx(1.186e-6, rel=1e-3)
    assert failing > parameters.FAILURE
    assert parameters.choose(100, 0.1, 0.1) == (22, 12)
    assert parameters.least_survivors(100, 22, 12, 0.1) == 90


@pytest.mark.parametrize("clients", [31, 64, 100, 300])
@pytest.mark.parametrize("colluding", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("max_dropout", [0.05, 0.1, 0.3])
def test_what_was_chosen_keeps_its_promises(clients: int, colluding: float, max_dropout: float) -> None:
    """Held against scipy's tails: secrecy 2^-40, a sum 1 - 2^-20; and no smaller degree would do."""
    degree, threshold = parameters.choose(clients, max_dropout, colluding)
    lost, corrupt = parameters.whole(max_dropout, clients), parameters.whole(colluding, clients)
    assert 2 * threshold > degree + 1
    assert 0 < degree < clients
    if degree == clients - 1:
        assert corrupt < threshold <= clients - lost
        return
    assert degree % 2 == 0
    cut = math.comb(clients, 2) * hypergeom.pmf(degree, clients, lost + corrupt, degree)
    assert clients * hypergeom.sf(threshold - 1, clients - 1, corrupt, degree) + cut <= 2.0**-40 * (1 + 1e-9)
    assert clients * hypergeom.cdf(threshold - 1, clients - 1, clients - 1 - lost, degree) <= 2.0**-20 * (1 + 1e-9)
    assert parameters._sparse_threshold(clients, degree - 2, lost, corrupt) == 0


def test_hypergeometric_by_hand() -> None:
    """Two of five, two of them marked."""
    assert parameters._chances(5, 2, 2) == [Fraction(3, 10), Fraction(6, 10), Fraction(1, 10)]


@pytest.mark.parametrize(
    ("clients", "max_dropout", "colluding", "reason"),
    [
        (2, 0.1, 0.1, "needs 3 clients at least"),
        (5, 0.49, 0.1, "of 5 clients 2 may be lost"),
        (10, 0.1, 0.49, None),
        (3, 0.1, 0.4, "fewer than 2 may collude, and max-dropout=0.1 is 1, colluding=0.4 is 2"),
        (5000, 0.49, 0.1, "5000 clients need more than 1000 neighbours"),
        (10, 0.5, 0.1, "max-dropout must be a fraction"),
        (10, float("nan"), 0.1, "max-dropout must be a fraction"),
        (10, 0.1, True, "colluding must be a fraction"),
    ],
)
def test_what_no_threshold_can_stand(clients: int, max_dropout: float, colluding: float, reason: str | None) -> None:
    if reason is None:
        assert parameters.choose(clients, max_dropout, colluding) == (9, 7)
        return
    with pytest.raises(ValueError, match=reason):
        parameters.choose(clients, max_dropout, colluding)


def test_fractions_are_rounded_up_and_not_by_floats() -> None:
    assert [parameters.whole(0.1, clients) for clients in (3, 10, 11, 30)] == [1, 1, 2, 3]


# Terms as bytes


def test_terms_travel_whole() -> None:
    terms = terms_of([5, 1, 9, 40], 12, attempt=2)
    again = Terms.from_bytes(terms.to_bytes())
    assert again == terms
    assert (again.digest, again.graph) == (terms.digest, terms.graph)
    assert terms.cohort == (1, 5, 9, 40)
    assert terms.digest != terms_of([5, 1, 9, 40], 12, attempt=3).digest


def test_holders_are_neighbours_and_oneself() -> None:
    terms = terms_of(range(40))
    assert set(terms.holders(3)) == {3, *terms.graph[3]}
    assert len(terms.holders(3)) == terms.degree + 1


# Keys, by the standards


def h(text: str) -> bytes:
    return bytes.fromhex(text)


ALICE = h("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = h("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")


def test_x25519_as_in_rfc_7748() -> None:
    """Section 6.1."""
    alice, bob = public_of(ALICE), public_of(BOB)
    assert alice.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert bob.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    secret = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert shared_secret(ALICE, bob).hex() == shared_secret(BOB, alice).hex() == secret


def test_hkdf_as_in_rfc_5869() -> None:
    """Appendix A.1."""
    derived = hkdf(bytes([11]) * 22, h("000102030405060708090a0b0c"), h("f0f1f2f3f4f5f6f7f8f9"), 42)
    assert derived.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"


def test_the_mask_generator_as_in_sp_800_38a() -> None:
    """F.5.1, CTR-AES128: a plaintext with the mask xored on is the ciphertext."""
    key = h("2b7e151628aed2a6abf7158809cf4f3c" + "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    mask = np.zeros(16, np.uint32)
    add_masks(mask, [(key, True)])
    plain = np.frombuffer(
        h("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51")
        + h("30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"),
        "<u4",
    )
    assert (plain ^ mask).astype("<u4").tobytes().hex() == (
        "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
        "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"
    )


def test_both_sides_of_a_pair_have_one_mask_and_every_pair_another() -> None:
    digest = bytes(32)
    keys = {cid: mask_key(bytes([cid]) * 16, digest, cid) for cid in range(3)}
    pairs = {
        (one, other): pair_key(keys[one], public_of(keys[other]), digest, one, other)
        for one in keys
        for other in keys
        if one != other
    }
    assert all(pairs[one, other] == pairs[other, one] for one, other in pairs)
    assert len(set(pairs.values())) == 3
    assert pair_key(keys[0], public_of(keys[1]), digest, 0, 2) != pairs[0, 1]
    assert pair_key(keys[0], public_of(keys[1]), bytes([1]) * 32, 0, 1) != pairs[0, 1]


def test_a_self_masks_check_value_is_not_its_key() -> None:
    one = self_mask(bytes(16), bytes(32), 0)
    assert one.check != one.generator_key
    assert one != self_mask(bytes(16), bytes(32), 1)


def test_letters_have_a_direction() -> None:
    digest, text, nonce = bytes(32), b"two shares of sixteen bytes each", bytes(12)
    sealed = seal(text, nonce, ALICE, public_of(BOB), digest, 1, 2)
    assert unseal(sealed, BOB, public_of(ALICE), digest, 1, 2) == text
    assert len(sealed) == len(text) + 28
    assert seal(text, nonce, BOB, public_of(ALICE), digest, 2, 1) != sealed


# Masks


@pytest.mark.parametrize("length", [1, 7, BLOCK, BLOCK + 1, 2 * BLOCK + 5])
def test_masks_do_not_depend_on_blocks_and_go_away_again(length: int) -> None:
    key = bytes(range(32))
    whole = np.zeros(3 * BLOCK, np.uint32)
    add_masks(whole, [(key, True)])
    vector = np.arange(length, dtype=np.uint32)
    add_masks(vector, [(key, True), (bytes(32), True), (bytes(32), False)])
    assert (vector - np.arange(length, dtype=np.uint32) == whole[:length]).all()
    add_masks(vector, [(key, False)])
    assert (vector == np.arange(length)).all()


# Shares


@given(data=st.data(), size=st.integers(2, 12), secret=st.binary(min_size=16, max_size=16))
@settings(max_examples=30)
def test_any_threshold_of_shares_open_a_secret_and_fewer_do_not(data: st.DataObject, size: int, secret: bytes) -> None:
    threshold = data.draw(st.integers(2, size))
    holders = sorted(data.draw(st.lists(st.integers(0, 99), min_size=size, max_size=size, unique=True)))
    shares = split(secret, holders, threshold)
    some = data.draw(st.permutations(holders))[:threshold]
    assert join({cid: shares[cid] for cid in some}, holders, threshold, secret.__eq__) == secret
    fewer = {cid: shares[cid] for cid in some[1:]}
    assert join(fewer, holders, threshold, lambda _: True) is None
    assert join(fewer, holders, threshold - 1, secret.__eq__) is None


def test_the_table_of_privacy_md() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "privacy.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| ([\d, ]*)\|$", text, re.MULTILINE)
    assert len(rows) == 7
    for clients, degree, threshold, needed, other in rows:
        count = int(clients)
        assert parameters.choose(count, 0.1, 0.1) == (int(degree), int(threshold))
        assert parameters.least_survivors(count, int(degree), int(threshold), 0.1) == int(needed)
        if other.strip():
            assert parameters.choose(count, 0.3, 0.1) == tuple(map(int, other.split(",")))
