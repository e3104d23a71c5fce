"""An authority of one's own, and the certificates it signs: EC keys on P-256, X.509 as in RFC 5280.

A client that trusts the authority's certificate trusts every server that it signed, under the names in the server's
certificate.
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedkeras.cids import cids_text, parse_cids
from fedkeras.errors import UserError

AUTHORITY_DAYS = 3650
"""An authority outlives the certificates it signs, else all its clients would need a new one with each of them."""

ALWAYS = ("localhost", "127.0.0.1", "::1")
"""Names every server has: clients on its own machine reach it by these."""

CIDS_URI = "urn:fedkeras:cid:"
"""Begins the name, in a client's certificate, that says which clients it is for: urn:fedkeras:cid:0-3,7."""

EARLIER = timedelta(hours=1)
"""Certificates are valid from a little before now, for machines whose clocks are behind."""

OWN_NAME = "fedkeras"
ALWAYS_VALID = datetime(1950, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""Of a certificate that lives as long as its server: no machine's clock, however wrong, is outside. RFC 5280 has no
earlier year, and the end is its "no well-defined expiration"."""

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


@dataclass(frozen=True)
class Signed:
    """A certificate and the private key that belongs to it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        """The certificate as a PEM block."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """The key as a PEM block, not encrypted: gRPC cannot ask for a password."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def new_authority(now: datetime | None = None, days: int = AUTHORITY_DAYS) -> Signed:
    """An authority, valid for `days` from `now` (unset: this moment)."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # Names of authorities differ, so that one file with several of them is searched in the right place.
    name = _common_name(f"fedkeras authority {serial % 2**32:08x}")
    builder = _builder(name, name, key, serial, now, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    return Signed(builder.sign(key, hashes.SHA256()), key)


def new_server(authority: Signed, hosts: list[str], now: datetime | None = None, days: int = 365) -> Signed:
    """A server's certificate for these names and addresses, and those of ALWAYS. Raises UserError for a bad name."""
    names = [general_name(host) for host in dict.fromkeys([*hosts, *ALWAYS])]
    subject = next((host for host in hosts if len(host) <= 64), "fedkeras server")
    return _sign(authority, subject, ExtendedKeyUsageOID.SERVER_AUTH, list(dict.fromkeys(names)), now, days)


def new_client(
    authority: Signed, name: str, now: datetime | None = None, days: int = 365, cids: Collection[int] = ()
) -> Signed:
    """A client's certificate; `name` (at most 64 characters) is for people to read, no address.

    Whoever has it may be the clients `cids`, and no other; without them any that nobody else is.
    """
    names = [x509.UniformResourceIdentifier(f"{CIDS_URI}{cids_text(cids)}")] if cids else []
    return _sign(authority, name, ExtendedKeyUsageOID.CLIENT_AUTH, names, now, days)


def new_self_signed() -> Signed:
    """A certificate for a server that has no other, which is to be pinned: the login says whose it is."""
    key, name = ec.generate_private_key(ec.SECP256R1()), _common_name(OWN_NAME)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(ALWAYS_VALID[0]).not_valid_after(ALWAYS_VALID[1])
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(OWN_NAME)]), critical=False)
    return Signed(builder.sign(key, hashes.SHA256()), key)


def der(certificate: x509.Certificate) -> bytes:
    """The certificate as it travels in a handshake."""
    return certificate.public_bytes(serialization.Encoding.DER)


def general_name(host: str) -> x509.GeneralName:
    """A host's name or its address as it stands in a certificate. Raises UserError if it is neither."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return x509.DNSName(_checked_name(host))
    if address.is_unspecified:
        raise UserError(f"--host {host} means all addresses of this machine: give the one that clients connect to")
    if getattr(address, "scope_id", None):
        raise UserError(f"--host {host}: an address with a zone has no place in a certificate: leave out '%...'")
    return x509.IPAddress(address)


def names_in(certificate: x509.Certificate) -> list[str]:
    """Names and addresses that a server with this certificate may be called."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def cids_in(certificate: x509.Certificate) -> frozenset[int] | None:
    """The client ids that a client's certificate is for; None: it says nothing of them.

    One that says it in a way that is not ours is for none: a certificate never means more than it should.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    found = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith(CIDS_URI)]
    if not found:
        return None
    try:
        return frozenset().union(*(parse_cids(uri.removeprefix(CIDS_URI)) for uri in found))
    except ValueError:
        return frozenset()


def common_name(certificate: x509.Certificate) -> str:
    """Whom the certificate is for, in its owner's words."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 as `openssl x509 -fingerprint -sha256` writes it: AB:CD:..., 95 characters."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _checked_name(host: str) -> str:
    name = host.lower().removesuffix(".")
    labels = name.removeprefix("*.").split(".")  # a wildcard stands for one label, the first
    good = len(name) <= 253 and all(_LABEL.fullmatch(label) for label in labels)
    if not good or labels[-1].isdecimal():  # 192.168.1.300 is not a name either
        raise UserError(
            f"--host {host!r} is neither a host name nor an address: give them as in a.example 192.168.1.5, "
            "without scheme and port"
        )
    return name


def _sign(
    authority: Signed,
    subject: str,
    usage: x509.ObjectIdentifier,
    names: list[x509.GeneralName],
    now: datetime | None,
    days: int,
) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    latest = issuer.not_valid_after_utc  # a certificate that outlives its authority only looks valid
    builder = _builder(_common_name(subject), issuer.subject, key, x509.random_serial_number(), now, days, latest)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    builder = builder.add_extension(identifier, critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Signed(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    serial: int,
    now: datetime | None,
    days: int,
    latest: datetime | None = None,
) -> x509.CertificateBuilder:
    now = now or datetime.now(UTC)
    until = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - EARLIER)
        .not_valid_after(min(until, latest) if latest else until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
