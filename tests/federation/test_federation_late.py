"""Stragglers, on clients that work at the same time: who is late has failed that round, and no more."""

import queue
import threading

from toy_federation import ToyClients, content, federate, floats

from fedkeras import strategies
from fedkeras.flower.identity import cid_of
from fedkeras.runtime.in_process import InProcessGrid

START = floats(w=[0, 10])


class OnThreads(InProcessGrid):
    """A LocalGrid whose clients work at the same time, each on one message after the other, and may be late."""

    patient = False

    def __init__(self, app, num_partitions):
        super().__init__(app, num_partitions, {})
        self.inboxes = [queue.Queue() for _ in range(num_partitions)]
        self.threads = [threading.Thread(target=self.work, args=[inbox]) for inbox in self.inboxes]
        for thread in self.threads:
            thread.start()

    def push_messages(self, messages):
        messages = list(messages)
        message_ids = super().push_messages(messages)
        for message in messages:
            self._waiting.pop(message.metadata.message_id)
            self.inboxes[cid_of(message.metadata.dst_node_id)].put(message)
        return message_ids

    def work(self, inbox):
        while (message := inbox.get()) is not None:
            context = self._contexts[cid_of(message.metadata.dst_node_id)]
            self._mailbox.deliver(self._app(message, context))

    def wait_for_replies(self, message_ids, timeout):
        return self._mailbox.wait(message_ids, timeout)

    def end(self):
        for inbox in self.inboxes:
            inbox.put(None)
        for thread in self.threads:
            thread.join()


def test_a_late_reply_is_dropped_and_logged_and_the_client_stays_in_the_game(caplog):
    first_round_is_over = threading.Event()

    def train(cid, server_round, weights, config):
        if (cid, server_round) == (1, 1):
            first_round_is_over.wait()
        return content({name: array + 1 for name, array in weights.items()}, 1, loss=float(server_round))

    grid = OnThreads(ToyClients(train), 3)
    try:
        fields = {"round_timeout": 1.0, "num_server_rounds": 2, "fraction_evaluate": 0.0, "rest_after": 2}
        callbacks = [lambda outcome: first_round_is_over.set()]
        final, outcomes = federate(strategies.load("fedavg"), None, START, grid, callbacks=callbacks, **fields)
    finally:
        first_round_is_over.set()
        grid.end()
    assert outcomes[0].failures == {1: "no answer within 1 s (--round-timeout)"}
    assert (outcomes[1].answered, outcomes[1].failures) == (3, {})
    assert final["w"].tolist() == [2, 12]  # the late answer to round 1 is in neither mean
    assert [line["loss"] for line in outcomes[1].rows] == [2.0] * 4
    assert sum("came too late and is dropped" in entry.getMessage() for entry in caplog.records) == 1


def test_a_client_that_hangs_costs_no_time_while_it_rests():
    """A time-out in each of the rounds 1, 2 and 5; in 3 and 4 nobody is waited for."""
    hang = threading.Event()

    def train(cid, server_round, weights, config):
        if cid == 2:
            hang.wait()
        return content(weights, 1, loss=0.0)

    grid = OnThreads(ToyClients(train), 3)
    try:
        fields = {"round_timeout": 1.0, "rest_after": 2, "num_server_rounds": 5, "fraction_evaluate": 0.0}
        _, outcomes = federate(strategies.load("fedavg"), None, START, grid=grid, **fields)
    finally:
        hang.set()
        grid.end()
    late = [list(outcome.failures) for outcome in outcomes]
    assert late == [[2], [2], [], [], [2]]
    assert [outcome.asked for outcome in outcomes] == [3, 3, 2, 2, 3]
    assert min(outcome.seconds for outcome in outcomes if outcome.failures) >= 1.0
    assert min(outcome.seconds for outcome in outcomes if not outcome.failures) < 1.0
