"""Addresses that a person types: what is wrong with one is said before anything waits for it."""

import errno
import ipaddress
import os
import socket

from fedkeras.errors import UserError

EXAMPLE = "give HOST:PORT, such as 127.0.0.1:9080, lab.example:9080 or [::1]:9080"


def parse_server(text: str) -> tuple[str, int]:
    """Host, without the brackets of IPv6, and port. Raises UserError for what is no HOST:PORT."""
    scheme, separator, rest = text.partition("://")
    if separator:
        raise UserError(f"--server is '{text}'; leave out '{scheme}://': give {rest.rstrip('/') or 'HOST:PORT'}")
    host, _, port = text.rpartition(":")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise UserError(f"--server is '{text}'; put an IPv6 address in brackets, such as [{_ipv6_of(text)}]:9080")
    if not (host.strip("[]") and port.isdecimal() and 0 < int(port) < 65536):
        raise UserError(f"--server is '{text}'; {EXAMPLE}")
    return host.strip("[]"), int(port)


def require_known(host: str) -> None:
    """Raise UserError for a name that the network does not know; not where it cannot be asked just now."""
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            raise UserError(f"--server: no machine is known as '{host}'; check the name, or give its address") from None
    except UnicodeError:
        raise UserError(f"--server: '{host}' is no name of a machine") from None


def is_loopback(host: str) -> bool:
    """True if `host` (a name, or an address with or without brackets) is this machine and can be nothing else."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if bare.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:127.0.0.1
    return (mapped or address).is_loopback


def require_free(host: str, port: int, flags: str = "") -> None:
    """Raise UserError if a server cannot listen on host and port, and say which of the reasons it is.

    `flags` is what stands before `host` and `port` in the names of their flags.

    By trying it: gRPC tells a port in use, an address of another machine and an unknown name alike.
    """
    try:
        kind, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError):
        raise UserError(f"cannot listen on '{host}': no machine is known by that name; see --{flags}host") from None
    with socket.socket(kind) as probe:
        if os.name != "nt":  # as gRPC does: a port that a server has just left is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
            probe.listen()
        except OSError as error:
            raise UserError(f"cannot listen on {shown(host, port)}: {_reason(error, host, port, flags)}") from None


def own_address() -> str:
    """The IPv4 address from which this machine reaches others, as they mostly reach it; empty where it has none.

    Nothing is sent: the operating system is asked which way a packet would take.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address that documents use
        except OSError:  # no network
            return ""
        return str(probe.getsockname()[0])


def _reason(error: OSError, host: str, port: int, flags: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"the port is in use; stop the other server or choose another --{flags}port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine; --{flags}host 0.0.0.0 listens on all that it has"
    if error.errno == errno.EACCES:
        return f"this user may not use port {port}; choose a --{flags}port above 1023"
    return error.strerror or str(error)


def shown(host: str, port: int) -> str:
    """HOST:PORT, as it is typed."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _ipv6_of(text: str) -> str:
    """The address in a text that is one, or one with a port behind it."""
    for candidate in (text.rpartition(":")[0], text):
        try:
            return str(ipaddress.IPv6Address(candidate))
        except ValueError:
            continue
    return "::1"
