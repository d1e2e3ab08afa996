"""When the server's certificate ends."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.certificates import ends, next_end
from gatewaykit.testing import gateway_client, make_gateway

SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=20)


def chain(expires: datetime = SOON) -> bytes:
    """A server's certificate and what it was signed with, in PEM."""
    issued = trustme.CA().issue_cert("gateway.example", not_after=expires)
    return b"".join(blob.bytes() for blob in issued.cert_chain_pems)


@pytest.mark.parametrize(
    "expires", [SOON, datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2150, 1, 1, tzinfo=UTC)]
)
def test_end_is_read_as_openssl_reads_it(tmp_path: Path, expires: datetime) -> None:
    """The first certificate of the file counts, before and after the year 2050, when the form of times changes."""
    file = tmp_path / "chain.pem"
    file.write_bytes(b"a word before\n" + chain(expires))
    assert ends(file) == expires.timestamp()


@given(st.data())
def test_what_is_no_certificate_has_no_end(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Damaged, cut or none at all: nothing is known, and nothing is raised."""
    file = tmp_path_factory.getbasetemp() / "damaged.pem"
    der = ssl.PEM_cert_to_DER_cert(
        CHAIN.decode().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----"
    )
    broken = der[: data.draw(st.integers(0, 200))] + data.draw(st.binary(max_size=50))
    file.write_text(ssl.DER_cert_to_PEM_cert(broken))
    assert ends(file) is None
    file.write_bytes(data.draw(st.binary(max_size=100)))
    assert ends(file) is None
    assert ends(file.with_name("missing")) is None


CHAIN = chain()


def test_the_next_of_a_bundle_to_end_counts(tmp_path: Path) -> None:
    """Not the first of the file, nor one that ended long ago; damaged ones are passed over."""
    now = SOON - timedelta(days=20)
    moments = [now + timedelta(days=days) for days in (400, -400, 30)]
    certificates = [chain(moment).partition(b"-----END CERTIFICATE-----\n") for moment in moments]
    file = tmp_path / "bundle.pem"
    damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    file.write_bytes(damaged + b"".join(first + end for first, end, _ in certificates))
    assert next_end(file, now.timestamp()) == moments[2].timestamp()
    assert next_end(file, moments[0].timestamp()) is None
    assert next_end(tmp_path / "missing", 0) is None


async def test_end_of_the_server_s_certificate_is_measured(tmp_path: Path) -> None:
    """A gateway with TLS tells when its certificate ends."""
    issued = trustme.CA().issue_cert("gateway.example", not_after=SOON)
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "all.pem")
    async with gateway_client(make_gateway(server={"tls_certfile": str(tmp_path / "all.pem")})) as client:
        text = (await client.get("/metrics", headers={"authorization": ""})).text
    (line,) = [line for line in text.splitlines() if line.startswith("gatewaykit_certificate_expires_seconds ")]
    assert float(line.split()[1]) == SOON.timestamp()
