"""What a Go program says of a connection that fails. Clients of Kubernetes' parts know these words, and users see them."""

from __future__ import annotations

import re
import ssl

_UNTRUSTED = (7, 18, 19, 20, 21)
_EXPIRED = (9, 10)
_ADDRESS = re.compile(r"\('([^']+)', (\d+)")


def of_certificate(problem: ssl.SSLCertVerificationError, host: str) -> str:
    """A server's certificate that was not believed."""
    code = problem.verify_code
    if code in _UNTRUSTED:
        why = "certificate signed by unknown authority"
    elif code in _EXPIRED:
        why = "certificate has expired or is not yet valid"
    elif code in (62, 64):
        why = f"certificate is not valid for {host}"
    else:
        why = problem.verify_message
    return f"tls: failed to verify certificate: x509: {why}"


def words(problem: OSError, host: str, address: tuple[str, int] | None = None) -> str:
    """An error of aiohttp's transport. ``address``: where the name was found to be, as far as that is known."""
    import aiohttp

    if isinstance(problem, aiohttp.ClientConnectorCertificateError):
        error = problem.certificate_error
        return of_certificate(error, host) if isinstance(error, ssl.SSLCertVerificationError) else str(error)
    if isinstance(problem, aiohttp.ClientConnectorSSLError):
        return "tls: first record does not look like a TLS handshake"
    if isinstance(problem, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {host}: no such host"
    if not isinstance(problem, aiohttp.ClientConnectorError):
        return str(problem)
    inner = problem.os_error
    if address is None:
        tried = _ADDRESS.search(str(inner))
        address = (tried[1], int(tried[2])) if tried else (host, problem.port or 0)
    at = f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
    refused = isinstance(inner, ConnectionRefusedError) or "refused" in str(inner).lower()
    return f"dial tcp {at}: connect: {'connection refused' if refused else (inner.strerror or str(inner)).lower()}"
