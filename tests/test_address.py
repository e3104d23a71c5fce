"""What a person types as an address: wrong ones are told apart in one line, and at once."""

import socket

import pytest

from fedkeras.address import parse_server, require_free, require_known
from fedkeras.errors import UserError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:9080", "127.0.0.1", 9080), ("lab.example:1", "lab.example", 1), ("[::1]:65535", "::1", 65535)],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert parse_server(text) == (host, port)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("http://127.0.0.1:9080/", "leave out 'http://': give 127.0.0.1:9080"),
        ("grpc://", "give HOST:PORT"),
        ("::1:9080", r"such as \[::1\]:9080"),
        ("fe80::1", r"such as \[fe80::\]:9080|such as \[fe80::1\]:9080"),
        ("127.0.0.1", "give HOST:PORT"),
        ("127.0.0.1:0", "give HOST:PORT"),
        ("127.0.0.1:65536", "give HOST:PORT"),
        ("127.0.0.1:http", "give HOST:PORT"),
        (":9080", "give HOST:PORT"),
        ("", "give HOST:PORT"),
    ],
)
def test_what_is_no_address(text: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        parse_server(text)


def test_a_name_that_nobody_has() -> None:
    require_known("127.0.0.1")
    require_known("localhost")
    with pytest.raises(UserError, match=r"no machine is known as 'a\.\.b'|'a\.\.b' is no name"):
        require_known("a..b")


def test_a_port_in_use_an_address_of_another_machine_and_an_unknown_name_are_told_apart() -> None:
    require_free("127.0.0.1", 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}: the port is in use"):
            require_free("127.0.0.1", port)
    require_free("127.0.0.1", port)  # left just now
    with pytest.raises(UserError, match=r"192\.0\.2\.1 is no address of this machine"):
        require_free("192.0.2.1", 9080)
    with pytest.raises(UserError, match="no machine is known by that name; see --host"):
        require_free("a..b", 9080)
