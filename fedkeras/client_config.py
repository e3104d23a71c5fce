"""The flags of client.py: who a node is, where the server is, and what is the node's own."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedkeras.address import own_address, parse_server
from fedkeras.built_in_names import is_one_of
from fedkeras.checkout import typed
from fedkeras.cids import parse_cids
from fedkeras.client_terms import ClientTerms
from fedkeras.config import Config, fields_of, flag
from fedkeras.errors import UserError
from fedkeras.fields import Count, FlagGroup, setting, setting_of
from fedkeras.named_code import OWN_FLAGS, Permission, parse_specs

CONNECTION = FlagGroup("connection", "Which client this is, and where its server is.")
OWN_DATA = FlagGroup("data and results", "What this machine holds; the server says all else about the training.")
SECURITY = FlagGroup("security", "Proof of who this is, and of who the server is.")
TERMS = FlagGroup("terms", "What this client demands of a run, how much it takes, and where it notes what it sends.")
CODE = FlagGroup("code", "Whose code may run, and which files may be opened, beside what is built in.")
OTHER_APP = FlagGroup("other app", "Another Flower app in place of this one.")


@dataclass(frozen=True)
class ClientConfig:
    """Join a server and train on this machine's own part of the data."""

    cid: str = setting("", CONNECTION)
    """The partition, or partitions, this process serves: 3, or 0-9, or 0,2,5; unset: the server gives it a free one."""
    server: str = setting("127.0.0.1:9080", CONNECTION)
    """HOST:PORT of the server."""
    shared: bool = setting(False, CONNECTION)
    """Share these partitions with other processes started so: whoever is free takes the next message."""
    replace: bool = setting(False, CONNECTION)
    """Take the place of a client that is connected under the same cid."""
    max_wait: float = setting(60.0, CONNECTION)
    """Seconds to wait for the server to be there, at the start and whenever the connection is lost."""

    data_dir: str = setting("", OWN_DATA)
    """Where the data set's files are on this machine; the server says which data set."""
    data: str = setting("", OWN_DATA)
    """This machine's own file, undealt: of a run with --partitioner own, or --data-source client."""
    label_column: str = setting("", OWN_DATA)
    """The column of data that is learned, if it has another name here than at the server."""
    decimal: Literal["", ".", ","] = setting("", OWN_DATA)
    """The decimal mark in this machine's text files; unset: found from all their lines, or asked for."""
    thousands: Literal["", ".", ",", "'", "_", "space"] = setting("", OWN_DATA)
    """What stands between thousands in them; unset: nothing does."""
    deliver: bool = setting(False, OWN_DATA)
    """Train nothing: hand over what this machine has trained and no server has confirmed (server.py --collect-only)."""

    private: bool = setting(False, OWN_DATA)
    """Nobody else on this machine may read what this client writes: folders get mode 0700, files 0600."""

    passphrase_file: str = setting("", SECURITY)
    """File with the server's passphrase; or set FEDKERAS_PASSPHRASE, or type it on a terminal when it is wanted."""
    tls_ca: str = setting("", SECURITY)
    """The authority that signed the server's certificate (PEM): talk to that server only."""
    tls_cert: str = setting("", SECURITY)
    """This client's own certificate chain (PEM), for a server with --tls-client-ca."""
    tls_key: str = setting("", SECURITY)
    """The private key of tls-cert (PEM)."""
    holder_key: str = setting("", SECURITY)
    """File by which the server knows this client when it is started again; unset: holder.key in the cache's folder."""
    insecure: bool = setting(False, SECURITY)
    """Connect without encryption to a server that is started so, though others could read and change what is sent."""

    require: tuple[str, ...] = setting((), TERMS)
    """Take part only if: tls, passphrase, 'rounds<=50', 'hours<=8', mods=NAME:option=value, 'KEY<=N', KEY=VALUE."""
    max_message_mb: Count = setting(1024, TERMS)
    """Largest message that the server may send, in megabytes."""
    max_download_mb: Count = setting(10_000, TERMS)
    """Most room on this disk for what servers hand out, and for results kept to be delivered, in megabytes each."""
    sent_log: str = setting("", TERMS)
    """File for a line on each message that is sent; unset: one in the cache's folder `sent`; none: no such file."""

    trust_code: bool = setting(False, CODE)
    """Load a model file from the server even if it brings code of its own, and any code or file it names."""
    dataset: str = setting("", CODE)
    """A data set the server may name beside the built-in ones: a file or folder here, or package.module:function."""
    model: str = setting("", CODE)
    """The model that the server may name beside those built in: a model file here, or package.module:function."""
    allow: tuple[str, ...] = setting((), CODE)
    """Other code that the server may name, such as mods=package.module:Class; also objectives=, workflows=."""

    app: str = setting("", OTHER_APP)
    """Run another Flower app's ClientApp: the folder of its pyproject.toml, or package.module:app."""
    node_config: str = setting("", OTHER_APP)
    """This node's own settings for the other app's context.node_config: key=value, comma-separated."""

    @property
    def permission(self) -> Permission:
        """Which code and files the server may name. Raises UserError."""
        return Permission.parse(self.allow, self.trust_code, dataset=self.dataset, model=self.model)

    def terms(self) -> ClientTerms:
        """What this client demands of a run. Raises UserError."""
        known = None if self.app else Config().for_clients()
        return ClientTerms(self.require, self.max_message_mb * 1_000_000, known)

    def sent_log_path(self, folder: Path) -> Path | None:
        """The file for what is sent; `folder` is where it is unless a flag says otherwise. None: it is not wanted."""
        if self.sent_log:
            return None if self.sent_log == "none" else Path(self.sent_log)
        name = f"{self.server}-cid-{self.cid or 'any'}"
        return folder / f"{re.sub('[^A-Za-z0-9.-]+', '-', name)[:200]}.csv"

    def cids(self) -> list[int]:
        """`--cid` as numbers, ascending; none if it is unset. Raises UserError."""
        if not self.cid:
            return []
        try:
            return parse_cids(self.cid)
        except ValueError:
            raise UserError(f"--cid is '{self.cid}'; give a number like 3, a range like 0-9, or 0,2,5") from None

    def check(self) -> None:
        """Raise UserError if another flag makes no sense."""
        if self.shared and not self.cid:
            raise UserError("--shared needs the --cid that the processes share, such as 0-9")
        parse_server(self.server)
        if not 0 <= self.max_wait < float("inf"):
            raise UserError(f"--max-wait must be a number of seconds, at least 0, not {self.max_wait}")
        if self.data and self.dataset:
            raise UserError("--data is this machine's own file, and --dataset one that the server names: leave one out")
        if self.label_column and not self.data:
            raise UserError("--label-column is for a file of this machine's own: --data FILE")
        if self.decimal and self.decimal == self.thousands:
            raise UserError(f"--decimal and --thousands are both '{self.decimal}': they are two marks")
        _ = self.permission, self.terms()
        if self.node_config and not self.app:
            raise UserError("--node-config is for another Flower app; name it with --app")
        if self.app and self.shared:
            raise UserError("--shared is not for --app: a partition's context.state stays with one process")


def join_command(config: Config, address: str) -> str:
    """How a client joins a run of this configuration at `address`, what it must permit included.

    Words in capitals are for the client to fill in.
    """
    host, _, port = address.rpartition(":")
    words = ["--server", f"HOST:{port}" if host in ("0.0.0.0", "[::]") else address]
    if config.app:
        return typed("client", *words, "--app", "FOLDER")
    words += ["--deliver"] if config.only_takes_deliveries else []
    words += ["--data", "DATA"] if config.uses_catalogue and not config.deals else []
    words += ["--data-dir", "DIR"] if config.data_dir and config.uses_catalogue and config.deals else []
    words += ["--passphrase-file", "FILE"] if config.passphrase_file else []
    words += ["--tls-ca", "FILE"] if config.tls_cert else []
    words += ["--insecure"] if config.insecure and not config.tls_cert else []
    for name in fields_of():
        foreign, value = setting_of(Config.__dataclass_fields__[name]).foreign, str(getattr(config, name))
        of_dataset = config.uses_catalogue and config.deals
        unused = (name == "model" and config.hands_out_model) or (name == "dataset" and not of_dataset)
        if foreign is None or not value or unused:
            continue
        named = [spec.name for spec in parse_specs(value, flag(name))] if name == "mods" else [value]
        for one in named:
            if not is_one_of(one, foreign.built_in):
                words += [f"--{name}", one] if name in OWN_FLAGS else ["--allow", f"{foreign.kind}={one}"]
    return typed("client", *words)


def join_notes(config: Config, address: str, asks: bool) -> list[str]:
    """What is to be known besides, a line each; `asks`: clients are asked for a passphrase at their terminals."""
    host = address.rpartition(":")[0]
    notes = []
    if host in ("0.0.0.0", "[::]"):
        own = own_address()
        notes.append(f"HOST is this machine's name or address{f', such as {own}' if own else ''}")
    if config.uses_catalogue and not config.deals:
        notes.append("DATA is each client's own file or folder")
    if config.uses_clients_tables:
        notes.append(
            "each client has X and Y in ./dataset, or --data-dir DIR, or one file: --data DATA --label-column NAME"
        )
    if config.passphrase_file:
        notes.append("FILE holds the passphrase")
    elif asks:
        notes.append("each client is asked for the passphrase, or has it in FEDKERAS_PASSPHRASE")
    return notes
