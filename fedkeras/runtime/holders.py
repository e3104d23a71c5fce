"""Who holds each client id of a run: the name in a certificate that is for it, else whoever joined under it first.

A client shows a secret that it has from a key in its own folder (holder_key.py), and the server keeps its SHA-256. So a
client that was killed and started again is known, also by a server that was, and another one is not, with --replace
neither. What a certificate says is more than a secret.
"""

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from cryptography import x509

from fedkeras.cids import cids_text
from fedkeras.runtime.certificates import cids_in, common_name
from fedkeras.runtime.holder_key import secret_for
from fedkeras.runtime.own_grid import HoldersTable

RUN_BYTES = 16
LONGEST_SECRET = 64
CERTIFICATE = "certificate "


@dataclass(frozen=True)
class Identity:
    """How a client process shows who it is: a secret, and a certificate's name and the client ids it is for.

    `cids` is None without a certificate, and for one that names none: it may be any client that nobody else holds.
    """

    secret: bytes = b""
    name: str = ""
    cids: frozenset[int] | None = None

    @property
    def claim(self) -> str:
        """What is kept of it; '' if it shows nothing."""
        if self.cids is not None:
            return f"{CERTIFICATE}{self.name}"
        return hashlib.sha256(self.secret).hexdigest() if self.secret else ""


def identity_of(secret: bytes, auth_context: Mapping[str, Iterable[bytes]]) -> Identity:
    """Of a client that sent `secret`, with what gRPC says of its connection: a certificate in it was checked."""
    for pem in auth_context.get("x509_pem_cert", ()):
        certificate = x509.load_pem_x509_certificate(pem)
        return Identity(secret, common_name(certificate), cids_in(certificate))
    return Identity(secret)


class Holders:
    """Who holds which client id. `run` is the run's name, new unless it goes on.

    Clients that show the secret of `own_key` are those that the server has started itself: any id is theirs.
    """

    def __init__(self, run: bytes = b"", claims: Mapping[int, str] | None = None, own_key: bytes = b"") -> None:
        self.run = run or os.urandom(RUN_BYTES)
        self._claims = dict(claims or {})
        self._own = Identity(secret_for(own_key, self.run)).claim if own_key else None

    @classmethod
    def from_table(cls, table: HoldersTable, own_key: bytes = b"") -> "Holders":
        """Of a run that goes on; an empty table: of a new one."""
        claims = {int(cid): claim for cid, claim in dict(table.get("cids", {})).items()}
        return cls(bytes.fromhex(table.get("run", "")), claims, own_key)

    def to_table(self) -> HoldersTable:
        """For a checkpoint."""
        return {"run": self.run.hex(), "cids": {str(cid): claim for cid, claim in sorted(self._claims.items())}}

    def refusal(self, identity: Identity, cids: Collection[int]) -> str:
        """Why these are not this client's, or ''."""
        if len(identity.secret) > LONGEST_SECRET:
            return "its secret is too long"
        for cid in cids:
            if identity.cids is not None and cid not in identity.cids:
                return f"its certificate ({identity.name}) is for client {cids_text(identity.cids)}, not for {cid}"
            if not self.is_free_for(identity, cid):
                held = self._claims[cid]
                whom = "the client of certificate " + held.removeprefix(CERTIFICATE)
                whom = whom if held.startswith(CERTIFICATE) else "another client, which joined first"
                return (
                    f"--cid {cid} is held by {whom}: that one joins again from its own folder (its --holder-key); "
                    f"the server gives the cid free with --resume RUN --release {cid}"
                )
        return ""

    def is_free_for(self, identity: Identity, cid: int) -> bool:
        """Whether nobody else holds this client id."""
        held = self._claims.get(cid)
        if held is None or held == identity.claim or (self._own and identity.claim == self._own):
            return True
        return identity.cids is not None and not held.startswith(CERTIFICATE)

    def may_have(self, identity: Identity, num_partitions: int) -> list[int]:
        """The client ids that this client could be: first those that it held before, then those that nobody holds."""
        found = [
            cid
            for cid in range(num_partitions)
            if (identity.cids is None or cid in identity.cids) and self.is_free_for(identity, cid)
        ]
        return sorted(found, key=lambda cid: (self._claims.get(cid) != identity.claim, cid))

    def claim(self, identity: Identity, cids: Collection[int]) -> None:
        """From now on these are this client's. One that shows nothing holds nothing."""
        if identity.claim:
            self._claims.update(dict.fromkeys(cids, identity.claim))

    def release(self, cids: Collection[int]) -> list[int]:
        """Give these free; returns those that nobody held."""
        return [cid for cid in cids if self._claims.pop(cid, None) is None]
