"""Whom GigaChat's connections trust, and what they show of themselves.

The public hosts present certificates of the Russian Trusted Root CA, which is in no common trust store. A bundle is
trusted by the connections made with this context and by nothing else in the process.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from gatewaykit.errors import ProviderUnavailable


class TlsRefused(ProviderUnavailable):
    """The two sides did not accept each other's certificates; asking again cannot help."""

    retryable = False


def make_context(
    *, bundle: Path | None, cert: Path | None, key: Path | None, key_password: str | None, verify: bool
) -> ssl.SSLContext:
    """The system's authorities and those of ``bundle``; ``cert`` and ``key`` are shown to servers that ask.

    Raises :class:`ValueError` naming the setting whose file is not what it should be.
    """
    context = ssl.create_default_context()
    if bundle is not None:
        load_bundle(context, bundle)
    if cert is not None:
        load_chain(context, cert, key, key_password)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def load_bundle(context: ssl.SSLContext, bundle: Path) -> None:
    """Trust the certificates of a PEM file. Raises :class:`ValueError`."""
    try:
        context.load_verify_locations(bundle)
    except (ssl.SSLError, OSError) as error:
        raise ValueError("ca_bundle_file holds no certificates in PEM") from error


def load_chain(context: ssl.SSLContext, cert: Path, key: Path | None, password: str | None) -> None:
    """Show this certificate and prove it by its key. Raises :class:`ValueError`; never asks at the terminal."""
    try:
        context.load_cert_chain(cert, key, lambda: password or "")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ValueError(_chain_fault(error, key, password)) from error


def explained(error: ProviderUnavailable) -> ProviderUnavailable:
    """``error``, or what an operator must do where certificates caused it."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError) and (reason := getattr(cause, "verify_message", "")):
            return TlsRefused(
                detail=f"TLS: the server's certificate was not accepted ({reason.rstrip('.')}): "
                "set gigachat.ca_bundle_file to a PEM file with the authority that issued it"
            )
        if isinstance(cause, ssl.SSLError) and "CERTIFICATE_REQUIRED" in (getattr(cause, "reason", None) or ""):
            return TlsRefused(
                detail="TLS: the server wants a client certificate: set gigachat.cert_file and gigachat.key_file"
            )
    return error


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop()
        if cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            waiting += [cause.__context__, cause.__cause__]


def _chain_fault(error: Exception, key: Path | None, password: str | None) -> str:
    reason = getattr(error, "reason", None) or ""
    if "MISMATCH" in reason:
        return "cert_file and key_file do not belong together"
    if "DECRYPT" in reason or "PASSWORD" in reason:
        return (
            "key_file_password does not open the private key" if password else "the private key needs key_file_password"
        )
    if key is None:
        return "cert_file without key_file must hold the private key too, both in PEM"
    return "cert_file or key_file is not in PEM, or the private key needs another key_file_password"
