"""The way in: from a name and a password to a session, and all that asks for the password again.

Unknown accounts, disabled ones, services and wrong passwords get one answer, after the same work.
"""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from secrets import token_hex

from msgspec import Struct
from sqlalchemy.orm import Session as Database

from gatewaykit.builtin.auth_throttle import origin
from gatewaykit.errors import AuthFailed, BadRequest

from ..accounts import get_account
from ..keys.api_base import Desk
from ..keys.audit import log
from ..keys.model import Account, Actor
from ..keys.secrets import Secrets
from ..words import N_
from . import links, sessions
from .credentials import Credentials, credentials_of, remove_factor, renew_digest, set_factor, set_password, use_code
from .passwords import LENGTH, LONGEST, Passwords, check_password
from .sessions import Lives, Session
from .throttle import Count, begin_attempt, forgive

REFUSED = N_("Name or password is wrong.")
WRONG_PASSWORD = N_("This is not your password.")
WRONG_CODE = N_("This code is not valid.")
_LONGEST_ID = 64


class Visitor(Struct, frozen=True):
    """Who wants in: where from, with which browser, and the marks that the browser shows."""

    client: str | None
    agent: str
    request_id: str
    browser: str | None = None
    token: str | None = None


class Entrance:
    """Signs people in."""

    def __init__(self, desk: Desk, passwords: Passwords, lives: Lives) -> None:
        self._desk = desk
        self._passwords = passwords
        self._lives = lives

    async def enter(self, account_id: str, password: str, visitor: Visitor) -> Session:
        """A new session; a pending one where a second factor is still to come.

        Raises :class:`~gatewaykit.errors.AuthFailed`, and :class:`~gatewaykit.errors.RateLimited` for one who guesses.
        """
        counts = self._counts(account_id, visitor)
        proved = await self._proved(account_id, password, counts)
        if proved is None:
            raise AuthFailed(REFUSED)

        def begin(database: Database) -> Session:
            now = datetime.now(UTC)
            known = credentials_of(database, account_id, held=True)
            if known is None or known.changed != proved.changed:
                raise AuthFailed(REFUSED)
            forgive(database, counts)
            sessions.drop(database, visitor.token)
            session = sessions.begin(
                database,
                get_account(database, account_id),
                self._lives,
                pending=known.has_factor,
                address=visitor.client,
                agent=visitor.agent,
                now=now,
            )
            if not session.pending:
                log(database, _actor(session, visitor), "session.begin", account_id, now=now)
            return session

        return await self._desk.note(begin)

    async def pass_factor(self, token: str, code: str, visitor: Visitor) -> Session:
        """The session, no longer pending and under a new token.

        Raises :class:`~gatewaykit.errors.AuthFailed`, for a wrong code and for a session that is not pending.
        """
        secrets, now = self._desk.secrets(), datetime.now(UTC)

        def attempt(database: Database) -> Session:
            session = sessions.find(database, token, self._lives, now)
            if session is None or not session.pending:
                raise AuthFailed(REFUSED)
            begin_attempt(database, [Count.of_factor(session.account.id)], now)
            return session

        def begin(database: Database) -> Session | None:
            if not use_code(database, pending.account.id, code, secrets, now):
                return None
            forgive(database, [Count.of_factor(pending.account.id)])
            session = sessions.renew(database, pending, self._lives, now)
            if session is not None:
                log(database, _actor(session, visitor), "session.begin", session.account.id, now=now)
            return session

        pending = await self._desk.note(attempt)
        session = await self._desk.note(begin)
        if session is None:
            raise AuthFailed(WRONG_CODE)
        return session

    async def confirm(self, session: Session, password: str, visitor: Visitor) -> Session:
        """The same session under a new token, fresh again. Raises :class:`~gatewaykit.errors.AuthFailed`."""
        await self._require_password(session, password, visitor)
        now = datetime.now(UTC)
        renewed = await self._desk.note(lambda database: sessions.renew(database, session, self._lives, now))
        if renewed is None:
            raise AuthFailed(REFUSED)
        return renewed

    async def change_password(self, session: Session, old: str, new: str, visitor: Visitor) -> Session:
        """Set a new password; the session gets a new token, and all others end."""
        check_password(new, session.account.id)
        await self._require_password(session, old, visitor)
        known, now = await self._passwords.hashed(new), datetime.now(UTC)

        def change(database: Database) -> Session | None:
            account_id = session.account.id
            set_password(database, _actor(session, visitor), account_id, known, now, session_id=session.id)
            return sessions.renew(database, session, self._lives, now)

        renewed = await self._desk.write(change)
        if renewed is None:
            raise AuthFailed(REFUSED)
        return renewed

    async def follow_link(self, token: str, account: Account, password: str) -> Account:
        """Choose a password by a setup link; ``account`` is that of the first admin, for the first link.

        Raises :class:`~gatewaykit.errors.NotFound` for a link that cannot be followed any more.
        """
        check_password(password, account.id)
        now = datetime.now(UTC)
        await self._desk.read(lambda database: links.require_linked(database, token, now))
        known = await self._passwords.hashed(password)
        return await self._desk.write(lambda database: links.follow(database, token, account, known, now))

    async def add_factor(self, session: Session, secret: str, code: str, visitor: Visitor) -> list[str]:
        """Ask for one-time codes from now on; the recovery codes, which are shown once."""
        secrets, now, account_id = self._desk.secrets(), datetime.now(UTC), session.account.id
        actor = _actor(session, visitor)
        return await self._desk.write(
            lambda database: set_factor(database, actor, account_id, secret, code, secrets, now)
        )

    async def remove_factor(self, session: Session, password: str, visitor: Visitor) -> None:
        """Ask for the password alone from now on. Raises :class:`~gatewaykit.errors.AuthFailed`."""
        await self._require_password(session, password, visitor)
        actor, now = _actor(session, visitor), datetime.now(UTC)
        await self._desk.write(lambda database: remove_factor(database, actor, session.account.id, now))

    def browser_mark(self, account_id: str, known: str | None = None) -> str:
        """What a browser keeps that somebody has signed in with: the same as before, or a new one."""
        if known is not None and _nonce(self._desk.secrets(), account_id, known) is not None:
            return known
        nonce = token_hex(16)
        return f"{nonce}.{self._desk.secrets().digest(_marked(account_id, nonce)).hex()}"

    async def _require_password(self, session: Session, password: str, visitor: Visitor) -> None:
        counts = self._counts(session.account.id, visitor)
        if await self._proved(session.account.id, password, counts) is None:
            raise AuthFailed(WRONG_PASSWORD)
        await self._desk.note(lambda database: forgive(database, counts))

    async def _proved(self, account_id: str, password: str, counts: list[Count]) -> Credentials | None:
        """What was known of the account when this was its password; None if it is not. The attempt is counted as failed
        until it is forgiven.
        """
        if len(password) > LONGEST:
            raise BadRequest(LENGTH, param="password")
        now = datetime.now(UTC)

        def look(database: Database) -> Credentials | None:
            begin_attempt(database, counts, now)
            return credentials_of(database, account_id)

        known = await self._desk.note(look)
        digest = None if known is None else known.password
        if not await self._passwords.verify(digest, password):
            return None
        if digest is not None and (renewed := await self._passwords.renewed(digest, password)) is not None:
            old, new = digest, renewed
            await self._desk.note(lambda database: renew_digest(database, account_id, old, new))
        return known

    def _counts(self, account_id: str, visitor: Visitor) -> list[Count]:
        if len(account_id) <= _LONGEST_ID and visitor.browser is not None:
            nonce = _nonce(self._desk.secrets(), account_id, visitor.browser)
            if nonce is not None:
                return [Count.of_browser(nonce)]
        return [Count.of_account(account_id), Count.of_address(origin(visitor.client))]


def _actor(session: Session, visitor: Visitor) -> Actor:
    return sessions.actor(session, visitor.request_id, visitor.client)


def _nonce(secrets: Secrets, account_id: str, mark: str) -> str | None:
    """The part of a browser's mark by which it is counted, if it is our mark for this account."""
    nonce, _, code = mark.partition(".")
    if not (mark.isascii() and len(nonce) == 32):
        return None
    known = secrets.digests(_marked(account_id, nonce))
    return nonce if any(hmac.compare_digest(one.hex(), code) for one in known) else None


def _marked(account_id: str, nonce: str) -> str:
    return f"browser {nonce} of {account_id}"
