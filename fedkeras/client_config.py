"""The flags of client.py: who a node is, where the server is, and what is the node's own."""

from dataclasses import dataclass

from fedkeras.errors import UserError

MAX_CIDS = 1_000_000


@dataclass(frozen=True)
class ClientConfig:
    """Join a server and train on this machine's own part of the data."""

    cid: str = ""
    """The partition, or partitions, this process serves: 3, or 0-9, or 0,2,5; unset: the server gives it a free one."""
    server: str = "127.0.0.1:9080"
    """HOST:PORT of the server."""
    data_dir: str = ""
    """Where the data set's files are on this machine; the server tells which data set."""
    shared: bool = False
    """Share these partitions with other processes started so: whoever is free takes the next message."""
    max_wait: float = 60.0
    """Seconds to wait for the server to be there, at the start and whenever the connection is lost."""
    passphrase_file: str = ""
    """File with the server's passphrase; or set FEDKERAS_PASSPHRASE, or be asked for it on a terminal."""
    tls_ca: str = ""
    """The authority that signed the server's certificate (PEM): encrypt, and talk to that server only."""
    tls_cert: str = ""
    """This client's own certificate chain (PEM), for a server with --tls-client-ca."""
    tls_key: str = ""
    """The private key of tls-cert (PEM)."""
    insecure: bool = False
    """Allow a passphrase to be used over an unencrypted connection beyond this machine."""
    trust_code: bool = False
    """Load a model file that the server hands out even if it brings code of its own: only if you trust its author."""
    deliver: bool = False
    """Train nothing: hand over what this machine has trained and no server has confirmed (server.py --collect-only)."""
    replace: bool = False
    """Take the place of a client that is connected under the same cid."""
    app: str = ""
    """Run another Flower app's ClientApp: the folder of its pyproject.toml, or package.module:app."""
    node_config: str = ""
    """This node's own settings for the other app's context.node_config: key=value, comma-separated."""

    def cids(self) -> list[int]:
        """`--cid` as numbers, ascending; none if it is unset. Raises UserError."""
        if not self.cid:
            return []
        try:
            ends = [[int(end) for end in part.split("-")] for part in self.cid.split(",")]
            known = all(len(part) <= 2 and part[-1] < MAX_CIDS for part in ends)
            cids = sorted({cid for part in ends for cid in range(part[0], part[-1] + 1)}) if known else []
        except ValueError:
            cids = []
        if not cids:
            raise UserError(f"--cid is '{self.cid}'; give a number like 3, a range like 0-9, or 0,2,5")
        return cids

    def check(self) -> None:
        """Raise UserError if another flag makes no sense."""
        if self.shared and not self.cid:
            raise UserError("--shared needs the --cid that the processes share, such as 0-9")
        host, _, port = self.server.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise UserError(f"--server is '{self.server}'; give HOST:PORT, such as 127.0.0.1:9080")
        if not 0 <= self.max_wait < float("inf"):
            raise UserError(f"--max-wait must be a number of seconds, at least 0, not {self.max_wait}")
        if self.node_config and not self.app:
            raise UserError("--node-config is for another Flower app; name it with --app")
        if self.app and self.shared:
            raise UserError("--shared is not for --app: a partition's context.state stays with one process")
