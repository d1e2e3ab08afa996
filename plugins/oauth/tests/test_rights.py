"""Nobody makes a key that allows more than their own: judged by what the gateway would let pass, not by the rule."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from gatewaykit.admission import matches, require
from gatewaykit.errors import BadRequest, PermissionDenied
from gatewaykit.limits import Limit
from gatewaykit.types import ADMIN, INFERENCE, KEYS, USAGE, Principal
from gatewaykit_oauth.keys.checks import checked
from gatewaykit_oauth.keys.model import Actor, KeyLimits, KeySpec
from gatewaykit_oauth.keys.rights import Holder, manages, require_covered

from .conftest import NOW

GLOBS = st.sampled_from(["*", "a*", "*b", "a?", "ab", "b", "a*b", "??"])
NETWORKS = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "2001:db8::/32", "2001:db8:1::/48", "192.0.2.0/24"]
ADDRESSES = ["10.1.2.3", "10.1.9.9", "10.9.9.9", "192.0.2.7", "2001:db8:1::5", "2001:db8:2::5"]
SCOPES = [INFERENCE, USAGE, KEYS, ADMIN]
MOMENTS = [None, NOW + timedelta(days=1), NOW + timedelta(days=30)]
AMOUNTS = st.sampled_from([None, 0, 5, 10])
LIMITS = st.builds(
    KeyLimits,
    rpm=AMOUNTS,
    tpm=AMOUNTS,
    concurrency=AMOUNTS,
    budget=AMOUNTS,
    budget_period=st.sampled_from(["day", "month"]),
)
SPECS = st.builds(
    KeySpec,
    name=st.just("child"),
    owner=st.sampled_from([None, "ann", "bob"]),
    scopes=st.lists(st.sampled_from(SCOPES), min_size=1, max_size=4, unique=True).map(tuple),
    models=st.lists(GLOBS, min_size=1, max_size=3).map(tuple),
    routes=st.lists(GLOBS, min_size=1, max_size=2).map(tuple),
    networks=st.lists(st.sampled_from(NETWORKS), max_size=2).map(tuple),
    expires=st.sampled_from(MOMENTS),
    limits=LIMITS,
)
ACCOUNTS = st.fixed_dictionaries({"ann": LIMITS, "bob": LIMITS})


def holder_of(spec: KeySpec, shared: tuple[Limit, ...]) -> Holder:
    """Somebody with a key of this kind."""
    limits = (*spec.limits.limits("key:key_parent"), *shared)
    principal = Principal(
        id="key_parent",
        owner=spec.owner or "",
        models=spec.models,
        routes=spec.routes,
        scopes=frozenset(spec.scopes),
        limits=limits,
    )
    return Holder(principal, spec.networks, spec.expires, limits)


def passes(spec: KeySpec, shared: tuple[Limit, ...], asked: dict[str, Any]) -> bool:
    """Whether a request like ``asked`` would pass with a key of this kind."""
    networks = [ipaddress.ip_network(network) for network in spec.networks]
    limits = (*spec.limits.limits("key:"), *shared)
    used = {"requests": 6, "tokens": 6, "concurrency": 6, "money": 6}
    try:
        require(Principal("key", scopes=frozenset(spec.scopes), routes=spec.routes), asked["scope"], asked["path"])
    except PermissionDenied:
        return False
    return (
        matches(spec.models, asked["model"])
        and (not networks or any(ipaddress.ip_address(asked["address"]) in network for network in networks))
        and (spec.expires is None or asked["moment"] < spec.expires)
        and all(used[limit.unit] * asked["many"] <= limit.amount for limit in limits)
    )


REQUESTS = st.fixed_dictionaries(
    {
        "scope": st.sampled_from(SCOPES),
        "path": st.text("ab", max_size=4),
        "model": st.text("ab", max_size=4),
        "address": st.sampled_from(ADDRESSES),
        "moment": st.sampled_from([NOW, NOW + timedelta(days=2), NOW + timedelta(days=60)]),
        "many": st.sampled_from([0, 1, 2]),
    }
)


@given(SPECS, SPECS, ACCOUNTS, st.lists(REQUESTS, min_size=5, max_size=30))
def test_what_the_child_allows_the_parent_allows(
    parent: KeySpec, child: KeySpec, accounts: dict[str, KeyLimits], requests: list[dict[str, Any]]
) -> None:
    """Every request that passes with a key that somebody was allowed to make would have passed with their own."""
    of_parent = accounts[parent.owner].limits(f"user:{parent.owner}") if parent.owner else ()
    of_child = accounts[child.owner].limits(f"user:{child.owner}") if child.owner else ()
    try:
        require_covered(holder_of(parent, of_parent), child, (*child.limits.limits("key:"), *of_child))
    except PermissionDenied as error:
        event(f"refused: {error.param}")
        return
    event("allowed")
    assert ADMIN in parent.scopes or (child.owner is not None and child.owner == parent.owner)
    for asked in requests:
        assert passes(parent, of_parent, asked) or not passes(child, of_child, asked)


@given(SPECS, ACCOUNTS)
def test_an_equal_key_may_be_made(spec: KeySpec, accounts: dict[str, KeyLimits]) -> None:
    """The rule refuses no key that is the same as the one that makes it, if that has an owner."""
    assume(spec.owner is not None)
    shared = accounts[spec.owner or ""].limits(f"user:{spec.owner}")
    require_covered(holder_of(spec, shared), spec, (*spec.limits.limits("key:"), *shared))


@pytest.mark.parametrize(
    ("field", "stronger"),
    [
        ("scopes", {"scopes": (INFERENCE, ADMIN)}),
        ("models", {"models": ("*",)}),
        ("routes", {"routes": ("*",)}),
        ("networks", {"networks": ()}),
        ("networks", {"networks": ("0.0.0.0/0",)}),
        ("networks", {"networks": ("::/0",)}),
        ("expires", {"expires": None}),
        ("expires", {"expires": NOW + timedelta(days=31)}),
        ("limits", {"limits": KeyLimits()}),
        ("limits", {"limits": KeyLimits(rpm=11)}),
        ("owner", {"owner": None}),
        ("owner", {"owner": "bob"}),
    ],
)
def test_each_way_to_be_stronger_is_refused_by_name(field: str, stronger: dict[str, Any]) -> None:
    """The refusal names the field that allows too much."""
    spec = {
        "name": "key",
        "owner": "ann",
        "scopes": (INFERENCE, KEYS),
        "models": ("gpt-*",),
        "routes": ("/v1/*",),
        "networks": ("10.0.0.0/8",),
        "expires": NOW + timedelta(days=30),
        "limits": KeyLimits(rpm=10),
    }
    holder = holder_of(KeySpec(**spec), ())
    require_covered(holder, KeySpec(**spec), holder.limits)
    other = KeySpec(**{**spec, **stronger})
    with pytest.raises(PermissionDenied) as refused:
        require_covered(holder, other, other.limits.limits("key:"))
    assert refused.value.param == field


def test_who_manages_what() -> None:
    """The operator and admins manage all keys, others those of their own account, and who has none manages none."""
    assert manages(Actor("cli"), None)
    assert manages(Actor("a", Principal("a", scopes=frozenset({ADMIN}))), "ann")
    assert manages(Actor("a", Principal("a", owner="ann")), "ann")
    assert not manages(Actor("a", Principal("a", owner="ann")), "bob")
    assert not manages(Actor("a", Principal("a", owner="ann")), None)
    assert not manages(Actor("a", Principal("a")), None)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("name", ""),
        ("name", " "),
        ("name", "x" * 101),
        ("name", "a\nb"),
        ("name", "a\0"),
        ("name", "\ud800"),
        ("owner", "ann bob"),
        ("owner", "a:b"),
        ("scopes", ()),
        ("scopes", ("root",)),
        ("models", ()),
        ("models", ("",)),
        ("models", ("a" * 129,)),
        ("models", ("*" * 9,)),
        ("models", ("[a]",)),
        ("models", tuple(f"m{number}" for number in range(65))),
        ("routes", ("/v1/\0",)),
        ("networks", ("10.0.0.1/8",)),
        ("networks", ("example.org",)),
        ("expires", NOW),
        ("expires", NOW.replace(tzinfo=None) + timedelta(days=1)),
        ("expires", NOW.replace(year=9999)),
        ("limits", KeyLimits(rpm=-1)),
        ("limits", KeyLimits(budget=2**60)),
        ("note", "x" * 1001),
        ("note", "\x1b[31m"),
    ],
)
def test_what_a_key_cannot_be_is_refused_by_name(field: str, wrong: Any) -> None:
    """Each fault of a specification names its field."""
    with pytest.raises(BadRequest) as refused:
        checked(KeySpec(**{"name": "mine", field: wrong}), NOW)
    assert refused.value.param == field


def test_a_good_specification_is_put_in_order() -> None:
    """Repetitions go, networks are written in one way, and a moment is in UTC."""
    spec = checked(
        KeySpec(name="mine", models=("a", "a"), networks=("192.0.2.1", "2001:DB8::/32", "192.0.2.1/32")), NOW
    )
    assert spec.models == ("a",)
    assert spec.networks == ("192.0.2.1/32", "2001:db8::/32")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_an_ipv4_network_is_one_however_it_is_written(written: str, meant: str) -> None:
    """As IPv6 it would match nobody: addresses of clients are taken for what they are."""
    assert checked(KeySpec(name="mine", networks=(written,)), NOW).networks == (meant,)
