"""Making keys and changing them. A new secret is in the answer to the form that made it, and on no other page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from secrets import token_hex
from typing import Any
from unicodedata import normalize

from msgspec import UNSET, structs
from sqlalchemy.orm import Session as Database
from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.errors import BadRequest, GatewayError, PermissionDenied
from gatewaykit.types import ADMIN, INFERENCE, KEYS, USAGE

from ..accounts import account_ids
from ..keys import store
from ..keys.api_base import named
from ..keys.model import Actor, ApiKey, Created, KeyChanges, KeySpec, LimitChanges
from ..signin.sessions import Session
from ..words import N_
from .forms import Form, form_of
from .key_lists import managed_key
from .rendering import render
from .site import Page, acting, redirect, refused, said, site_of
from .snippets import snippets
from .values import expiry_of, lifetime_of, limits_of, shown_limits, words

SCOPES = {
    INFERENCE: N_("Call models"),
    USAGE: N_("Read its own usage"),
    KEYS: N_("Manage the keys of its owner"),
    ADMIN: N_("Manage everything"),
}
GRACES = {"0": 0, "1h": 3600, "24h": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
WRONG_NAME = N_("This is not the name of the key.")
Change = Callable[[Database, Actor, str], ApiKey]
CHANGES: Mapping[str, tuple[Change, str]] = {
    "disable": (partial(store.set_enabled, enabled=False), "disabled"),
    "enable": (partial(store.set_enabled, enabled=True), "enabled"),
    "cut": (store.cut, "cut"),
}


async def new_key(request: Request, session: Session) -> Response:
    """The form for a new key, and the key with its secret."""
    if request.method != "POST":
        return await _form(request, session, _empty(session, request.query_params.get("owner")), None)
    form, site = await form_of(request), site_of(request)
    try:
        spec, lifetime = _spec(form, session, datetime.now(UTC)), lifetime_of(form)
        if lifetime is not None:  # not a moment: the same form, sent again, is the same request
            spec = structs.replace(spec, expires=None)
        create = partial(
            store.create,
            secrets=site.desk.secrets(),
            lifetime=lifetime,
            longest=site.desk.longest,
            idempotency_key=form.text("repetition") or None,
        )
        actor = acting(request, session)
        created = await site.desk.write(lambda database: create(database, actor, spec))
    except (BadRequest, PermissionDenied) as error:
        return await _form(request, session, _typed(form), error)
    return await _shown_once(request, created, is_new=True)


async def edit_key(request: Request, session: Session) -> Response:
    """The form for a key that there is."""
    key = await managed_key(request, session)
    if request.method != "POST":
        return await _form(request, session, _fields(key), None, key)
    form, site, actor = await form_of(request), site_of(request), acting(request, session)
    try:
        changes = _changes(form, session, datetime.now(UTC), key)
        change = partial(store.update, longest=site.desk.longest)
        await site.desk.write(lambda database: change(database, actor, key.id, changes))
    except (BadRequest, PermissionDenied) as error:
        return await _form(request, session, _typed(form), error, key)
    return redirect(request, f"/admin/keys/{key.id}", done="changed")


async def rotate_key(request: Request, session: Session) -> Response:
    """A new secret, with the old one working on for a while."""
    key = await managed_key(request, session)
    if request.method != "POST":
        return render(request, "key-rotate.html", key=key, graces=GRACES, repetition=token_hex(16), problem=None)
    form, site, actor = await form_of(request), site_of(request), acting(request, session)
    rotate = partial(
        store.rotate,
        grace=timedelta(seconds=GRACES.get(form.text("grace"), GRACES["24h"])),
        idempotency_key=form.text("repetition") or None,
        secrets=site.desk.secrets(),
    )
    try:
        created = await site.desk.write(lambda database: rotate(database, actor, key.id))
    except (BadRequest, PermissionDenied) as error:
        values: dict[str, Any] = {"key": key, "graces": GRACES, "repetition": token_hex(16)}
        return render(request, "key-rotate.html", status=error.status, problem=said(request, error), **values)
    return await _shown_once(request, created, is_new=False)


async def revoke_key(request: Request, session: Session) -> Response:
    """The end of a key, for which its name is typed."""
    key = await managed_key(request, session)
    if request.method != "POST":
        return render(request, "key-revoke.html", key=key, problem=None)
    form, actor = await form_of(request), acting(request, session)
    if _as_seen(form.text("name")) != _as_seen(key.name):
        error = BadRequest(WRONG_NAME, param="name")
        return render(request, "key-revoke.html", status=400, key=key, problem=said(request, error))
    await site_of(request).desk.write(lambda database: store.revoke(database, actor, key.id))
    return redirect(request, f"/admin/keys/{key.id}", done="revoked")


def _as_seen(name: str) -> str:
    """A name as a page shows it and people type it: spaces in a row are one, and marks are part of their letters."""
    return " ".join(normalize("NFC", name).split())


def changed_by(name: str) -> Page:
    """The page that does one of :data:`CHANGES`: disable, enable, or end the earlier secret."""
    change, done = CHANGES[name]

    async def changed(request: Request, session: Session) -> Response:
        actor, key_id = acting(request, session), named(request, "id")
        await site_of(request).desk.write(lambda database: change(database, actor, key_id))
        return redirect(request, f"/admin/keys/{key_id}", done=done)

    return changed


# Pages


async def _shown_once(request: Request, created: Created, *, is_new: bool) -> Response:
    site = site_of(request)
    model = await site.models.example(created.key.models)
    examples = snippets(site.base_url(request), created.secret or "", model)
    return render(request, "key-secret.html", key=created.key, secret=created.secret, snippets=examples, is_new=is_new)


async def _form(
    request: Request, session: Session, fields: dict[str, Any], error: GatewayError | None, key: ApiKey | None = None
) -> Response:
    choice = partial(account_ids, chosen=fields["owner"])
    return render(
        request,
        "key-form.html",
        key=key,
        fields=fields,
        owners=await site_of(request).desk.read(choice) if session.is_admin and key is None else (),
        scopes={scope: label for scope, label in SCOPES.items() if session.is_admin or scope != ADMIN},
        **refused(request, error),
        models=await site_of(request).models.names(),
    )


# Forms


def _empty(session: Session, owner: str | None) -> dict[str, Any]:
    account = session.account
    spec = KeySpec(name="", owner=owner or account.id, models=("*",) if session.is_admin else account.models)
    return {**_spec_fields(spec), "lifetime": "90", "expires": "", "repetition": token_hex(16)}


def _fields(key: ApiKey) -> dict[str, Any]:
    day = "" if key.expires is None else (key.expires - timedelta(seconds=1)).date().isoformat()
    return {**_spec_fields(key.spec), "lifetime": "as-it-is", "expires": day, "repetition": ""}


def _spec_fields(spec: KeySpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "owner": spec.owner or "",
        "scopes": spec.scopes,
        "models": "\n".join(spec.models),
        "routes": "\n".join(spec.routes),
        "networks": "\n".join(spec.networks),
        "note": spec.note,
        **shown_limits(spec.limits),
    }


def _typed(form: Form) -> dict[str, Any]:
    """What was typed, so that nobody types it twice."""
    names = (*_spec_fields(KeySpec(name="")), "lifetime", "expires", "repetition")
    return {name: form.text(name) for name in names} | {"scopes": form.all("scopes")}


def _spec(form: Form, session: Session, now: datetime, known: str = "") -> KeySpec:
    owner = form.text("owner") if session.is_admin else session.account.id
    expires = expiry_of(form, now, known)
    return KeySpec(
        name=form.text("name"),
        owner=owner or None,
        scopes=form.all("scopes"),
        models=words(form.text("models")) or ("*",),
        routes=words(form.text("routes")) or ("*",),
        networks=words(form.text("networks")),
        expires=None if expires is UNSET else expires,
        limits=limits_of(form),
        note=form.text("note").replace("\r\n", "\n"),
    )


def _changes(form: Form, session: Session, now: datetime, key: ApiKey) -> KeyChanges:
    known = _fields(key)["expires"]
    spec, expires = _spec(form, session, now, known), expiry_of(form, now, known)
    names = ("name", "scopes", "models", "routes", "networks", "note")
    given = {name: getattr(spec, name) for name in names}
    return KeyChanges(**given, limits=LimitChanges.to(spec.limits), expires=expires)
