"""What a process shows at the door, and what it demands: passphrase and certificates."""

from dataclasses import dataclass


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
