"""TLS to the upstream: whether a session came to its end, and what is wrong with one, in words."""

import asyncio
import ssl
from typing import Final

_UNTRUSTED: Final = frozenset({18, 19, 20, 21})
"""X509_V_ERR_*: signed by itself, or by nobody who is known here."""
_ELSEWHERE: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH."""

_TRUST: Final = "SSL_CERT_FILE names the authorities to trust, and is read at the start"
_NO_TLS: Final = "it speaks no TLS; without TLS, SCIM_UPSTREAM_URL begins with http://"
_OLD_TLS: Final = "it speaks no TLS of version 1.2 or newer"
_REASONS: Final = {
    "HTTP_REQUEST": _NO_TLS,
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": _OLD_TLS,
    "TLSV1_ALERT_PROTOCOL_VERSION": _OLD_TLS,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a client's certificate, and there is none here",
}
"""By what OpenSSL calls them."""

NO_END: Final = "the upstream hung up, and did not end TLS before (close_notify)"


def is_ended(transport: asyncio.Transport) -> bool:
    """Whether the peer of a connection that gives no more said itself that this is all.

    Anybody on the way can end a connection of TCP; the end of a session of TLS is the peer's word
    (close_notify, RFC 8446 §6.1). What it sent must have been read. True without TLS.
    """
    session: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if session is None:
        return True
    try:
        return session.read(1) == b""
    except ssl.SSLError:  # it would wait for more
        return False


def told(error: Exception) -> str:
    """What ended a connection, and the remedy where we know one; nothing of what was sent."""
    if not isinstance(error, ssl.SSLError):
        reason = error.strerror if isinstance(error, OSError) else None
        return f"the connection was cut off: {reason or type(error).__qualname__}"
    if not isinstance(error, ssl.SSLCertVerificationError):
        return _REASONS.get(error.reason, f"TLS with it failed: {error.reason}")
    text = f"its certificate is not good: {error.verify_message.removesuffix('.')}"
    if error.verify_code in _UNTRUSTED:
        return f"{text}; {_TRUST}"
    if error.verify_code in _ELSEWHERE:
        return f"{text}; SCIM_UPSTREAM_URL needs a name that the certificate has"
    return text
