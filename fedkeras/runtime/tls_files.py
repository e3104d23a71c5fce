"""Reads the PEM files that flags name and finds what is wrong with them: gRPC fails on them without giving a reason."""

import logging
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from fedkeras.errors import UserError

log = logging.getLogger("fedkeras")

Extension = TypeVar("Extension", bound=x509.ExtensionType)

WARN_DAYS = 14
"""A certificate that expires within so many days is warned of."""

USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


def read_own(cert: str, key: str, side: str) -> tuple[bytes, bytes]:
    """The certificate chain and the private key in the files `cert` and `key`, for this `side`: server or client.

    Warns of a certificate that expires soon and of a key file that others may read.

    Raises UserError if a file cannot be read, is not what it should be, has expired, or does not belong to the other.
    """
    chain, certificate = _read(cert, "--tls-cert"), read_certificates(cert, "--tls-cert")[0]
    key_pem = _read(key, "--tls-key")
    if _is_only_authority(certificate):
        raise UserError(f"--tls-cert {cert} is an authority's certificate, not a {side}'s own: give {side}'s .pem file")
    _check_usage(certificate, cert, side)
    if _public(_private_key(key_pem, key)) != _public(certificate):
        raise UserError(f"the key of --tls-key {key} does not belong to the certificate of --tls-cert {cert}")
    _check_dates([certificate], f"--tls-cert {cert}")
    _warn_of_readers(key)
    return chain, key_pem


def read_authority(path: str, flag: str, other_side: str) -> bytes:
    """The certificates in `path`, given by `flag`, of which one at least must be valid, to check `other_side`'s by.

    gRPC takes a certificate that is no authority's at its word too (then it is the only one trusted), so a server's own
    file serves its clients. Raises UserError if the file is of no use.
    """
    content, certificates = _read(path, flag), read_certificates(path, flag)
    if not any(_signs(certificate) for certificate in certificates):
        for certificate in certificates:
            _check_usage(certificate, path, other_side, flag)
    _check_dates(certificates, f"{flag} {path}")
    return content


def read_certificates(path: str, flag: str) -> list[x509.Certificate]:
    """The certificates in a PEM file, at least one, in the file's order. Raises UserError."""
    content = _read(path, flag)
    if b"-----BEGIN CERTIFICATE-----" not in content:
        what = "a private key" if b"PRIVATE KEY-----" in content else "no PEM file"
        raise UserError(f"{flag} {path} is {what}; give a certificate, which begins with -----BEGIN CERTIFICATE-----")
    try:
        certificates = x509.load_pem_x509_certificates(content)
        for certificate in certificates:
            _ = certificate.extensions, certificate.public_key()
    except (ValueError, x509.DuplicateExtension) as error:
        raise UserError(f"{flag} {path} holds a damaged certificate: {str(error)[:100]}") from error
    return certificates


def _read(path: str, flag: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{flag} {path}: there is no such file; `python -m fedkeras certs` makes them") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{flag} {path} cannot be read: {getattr(error, 'strerror', error)}") from error


def _private_key(content: bytes, path: str) -> PrivateKeyTypes:
    if b"PRIVATE KEY-----" not in content:
        what = "a certificate" if b"-----BEGIN CERTIFICATE-----" in content else "no PEM file"
        raise UserError(f"--tls-key {path} is {what}; give the private key that belongs to --tls-cert")
    try:
        return load_pem_private_key(content, None)
    except TypeError:
        raise UserError(
            f"--tls-key {path} is encrypted with a password: `openssl pkey -in {path} -out FILE` decrypts it"
        ) from None
    except Exception as error:  # cryptography raises several kinds for keys that it does not know
        raise UserError(f"--tls-key {path} holds a damaged or unknown key: {str(error)[:100]}") from error


def _public(holder: x509.Certificate | PrivateKeyTypes) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _signs(certificate: x509.Certificate) -> bool:
    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints.ca if constraints else certificate.issuer == certificate.subject


def _is_only_authority(certificate: x509.Certificate) -> bool:
    """True if it signs and may do nothing else; a self-signed server's certificate does both."""
    usage = _extension(certificate, x509.KeyUsage)
    return _signs(certificate) and usage is not None and not usage.digital_signature


def _check_usage(certificate: x509.Certificate, path: str, side: str, flag: str = "--tls-cert") -> None:
    usages = _extension(certificate, x509.ExtendedKeyUsage)
    if usages and USAGES[side] not in usages and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usages:
        wanted = f"an authority's that signed the {side}'s" if flag != "--tls-cert" else f"a {side}'s"
        raise UserError(f"{flag} {path} is not a certificate for a {side}: give {wanted}")


def _check_dates(certificates: list[x509.Certificate], what: str) -> None:
    """Judge the one that is valid longest: a file of authorities may hold old ones too."""
    now = datetime.now(UTC)
    clock = f"this machine's clock says {now:%Y-%m-%d %H:%M}"
    valid = [one for one in certificates if one.not_valid_before_utc <= now <= one.not_valid_after_utc]
    last = max(valid or certificates, key=lambda one: one.not_valid_after_utc)
    since, until = last.not_valid_before_utc, last.not_valid_after_utc
    if now < since:
        raise UserError(f"{what} is valid from {since:%Y-%m-%d %H:%M} UTC only, and {clock}")
    if now > until:
        raise UserError(f"{what} expired on {until:%Y-%m-%d}, and {clock}: `python -m fedkeras certs` makes a new one")
    if until - now < timedelta(days=WARN_DAYS):
        log.warning("%s expires on %s: make a new one in time", what, f"{until:%Y-%m-%d}")


def _warn_of_readers(key: str) -> None:
    if os.name == "posix" and stat.S_IMODE(Path(key).stat().st_mode) & 0o077:
        log.warning("--tls-key %s may be read by other users of this machine: chmod 600 %s", key, key)
