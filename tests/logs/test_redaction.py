"""Secrets are taken out of texts, and little else is."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from gatewaykit.logs import Redactor, secrets_in
from gatewaykit.settings import DatabaseSettings, Table

redact = Redactor()


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abcdef.ghi", "abcdef.ghi"),
        ("{'authorization': 'Bearer abcdefghij'}", "abcdefghij"),
        ("[(b'authorization', b'Basic dXNlcjpwYXNz')]", "dXNlcjpwYXNz"),
        ("[(b'x-api-key', b'hello1234')]", "hello1234"),
        ("GET https://user:pa55w0rd@host/x", "pa55w0rd"),
        ("redis://:hunter2@host:6379/0 is away", "hunter2"),
        ("https://host/x?api_key=abcd&y=1", "abcd"),
        ("key gk_live_0123456789abcdefABCDEF was wrong", "gk_live_0123456789abcdefABCDEF"),
        ("sk-proj-abcdefghijklmnop1234", "sk-proj-abcdefghijklmnop1234"),
        ("token eyJhbGciOiJ9abc.eyJzdWIiOiJ9.c2lnbmF0dXJl", "eyJzdWIiOiJ9"),
        ("Bearer-eyJhbGciOiJ9abc.eyJzdWIiOiJ9.c2lnbmF0dXJl", "eyJzdWIiOiJ9"),
        ('{"client_secret": "abc-def"}', "abc-def"),
        ('{"client_secret": "abc (def) & \\"ghi\\""}', "ghi"),
        ("{'passphrase': 'correct horse, battery staple'}", "staple"),
        ('{\\"password\\": \\"hunter2 again\\"}', "hunter2"),
        ("POSTGRES_PASSWORD=hunter2", "hunter2"),
        ('{"smtp_password": "hunter2"}', "hunter2"),
        ("aws_secret_access_key: hunter2", "hunter2"),
        ("telegram bot_token=12345:abcdefgh", "12345:abcdefgh"),
        ("GET https://host/x?key=AIzaSyA0123456789abcdefghijklmnopqrstuv", "AIzaSyA0123456789abcdefghijklmnopqrstuv"),
        ("Cookie: language=ru; session=abcdef", "abcdef"),
        ("postgresql://me:p@ssword@host/db", "ssword"),
        ("password=it's", "it"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n", "MIIE"),
        ("x-session-id: 11-22-33", "11-22-33"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, secret: str) -> None:
    """Headers, addresses, keys and tokens lose what makes them valuable."""
    shown = redact(text)
    assert secret not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "text",
    [
        "the token has expired; 12 tokens were used",
        "basic auth is off",
        "provider gigachat failed: TimeoutError",
        "request 0123456789abcdef0123456789abcdef failed",
        "worker 4711 ended (signal 9, Killed); another takes its place",
        "serves at http://127.0.0.1:8080",
        "GET /v1/chat/completions key_id=key_0123456789ab",
        '{"token_type": "Bearer", "max_tokens": 10, "password": ""}',
    ],
)
def test_words_are_left_alone(text: str) -> None:
    """What people need to read stays."""
    assert redact(text) == text


@pytest.mark.parametrize(
    "piece", ["-eyJaaaaaaaa", "eyJ-", "://a:b", "://a:", "sk-", "password ", "bearer ", "-----BEGIN A", 'password=\\"']
)
def test_no_text_takes_long(piece: str) -> None:
    """What a client makes up as a path costs time in proportion to its length, whatever it looks like."""
    began = time.thread_time()
    redact(piece * (64 * 1024 // len(piece)))
    assert time.thread_time() - began < 5


@given(before=st.text(), secret=st.text(min_size=8).filter(lambda text: "*" not in text), after=st.text())
def test_known_secrets_are_nowhere(before: str, secret: str, after: str) -> None:
    """A secret of the settings is masked whatever stands around it."""
    shown = Redactor([secret])(f"{before} {secret} {after}")
    assert secret not in shown.replace("***", "*")


def test_secrets_of_settings_are_found_at_any_depth() -> None:
    """In tables, lists and mappings; a URL's password also by itself, as it is written and as it is meant."""

    class Deep(Table):
        keys: dict[str, SecretStr]
        many: tuple[SecretStr, ...]

    deep = Deep(keys={"a": SecretStr("first-secret")}, many=(SecretStr("second-secret"),))
    database = DatabaseSettings(url=SecretStr("postgresql://me:p%40ssword@host/db"))
    found = set(secrets_in({"deep": deep, "database": database}))
    assert {"first-secret", "second-secret", "p%40ssword", "p@ssword"} <= found


def test_fields_are_masked_by_name() -> None:
    """A field that is called like a secret is masked, and all other texts are redacted, at any depth."""
    fields = redact.fields({"api_key": "x", "n": 3, "headers": {"cookie": "a=b", "list": ["Bearer abcdefgh", None]}})
    assert fields == {"api_key": "***", "n": 3, "headers": {"cookie": "***", "list": ["Bearer ***", None]}}
    assert redact.fields({"db_password": "x", "bot-token": "y", "tokens": 3}) == {
        "db_password": "***",
        "bot-token": "***",
        "tokens": 3,
    }
