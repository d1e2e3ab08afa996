"""Slows down whoever guesses credentials: an address that sent too many wrong ones is told to come back later.

What counts is an ``Authorization`` or ``x-api-key`` that was refused; a call that brings neither guesses nothing, costs
nothing and is left alone. Clients are told apart by the address that the server saw, or that a trusted proxy named:
IPv6 by /64, which is what one household or machine gets. All whose address is not known count as one.

Many people may share an address, and a stranger among them must not lock the others out: a credential that was good
when it was last used (in this process) is not held up by the block of its address. Only one that is new here waits.

Each process blocks for itself. The counts are its own as well, so that N processes let N times as many guesses
through; with ``[redis]`` the counts are shared, and each process takes at most one guess more before it blocks. While
Redis does not answer each process decides by its own counts, which it keeps all the time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from gatewaykit.errors import RateLimited
from gatewaykit.hookspecs import hookimpl
from gatewaykit.protocols import Authenticator, GatewayContext
from gatewaykit.settings import RedisSettings, Section
from gatewaykit.types import Incoming, Principal

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.storage import RedisStorage
    from redis import ConnectionPool

CAPACITY = 10_000
"""Addresses, and good credentials, that are remembered at once; the oldest are forgotten first."""

UNKNOWN = "unknown"
logger = logging.getLogger(__name__)


class AuthThrottleSettings(Section):
    """When an address that sends wrong keys has to wait."""

    section = "auth_throttle"

    failures: int = Field(
        30,
        ge=1,
        description="Wrong keys that an address may send in `seconds`; after one more it is answered with 429.",
    )
    seconds: int = Field(
        60, ge=1, le=86_400, description="The window, in whole seconds, and how long an address has to wait."
    )
    exempt: tuple[str, ...] = Field(
        (), description="Addresses or networks that are never held up, such as that of a scanner of your own."
    )

    @field_validator("exempt")
    @classmethod
    def _are_networks(cls, exempt: tuple[str, ...]) -> tuple[str, ...]:
        for network in exempt:
            ipaddress.ip_network(network, strict=False)
        return exempt


class AuthThrottle(Authenticator):
    """Comes first, and hears what the others say."""

    name = "auth-throttle"
    tier = -1000
    identifies = False
    on_error = "open"

    def __init__(self, settings: AuthThrottleSettings, redis: RedisSettings) -> None:
        self._blocked = Blocks(settings.seconds)
        self._good: OrderedDict[int, None] = OrderedDict()
        self._guesses = Guesses(settings, redis, self._blocked)
        self._exempt = [ipaddress.ip_network(network, strict=False) for network in settings.exempt]

    async def authenticate(self, incoming: Incoming) -> Principal | None:
        """Always None: the others know who calls.

        Raises :class:`~gatewaykit.errors.RateLimited` for a blocked address with a credential that is not known.
        """
        if self._blocked and (given := _given(incoming)) is not None and given not in self._good:
            self._hold_up(incoming)
        return None

    def judged(self, incoming: Incoming, principal: Principal | None) -> None:
        """Count what was refused, and note what was good."""
        given = _given(incoming)
        if given is None:
            return
        if principal is None:
            self._good.pop(given, None)
            self._count(incoming)
        elif given not in self._good:
            self._remember(given)

    def _hold_up(self, incoming: Incoming) -> None:
        left = self._blocked.seconds_left(origin(incoming.client))
        if left > 0:
            raise RateLimited("Too many invalid API keys came from your address. Try again later.", retry_after=left)

    def _count(self, incoming: Incoming) -> None:
        where = origin(incoming.client)
        if not any(_within(where, network) for network in self._exempt):
            self._guesses.add(where)

    def _remember(self, given: int) -> None:
        self._good[given] = None
        if len(self._good) > CAPACITY:
            self._good.popitem(last=False)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """At its end the connections to Redis are closed."""
        try:
            yield
        finally:
            await asyncio.to_thread(self._guesses.close)


def _given(incoming: Incoming) -> int | None:
    """What stands for the credentials: a hash with this process's own random key, which gives nobody the secret back.

    Two that share a hash do no harm: it opens no door but that to the authenticators.
    """
    headers = incoming.headers
    authorization, key = headers.get("authorization"), headers.get("x-api-key")
    return None if authorization is None and key is None else hash((authorization, key))


def origin(client: str | None) -> str:
    """What stands for a client: its IPv4 address, the /64 of its IPv6 address, or ``unknown``."""
    try:
        address = ipaddress.ip_address(client or "")
    except ValueError:
        return UNKNOWN
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


def _within(where: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    if where == UNKNOWN:
        return False
    inner = ipaddress.ip_network(where)
    return inner.version == network.version and inner.overlaps(network)


class Blocks:
    """Who is blocked: each for ``seconds``, so that the oldest block is the first to end. For several threads."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: OrderedDict[str, float] = OrderedDict()
        self._turn = threading.Lock()

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, where: str) -> bool:
        """Block it from now on. False if it was blocked already."""
        with self._turn:
            is_new = where not in self._ends
            self._ends[where] = monotonic() + self._seconds
            self._ends.move_to_end(where)
            if len(self._ends) > CAPACITY:
                self._ends.popitem(last=False)
            return is_new

    def seconds_left(self, where: str) -> float:
        """How long it is still blocked; 0 if it is not. Forgets what is over."""
        now = monotonic()
        with self._turn:
            while self._ends and next(iter(self._ends.values())) <= now:
                self._ends.popitem(last=False)
            return max(0.0, self._ends.get(where, now) - now)


class Guesses:
    """Counts wrong credentials in a thread of the event loop's, and blocks whoever sent too many.

    Nothing is imported or opened before there is something to count. What a flood brings beyond :data:`CAPACITY`
    while the thread is busy is not counted.
    """

    def __init__(self, settings: AuthThrottleSettings, redis: RedisSettings, blocked: Blocks) -> None:
        self._settings = settings
        self._redis = redis
        self._blocked = blocked
        self._waiting: deque[str] = deque(maxlen=CAPACITY)
        self._turn = threading.Lock()
        self._tallies: Tallies | None = None

    def add(self, where: str) -> None:
        """One more from there. Does not wait."""
        self._waiting.append(where)
        if not self._turn.locked():
            asyncio.get_running_loop().run_in_executor(None, self._work)

    def close(self) -> None:
        """Close the connections; counting opens them again. Blocks."""
        with self._turn:
            if self._tallies is not None:
                self._tallies.close()

    def _work(self) -> None:
        """Count what waits. Whoever comes while another thread does it may go: that one looks again when it is done."""
        while self._waiting and self._turn.acquire(blocking=False):
            try:
                self._settle(Counter(self._waiting.popleft() for _ in range(len(self._waiting))))
            except Exception as error:
                logger.error("wrong keys could not be counted: %s", type(error).__name__, exc_info=error)
            finally:
                self._turn.release()

    def _settle(self, guesses: Counter[str]) -> None:
        if self._tallies is None:
            self._tallies = Tallies(self._settings, self._redis)
        for where, number in guesses.items():
            if not self._tallies.allow(where, number) and self._blocked.add(where):
                logger.warning(
                    "%s sent more than %d invalid keys in %d s: it is refused for as long",
                    where,
                    self._settings.failures,
                    self._settings.seconds,
                )


class Tallies:
    """The counts: sliding windows in this process and, where there is one, in Redis. Blocks."""

    def __init__(self, settings: AuthThrottleSettings, redis: RedisSettings) -> None:
        from limits import RateLimitItemPerSecond
        from limits.storage import MemoryStorage
        from limits.strategies import SlidingWindowCounterRateLimiter

        self._limit: RateLimitItem = RateLimitItemPerSecond(settings.failures, settings.seconds)
        self._memory = MemoryStorage()
        self._local = SlidingWindowCounterRateLimiter(self._memory)
        self._pool = _connections(redis) if redis.url is not None else None
        self._shared = SlidingWindowCounterRateLimiter(_storage(redis, self._pool)) if self._pool is not None else None
        self._cooldown = redis.cooldown
        self._next_try = 0.0

    def allow(self, where: str, number: int) -> bool:
        """Whether so many more from there stay within the limit, by either count."""
        if len(self._memory.storage) > 2 * CAPACITY:
            self._memory.reset()
        local = self._local.hit(self._limit, where, cost=number)
        return self._allow_shared(where, number) and local

    def _allow_shared(self, where: str, number: int) -> bool:
        """True as well while Redis is down, and left alone for a while: then the other count decides."""
        from limits.errors import StorageError

        if self._shared is None or monotonic() < self._next_try:
            return True
        try:
            allowed = self._shared.hit(self._limit, where, cost=number)
        except StorageError as error:
            if not self._next_try:
                kind = type(error.storage_error).__name__
                logger.warning("Redis failed (%s): each process counts wrong keys for itself", kind)
            self._next_try = monotonic() + self._cooldown
            return True
        if self._next_try:
            logger.info("Redis answers again: wrong keys are counted together")
            self._next_try = 0.0
        return allowed

    def close(self) -> None:
        """Close the connections to Redis."""
        if self._pool is not None:
            self._pool.disconnect()


def _connections(settings: RedisSettings) -> ConnectionPool:
    """One connection, that fails in time and at once: by default the client would try again for seconds."""
    from redis import BlockingConnectionPool
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return BlockingConnectionPool.from_url(
        _url(settings),
        max_connections=1,
        timeout=settings.timeout,
        socket_timeout=settings.timeout,
        socket_connect_timeout=settings.timeout,
        retry=Retry(NoBackoff(), 0),
    )


def _storage(settings: RedisSettings, pool: ConnectionPool) -> RedisStorage:
    from limits.storage import RedisStorage

    prefix = f"{{{settings.prefix}}}:auth-throttle"
    return RedisStorage(_url(settings), connection_pool=pool, key_prefix=prefix, wrap_exceptions=True)


def _url(settings: RedisSettings) -> str:
    return settings.url.get_secret_value() if settings.url is not None else ""


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """``[auth_throttle]``."""
    return [AuthThrottleSettings]


@hookimpl
def gateway_authenticators(gateway: GatewayContext) -> Iterable[Authenticator]:
    """The throttle."""
    return [AuthThrottle(gateway.settings.get(AuthThrottleSettings), gateway.settings.get(RedisSettings))]
