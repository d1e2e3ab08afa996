"""The words of API keys: what a key may do, what is known of it, and who changes it. None of them holds a secret but
:class:`Created`, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated, Any, Generic, Literal, Self, TypeAlias, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType, field, structs

from gatewaykit.limits import Limit, Period, Unit
from gatewaykit.types import INFERENCE, USAGE, Principal

T = TypeVar("T")
Status: TypeAlias = Literal["active", "disabled", "expired", "revoked"]
Kind: TypeAlias = Literal["user", "service"]
Role: TypeAlias = Literal["member", "admin"]
"""What somebody who signs in may do: manage their own keys, or everything. It says nothing of the account's keys."""

Sort: TypeAlias = Literal["created", "-created", "name", "-name", "expires", "-expires", "last_used", "-last_used"]
"""What a list is ordered by; ``-`` means descending. Keys without such a moment come last either way."""

Amount: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
_SPANS: tuple[tuple[str, Unit, int], ...] = (
    ("rpm", "requests", 60),
    ("tpm", "tokens", 60),
    ("rpd", "requests", 86_400),
    ("tpd", "tokens", 86_400),
    ("concurrency", "concurrency", 0),
)


class KeyLimits(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Requests and tokens per minute and day, calls at the same time, and money; ``None`` is no limit.

    ``budget`` is in millionths of the currency of accounting, for each ``budget_period``.
    """

    rpm: Amount | None = None
    tpm: Amount | None = None
    rpd: Amount | None = None
    tpd: Amount | None = None
    concurrency: Amount | None = None
    budget: Amount | None = None
    budget_period: Period = "month"

    def limits(self, subject: str) -> tuple[Limit, ...]:
        """The same as limits on ``subject``, such as ``key:ID``."""
        return tuple(self._limits(subject))

    def _limits(self, subject: str) -> Iterator[Limit]:
        for name, unit, span in _SPANS:
            if (amount := getattr(self, name)) is not None:
                yield Limit(subject, unit, amount, span)
        if self.budget is not None:
            yield Limit(subject, "money", self.budget, self.budget_period)


class LimitChanges(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is to become different about limits: those that are not set stay, and ``None`` takes one away."""

    rpm: Amount | UnsetType | None = UNSET
    tpm: Amount | UnsetType | None = UNSET
    rpd: Amount | UnsetType | None = UNSET
    tpd: Amount | UnsetType | None = UNSET
    concurrency: Amount | UnsetType | None = UNSET
    budget: Amount | UnsetType | None = UNSET
    budget_period: Period | UnsetType = UNSET

    @classmethod
    def to(cls, limits: KeyLimits) -> Self:
        """The changes after which there are these limits and no others."""
        return cls(**structs.asdict(limits))

    def applied(self, limits: KeyLimits) -> KeyLimits:
        """``limits`` with these changes."""
        return structs.replace(limits, **_set(self))


def _set(changes: Struct) -> dict[str, Any]:
    return {name: value for name, value in structs.asdict(changes).items() if value is not UNSET}


class KeySpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a key is to be.

    ``owner`` is the id of an account. ``models`` and ``routes`` are globs (``*`` and ``?``) of the models it may use
    and the paths it may call; ``networks`` are those from which it may be used (CIDR), any if there are none.
    """

    name: str
    owner: str | None = None
    scopes: tuple[str, ...] = (INFERENCE, USAGE)
    models: tuple[str, ...] = ("*",)
    routes: tuple[str, ...] = ("*",)
    networks: tuple[str, ...] = ()
    expires: datetime | None = None
    limits: KeyLimits = field(default_factory=KeyLimits)
    note: str = ""


class KeyChanges(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What is to become different about a key; fields that are not set stay as they are. The owner cannot change."""

    name: str | UnsetType = UNSET
    scopes: tuple[str, ...] | UnsetType = UNSET
    models: tuple[str, ...] | UnsetType = UNSET
    routes: tuple[str, ...] | UnsetType = UNSET
    networks: tuple[str, ...] | UnsetType = UNSET
    expires: datetime | UnsetType | None = UNSET
    limits: LimitChanges | UnsetType = UNSET
    note: str | UnsetType = UNSET

    def applied(self, spec: KeySpec) -> KeySpec:
        """``spec`` with these changes."""
        given = _set(self)
        if isinstance(self.limits, LimitChanges):
            given["limits"] = self.limits.applied(spec.limits)
        return structs.replace(spec, **given)


class SecretInfo(Struct, frozen=True):
    """A secret that opens its key, ``None`` or until ``ends``. ``hint`` is its prefix and its last four characters."""

    hint: str
    created: datetime
    ends: datetime | None = None


class ApiKey(Struct, frozen=True, kw_only=True):
    """What is known of a key: :class:`KeySpec`, and its life.

    ``created_by`` is the actor's id. ``last_used`` is at most half a minute behind. ``hint`` is the newest secret's;
    ``secrets`` are those in force, the newest first. ``version`` grows with each change.
    """

    id: str
    name: str
    owner: str | None
    scopes: tuple[str, ...]
    models: tuple[str, ...]
    routes: tuple[str, ...]
    networks: tuple[str, ...]
    expires: datetime | None
    limits: KeyLimits
    note: str
    created: datetime
    created_by: str
    enabled: bool
    revoked: datetime | None
    last_used: datetime | None
    last_used_from: str | None
    hint: str
    secrets: tuple[SecretInfo, ...]
    version: int

    @property
    def spec(self) -> KeySpec:
        """What it is to be."""
        return KeySpec(**{name: getattr(self, name) for name in KeySpec.__struct_fields__})

    @property
    def status(self) -> Status:
        """Its status now."""
        return self.status_at(datetime.now(UTC))

    def status_at(self, now: datetime) -> Status:
        """What is final comes first: revoked, expired, disabled, active."""
        if self.revoked is not None:
            return "revoked"
        if self.expires is not None and self.expires <= now:
            return "expired"
        return "active" if self.enabled else "disabled"


class Created(Struct, frozen=True):
    """A key and its new secret, which nobody will ever see again.

    ``secret`` is ``None`` where the request was a repetition, known by its idempotency key: the secret was in the
    answer to the first one.
    """

    key: ApiKey
    secret: str | None

    def __repr__(self) -> str:
        return f"Created({self.key.id})"


class Account(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who owns keys: a person or a service. What it may not do, none of its keys may; its limits are for all of them
    together. Access tokens of the authorization server live ``longest_access_seconds`` at most, if that is set.
    """

    id: str
    name: str = ""
    kind: Kind = "user"
    role: Role = "member"
    enabled: bool = True
    models: tuple[str, ...] = ("*",)
    limits: KeyLimits = field(default_factory=KeyLimits)
    longest_access_seconds: int | None = None


class Actor(Struct, frozen=True):
    """Who changes something: a principal, or without one the machine's operator, who may do everything.

    ``id`` is the principal's, or ``cli``. ``client`` is the address it comes from. ``under`` gives all limits that a
    principal is under, as far as they are its own: for whoever is bound by those of the configuration, these too.
    """

    id: str
    principal: Principal | None = None
    request_id: str | None = None
    client: str | None = None
    under: Callable[[Principal], Sequence[Limit]] = attrgetter("limits")


class AuditEntry(Struct, frozen=True):
    """One change: who, when and from where, what was done (``key.rotate``) to which object, and the object's
    descriptions before and after, without secrets.
    """

    id: int
    at: datetime
    actor: str
    client: str | None
    request_id: str | None
    action: str
    object: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Page(Struct, Generic[T], frozen=True):
    """A part of a list; ``next`` is to be given as ``after`` to get the next part, and ``None`` at the end."""

    items: tuple[T, ...]
    next: str | None = None
