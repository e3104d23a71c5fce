"""client.py whose training answers come late, so that replies arrive in another order than they were asked for."""

import random
import sys
import time

from flwr.app import Context, Message

from fedkeras import client

ANSWER = client.app


def late(message: Message, context: Context) -> Message:
    """Answer, but wait before the answer goes out: client 0 longest, each by chance a little more."""
    reply = ANSWER(message, context)
    if message.metadata.message_type == "train":
        cid = int(context.node_config["partition-id"])
        time.sleep(0.4 * (2 - cid) + random.random() * 0.2)  # unseeded: the result must not depend on it
        print(f"{time.time()} answers {message.content['config']['server-round']}", flush=True)
    return reply


if __name__ == "__main__":
    client.app = late
    sys.exit(client.main())
