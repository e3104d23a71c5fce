"""A client that attacks: `python wire_client.py HOST:PORT CIDS --how KIND` joins as others do, and then misbehaves.

It is a process of its own, with a folder of its own: nothing of what the run's other clients hold is in it.
"""

import argparse
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedkeras.errors import UserError, complain
from fedkeras.runtime import node, wire
from fedkeras.runtime.client_channel import ClientChannel
from fedkeras.runtime.client_session import ClientSession
from fedkeras.runtime.federation_pb2 import ArrayInfo, Arrays, Frame, Header, Join, Record, Value, Values
from fedkeras.runtime.holder_key import read_key
from fedkeras.runtime.passphrase import Access
from fedkeras.runtime.server_connection import ServerConnection

LARGE = 300_000_000
"""Bytes of a reply that is far larger than its message lets expect."""

DRIP_SECONDS = 1.5
"""Between two chunks of a reply that never becomes whole."""

app = ClientApp()


@app.train()
@app.evaluate()
@app.query("initial_weights")
def echo(message: Message, context: Context) -> Message:
    """Send back what came; the connection below makes of it what the attack wants."""
    return Message(message.content, reply_to=message)


def of_zeros(count: int) -> Header:
    """A reply's header that promises so many bytes of one array."""
    info = ArrayInfo(name="w", dtype="uint8", shape=[count], stype="numpy.ndarray", num_bytes=count)
    return Header(records=[Record(name="arrays", arrays=Arrays(arrays=[info]))], payload_bytes=count)


def chunks(count: int):
    """So many zeros, in chunks."""
    return wire.chunks([bytes(1 << 20)] * (count >> 20) + [bytes(count % (1 << 20))], wire.TO_SERVER)


def hold_back(header: Header, size: int):
    """All of a reply but its last chunk, which never comes."""
    yield Frame(header=header)
    whole = list(chunks(size))
    yield from whole[:-1]


def drip(header: Header, size: int):
    """A chunk now and then."""
    yield Frame(header=header)
    for chunk in chunks(size):
        yield chunk
        time.sleep(DRIP_SECONDS)


def frames_of(how: str, honest: wire.Outgoing):
    """What is sent in the place of an honest reply."""
    answered, size = honest[0], honest[0].payload_bytes
    if how == "large":
        frames = hold_back(header := of_zeros(LARGE), LARGE)
    elif how == "hold":
        frames = hold_back(header := of_zeros(size), size)
    elif how == "drip":
        frames = drip(header := of_zeros(size), size)
    elif how == "text":
        value = Value(name="text", type=Value.STRING, strings=["x" * 3_900_000])
        header = Header(records=[Record(name="metrics", config=Values(values=[value]))])
        frames = wire.frames(header, [], wire.TO_SERVER)
    elif how == "records":
        header = Header(records=[Record(name=str(number)) for number in range(100_000)])
        frames = wire.frames(header, [], wire.TO_SERVER)
    else:  # malformed: a reply with a record of no kind
        header = Header(records=[Record(name="nothing")])
        frames = wire.frames(header, [], wire.TO_SERVER)
    for name in ("message_id", "reply_to_message_id", "cid", "message_type", "created_at", "ttl"):
        setattr(header, name, getattr(answered, name))
    return frames


def answer_as(how: str) -> None:
    """Have every session of this process answer in this way."""

    def reply(self: ClientSession, message_id: str, outgoing: wire.Outgoing) -> None:
        print(f"attacks with {how}", flush=True)
        self._connection.send(frames_of(how, outgoing))

    ClientSession.reply = reply


def unasked(server: str, cids: list[int], seconds: float) -> None:
    """Answer what was never sent, a message of 100 MB each time, and come back when the connection ends."""
    until, tries = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        connection = None
        try:
            connection = ServerConnection(server, ClientChannel(server, Access()), None, Join(cids=cids))
            header = of_zeros(100_000_000)
            header.reply_to_message_id, header.cid, header.message_type = os.urandom(16).hex(), cids[0], "train"
            connection.send(hold_back(header, 100_000_000))
            tries += 1
            for frame in connection.frames():
                if isinstance(frame, Frame) and frame.HasField("goodbye"):
                    break
        except Exception as error:  # noqa: BLE001 - whatever the server does, the attack goes on
            print(f"{type(error).__name__}: {error}", flush=True)
            time.sleep(0.1)
        finally:
            if connection is not None:
                connection.close()
    print(f"tried {tries} times", flush=True)


def many(server: str, cids: list[int], count: int) -> None:
    """As many processes of a pool as the server lets in."""
    joined: list[ServerConnection] = []
    refused: list[str] = []

    def one() -> None:
        try:
            joined.append(
                ServerConnection(server, ClientChannel(server, Access()), None, Join(cids=cids, shared=True), b"p" * 32)
            )
        except Exception as error:  # noqa: BLE001 - the reason is counted
            refused.append(str(error))

    for first in range(0, count, 20):
        threads = [threading.Thread(target=one) for _ in range(first, min(count, first + 20))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(f"joined {len(joined)}, refused {len(refused)}: {refused[0] if refused else ''}", flush=True)
    time.sleep(600)


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("cids", type=lambda text: [int(cid) for cid in text.split(",")])
    parser.add_argument("--how", required=True)
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--replace", action="store_true")
    parser.add_argument("--holder-key", default="")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--after", type=Path, help="begin when this file is there")
    flags = parser.parse_args()
    while flags.after and not flags.after.exists():
        time.sleep(0.05)
    if flags.how == "unasked":
        unasked(flags.server, flags.cids, flags.seconds)
        return 0
    if flags.how == "many":
        many(flags.server, flags.cids, flags.count)
        return 0
    answer_as(flags.how)
    try:
        key = read_key(flags.holder_key, Path(os.environ["FEDKERAS_CACHE"]))
        node.serve(
            app, flags.server, flags.cids, {}, 10.0, report=lambda text: print(text, flush=True),
            shared=flags.shared, replace=flags.replace, holder_key=key,
        )  # fmt: skip
    except UserError as error:
        return complain("attacker", error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
