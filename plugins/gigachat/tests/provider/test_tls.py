"""Certificates: whom the provider trusts, what it shows, and what it says when that is not enough."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import ValidationError

from gatewaykit.errors import ProviderUnavailable
from gatewaykit.types import Target
from gatewaykit_gigachat.provider import GigaChat
from gatewaykit_gigachat.sandbox import B2B, SandboxSettings, TlsFiles
from gatewaykit_gigachat.settings import GigaChatSettings

MODEL = Target("gigachat", "GigaChat-2-Max")


@pytest.fixture
def authority() -> trustme.CA:
    """An authority that no system trusts."""
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> Path:
    """Its certificate in PEM."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def written(cert: trustme.LeafCert, folder: Path, name: str) -> tuple[Path, Path]:
    """The chain and the key of a certificate, in two files."""
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
    cert.private_key_pem.write_to_path(key)
    return chain, key


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> TlsFiles:
    """The sandbox speaks HTTPS with a certificate of the authority."""
    return TlsFiles(*written(authority.issue_cert("127.0.0.1"), tmp_path, "server"))


async def test_an_unknown_authority_is_refused_and_explained(bench: Any) -> None:
    """Without a bundle neither token nor call goes through; the log's detail names the setting; nothing is retried."""
    provider = bench.provider()
    with pytest.raises(ProviderUnavailable, match=r"gigachat\.ca_bundle_file") as caught:
        await provider.complete(bench.call(), MODEL)
    assert not caught.value.retryable
    assert "ca_bundle_file" not in caught.value.message
    with pytest.raises(ProviderUnavailable, match=r"gigachat\.ca_bundle_file"):
        await bench.events(bench.provider(access_token="t"), bench.call())
    assert not bench.sandbox.stats.requests


async def test_the_bundle_is_trusted_for_everything_of_this_provider(bench: Any, bundle: Path) -> None:
    """With the bundle token, chat, stream and models work; another provider in the process trusts it no more."""
    provider = bench.provider(ca_bundle_file=bundle)
    reply = await provider.complete(bench.call(), MODEL)
    assert reply.choices[0].text.startswith("word1")
    assert await bench.events(provider, bench.call())
    assert await provider.models()
    with pytest.raises(ProviderUnavailable):
        await bench.provider().models()


def test_where_nothing_has_tls_no_authorities_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading those of the system takes a tenth of a second of every start."""
    monkeypatch.delattr(ssl, "create_default_context")
    here = {"base_url": "http://127.0.0.1:9/api/v1", "auth_url": "http://127.0.0.1:9/api/v2/oauth"}
    assert GigaChat(GigaChatSettings(**here, credentials="bWU6bWU="))
    with pytest.raises(AttributeError):
        GigaChat(GigaChatSettings(credentials="bWU6bWU=", verify_tls=False))


async def test_the_name_is_checked_too(bench: Any, bundle: Path) -> None:
    """A trusted authority does not help a server that goes by another name."""
    elsewhere = bench.sandbox.base_url.replace("127.0.0.1", "localhost")
    with pytest.raises(ProviderUnavailable, match="not accepted"):
        await bench.provider(ca_bundle_file=bundle, base_url=elsewhere, access_token="t").models()


async def test_verification_is_off_only_by_the_switch_and_loudly(bench: Any, logged: list[str]) -> None:
    """``verify_tls = false`` lets any certificate pass and logs a warning when the provider is made."""
    bench.provider()
    assert not logged
    provider = bench.provider(verify_tls=False)
    assert any("WARNING" in line and "verify_tls" in line and "NOT checked" in line for line in logged)
    assert (await provider.complete(bench.call(), MODEL)).choices[0].text


class TestClientCertificate:
    """The sandbox demands a client certificate and serves without a token."""

    @pytest.fixture
    def sandbox_settings(self) -> SandboxSettings:
        return SandboxSettings(anonymous_scope=B2B)

    @pytest.fixture
    def tls(self, tls: TlsFiles, bundle: Path) -> TlsFiles:
        return TlsFiles(tls.certificate, tls.key, client_ca=bundle)

    @pytest.mark.parametrize("password", [None, "opens the key"])
    async def test_it_is_shown_and_nothing_else(
        self, bench: Any, authority: trustme.CA, bundle: Path, tmp_path: Path, password: str | None
    ) -> None:
        """A certificate alone, its key locked or not, is let in without an Authorization header."""
        cert, key = written(authority.issue_cert("gateway.example"), tmp_path, "client")
        fields: dict[str, Any] = {"cert_file": cert, "key_file": key}
        if password:
            locked = BestAvailableEncryption(password.encode())
            plain = load_pem_private_key(key.read_bytes(), None)
            key.write_bytes(plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
            fields["key_file_password"] = password
        provider = bench.provider(ca_bundle_file=bundle, **fields)
        assert (await provider.complete(bench.call(), MODEL)).choices[0].text
        assert await provider.models()
        assert bench.sandbox.stats.tokens_issued == 0
        assert not any("authorization" in entry.headers for entry in bench.sandbox.journal.entries())

    async def test_without_one_nobody_is_let_in(self, bench: Any, bundle: Path) -> None:
        """A missing client certificate is ProviderUnavailable, on both HTTP clients."""
        provider = bench.provider(ca_bundle_file=bundle, access_token="t", max_retries=0)
        with pytest.raises(ProviderUnavailable):
            await provider.complete(bench.call(), MODEL)
        with pytest.raises(ProviderUnavailable):
            await provider.models()
        assert not bench.sandbox.stats.requests

    async def test_it_goes_together_with_a_key(
        self, bench: Any, authority: trustme.CA, bundle: Path, tmp_path: Path
    ) -> None:
        """Where both are wanted, the certificate is shown and the token is sent."""
        cert, key = written(authority.issue_cert("gateway.example"), tmp_path, "client")
        provider = bench.provider(
            ca_bundle_file=bundle, cert_file=cert, key_file=key, credentials=bench.sandbox.key(B2B), scope=B2B
        )
        assert (await provider.complete(bench.call(), MODEL)).choices[0].text
        assert bench.sandbox.stats.tokens_issued == 1


@pytest.fixture
def strict_server(authority: trustme.CA, tls: TlsFiles, bundle: Path) -> Iterator[str]:
    """The address of a server that asks for a client certificate and says so when there is none, as OpenSSL does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    context.load_verify_locations(bundle)
    context.verify_mode = ssl.CERT_REQUIRED
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(10)

    def refuse_one() -> None:
        connection, _ = listening.accept()
        connection.settimeout(10)
        with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as secured:
            with suppress(ssl.SSLError):
                secured.do_handshake()
            raw = socket.socket(fileno=secured.detach())
        with raw, suppress(OSError):
            while raw.recv(4096):
                pass

    thread = threading.Thread(target=refuse_one)
    thread.start()
    yield f"https://127.0.0.1:{listening.getsockname()[1]}/v1"
    thread.join(10)
    listening.close()


async def test_a_server_that_wants_a_certificate_is_explained(bench: Any, strict_server: str, bundle: Path) -> None:
    """The server's demand for a client certificate is told as the setting to make, and is not retried."""
    provider = bench.provider(base_url=strict_server, ca_bundle_file=bundle, access_token="t")
    with pytest.raises(ProviderUnavailable, match=r"gigachat\.cert_file") as caught:
        await provider.complete(bench.call(), MODEL)
    assert not caught.value.retryable


def test_files_that_are_not_what_they_should_be(authority: trustme.CA, tmp_path: Path) -> None:
    """Each unusable file is refused when the settings are read, with the setting's name and without a prompt."""
    cert, key = written(authority.issue_cert("a.example"), tmp_path, "a")
    _, foreign = written(authority.issue_cert("b.example"), tmp_path, "b")
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        load_pem_private_key(key.read_bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"right")
        )
    )
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    for fields, told in (
        ({"ca_bundle_file": empty}, "ca_bundle_file holds no certificates"),
        ({"ca_bundle_file": tmp_path / "absent"}, "ca_bundle_file\n.*(?i:no such file)"),
        ({"ca_bundle_file": tmp_path}, "(?i:is a directory)"),
        ({"cert_file": cert}, "must hold the private key too"),
        ({"key_file": key}, "need cert_file"),
        ({"cert_file": cert, "key_file": foreign}, "do not belong together"),
        ({"cert_file": cert, "key_file": empty}, "not in PEM"),
        ({"cert_file": cert, "key_file": locked}, "key_file_password"),
        ({"cert_file": cert, "key_file": locked, "key_file_password": "wrong"}, "key_file_password"),
    ):
        with pytest.raises(ValidationError, match=told):
            GigaChatSettings(**fields)
    assert GigaChatSettings(cert_file=cert, key_file=locked, key_file_password="right").kind == "certificate"


def test_one_file_may_hold_both(authority: trustme.CA, tmp_path: Path) -> None:
    """A certificate file with its key inside needs no key file."""
    both = tmp_path / "both.pem"
    authority.issue_cert("a.example").private_key_and_cert_chain_pem.write_to_path(both)
    assert GigaChatSettings(cert_file=both).kind == "certificate"
