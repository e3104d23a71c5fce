"""What clients keep between rounds: bytes and digests, which state counts when, and what checkpoints go back to."""

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedkeras.config import Config
from fedkeras.mods.client_state import CommittedStates, KeptState
from fedkeras.mods.client_state.memory import FolderMemory, digest_of, from_bytes, to_bytes

ANY = hnp.arrays(st.sampled_from(["f4", "f8", "i4", "u1"]), hnp.array_shapes(min_dims=0, min_side=0))


@settings(max_examples=25)
@given(st.dictionaries(st.text(max_size=9).filter(lambda name: "\0" not in name), ANY, max_size=4))
def test_arrays_come_back_as_they_were(arrays):
    found = from_bytes(to_bytes(arrays))
    assert [*found] == [*arrays]
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
    assert to_bytes(found) == to_bytes(arrays)


class OneClient:
    """CommittedStates in rounds of one client, whose node is 7, and that client."""

    def __init__(self, tmp_path, checkpoint_every=1):
        self.states, self.folder = CommittedStates("its numbers"), tmp_path / "root" / "run" / "0"
        config = Config(checkpoint_every=checkpoint_every)
        self.states.on_run_begin(type("Run", (), {"config": config}))

    def state(self):
        told = self.states.told(7)
        return KeptState(told["state"], told["state-saved"], FolderMemory(self.folder, 10**9))

    def train(self, server_round, ends=True, good=True):
        """The client's number goes up by one; the number that it went on from, or None."""
        self.states.on_phase_begin(server_round, "train", {0: 7}, ())
        state = self.state()
        before = state.recall().get("n")
        kept = state.keep({"n": np.array(0 if before is None else before + 1)})
        self.states.take(7, ConfigRecord(kept))
        if not good:
            self.states.on_client_failure(0, "bad")
        if ends:
            self.end(server_round)
        return None if before is None else int(before)

    def end(self, server_round):
        self.states.on_round_end(type("Result", (), {"round": server_round}))


def test_a_state_counts_from_the_end_of_its_round(tmp_path):
    server = OneClient(tmp_path)
    assert server.train(1) is None and server.train(2) == 0
    assert server.train(3, ends=False) == 1 and server.train(3) == 1, "a round that is repeated"
    assert server.train(4, good=False) == 2 and server.train(5) == 2, "an answer that was bad"
    assert server.train(6) == 3 and server.states.lost == 0


def test_a_client_is_tested_with_what_it_has_just_come_to(tmp_path):
    server = OneClient(tmp_path)
    server.train(1, ends=False)
    server.states.on_phase_begin(1, "evaluate", {0: 9}, ())
    assert server.states.told(9)["state"] == server.states._pending[0] != ""
    server.states.on_client_failure(0, "cannot be tested")
    server.end(1)
    assert server.states.used, "its training counts all the same"


def test_what_the_newest_checkpoint_has_is_kept_until_the_next_one(tmp_path):
    """Killed in round 6, with a checkpoint of round 3: rounds 4 and 5 are repeated from what was kept then."""
    server = OneClient(tmp_path, checkpoint_every=3)
    for server_round in (1, 2, 3):
        server.train(server_round)
    used, saved = dict(server.states.used), dict(server.states.saved)
    assert used == saved
    assert [server.train(server_round) for server_round in (4, 5)] == [2, 3]
    assert len(list(server.folder.iterdir())) == 3
    server.states.used, server.states.saved = used, saved
    assert [server.train(server_round) for server_round in (4, 5, 6)] == [2, 3, 4] and server.states.lost == 0
    server.train(7)
    assert len(list(server.folder.iterdir())) == 2, "what no checkpoint has is removed"


def test_a_damaged_state_and_one_of_another_shape_are_lost(tmp_path):
    memory = FolderMemory(tmp_path / "root" / "run" / "0", 10**9)
    digest = memory.keep({"n": np.zeros(3, "f")}, ())
    assert digest == digest_of(to_bytes({"n": np.zeros(3, "f")}))
    for like, lost in (({"n": np.ones(3, "f")}, False), ({"n": np.ones(4, "f")}, True), ({"m": np.ones(3, "f")}, True)):
        state = KeptState(digest, "", memory)
        assert bool(state.recall(like)) is not lost and state.lost is lost
    (tmp_path / "root" / "run" / "0" / digest).write_bytes(to_bytes({"n": np.ones(3, "f")}))
    state = KeptState(digest, "", memory)
    assert state.recall() == {} and state.keep({})["state-lost"] is True


def test_flowers_context_keeps_the_states_of_several_mods_apart():
    context = Context(1, 2, {}, RecordDict(), {})
    tables = [{"state-run": run * 32, "state": "", "state-saved": ""} for run in "ab"]
    kept = [KeptState.asked_for(ConfigRecord(table), context) for table in tables]
    digests = [state.keep({"n": np.full(2, i, "f")})["state"] for i, state in enumerate(kept)]
    for i, (table, digest) in enumerate(zip(tables, digests, strict=True)):
        again = KeptState.asked_for(ConfigRecord({**table, "state": digest}), context)
        assert again.recall()["n"].tolist() == [i, i] and not again.lost
        assert (
            again.keep({"n": np.ones(1)}) and again.recall() and len(context.state[f"client-state-{'ab'[i] * 32}"]) == 2
        )


@pytest.mark.parametrize("own", [{"state": "../x"}, {"state-saved": 7}, {"state-run": "../../etc"}, {"state": None}])
def test_a_server_that_names_what_is_no_state_is_refused(own):
    table = {"state-run": "a" * 32, "state": "", "state-saved": ""} | own
    table = ConfigRecord({name: value for name, value in table.items() if value is not None})
    with pytest.raises(ValueError, match=r"which state of this client counts|names its run"):
        KeptState.asked_for(table, Context(1, 2, {}, RecordDict(), {}))
