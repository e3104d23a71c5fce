"""Why a client cannot connect: gRPC says no more than "not ready", so the handshake is tried with Python's own TLS."""

import queue
import socket
import ssl
import threading
import time
from datetime import UTC, datetime

from cryptography import x509

from fedkeras.runtime.certificates import names_in
from fedkeras.runtime.passphrase import Access

NOT_YET_VALID, EXPIRED, WRONG_NAME, WRONG_ADDRESS = 9, 10, 62, 64
"""OpenSSL's X509_V_ERR_..."""

UNKNOWN_AUTHORITY = (2, 7, 18, 19, 20, 21)

NO_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")


def diagnose(host: str, port: int, access: Access, timeout: float = 5.0) -> str | None:
    """Why this client and the server at host:port cannot agree on encryption, in one line that says what to do.

    None if nothing wrong is found, nothing answers, or `timeout` seconds were not enough. Connects up to three times.
    """
    found: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    probe = _Probe(bare, port, access, time.monotonic() + timeout)
    # A thread, because looking up a name has no time-out: it is abandoned then, and ends when the look-up does.
    threading.Thread(target=lambda: found.put(probe.result()), name="fedkeras-diagnosis", daemon=True).start()
    try:
        return found.get(timeout=timeout)
    except queue.Empty:
        return None


class _Probe:
    """One look at one server, until the deadline (of time.monotonic)."""

    def __init__(self, host: str, port: int, access: Access, deadline: float) -> None:
        self._host, self._port, self._access, self._deadline = host, port, access, deadline
        self._server = f"the server at {f'[{host}]' if ':' in host else host}:{port}"

    def result(self) -> str | None:
        """The result of `diagnose`; raises nothing."""
        try:
            return self._as_tls_client() if self._access.tls_ca else self._as_plain_client()
        except (OSError, ValueError):  # nothing listens, no such name, too late; ValueError: no name at all
            return None

    def _as_plain_client(self) -> str | None:
        try:
            self._shake(_trusting()).close()
        except ssl.SSLError as error:
            if "ALERT" not in _reason(error):  # an alert is TLS too
                return None
        return f"{self._server} encrypts: give the authority that signed its certificate with --tls-ca"

    def _as_tls_client(self) -> str | None:
        try:
            context = self._checking()
        except OSError as error:
            return f"the files of --tls-ca, --tls-cert and --tls-key cannot be used: {error}"
        try:
            if self._admits(context) or self._admits(context):  # once more: a server that stops closes the first only
                return None
        except ssl.SSLCertVerificationError as error:
            return self._distrusted(error)
        except ssl.SSLError as error:
            return self._failed(_reason(error))
        except _NotGrpc:
            return f"{self._server} encrypts, but does not speak gRPC: is it the right port?"
        return self._refused()

    def _admits(self, context: ssl.SSLContext) -> bool:
        """False if the server closes right after the handshake, which is how TLS 1.3 refuses a client's certificate.

        A gRPC server speaks first: it sends its settings, else it closes without an alert.
        """
        with self._shake(context) as connection:
            if connection.selected_alpn_protocol() != "h2":
                raise _NotGrpc
            connection.settimeout(self._left())
            try:
                return bool(connection.recv(1))
            except ConnectionError:
                return False

    def _failed(self, reason: str) -> str | None:
        if reason in NO_TLS:
            return f"{self._server} does not encrypt: leave out --tls-ca, or start it with --tls-cert and --tls-key"
        if "ALERT" not in reason:
            return None
        if "APPLICATION_PROTOCOL" in reason:
            return f"{self._server} encrypts, but does not speak gRPC: is it the right port?"
        if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason or "HANDSHAKE_FAILURE" in reason:
            return self._refused()
        return f"{self._server} refuses to encrypt with this client: {reason.lower().replace('_', ' ')}"

    def _refused(self) -> str:
        if own := self._access.tls_cert:
            return f"{self._server} does not accept --tls-cert {own}: it must be signed by the server's --tls-client-ca"
        return (
            f"{self._server} closes the connection, so it demands a client's certificate: ask for one and give "
            "--tls-cert and --tls-key"
        )

    def _distrusted(self, error: ssl.SSLCertVerificationError) -> str:
        code, ca = error.verify_code, self._access.tls_ca
        if code in UNKNOWN_AUTHORITY:
            return f"the certificate of {self._server} was not signed by --tls-ca {ca}: ask for its authority's ca.pem"
        certificate = self._certificate()
        if code in (WRONG_NAME, WRONG_ADDRESS):
            names = ", ".join(names_in(certificate)) or "no name at all"
            return f"the certificate of {self._server} is for {names}, not for {self._host}: use one of these names"
        now = datetime.now(UTC)
        if code == EXPIRED:
            until = certificate.not_valid_after_utc
            whose = f"expired on {until:%Y-%m-%d}" if until < now else "has an authority that expired"
            return f"the certificate of {self._server} {whose}: it needs a new one (`python -m fedkeras certs`)"
        if code == NOT_YET_VALID:
            since = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M}"
            clock = f"this machine's clock says {now:%Y-%m-%d %H:%M}"
            return f"the certificate of {self._server} is valid from {since} UTC only, and {clock}"
        return f"the certificate of {self._server} is not good for a server: {error.verify_message}"

    def _certificate(self) -> x509.Certificate:
        with self._shake(_trusting()) as connection:
            return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))

    def _checking(self) -> ssl.SSLContext:
        context = _context()
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as gRPC does
        context.load_verify_locations(self._access.tls_ca)
        if self._access.tls_cert:
            # The password of an encrypted key is not asked for: gRPC cannot use it either.
            context.load_cert_chain(self._access.tls_cert, self._access.tls_key or None, password=lambda: "")
        return context

    def _shake(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        plain = socket.create_connection((self._host, self._port), timeout=self._left())
        try:
            plain.settimeout(self._left())
            return context.wrap_socket(plain, server_hostname=self._host)
        finally:
            plain.close()  # wrap_socket has taken over what is inside

    def _left(self) -> float:
        if (left := self._deadline - time.monotonic()) <= 0:
            raise TimeoutError
        return left


class _NotGrpc(Exception):
    """The server agreed to TLS, but not to HTTP/2."""


def _reason(error: ssl.SSLError) -> str:
    """Such as TLSV1_ALERT_NO_APPLICATION_PROTOCOL, for which Python has no name, only a text."""
    return error.reason or str(error).partition("] ")[2].partition(" (")[0].upper().replace(" ", "_")


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    return context


def _trusting() -> ssl.SSLContext:
    """A context that checks nothing; only the handshake is sent with it."""
    context = _context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
