"""What is sealed: read again by whoever has a pepper of then, for the same purpose, and in time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis.strategies import binary
from pyotp import TOTP

from gatewaykit.storage import Storage
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.identity.attempts import new_attempt, sealed, unsealed
from gatewaykit_oauth.keys.model import Account
from gatewaykit_oauth.keys.secrets import Secrets
from gatewaykit_oauth.signin.credentials import set_factor, set_password, use_code
from gatewaykit_oauth.signin.factors import new_secret
from gatewaykit_oauth.signin.sealing import FACTOR, seal, unseal

from .conftest import OPERATOR, PEPPER

NEWER = "a-newer-pepper-of-thirty-two-characters"
SECRETS = Secrets(PEPPER)


def test_it_is_read_again_after_the_pepper_has_changed() -> None:
    """The newest pepper seals, and every older one that is kept still opens."""
    text = seal(SECRETS, FACTOR, "a secret")
    assert b"a secret" not in text
    assert unseal(Secrets(NEWER, [PEPPER]), FACTOR, text) == "a secret"
    assert unseal(Secrets(NEWER), FACTOR, text) is None


def test_for_one_purpose_alone() -> None:
    """What was sealed for one place says nothing at another, though it was made with the same pepper."""
    attempt = new_attempt("example", "/admin", None)
    assert unsealed(SECRETS, sealed(SECRETS, attempt)) == attempt
    assert unseal(SECRETS, FACTOR, sealed(SECRETS, attempt).encode()) is None
    assert unsealed(SECRETS, seal(SECRETS, FACTOR, "{}").decode()) is None


@given(binary())
def test_anything_else_is_nothing(data: bytes) -> None:
    """Whatever a browser hands in is sealed by the gateway, or nothing."""
    assert unseal(SECRETS, FACTOR, data, 60) is None
    assert unsealed(SECRETS, data.decode("utf-8", "surrogateescape")) is None


def test_a_second_factor_passes_on_to_the_newest_pepper(storage: Storage) -> None:
    """Once its code was used, the pepper that it was sealed with can go."""
    secret, now = new_secret(), datetime.now(UTC)
    both = Secrets(NEWER, [PEPPER])
    with storage.transaction() as session:
        put_account(session, OPERATOR, Account(id="ann"))
        set_password(session, OPERATOR, "ann", "a digest", now)
        set_factor(session, OPERATOR, "ann", secret, TOTP(secret).at(now), SECRETS, now)
    for secrets, opens in ((Secrets(NEWER), False), (both, True), (Secrets(NEWER), True)):
        now += timedelta(minutes=1)
        with storage.transaction() as session:
            assert use_code(session, "ann", TOTP(secret).at(now), secrets, now) is opens
