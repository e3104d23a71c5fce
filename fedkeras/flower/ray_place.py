"""On which machine of a Ray cluster a simulated client was answered for: its replies say it, if they are asked to.

Ray deals messages out to whatever worker is idle, and Flower says nowhere where that was.
"""

import os
import sys

from flwr.app import ConfigRecord, Message

from fedkeras.flower.ray_cluster import LOCAL

ASKED = "say-place"
"""Key of a message's configuration."""
RECORD, NODE = "place", "node"
"""The record of a reply, and what is in it."""


def wanted() -> bool:
    """Whether this process leads a simulation on a cluster."""
    return os.environ.get("RAY_ADDRESS", LOCAL) not in ("", LOCAL)


def noted(reply: Message, asked: bool) -> Message:
    """The reply with where this is, if that was asked and this is a Ray worker."""
    ray = sys.modules.get("ray")
    if asked and ray is not None and ray.is_initialized() and not reply.has_error():
        name = f"{ray.util.get_node_ip_address()} ({ray.get_runtime_context().get_node_id()[:6]})"
        reply.content[RECORD] = ConfigRecord({NODE: name})
    return reply


def taken(reply: Message) -> str:
    """Where a reply says that it was made, which it then does no longer; "" where it says nothing."""
    if reply.has_error() or RECORD not in reply.content:
        return ""
    record = reply.content.pop(RECORD)
    name = record.get(NODE) if isinstance(record, ConfigRecord) else None
    return name if isinstance(name, str) else ""
