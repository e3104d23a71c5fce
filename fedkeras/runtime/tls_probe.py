"""A look at a server with Python's own TLS: the certificate that it shows, and why no connection comes about.

Python's gRPC shows a client no certificate, and of a failure it says no more than "not ready".
"""

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509

from fedkeras.errors import UserError
from fedkeras.runtime.certificates import names_in
from fedkeras.runtime.passphrase import Access, NeedsPassphrase

NOT_YET_VALID, EXPIRED, WRONG_NAME, WRONG_ADDRESS = 9, 10, 62, 64
"""OpenSSL's X509_V_ERR_..."""

UNKNOWN_AUTHORITY = (2, 7, 18, 19, 20, 21)

NO_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")

Found = TypeVar("Found")


class Unreachable(Exception):
    """There is no connection now; there may be one later."""


class Unfit(UserError):
    """This client and what answers now cannot agree on how to connect; the line says what to do."""


def fetch_certificate(host: str, port: int, access: Access, timeout: float) -> bytes:
    """The certificate (its first, DER) that the server at host:port shows now.

    With a `tls_ca` its authority, name and dates are checked; else it is anybody's, and worth nothing before a login
    has shown whose it is. Raises Unfit for a reason that is found, else Unreachable.
    """
    found = _in_time(_Probe(host, port, access, timeout).fetch, timeout)
    if found is None:
        raise Unreachable(f"nothing answered within {timeout:g} s")
    if isinstance(found, Exception):
        raise found
    return found


def diagnose(host: str, port: int, access: Access, certificate: bytes, timeout: float = 5.0) -> UserError | None:
    """Why a connection by gRPC to host:port fails, in one line that says what to do; None if no reason is found.

    `certificate` is what was pinned (DER), empty for a connection without TLS. Connects up to twice.
    """
    return _in_time(lambda: _Probe(host, port, access, timeout).diagnosis(certificate), timeout)


def _in_time(look: Callable[[], Found], timeout: float) -> Found | None:
    """The result of `look`, or None after `timeout` seconds.

    In a thread, because looking up a name has no time-out: it is abandoned then, and ends when the look-up does.
    """
    found: queue.SimpleQueue[Found] = queue.SimpleQueue()
    threading.Thread(target=lambda: found.put(look()), name="fedkeras-probe", daemon=True).start()
    try:
        return found.get(timeout=timeout)
    except queue.Empty:
        return None


class _Probe:
    """One look at one server, for so many seconds. Its two looks raise nothing."""

    def __init__(self, host: str, port: int, access: Access, timeout: float) -> None:
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        self._host, self._port, self._access = bare, port, access
        self._address = f"{f'[{bare}]' if ':' in bare else bare}:{port}"
        self._server, self._deadline = f"the server at {self._address}", time.monotonic() + timeout

    def fetch(self) -> bytes | Exception:
        """The result of `fetch_certificate`, or what it raises."""
        try:
            context = self._context()
        except OSError as error:
            return Unfit(f"the files of --tls-ca, --tls-cert and --tls-key cannot be used: {error}")
        try:
            with self._shake(context) as connection:
                if connection.selected_alpn_protocol() != "h2":
                    return self._not_grpc()
                return connection.getpeercert(binary_form=True)
        except ssl.SSLCertVerificationError as error:
            return self._distrusted(error)
        except ssl.SSLError as error:
            return self._failed(_reason(error)) or Unreachable(str(error))
        except (OSError, ValueError) as error:  # nothing listens, no such name, too late; ValueError: no name at all
            return Unreachable(str(error))

    def diagnosis(self, certificate: bytes) -> UserError | None:
        """The result of `diagnose`."""
        try:
            return self._of_tls(certificate) if certificate else self._of_plaintext()
        except (OSError, ValueError):
            return None

    def _of_plaintext(self) -> UserError | None:
        try:
            self._shake(_trusting()).close()
        except ssl.SSLError as error:
            if "ALERT" not in _reason(error):  # an alert is TLS too
                return None
        if self._access.insecure:
            return Unfit(f"{self._server} encrypts: leave out --insecure, which is for plaintext")
        return NeedsPassphrase(self._address)

    def _of_tls(self, certificate: bytes) -> UserError | None:
        shown = x509.load_der_x509_certificate(certificate)
        since, until, now = shown.not_valid_before_utc, shown.not_valid_after_utc, datetime.now(UTC)
        if not since <= now <= until:
            return Unfit(
                f"the certificate of {self._server} is valid from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC "
                f"only, and {_clock(now)}: set the clock, or make a new one (`python -m fedkeras certs`)"
            )
        try:
            context = self._context()
            # Once more: a server that stops closes the first only.
            return None if self._admits(context) or self._admits(context) else self._refused()
        except ssl.SSLError as error:
            return self._failed(_reason(error))

    def _admits(self, context: ssl.SSLContext) -> bool:
        """False if the server closes right after the handshake, which is how TLS 1.3 refuses a client's certificate.

        A gRPC server speaks first: it sends its settings, else it closes without an alert.
        """
        with self._shake(context) as connection:
            connection.settimeout(self._left())
            try:
                return bool(connection.recv(1))
            except ConnectionError:
                return False

    def _failed(self, reason: str) -> Unfit | None:
        if reason in NO_TLS:
            return self._does_not_encrypt()
        if "ALERT" not in reason:
            return None
        if "APPLICATION_PROTOCOL" in reason:
            return self._not_grpc()
        if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason or "HANDSHAKE_FAILURE" in reason:
            return self._refused()
        return Unfit(f"{self._server} refuses to encrypt with this client: {reason.lower().replace('_', ' ')}")

    def _does_not_encrypt(self) -> Unfit:
        if self._access.tls_ca:
            return Unfit(f"{self._server} does not encrypt: leave out --tls-ca, or start it with --tls-cert")
        if self._access.passphrase is None:
            return Unfit(f"{self._server} does not encrypt: give it a passphrase; --insecure is for plaintext")
        return Unfit(
            f"{self._server} does not encrypt, so it asks for no passphrase, is an older version, or was started with "
            "--insecure: start this version of it with --passphrase-file and without --insecure"
        )

    def _not_grpc(self) -> Unfit:
        return Unfit(f"{self._server} encrypts, but does not speak gRPC: is it the right port?")

    def _refused(self) -> Unfit:
        if own := self._access.tls_cert:
            return Unfit(
                f"{self._server} does not accept --tls-cert {own}: it must be signed by the server's --tls-client-ca"
            )
        return Unfit(
            f"{self._server} closes the connection, so it demands a client's certificate: ask for one and give "
            "--tls-cert and --tls-key"
        )

    def _distrusted(self, error: ssl.SSLCertVerificationError) -> Exception:
        code, ca = error.verify_code, self._access.tls_ca
        if code in UNKNOWN_AUTHORITY:
            return Unfit(
                f"the certificate of {self._server} was not signed by --tls-ca {ca}: ask for its authority's ca.pem"
            )
        try:
            certificate = self._certificate()
        except (OSError, ValueError) as gone:
            return Unreachable(str(gone))
        if code in (WRONG_NAME, WRONG_ADDRESS):
            names = ", ".join(names_in(certificate)) or "no name at all"
            return Unfit(f"the certificate of {self._server} is for {names}, not for {self._host}: use one of these")
        now = datetime.now(UTC)
        if code == EXPIRED:
            until = certificate.not_valid_after_utc
            whose = f"expired on {until:%Y-%m-%d}" if until < now else "has an authority that expired"
            return Unfit(
                f"the certificate of {self._server} {whose}, and {_clock(now)}: it needs a new one (`python -m "
                "fedkeras certs`), or this machine the time"
            )
        if code == NOT_YET_VALID:
            since = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M}"
            return Unfit(f"the certificate of {self._server} is valid from {since} UTC only, and {_clock(now)}")
        return Unfit(f"the certificate of {self._server} is not good for a server: {error.verify_message}")

    def _certificate(self) -> x509.Certificate:
        with self._shake(_trusting()) as connection:
            return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))

    def _context(self) -> ssl.SSLContext:
        """What this client is started with: its authority, if any, and its own certificate."""
        context = _grpc_context() if self._access.tls_ca else _trusting()
        if self._access.tls_ca:
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as gRPC does
            context.load_verify_locations(self._access.tls_ca)
        if self._access.tls_cert:
            # The password of an encrypted key is not asked for: gRPC cannot use it either.
            context.load_cert_chain(self._access.tls_cert, self._access.tls_key or None, password=lambda: "")
        return context

    def _shake(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        plain = self._connect()
        try:
            plain.settimeout(self._left())
            return context.wrap_socket(plain, server_hostname=self._host)
        finally:
            plain.close()  # wrap_socket has taken over what is inside

    def _connect(self) -> socket.socket:
        """To the first of the name's addresses that answers; one that does not has its share of the time alone."""
        addresses = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        refusal = OSError("the name has no address")
        for left, (family, kind, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(self._left() / left)
                plain.connect(address)
                return plain
            except OSError as error:
                plain.close()
                refusal = error
        raise refusal

    def _left(self) -> float:
        if (left := self._deadline - time.monotonic()) <= 0:
            raise TimeoutError("too late")
        return left


def _clock(now: datetime) -> str:
    return f"this machine's clock says {now:%Y-%m-%d %H:%M}"


def _reason(error: ssl.SSLError) -> str:
    """Such as TLSV1_ALERT_NO_APPLICATION_PROTOCOL, for which Python has no name, only a text."""
    return error.reason or str(error).partition("] ")[2].partition(" (")[0].upper().replace(" ", "_")


def _grpc_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    return context


def _trusting() -> ssl.SSLContext:
    """A context that checks nothing."""
    context = _grpc_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
