"""Redeeming codes and refresh tokens, each once: whoever's conditional UPDATE finds the row unused is the one.

What cannot be redeemed is None, whatever the reason; nothing of it is burnt by a wrong verifier or another client. What
was redeemed before, by somebody who knew all the rest, ends the grant: one of the two is a thief.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from datetime import timedelta

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from msgspec import Struct, structs
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ..keys.audit import take_turn
from ..keys.model import Actor
from .grants import Office, Wanted, add_refresh_token, changed, end_grant, issue, open_grant, usable
from .model import Client, Issued
from .sealing import key_of_token, seal, unseal
from .tables import ClientRow, CodeRow, GrantRow, RefreshTokenRow

_ABOUT = "successor"
Narrow = Callable[[Sequence[str], Sequence[str]], tuple[tuple[str, ...], tuple[str, ...]]]
"""From the scopes and resources that were granted to those that a request asks for; it raises for more than that."""


class Presented(Struct, frozen=True):
    """A code as a client presents it."""

    code: str
    verifier: str
    redirect_uri: str | None
    thumbprint: str | None


class Reused(Struct, frozen=True):
    """A refresh token that was spent before: its grant has to end."""

    grant: str


def redeem_code(
    session: Session, actor: Actor, client: Client, given: Presented, narrow: Narrow, office: Office
) -> Issued | None:
    """The tokens of a code."""
    take_turn(session)
    row = session.scalar(select(CodeRow).where(CodeRow.digest.in_(office.secrets.digests(given.code))))
    if row is None or not _is_for(row, client, given):
        return None
    scopes, audience = narrow(row.scopes, row.resources)
    once = update(CodeRow).where(CodeRow.digest == row.digest, CodeRow.used.is_(None), CodeRow.expires > office.now)
    if not changed(session, once.values(used=office.now)):
        session.refresh(row)
        if row.grant is not None:
            end_grant(session, actor, row.grant, "a code was used twice", office.now)
        return None
    registered = session.get(ClientRow, client.id)
    if registered is None:
        return None
    bound = None if client.confidential else given.thumbprint
    wanted = Wanted(row.account, row.scopes, row.resources, row.access_seconds, bound, row.auth_time)
    grant = open_grant(session, actor, registered, wanted, office)
    if usable(session, grant, office.now, office.now) is None:
        end_grant(session, actor, grant.id, "the account or the client is disabled", office.now)
        return None
    session.execute(update(CodeRow).where(CodeRow.digest == row.digest).values(grant=grant.id))
    made = issue(session, grant, registered, office, scopes=scopes, audience=audience, thumbprint=given.thumbprint)
    return structs.replace(made, nonce=row.nonce)


def refresh(
    session: Session, client: Client, text: str, thumbprint: str | None, narrow: Narrow, office: Office
) -> Issued | Reused | None:
    """The tokens for a refresh token, which is spent by that; its successor is among them. They have the scopes that
    were granted, as far as the client may still ask for them.
    """
    row = session.scalar(select(RefreshTokenRow).where(RefreshTokenRow.digest.in_(office.secrets.digests(text))))
    grant = session.get(GrantRow, row.grant) if row is not None else None
    if row is None or grant is None or grant.client != client.id:
        return None
    if grant.thumbprint is not None and grant.thumbprint != thumbprint:
        return None
    registered = usable(session, grant, row.issued, office.now)
    if registered is None or row.expires <= office.now:
        return None
    granted = [scope for scope in grant.scopes if scope in registered.scopes]
    scopes, audience = narrow(granted, grant.resources)
    if not scopes or not audience:
        return None
    successor = _rotate(session, row, grant, text, office)
    if successor is None:
        return Reused(grant.id)
    grant.last_used = registered.last_used = office.now
    made = issue(
        session, grant, registered, office, scopes=scopes, audience=audience, thumbprint=thumbprint, refresh=False
    )
    return structs.replace(made, refresh_token=successor)


def _is_for(row: CodeRow, client: Client, given: Presented) -> bool:
    challenge = create_s256_code_challenge(given.verifier)
    return (
        row.client == client.id
        and given.redirect_uri in {None, row.redirect_uri}
        and hmac.compare_digest(challenge.encode(), row.challenge.encode())
        and row.thumbprint in {None, given.thumbprint}
    )


def _rotate(session: Session, row: RefreshTokenRow, grant: GrantRow, text: str, office: Office) -> str | None:
    """The next refresh token; once more the same one within the grace, and then None."""
    once = update(RefreshTokenRow).where(RefreshTokenRow.digest == row.digest, RefreshTokenRow.used.is_(None))
    if changed(session, once.values(used=office.now)):
        successor = add_refresh_token(session, grant, office)
        sealed = seal(key_of_token(text), successor.encode(), _ABOUT)
        session.execute(update(RefreshTokenRow).where(RefreshTokenRow.digest == row.digest).values(successor=sealed))
        return successor
    grace = timedelta(seconds=office.settings.refresh_grace_seconds)
    again = update(RefreshTokenRow).where(
        RefreshTokenRow.digest == row.digest, RefreshTokenRow.repeated == 0, RefreshTokenRow.used > office.now - grace
    )
    if not changed(session, again.values(repeated=1)):
        return None
    session.refresh(row)
    found = unseal(key_of_token(text), row.successor or b"", _ABOUT)
    if found is None:
        return None
    digests = office.secrets.digests(found.decode())
    spent = select(RefreshTokenRow.used).where(RefreshTokenRow.digest.in_(digests), RefreshTokenRow.used.is_(None))
    return found.decode() if session.execute(spent).first() is not None else None
