"""The authorization server of one gateway: what all its endpoints, and those who check its tokens, share."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from gatewaykit.errors import AuthFailed, Unavailable

from ..changes.channel import Changes
from ..changes.feed import Feed, ended
from ..changes.lookup import Lookup
from ..keys.audit import with_subjects
from ..keys.peppers import load_secrets
from ..keys.secrets import Secrets
from ..settings import KeysSettings
from .access_tokens import Verified, claimed_id, verify
from .ahead import Ahead
from .challenges import Challenges
from .documents import Documents
from .grants import Office
from .keyring import Keyring
from .pace import Pace
from .proofs import Nonces, Proof, Replays
from .recognising import FoundToken, TokenEntry, entry_of, recognise_token
from .resources import Resources
from .scopes import Scopes
from .settings import OAuthSettings
from .signing_keys import Signer

if TYPE_CHECKING:
    from gatewaykit.settings import DatabaseSettings
    from gatewaykit.storage import Storage

T = TypeVar("T")


class TokenLookup(Lookup[TokenEntry]):
    """From the text of an access token to its entry."""

    what = "access tokens"

    def refusal(self) -> AuthFailed:
        """The one answer to every token that is not valid, whatever the reason."""
        return AuthFailed("This access token is not valid.")


class Running(Struct, frozen=True):
    """What there is while the gateway runs, in one event loop."""

    secrets: Secrets
    keyring: Keyring
    lookup: TokenLookup
    ahead: Ahead
    replays: Replays
    pace: Pace
    nonces: Nonces


class Authority:
    """Issues tokens and knows them again. It can be used while its lifespan is entered, in that event loop."""

    def __init__(
        self,
        storage: Storage,
        settings: OAuthSettings,
        keys: KeysSettings,
        database: DatabaseSettings,
        changes: Changes,
    ) -> None:
        self.settings = settings
        self.issuer = settings.issuer or ""
        self.scopes = Scopes(settings)
        self.resources = Resources(settings)
        self.challenges = Challenges(self.issuer, self.resources, self.scopes)
        self.documents = Documents(enabled=settings.client_documents)
        self._storage = storage
        self._keys = keys
        self._database = database
        self._changes = changes
        self._here: dict[asyncio.AbstractEventLoop, Running] = {}

    @property
    def running(self) -> Running:
        """What there is here. Raises :class:`~gatewaykit.errors.Unavailable` before the start and after the end."""
        found = self._here.get(asyncio.get_running_loop())
        if found is None:
            raise Unavailable(retry_after=1.0, detail="authorization server: not running")
        return found

    @property
    def everywhere(self) -> Sequence[Running]:
        """What there is in all event loops in which the gateway runs."""
        return tuple(self._here.values())

    async def read(self, work: Callable[[Session], T]) -> T:
        """What ``work`` returns."""
        return await self._storage.read(work)

    async def write(self, work: Callable[[Session], T]) -> T:
        """What ``work`` returns, committed; nothing that is remembered depends on it."""
        return await self._storage.write(work)

    async def change(self, work: Callable[[Session], T]) -> T:
        """What ``work`` returns, when it is committed, this process knows of it and others are told."""
        result, subjects = await self._storage.write(with_subjects(work))
        await self._changes.changed(subjects)
        return result

    async def office(self) -> tuple[Signer, Office]:
        """What issuing needs now."""
        running = self.running
        signer = (await running.keyring.keys()).signer
        return signer, Office(running.secrets, self.settings, signer.kid, datetime.now(UTC))

    async def entry(self, text: str, digest: bytes, jti: str) -> TokenEntry:
        """What an access token allows that says it is ``jti`` and is not remembered: it is from now on.

        Raises :class:`~gatewaykit.errors.AuthFailed` and :class:`~gatewaykit.errors.Unavailable`.
        """
        lookup = self.running.lookup
        return self._foreknown(text, digest, jti) or await lookup.loaded(digest, lambda: self._load(text, digest))

    async def known(self, text: str) -> TokenEntry | None:
        """The same for any text, and None for one that is no access token in force."""
        lookup, digest = self.running.lookup, digest_of(text)
        try:
            return lookup.remembered(digest) or await self.entry(text, digest, claimed_id(text, self.issuer) or "")
        except AuthFailed:
            return None

    async def given_out(self, text: str) -> None:
        """Look up a token that is being given out: its first use here costs what the others do. Elsewhere it is read
        ahead.
        """
        digest = digest_of(text)
        self.running.lookup.foresee(digest, lambda: self._load(text, digest))
        await self._changes.added()

    async def verified(self, text: str) -> Verified | None:
        """The access token, if this server has signed it and it has not expired; it may be revoked all the same."""
        return verify(text, await self.running.keyring.keys(), self.issuer)

    def nonce_for(self, proof: Proof) -> str | None:
        """The nonce that a proof should have had; None where it has it, or none is wanted."""
        if not self.settings.dpop_nonce or self.running.nonces.is_good(proof.nonce):
            return None
        return self.running.nonces.current()

    def _foreknown(self, text: str, digest: bytes, jti: str) -> TokenEntry | None:
        """By what was read ahead. None is no refusal: the database has to be asked."""
        running = self.running
        facts, keys = running.ahead.get(jti), running.keyring.known
        if facts is None or keys is None or (verified := verify(text, keys, self.issuer)) is None:
            return None
        challenge = self.challenges.insufficient(verified.claims.aud)
        entry = entry_of(facts, verified, self.scopes, self.resources, challenge, datetime.now(UTC))
        if entry is not None:
            running.ahead.used(jti)
            running.lookup.cache.put(digest, entry, facts.seq)
        return entry

    async def _load(self, text: str, digest: bytes) -> TokenEntry | None:
        lookup, verified = self.running.lookup, await self.verified(text)
        if verified is None:
            lookup.cache.put_unknown(digest)
            return None
        challenge = self.challenges.insufficient(verified.claims.aud)

        def recognised(connection: Connection) -> FoundToken:
            return recognise_token(connection, verified, self.scopes, self.resources, challenge, datetime.now(UTC))

        found = await lookup.find(digest, lambda: self._storage.query(recognised))
        return found.entry

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Read the pepper and the signing keys, and follow changes until the end.

        Raises :class:`~gatewaykit.errors.ConfigError` when the pepper is missing or not the right one.
        """
        loop = asyncio.get_running_loop()
        secrets = await asyncio.to_thread(load_secrets, self._keys, self._database, self._storage)
        async with AsyncExitStack() as stack:
            feed = await stack.enter_async_context(self._changes.lifespan())
            running = await self._begin(stack, feed, secrets)
            self._here[loop] = running
            stack.callback(self._here.pop, loop)
            yield

    async def _begin(self, stack: AsyncExitStack, feed: Feed, secrets: Secrets) -> Running:
        keyring = Keyring(self._storage, secrets, self.settings)
        feed.followers.append(keyring)
        stack.callback(feed.followers.remove, keyring)
        await keyring.start()
        lookup = TokenLookup(feed, self._keys)
        stack.push_async_callback(lookup.stop)
        ahead = Ahead(self._storage, feed, self.settings.read_ahead)
        feed.followers.append(ahead)
        stack.callback(feed.followers.remove, ahead)
        reading = asyncio.create_task(ahead.run(), name="gatewaykit-tokens-ahead")
        stack.push_async_callback(ended, [reading])
        looking = asyncio.create_task(keyring.run(), name="gatewaykit-signing-keys")
        stack.push_async_callback(ended, [looking])
        stack.push_async_callback(self.documents.stop)
        return Running(secrets, keyring, lookup, ahead, Replays(), Pace(), Nonces(secrets))


def digest_of(text: str) -> bytes:
    """What an access token is remembered by."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
