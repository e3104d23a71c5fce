"""The real server.py, whose runs end with weights.npz: toy clients have no Keras model."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # before the copy that an installed wheel has
from fedkeras import data, factory, server
from fedkeras.errors import UserError
from fedkeras.runtime import channel, service


def no_model(*_: object) -> None:
    raise UserError("toy clients have no model")


factory.build_model = no_model
data.needs_no_files = lambda dataset: False  # toy clients say how many examples they have, and hold none of the set
if seconds := int(os.environ.get("TOY_KEEPALIVE", 0)):
    channel.KEEPALIVE_SECONDS = channel.KEEPALIVE_TIMEOUT_SECONDS = seconds
if seconds := float(os.environ.get("TOY_REPLY_SECONDS", 0)):
    service.REPLY_SECONDS, service.SLOWEST = seconds, 4_000_000
sys.exit(server.command())
