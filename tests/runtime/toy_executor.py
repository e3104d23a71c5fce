"""An executor without TensorFlow, started as `fedkeras supernode` starts its own: `toy_executor.py HOST:PORT ""`."""

import os
import sys
import time

import fedkeras  # noqa: F401 - before Flower

# isort: split
from flwr.app import ConfigRecord, Context, Message, RecordDict

from fedkeras.flower.runtime_api import ApiAddress
from fedkeras.runtime import executor


def answer(message: Message, context: Context) -> Message:
    """Says who it is and how often this run's node was asked, after doing what it is told."""
    told = message.content["config"]
    count = int(context.state["own"]["count"]) + 1 if "own" in context.state else 1
    context.state["own"] = ConfigRecord({"count": count})
    if told.get("do") == "fail":
        raise ZeroDivisionError("by a test")
    if told.get("do") == "exit":
        sys.exit(7)
    time.sleep(float(told.get("seconds", 0)))
    print("an app prints, which must not end up among the reports")
    return Message(RecordDict({"config": ConfigRecord({"pid": os.getpid(), "count": count})}), reply_to=message)


if __name__ == "__main__":
    executor.follow_command()
    orders, reports = executor.take_over_streams()
    endpoint = ApiAddress(*sys.argv[1:])
    executor.serve(answer, endpoint, lambda bundle: None, lambda message, context, reply: None, orders, reports)
