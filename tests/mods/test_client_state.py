"""What clients keep between rounds: bytes and digests, which state counts when, and what checkpoints go back to."""

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedkeras.errors import UserError
from fedkeras.mods.client_state import CommittedStates, KeptState
from fedkeras.mods.client_state.memory import ContextMemory, FolderMemory, digest_of, from_bytes, memory_of, to_bytes
from fedkeras.mods.compression.client_half import ErrorFeedback
from fedkeras.mods.compression.mod import Compression
from fedkeras.mods.control_variates import ControlVariates
from fedkeras.mods.personalisation.ditto import Ditto

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

    def __init__(self, tmp_path):
        self.states, self.folder = CommittedStates("its numbers"), tmp_path / "root" / "run" / "0"
        self.states.on_run_begin(type("Run", (), {"start": None}))

    def checkpoint(self, server_round, on_disk=True):
        """What is in it."""
        self.states.on_checkpoint(server_round, on_disk=False)
        if on_disk:
            self.states.on_checkpoint(server_round, on_disk=True)
        return dict(self.states.used)

    def go_on(self, used):
        """Killed, and begun again from a checkpoint."""
        self.states = CommittedStates("its numbers")
        self.states.used = dict(used)
        self.states.on_run_begin(type("Run", (), {"start": "a checkpoint"}))

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
    server = OneClient(tmp_path)
    for server_round in (1, 2, 3):
        server.train(server_round)
    kept = server.checkpoint(3)
    assert [server.train(server_round) for server_round in (4, 5)] == [2, 3]
    assert len(list(server.folder.iterdir())) == 3
    server.go_on(kept)
    assert [server.train(server_round) for server_round in (4, 5, 6)] == [2, 3, 4] and server.states.lost == 0
    server.checkpoint(6)
    server.train(7)
    assert len(list(server.folder.iterdir())) == 2, "what no checkpoint has is removed"


def test_a_run_that_goes_on_keeps_what_it_went_on_from(tmp_path):
    """A checkpoint by Ctrl-C in round 7; then rounds 8 and 9 and `kill -9`, twice."""
    server = OneClient(tmp_path)
    for server_round in range(1, 8):
        server.train(server_round)
    kept = server.checkpoint(7)
    for _ in range(2):
        server.go_on(kept)
        assert [server.train(server_round) for server_round in (8, 9)] == [6, 7] and server.states.lost == 0


def test_a_checkpoint_that_is_not_written_yet_or_never_does_away_with_nothing(tmp_path):
    server = OneClient(tmp_path)
    server.train(1)
    kept = server.checkpoint(1)
    server.train(2)
    written_later = server.checkpoint(2, on_disk=False)
    for server_round in (3, 4, 5):
        server.train(server_round)
    for checkpoint, first in ((written_later, 1), (kept, 0)):
        state = KeptState(checkpoint[0], "", FolderMemory(server.folder, 10**9))
        assert state.recall()["n"].tolist() == first
    server.checkpoint(5, on_disk=False)
    server.train(6)
    assert KeptState(kept[0], "", FolderMemory(server.folder, 10**9)).recall(), "that of round 2 has failed"


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
    kept = [KeptState.asked_for(ConfigRecord(table), context, "test") for table in tables]
    digests = [state.keep({"n": np.full(2, i, "f")})["state"] for i, state in enumerate(kept)]
    for i, (table, digest) in enumerate(zip(tables, digests, strict=True)):
        again = KeptState.asked_for(ConfigRecord({**table, "state": digest}), context, "test")
        assert again.recall()["n"].tolist() == [i, i] and not again.lost
        assert again.keep({"n": np.ones(1)}) and again.recall()
        assert len(context.state[f"client-state-{'ab'[i] * 32}-test"]) == 2


@pytest.mark.parametrize(
    "own",
    [
        {"state": "../x"},
        {"state-saved": 7},
        {"state-saved": "../x"},
        {"state-saved": f"{'a' * 32} {'b' * 32} {'c' * 32}"},
        {"state-run": "../../etc"},
        {"state": None},
    ],
)
def test_a_server_that_names_what_is_no_state_is_refused(own):
    table = {"state-run": "a" * 32, "state": "", "state-saved": ""} | own
    table = ConfigRecord({name: value for name, value in table.items() if value is not None})
    with pytest.raises(ValueError, match=r"which state of this client counts|names its run"):
        KeptState.asked_for(table, Context(1, 2, {}, RecordDict(), {}), "test")


@pytest.mark.parametrize("node_config", [{}, {"allow": "", "partition-id": 3}])
def test_what_one_mod_keeps_is_nothing_another_can_be_told_to_send(node_config, tmp_path, monkeypatch):
    """A server that names ditto's run and digest to compress, which would add the arrays to what it sends."""
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path))
    context = Context(1, 1, node_config | ({} if node_config else {"partition-id": 3}), RecordDict(), {})
    own = {"w": np.float32([1, 2, 3, 4])}
    table = {"state-run": "b" * 32, "state": "", "state-saved": ""}
    digest = KeptState.asked_for(ConfigRecord(table), context, "ditto").keep(own)["state"]
    table |= {"state": digest, "topk": 0.5}
    assert KeptState.asked_for(ConfigRecord(table), context, "ditto").recall().keys() == {"w"}
    feedback = ErrorFeedback.asked_for(ConfigRecord(table), context)
    assert feedback.state.recall() == {} and feedback.state.lost
    with pytest.raises(ValueError, match=r"asks for 0\.75 of the numbers"):
        ErrorFeedback.asked_for(ConfigRecord(table | {"topk": 0.75}), context)


def test_no_update_makes_clients_keep_more_than_is_permitted(tmp_path):
    """Folders begun with little, and then filled."""
    memories = [FolderMemory(tmp_path / "root" / f"run{i}" / "0", 2_000) for i in range(3)]
    digests = [memory.keep({"n": np.zeros(1)}, []) for memory in memories]
    with pytest.raises(UserError, match="--max-download-mb"):
        for i, memory in enumerate(memories):
            memory.keep({"n": np.full(60, i, "f8")}, [digests[i]])
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 2_000
    memory = memories[0]
    for _ in range(5):  # what replaces as much as it takes always has room
        digests[0] = memory.keep({"n": np.full(1, _, "f8")}, [digests[0]])


def test_flowers_context_keeps_no_more_than_is_permitted():
    context = Context(1, 2, {"max-download-mb": 1}, RecordDict(), {})
    for run in "ab":
        memory = memory_of(context, run * 32, "test")
        assert isinstance(memory, ContextMemory)
        if run == "a":
            memory.keep({"n": np.zeros(100_000, "f4")}, [])
    with pytest.raises(UserError, match=r"1\.2 MB, above 1"):
        memory.keep({"n": np.zeros(200_000, "f4")}, [])


def test_one_process_answers_for_a_client_that_keeps_a_state():
    """Two would remove each other's: the slower one knows not yet what the server has made of the other's."""
    assert all(mod.keeps_client_state for mod in (Compression(topk=0.1), ControlVariates(), Ditto()))
    assert not Compression(up="int8").keeps_client_state
