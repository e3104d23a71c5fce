"""Where a peer is: its address and port as gRPC and as the operating system write them, and whose address that is."""

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple


class Endpoint(NamedTuple):
    """An address, an IPv4 one also where it is written as one of IPv6, and a port."""

    host: str
    port: int

    @classmethod
    def of(cls, name: Sequence[str | int]) -> "Endpoint":
        """From what socket.getpeername() gives."""
        return cls(_plain(str(name[0])), int(name[1]))


def endpoint(peer: str) -> Endpoint:
    """Of a gRPC peer, such as "ipv4:10.0.0.1:5000" or "ipv6:%5B::1%5D:5000"; what has no port has 0."""
    _, _, rest = peer.partition(":")
    host, _, port = rest.rpartition(":")
    host = host.replace("%5B", "[").replace("%5D", "]").replace("%25", "%").strip("[]")
    return Endpoint(_plain(host or rest), int(port)) if port.isdecimal() else Endpoint(rest or peer, 0)


def network_of(peer: str) -> str:
    """Of a gRPC peer: its IPv4 address, or the /64 network of its IPv6 address.

    A household or a rented server has a whole /64, and may take another address of it for each connection.
    """
    host, _ = endpoint(peer)
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return host if address.version == 4 else str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def _plain(host: str) -> str:
    """One way to write an address, without the interface's name that the system adds to some and gRPC to others."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str(getattr(address, "ipv4_mapped", None) or address)
