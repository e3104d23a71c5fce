"""Makes the pictures of docs/architecture.md, SVG files beside this one: `python docs/pictures/architecture.py`."""

from collections.abc import Callable
from pathlib import Path

from drawing import Drawing

HERE = Path(__file__).resolve().parent


def apps() -> Drawing:
    """Who is who."""
    picture = Drawing(
        320, "ServerApp with its strategy above, the Grid in the middle, three ClientApps with data below"
    )
    picture.box(60, 20, 440, 76, "server")
    picture.text(160, 52, "ServerApp", "ink title")
    picture.text(160, 72, "server.py", "ink code")
    picture.box(290, 34, 190, 48, "carrier", "Strategy", "`strategies/fedavg.py`")
    picture.arrow(220, 98, 220, 132)
    picture.arrow(340, 132, 340, 98, dashed=True)
    picture.text(205, 121, "Messages", anchor="end")
    picture.text(355, 121, "replies", anchor="start")
    picture.box(60, 136, 440, 52, "carrier", "Grid", "our gRPC, Flower's simulation, or a SuperLink")
    for cid in range(3):
        x = 60 + 155 * cid
        picture.arrow(x + 45, 190, x + 45, 218)
        picture.arrow(x + 85, 218, x + 85, 190, dashed=True)
        picture.box(x, 222, 130, 50, "client", "ClientApp", "`client.py`")
        picture.box(x + 10, 278, 110, 28, "absent", f"data of {cid}")
    return picture


def client_manager() -> Drawing:
    """Who is there, and who is asked."""
    picture = Drawing(
        270, "Of eight clients six are connected, one of them is suspended, and three are this round's cohort"
    )
    picture.text(20, 30, "eight partitions", anchor="start")
    picture.text(540, 30, "dashed: not connected", "soft", "end")
    asked, absent = (0, 3, 6), (2, 7)
    for cid in range(8):
        picture.circle(55 + 64 * cid, 62, 19, "absent" if cid in absent else "client", str(cid))
    picture.arrow(280, 90, 280, 112)
    picture.box(70, 114, 420, 46, "server", "enough connected?", "`ClientManager.wait`")
    picture.arrow(280, 162, 280, 182)
    for cid in (0, 1, 3, 4, 5, 6):
        picture.circle(
            55 + 64 * cid, 208, 19, "server" if cid in asked else "absent" if cid == 4 else "client", str(cid)
        )
    picture.text(20, 256, "blue: asked in this round; 4 has failed three times and is suspended", "ink", "start")
    return picture


def round_loop() -> Drawing:
    """The loop."""
    picture = Drawing(
        330, "A round: cohort, train messages, checked replies, aggregation, evaluation, callbacks; then again"
    )
    steps = (
        ("1  choose the cohort", "`open_phase`"),
        ("2  the strategy makes messages", "`configure_train`"),
        ("3  clients train, replies are checked", "`good_replies`"),
        ("4  one model of all good replies", "`aggregate_train`"),
        ("5  clients and server test it", "`evaluate_round`"),
        ("6  history, checkpoint, stop?", "`on_round_end`"),
    )
    for number, (title, name) in enumerate(steps):
        y = 14 + 52 * number
        picture.box(110, y, 400, 40, "client" if number == 2 else "server")
        picture.text(122, y + 25, title, anchor="start")
        picture.text(500, y + 25, name.strip("`"), "ink code", "end")
        if number:
            picture.arrow(310, y - 11, 310, y - 1)
    picture.curve("M110 294 H60 V34 H106")
    picture.text(50, 168, "next", anchor="end")
    picture.text(50, 186, "round", anchor="end")
    return picture


def strategy() -> Drawing:
    """What it computes."""
    picture = Drawing(250, "Three clients send 1, 2 and 9 for the same weight; FedAvg makes 5.25 of them, FedMedian 2")
    for number, (value, examples) in enumerate(((1, 10), (2, 10), (9, 20))):
        y = 22 + 72 * number
        picture.box(20, y, 170, 54, "client", f"weight {value}", f"from {examples} examples")
        picture.arrow(192, y + 27, 246, 124)
    picture.box(248, 92, 112, 66, "server", "Strategy", "`aggregate_`", "`train`")
    picture.arrow(362, 112, 396, 74)
    picture.arrow(362, 138, 396, 176)
    picture.box(398, 42, 142, 60, "carrier", "fedavg: 5.25", "mean by examples")
    picture.box(398, 148, 142, 60, "carrier", "fedmedian: 2", "the middle one")
    return picture


def virtual_clients() -> Drawing:
    """Many clients, few processes."""
    picture = Drawing(250, "Six virtual clients wait in a row; two processes take one after the other")
    picture.text(280, 30, "six virtual clients: a partition and a Context each, no process", "ink")
    for cid in range(6):
        picture.circle(75 + 82 * cid, 66, 22, "client", str(cid))
    for cid, worker in ((0, 150), (2, 150), (4, 150), (1, 410), (3, 410), (5, 410)):
        picture.arrow(75 + 82 * cid, 90, worker + (75 + 82 * cid - worker) * 0.25, 146)
    for x in (40, 300):
        picture.box(x, 150, 220, 76, "server", "worker process", "one model, one graph;", "a client after the other")
    return picture


def edge_clients() -> Drawing:
    """A machine each."""
    picture = Drawing(
        260, "Three machines, each with a client process and its own data, connect to the server's port 9080"
    )
    picture.box(190, 18, 180, 58, "server", "server.py", "listens on port 9080")
    for number, place in enumerate(("laptop", "hospital", "another lab")):
        x = 20 + 180 * number
        picture.box(x, 138, 160, 104, "absent")
        picture.text(x + 80, 156, place, "soft")
        picture.box(x + 6, 164, 148, 34, "client", f"`client.py --cid {number}")
        picture.box(x + 6, 204, 148, 28, "carrier", "own data")
        picture.arrow(x + 80, 136, 230 + 50 * number, 80)
    picture.text(20, 36, "clients connect,", "soft", "start")
    picture.text(20, 54, "never the server", "soft", "start")
    return picture


def grpc() -> Drawing:
    """What goes over the wire."""
    picture = Drawing(
        420, "Frames on one stream: Hello, Challenge, Proof, Join, Welcome, Header, Chunk, Settled, Goodbye"
    )
    picture.box(20, 14, 150, 34, "client", "client process")
    picture.box(390, 14, 150, 34, "server", "server")
    picture.line(95, 50, 95, 408)
    picture.line(465, 50, 465, 408)
    frames = (
        (1, "Hello", "versions, and the first half of the key"),
        (0, "Challenge", "the second half"),
        (1, "Proof", "that it has the passphrase"),
        (0, "Proof", "that the server has it too"),
        (1, "Join", "which cid"),
        (0, "Welcome", "the run's configuration"),
        (0, "Header, Chunks", "a train message"),
        (1, "Header, Chunks", "the reply"),
        (0, "Settled", "the reply has arrived"),
        (0, "Goodbye", "the run is over"),
    )
    for number, (up, name, what) in enumerate(frames):
        y = 78 + 34 * number
        start, end = (98, 462) if up else (462, 98)
        picture.arrow(start, y, end, y)
        picture.text(108, y - 6, name, "ink code", "start")
        picture.text(452, y - 6, what, "ink", "end")
    return picture


def one_round() -> Drawing:
    """A round as a sequence."""
    picture = Drawing(520, "One round: round loop, strategy, dispatcher and client, ten steps")
    lanes = {"loop": 72, "strategy": 229, "dispatcher": 360, "client": 488}
    heads = (("round loop", "rounds/server", "server"), ("Strategy", "fedavg", "carrier"))
    heads += (("Dispatcher", "and Grid", "carrier"), ("ClientApp", "client.py", "client"))
    for x, (title, name, kind) in zip(lanes.values(), heads, strict=True):
        picture.box(x - 62, 12, 124, 48, kind, title, f"`{name}`")
        picture.line(x, 62, x, 508)
    steps = (
        ("loop", "loop", "1 open_phase"),
        ("loop", "strategy", "2 configure_train"),
        ("strategy", "loop", "messages"),
        ("loop", "dispatcher", "3 exchange"),
        ("dispatcher", "client", "4 answer"),
        ("client", "client", "5 train"),
        ("client", "dispatcher", "reply"),
        ("dispatcher", "loop", "6 fault_of_train"),
        ("loop", "strategy", "7 aggregate_train"),
        ("strategy", "loop", "new arrays"),
        ("loop", "client", "8 evaluate_round: the same way, to test"),
        ("loop", "loop", "9 add_central_row"),
        ("loop", "loop", "10 on_round_end"),
    )
    for number, (start, end, words) in enumerate(steps):
        y = 88 + 32 * number
        x, to_x = lanes[start], lanes[end]
        if x == to_x:
            side = -1 if start == "client" else 1
            picture.curve(f"M{x} {y - 8} h{18 * side} v12 h{-15 * side}")
            picture.text(x + 24 * side, y + 3, words, "ink code", "start" if side > 0 else "end")
            continue
        picture.arrow(x, y, to_x, y, f"`{words}", dashed=not words[0].isdigit())
    return picture


PICTURES: dict[str, Callable[[], Drawing]] = {
    "apps": apps,
    "client-manager": client_manager,
    "round-loop": round_loop,
    "strategy": strategy,
    "virtual-clients": virtual_clients,
    "edge-clients": edge_clients,
    "grpc": grpc,
    "one-round": one_round,
}


def main() -> None:
    """Make all of them."""
    for name, draw in PICTURES.items():
        draw().write(HERE / f"{name}.svg")


if __name__ == "__main__":
    main()
