"""What a process shows at the door, and what it demands: passphrase and certificates."""

from dataclasses import dataclass

from fedkeras.config import Config
from fedkeras.runtime.passphrase import read_passphrase


@dataclass(frozen=True)
class Access:
    """The same on both sides; paths are of PEM files, an empty one means that there is none."""

    passphrase: str | None = None
    tls_cert: str = ""
    """This side's own certificate chain; a server that has one encrypts."""
    tls_key: str = ""
    tls_ca: str = ""
    """The authority that signed the other side's certificate; a client that has one encrypts, a server that has one
    demands certificates of its clients."""
    insecure: bool = False
    """Plaintext beyond loopback is allowed."""


def access_of_server(config: Config) -> Access:
    """What the flags of server.py say. Raises UserError where the passphrase cannot be read."""
    return Access(
        read_passphrase(config.passphrase_file), config.tls_cert, config.tls_key, config.tls_client_ca, config.insecure
    )
