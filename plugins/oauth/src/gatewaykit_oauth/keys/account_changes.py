"""Making an account, and changing a part of one: the same for the API and the commands."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType, structs
from sqlalchemy.orm import Session

from gatewaykit.errors import BadRequest, NotFound

from ..accounts import get_account, put_account
from .audit import take_turn
from .checks import check_account
from .model import Account, Actor, Kind, LimitChanges, Role


class AccountChanges(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What is to become different about an account; fields that are not set stay as they are."""

    name: str | UnsetType = UNSET
    kind: Kind | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    models: tuple[str, ...] | UnsetType = UNSET
    limits: LimitChanges | UnsetType = UNSET
    longest_access_seconds: int | UnsetType | None = UNSET


def add_account(session: Session, actor: Actor, account: Account) -> Account:
    """Make it. Raises :class:`~gatewaykit.errors.BadRequest` for a wrong field, or when there is one of this id."""
    check_account(account)
    take_turn(session)
    try:
        get_account(session, account.id)
    except NotFound:
        return put_account(session, actor, account)
    raise BadRequest("There is an account of this id already.", param="id")


def change_account(session: Session, actor: Actor, account_id: str, changes: AccountChanges) -> Account:
    """Change it, and leave the rest as it is. Raises :class:`~gatewaykit.errors.NotFound`."""
    given = {name: value for name, value in structs.asdict(changes).items() if value is not UNSET}
    take_turn(session)
    account = get_account(session, account_id)
    if isinstance(changes.limits, LimitChanges):
        given["limits"] = changes.limits.applied(account.limits)
    return put_account(session, actor, structs.replace(account, **given))
