"""What can be done with keys, on a real SQLite and a real Postgres."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from gatewaykit.errors import AuthFailed, BadRequest, GatewayError, NotFound, PermissionDenied
from gatewaykit.storage import Storage
from gatewaykit.types import ADMIN, INFERENCE, KEYS, USAGE, Principal
from gatewaykit_oauth.accounts import get_account, list_accounts, put_account
from gatewaykit_oauth.keys import store
from gatewaykit_oauth.keys.account_changes import AccountChanges, change_account
from gatewaykit_oauth.keys.model import Account, Actor, ApiKey, KeyChanges, KeyLimits, KeySpec, LimitChanges
from gatewaykit_oauth.keys.rows import newest_change, peppers_in_use, recognise
from gatewaykit_oauth.tables import AuditRow, ChangeRow

from .conftest import NOW, OPERATOR, SECRETS, made, storage_at, text_of

DAY = timedelta(days=1)


def opens(storage: Storage, secret: str, now: Any) -> bool:
    """Whether this secret opens a key at this moment."""
    with storage.transaction(write=False) as session:
        return recognise(session, SECRETS.digests(secret), now).entry is not None


def put(storage: Storage, **account: Any) -> Account:
    """An account, as the operator makes it."""
    with storage.transaction() as session:
        return put_account(session, OPERATOR, Account(**account))


def as_actor(storage: Storage, key: ApiKey, **changes: Any) -> Actor:
    """Somebody who came in with this key."""
    scopes = frozenset(key.scopes)
    return Actor(key.id, Principal(key.id, owner=key.owner or "", scopes=scopes, models=key.models, **changes))


def test_the_tables_are_as_declared(url: str, own_migrations: None) -> None:
    """After the migrations the schema check finds no difference."""
    storage = storage_at(url)
    storage.migrate()
    assert all(state.ok for state in storage.check()), storage.check()


def test_a_key_is_kept_as_it_was_made(storage: Storage) -> None:
    """What was asked for is what is read back, and its hint shows prefix and end of the secret."""
    put(storage, id="ann")
    spec = KeySpec(
        name="Ключ",
        owner="ann",
        models=("gpt-*",),
        networks=("192.0.2.0/24",),
        expires=NOW + 30 * DAY,
        limits=KeyLimits(rpm=10, budget=5_000_000, budget_period="week"),
        note="two\nlines",
    )
    with storage.transaction() as session:
        created = store.create(session, OPERATOR, spec, secrets=SECRETS, now=NOW)
    with storage.transaction(write=False) as session:
        key = store.get(session, created.key.id)
    assert key == created.key
    assert key.spec == spec
    assert key.id.startswith("key_")
    assert (key.created, key.created_by, key.version) == (NOW, "cli", 1)
    assert key.hint == f"gk_live_…{text_of(created)[-4:]}"
    assert [secret.hint for secret in key.secrets] == [key.hint]
    assert opens(storage, text_of(created), NOW)


def test_an_unknown_key_is_not_found(storage: Storage) -> None:
    """Getting and changing what is not there is the same error, which repeats nothing of the id."""
    with storage.transaction() as session:
        for attempt in (store.get, lambda session, key_id: store.revoke(session, OPERATOR, key_id)):
            with pytest.raises(NotFound) as refused:
                attempt(session, "key_nothing")
            assert "nothing" not in str(refused.value)


def test_an_owner_must_exist(storage: Storage) -> None:
    """A key for an account that nobody made is refused by name."""
    with pytest.raises(BadRequest) as refused:
        made(storage, owner="nobody")
    assert refused.value.param == "owner"


def test_changes_keep_what_they_do_not_name(storage: Storage) -> None:
    """An update changes the fields that it has; one that changes nothing leaves no trace."""
    key = made(storage, note="old", models=("a",), expires=None).key
    with storage.transaction() as session:
        changed = store.update(session, OPERATOR, key.id, KeyChanges(note="new", limits=LimitChanges(rpm=3)))
        again = store.update(session, OPERATOR, key.id, KeyChanges(note="new"))
        lines = store.audit(session, key_id=key.id).items
    assert (changed.note, changed.models, changed.limits.rpm, changed.version) == ("new", ("a",), 3, 2)
    assert again == changed
    assert [line.action for line in lines] == ["key.update", "key.create"]


def test_an_expired_key_can_be_renamed_and_renewed(storage: Storage) -> None:
    """That it has expired hinders no other change, and a later end makes it valid again."""
    created = made(storage, expires=None)
    with storage.transaction() as session:
        store.update(session, OPERATOR, created.key.id, KeyChanges(expires=NOW + DAY), now=NOW)
        renamed = store.update(session, OPERATOR, created.key.id, KeyChanges(name="late"), now=NOW + 2 * DAY)
    assert renamed.status_at(NOW + 2 * DAY) == "expired"
    assert not opens(storage, text_of(created), NOW + 2 * DAY)
    with storage.transaction() as session:
        store.update(session, OPERATOR, created.key.id, KeyChanges(expires=None), now=NOW + 2 * DAY)
    assert opens(storage, text_of(created), NOW + 2 * DAY)


def test_revoking_is_final(storage: Storage) -> None:
    """A revoked key cannot be changed, enabled or rotated; revoking again does nothing."""
    created = made(storage)
    with storage.transaction() as session:
        revoked = store.revoke(session, OPERATOR, created.key.id)
        assert store.revoke(session, OPERATOR, created.key.id) == revoked
    assert (revoked.status, revoked.secrets) == ("revoked", ())
    assert not opens(storage, text_of(created), revoked.revoked)
    attempts: list[Any] = [
        lambda session: store.update(session, OPERATOR, revoked.id, KeyChanges(name="again")),
        lambda session: store.set_enabled(session, OPERATOR, revoked.id, True),
        lambda session: store.rotate(session, OPERATOR, revoked.id, secrets=SECRETS),
    ]
    for attempt in attempts:
        with pytest.raises(BadRequest, match="final"), storage.transaction() as session:
            attempt(session)


def test_a_disabled_key_can_be_enabled(storage: Storage) -> None:
    """Disabling is taken back by enabling."""
    created = made(storage)
    for enabled in (False, True):
        with storage.transaction() as session:
            key = store.set_enabled(session, OPERATOR, created.key.id, enabled)
        assert key.status == ("active" if enabled else "disabled")
        assert opens(storage, text_of(created), NOW) is enabled


def test_rotation_with_grace(storage: Storage) -> None:
    """Both secrets open the same key with the same limits during grace, and only the new one after it."""
    created = made(storage, limits=KeyLimits(rpm=7))
    with storage.transaction() as session:
        rotated = store.rotate(session, OPERATOR, created.key.id, grace=timedelta(hours=1), secrets=SECRETS, now=NOW)
    assert (rotated.key.id, rotated.key.limits) == (created.key.id, created.key.limits)
    assert [secret.ends for secret in rotated.key.secrets] == [None, NOW + timedelta(hours=1)]
    assert rotated.key.hint == rotated.key.secrets[0].hint != rotated.key.secrets[1].hint
    for moment, old_opens in ((NOW, True), (NOW + timedelta(minutes=59), True), (NOW + timedelta(hours=1), False)):
        assert opens(storage, text_of(created), moment) is old_opens
        assert opens(storage, text_of(rotated), moment)


def test_rotation_without_grace_and_a_cut(storage: Storage) -> None:
    """With no grace, or once it is cut, the old secret opens nothing any more; a shorter end is never made longer."""
    created = made(storage)
    with storage.transaction() as session:
        key_id = created.key.id
        second = store.rotate(session, OPERATOR, key_id, grace=timedelta(0), secrets=SECRETS, now=NOW)
        third = store.rotate(session, OPERATOR, key_id, grace=timedelta(hours=1), secrets=SECRETS, now=NOW)
        fourth = store.rotate(session, OPERATOR, key_id, grace=30 * DAY, secrets=SECRETS, now=NOW)
    assert [secret.ends for secret in fourth.key.secrets] == [None, NOW + 30 * DAY, NOW + timedelta(hours=1)]
    assert not opens(storage, text_of(created), NOW)
    with storage.transaction() as session:
        cut = store.cut(session, OPERATOR, key_id, now=NOW)
        assert store.cut(session, OPERATOR, key_id, now=NOW) == cut
    assert len(cut.secrets) == 1
    found = [opens(storage, text_of(one), NOW) for one in (second, third, fourth)]
    assert found == [False, False, True]


@pytest.mark.parametrize("grace", [timedelta(seconds=-1), timedelta(days=30, seconds=1)])
def test_grace_has_bounds(storage: Storage, grace: timedelta) -> None:
    """Less than nothing and more than thirty days are refused by name."""
    key = made(storage).key
    with pytest.raises(BadRequest) as refused, storage.transaction() as session:
        store.rotate(session, OPERATOR, key.id, grace=grace, secrets=SECRETS)
    assert refused.value.param == "grace"


def test_a_repeated_request_happens_once(storage: Storage) -> None:
    """The same idempotency key makes one key and one rotation, shows the secret once, and means nothing after a day."""
    spec = KeySpec(name="once")
    with storage.transaction() as session:
        first = store.create(session, OPERATOR, spec, secrets=SECRETS, now=NOW, idempotency_key="a")
        again = store.create(session, OPERATOR, spec, secrets=SECRETS, now=NOW, idempotency_key="a")
        other = store.create(session, Actor("else"), spec, secrets=SECRETS, now=NOW, idempotency_key="a")
        assert (again.key, again.secret) == (first.key, None)
        assert other.key.id != first.key.id
        rotated = [
            store.rotate(session, OPERATOR, first.key.id, idempotency_key="a", secrets=SECRETS, now=NOW)
            for _ in range(3)
        ]
        assert [one.secret is None for one in rotated] == [False, True, True]
        assert len(rotated[2].key.secrets) == 2
        with pytest.raises(BadRequest) as refused:
            store.rotate(session, OPERATOR, other.key.id, idempotency_key="a", secrets=SECRETS, now=NOW)
        assert refused.value.param == "Idempotency-Key"
        later = store.create(session, OPERATOR, spec, secrets=SECRETS, now=NOW + DAY, idempotency_key="a")
        assert later.key.id != first.key.id


def test_parallel_repetitions_happen_once(storage: Storage) -> None:
    """Six threads that rotate with one idempotency key rotate once; without one, each of them does."""
    created = made(storage)

    def rotate(idempotency_key: str | None) -> str | None:
        with storage.transaction() as session:
            return store.rotate(
                session, OPERATOR, created.key.id, idempotency_key=idempotency_key, secrets=SECRETS
            ).secret

    with ThreadPoolExecutor(6) as threads:
        assert sum(secret is not None for secret in threads.map(rotate, ["same"] * 6)) == 1
        assert sum(secret is not None for secret in threads.map(rotate, [None] * 6)) == 6


def test_every_change_is_told_and_written_down(storage: Storage) -> None:
    """Each change leaves one line in the audit log, with who, whence and how it was before, and one in the feed."""
    actor = Actor("cli", None, "req-1", "192.0.2.9")
    with storage.transaction() as session:
        key = store.create(session, actor, KeySpec(name="mine"), secrets=SECRETS, now=NOW).key
        store.set_enabled(session, actor, key.id, False, now=NOW)
        store.set_enabled(session, actor, key.id, False, now=NOW)
        store.revoke(session, actor, key.id, now=NOW)
        put_account(session, actor, Account(id="ann"), now=NOW)
    with storage.transaction(write=False) as session:
        lines = store.audit(session).items
        feed = session.scalars(select(ChangeRow.subject).order_by(ChangeRow.seq)).all()
        assert newest_change(session) == len(lines) == 4
    assert [line.action for line in lines] == ["account.create", "key.revoke", "key.disable", "key.create"]
    assert feed == [f"key:{key.id}"] * 3 + ["user:ann"]
    disabled = lines[2]
    assert (disabled.actor, disabled.client, disabled.request_id) == ("cli", "192.0.2.9", "req-1")
    assert (disabled.object, disabled.at) == (key.id, NOW)
    assert disabled.before is not None
    assert disabled.after is not None
    assert (disabled.before["enabled"], disabled.after["enabled"]) == (True, False)
    assert lines[3].before is None


def test_the_audit_log_is_read_in_parts(storage: Storage) -> None:
    """Parts follow each other without gap or repetition, also filtered by object and actor."""
    keys = [made(storage, f"key {number}").key for number in range(5)]
    with storage.transaction(write=False) as session:
        first = store.audit(session, limit=3)
        second = store.audit(session, limit=3, after=first.next)
        assert [line.object for line in (*first.items, *second.items)] == [key.id for key in reversed(keys)]
        assert second.next is None
        assert [line.object for line in store.audit(session, key_id=keys[1].id).items] == [keys[1].id]
        assert store.audit(session, actor="nobody").items == ()
        with pytest.raises(BadRequest):
            store.audit(session, after="x")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET actor = 'nobody'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "INSERT OR REPLACE INTO audit_log (id, at, actor, action, object) VALUES (1, '2027-01-01', 'x', 'x', 'x')",
    ],
)
def test_the_audit_log_can_only_grow(storage: Storage, statement: str) -> None:
    """The database itself refuses to change or delete a line, whichever way it is asked."""
    made(storage)
    with pytest.raises(GatewayError), storage.transaction() as session:
        session.execute(text(statement))
    with storage.transaction(write=False) as session:
        assert [row.actor for row in session.scalars(select(AuditRow))] == ["cli"]


def test_the_feed_forgets_what_is_old_but_never_the_newest(storage: Storage) -> None:
    """A change goes when a newer one is written a day later, so the feed is bounded and never empty again."""
    key = made(storage).key
    with storage.transaction() as session:
        store.set_enabled(session, OPERATOR, key.id, False, now=NOW + 400 * DAY)
        store.set_enabled(session, OPERATOR, key.id, True, now=NOW + 402 * DAY)
    with storage.transaction(write=False) as session:
        assert session.scalars(select(ChangeRow.seq)).all() == [3]


def test_a_clock_that_is_behind_leaves_no_hole_in_the_feed(storage: Storage) -> None:
    """What it writes down with a moment of long ago is kept as long as what was written down before it."""
    key, now = made(storage).key, datetime.now(UTC)
    with storage.transaction() as session:
        store.set_enabled(session, OPERATOR, key.id, False, now=now - 2 * DAY)
        store.set_enabled(session, OPERATOR, key.id, True, now=now)
    with storage.transaction(write=False) as session:
        assert session.scalars(select(ChangeRow.seq).order_by(ChangeRow.seq)).all() == [1, 2, 3]


def test_lists(storage: Storage) -> None:
    """Lists are filtered by owner, status and text, and ordered; keys without the moment asked for come last."""
    put(storage, id="ann")
    spec: dict[str, dict[str, Any]] = {
        "a": {"owner": "ann", "expires": NOW + 2 * DAY},
        "b": {"note": "100% of_it"},
        "c": {"expires": NOW + 1 * DAY},
        "d": {"note": "Отчёт"},
    }
    keys: dict[str, ApiKey] = {}
    with storage.transaction() as session:
        for number, (name, fields) in enumerate(spec.items()):
            asked = KeySpec(name=name, **fields)
            moment = NOW - timedelta(hours=number)
            keys[name] = store.create(session, OPERATOR, asked, secrets=SECRETS, now=moment).key
        store.set_enabled(session, OPERATOR, keys["d"].id, False, now=NOW)
    now = NOW + timedelta(hours=36)

    def names(**asked: Any) -> str:
        with storage.transaction(write=False) as session:
            return "".join(key.name for key in store.find(session, now=now, **asked).items)

    assert names() == "abcd"
    assert names(sort="created") == "dcba"
    assert names(sort="-name") == "dcba"
    assert names(sort="expires")[:2] == "ca"
    assert names(sort="-expires")[:2] == "ac"
    assert names(owner="ann") == "a"
    assert names(status="expired") == "c"
    assert names(status="disabled") == "d"
    assert names(status="active") == "ab"
    assert names(text="0% OF_") == "b"
    assert names(text="%") == "b"
    assert names(text="ОТЧЁТ") == "d"
    assert names(text=keys["c"].hint[-4:]).count("c") == 1
    assert names(text=keys["a"].id) == "a"
    for wrong in ({"sort": "secret"}, {"limit": 0}, {"after": "x"}, {"after": "W10"}, {"status": "odd"}):
        with pytest.raises(BadRequest):
            names(**wrong)


@pytest.mark.parametrize(
    "sort", [f"{sign}{by}" for sign, by in itertools.product(["", "-"], ("created", "name", "expires", "last_used"))]
)
def test_parts_of_a_list_fit_together(storage: Storage, sort: Any) -> None:
    """Whatever the order, page by page every key comes exactly once, in the order of the whole list."""
    with storage.transaction() as session:
        for number in range(7):
            expires = NOW + number // 2 * DAY if number % 3 else None
            asked = KeySpec(name=f"key {number // 3}", expires=expires and expires + DAY)
            store.create(session, OPERATOR, asked, secrets=SECRETS, now=NOW)
    with storage.transaction(write=False) as session:
        whole = [key.id for key in store.find(session, sort=sort, now=NOW).items]
        parts: list[str] = []
        after: str | None = None
        while True:
            page = store.find(session, sort=sort, after=after, limit=2, now=NOW)
            parts += [key.id for key in page.items]
            after = page.next
            if after is None:
                break
    assert len(set(whole)) == 7
    assert parts == whole
    with storage.transaction(write=False) as session:
        page = store.find(session, sort=sort, limit=2)
        with pytest.raises(BadRequest, match="another order"):
            store.find(session, sort="name" if sort != "name" else "-name", after=page.next)


def test_a_key_makes_no_stronger_key(storage: Storage) -> None:
    """With a key for one account's keys its holder can make, change, enable and rotate nothing beyond it."""
    put(storage, id="ann", models=("gpt-*",), limits=KeyLimits(rpm=5))
    put(storage, id="bob")
    mine = made(storage, owner="ann", scopes=(INFERENCE, USAGE, KEYS), models=("*",)).key
    strong = made(storage, owner="ann", scopes=(INFERENCE, USAGE, KEYS, ADMIN)).key
    actor = as_actor(storage, mine)
    with storage.transaction() as session:
        weak = store.create(session, actor, KeySpec(name="w", owner="ann", models=("gpt-4",)), secrets=SECRETS).key
    assert weak.created_by == mine.id
    attempts: list[Any] = [
        lambda session: store.create(session, actor, KeySpec(name="s", owner="ann"), secrets=SECRETS),
        lambda session: store.create(session, actor, KeySpec(name="s", models=("gpt-4",)), secrets=SECRETS),
        lambda session: store.update(session, actor, weak.id, KeyChanges(models=("*",))),
        lambda session: store.update(session, actor, mine.id, KeyChanges(scopes=(ADMIN,))),
        lambda session: store.update(session, actor, strong.id, KeyChanges(name="x")),
        lambda session: store.rotate(session, actor, strong.id, secrets=SECRETS),
        lambda session: store.set_enabled(session, actor, strong.id, True),
        lambda session: put_account(session, actor, Account(id="ann")),
        lambda session: put_account(session, as_actor(storage, strong), Account(id="ann")),
    ]
    for attempt in attempts:
        with pytest.raises(PermissionDenied), storage.transaction() as session:
            attempt(session)
    with storage.transaction() as session:
        assert store.set_enabled(session, actor, strong.id, False).status == "disabled"
        assert store.revoke(session, actor, strong.id).status == "revoked"


def test_all_keys_of_an_account_end_by_one_of_them(storage: Storage) -> None:
    """The key that is used for it ends with them, as the last; of an account that is not there nothing can end."""
    put(storage, id="ann")
    keys = [made(storage, owner="ann", scopes=(INFERENCE, USAGE, KEYS)).key for _ in range(3)]
    with storage.transaction() as session:
        revoked = store.revoke_many(session, as_actor(storage, keys[1]), (), "ann")
    assert {key.id for key in revoked} == {key.id for key in keys}
    assert {key.status for key in revoked} == {"revoked"}
    with pytest.raises(NotFound), storage.transaction() as session:
        store.revoke_many(session, OPERATOR, (), "nobody")


def test_accounts_of_others_do_not_exist(storage: Storage) -> None:
    """Who may make keys for its own account only is told the same of another account and of none."""
    put(storage, id="ann")
    put(storage, id="bob")
    actor = as_actor(storage, made(storage, owner="ann", scopes=(INFERENCE, USAGE, KEYS)).key)
    for owner in ("bob", "nobody"):
        with pytest.raises(PermissionDenied) as refused, storage.transaction() as session:
            store.create(session, actor, KeySpec(name="x", owner=owner), secrets=SECRETS)
        assert refused.value.param == "owner"


@pytest.mark.parametrize(
    ("bound", "field"),
    [
        ({"models": ("small-*",)}, "models"),
        ({"routes": ("/api/admin/*",)}, "routes"),
        ({"networks": ("10.0.0.0/8",)}, "networks"),
        ({"limits": KeyLimits(rpm=10)}, "limits"),
    ],
)
def test_an_admins_key_that_is_bound_manages_keys_alone(storage: Storage, bound: dict[str, Any], field: str) -> None:
    """An account would give its holder what the key does not; an end alone does not bind it so."""
    key = made(storage, scopes=(INFERENCE, USAGE, KEYS, ADMIN), **bound).key
    with pytest.raises(PermissionDenied, match=field), storage.transaction() as session:
        put_account(session, as_actor(storage, key), Account(id="laundry"))
    ends = made(storage, scopes=(KEYS, ADMIN), expires=datetime.now(UTC) + DAY).key
    with storage.transaction() as session:
        put_account(session, as_actor(storage, ends), Account(id="customer"))


def test_limits_of_another_account_bind_nobody(storage: Storage) -> None:
    """A limited key makes no key that only the account it belongs to would limit: that account can be changed."""
    put(storage, id="customer", limits=KeyLimits(rpm=5))
    put(storage, id="ops", limits=KeyLimits(rpm=10))
    actor = as_actor(storage, made(storage, owner="ops", scopes=(INFERENCE, USAGE, KEYS, ADMIN)).key)
    with storage.transaction() as session:
        store.create(session, actor, KeySpec(name="x", owner="ops"), secrets=SECRETS)
        spec = KeySpec(name="x", owner="customer", limits=KeyLimits(rpm=10))
        store.create(session, actor, spec, secrets=SECRETS)
    with pytest.raises(PermissionDenied, match="limits"), storage.transaction() as session:
        store.create(session, actor, KeySpec(name="x", owner="customer"), secrets=SECRETS)


def test_keys_of_others_do_not_exist(storage: Storage) -> None:
    """A key of another account, or of none, is not found by who may manage its own account's keys only."""
    put(storage, id="ann")
    put(storage, id="bob")
    actor = as_actor(storage, made(storage, owner="ann", scopes=(INFERENCE, USAGE, KEYS)).key)
    for other in (made(storage, owner="bob").key, made(storage).key):
        with pytest.raises(NotFound), storage.transaction() as session:
            store.revoke(session, actor, other.id)


def test_what_a_maker_holds_is_read_anew(storage: Storage) -> None:
    """Who was revoked, disabled or narrowed a moment ago makes nothing any more, whatever was remembered of it."""
    put(storage, id="ann")
    maker = made(storage, owner="ann", scopes=(INFERENCE, USAGE, KEYS)).key
    actor = as_actor(storage, maker)
    spec = KeySpec(name="child", owner="ann", models=("gpt-4",))
    with storage.transaction() as session:
        store.create(session, actor, spec, secrets=SECRETS)
        store.update(session, OPERATOR, maker.id, KeyChanges(models=("other",)))
    with pytest.raises(PermissionDenied), storage.transaction() as session:
        store.create(session, actor, spec, secrets=SECRETS)
    put(storage, id="ann", enabled=False)
    with pytest.raises(AuthFailed), storage.transaction() as session:
        store.create(session, actor, spec, secrets=SECRETS)


def test_who_may_not_manage_keys_manages_none(storage: Storage) -> None:
    """A key without the scope cannot even revoke itself."""
    put(storage, id="ann")
    key = made(storage, owner="ann").key
    with pytest.raises(PermissionDenied), storage.transaction() as session:
        store.revoke(session, as_actor(storage, key), key.id)


def test_an_account_binds_its_keys(storage: Storage) -> None:
    """A key is what it and its owner allow, under the limits of both, and nothing while its owner is disabled."""
    put(storage, id="ann", models=("gpt-*",), limits=KeyLimits(tpm=100))
    created = made(storage, owner="ann", models=("*-mini", "claude"), limits=KeyLimits(rpm=2))
    with storage.transaction(write=False) as session:
        entry = recognise(session, SECRETS.digests(text_of(created)), NOW).entry
    assert entry is not None
    assert "gpt-*-mini" in entry.principal.models
    assert "claude" not in entry.principal.models
    assert [(limit.subject, limit.name, limit.amount) for limit in entry.principal.limits] == [
        (f"key:{created.key.id}", "rpm", 2),
        ("user:ann", "tpm", 100),
    ]
    assert (entry.principal.owner, entry.subjects) == ("ann", (f"key:{created.key.id}", "user:ann"))
    put(storage, id="ann", enabled=False)
    assert not opens(storage, text_of(created), NOW)


def test_accounts(storage: Storage) -> None:
    """Accounts are made, replaced, read and listed by id in parts."""
    for name in ("c", "a", "b"):
        put(storage, id=name, kind="service", name=name.upper(), limits=KeyLimits(budget=1))
    put(storage, id="b", name="new")
    with storage.transaction(write=False) as session:
        assert get_account(session, "b") == Account(id="b", name="new")
        page = list_accounts(session, limit=2)
        assert [account.id for account in page.items] == ["a", "b"]
        assert [account.id for account in list_accounts(session, after=page.next).items] == ["c"]
        with pytest.raises(NotFound):
            get_account(session, "nobody")
    for wrong in ({"id": "a b"}, {"id": "x", "kind": "robot"}, {"id": "x", "models": ()}, {"id": "x", "name": "\n"}):
        with pytest.raises(BadRequest):
            put(storage, **wrong)


def test_two_changes_of_an_account_at_once_are_both_kept(postgres_url: str) -> None:
    """Who changes one field waits for who changes another, and then sees what that one did."""
    storage = storage_at(postgres_url)

    def change(**changes: Any) -> None:
        with storage.transaction() as session:
            change_account(session, OPERATOR, "ann", AccountChanges(**changes))

    with storage.opened(), ThreadPoolExecutor(1) as pool:
        put(storage, id="ann")
        with storage.transaction() as session:
            change_account(session, OPERATOR, "ann", AccountChanges(name="Ann"))
            other = pool.submit(change, enabled=False)
            wait_for(lambda: waiting(storage))
        other.result(60)
        with storage.transaction(write=False) as session:
            assert get_account(session, "ann") == Account(id="ann", name="Ann", enabled=False)


def waiting(storage: Storage) -> bool:
    """Whether somebody waits for a lock that another transaction holds."""
    with storage.transaction(write=False) as session:
        return bool(session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


def wait_for(condition: Callable[[], bool]) -> None:
    """Return as soon as it is true, within a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "nobody waits"
        time.sleep(0.005)


def test_nothing_secret_is_stored(storage: Storage) -> None:
    """In no column of any table is a key or the pepper, and of the key only the HMAC of the whole."""
    created = made(storage, name="canary", note="noted")
    with storage.transaction() as session:
        rotated = store.rotate(session, OPERATOR, created.key.id, secrets=SECRETS, idempotency_key="again")
    secrets = [text_of(created), text_of(rotated)]
    with storage.transaction(write=False) as session:
        tables = ("accounts", "api_keys", "api_key_secrets", "key_changes", "audit_log", "key_repetitions")
        dump = repr([session.execute(text(f"SELECT * FROM {table}")).all() for table in tables])
        assert peppers_in_use(session) == {SECRETS.current: 2}
    assert "noted" in dump
    for secret in (*secrets, *(secret[8:40] for secret in secrets), "canary-pepper"):
        assert secret not in dump
        assert secret not in repr((created, rotated, created.key))
