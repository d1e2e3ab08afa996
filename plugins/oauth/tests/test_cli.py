"""Keys by the command line, as a person sees it: words, columns and colours, and a secret that is printed once."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import unicodedata
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from gatewaykit.testing import program, running
from gatewaykit_oauth.keys.cli_values import amount, expiry, money, show_ago, show_money, show_span, span
from gatewaykit_oauth.tables import KeyRow

from .surfaces import Api, Place
from .test_oauth_cli import done, run

SECRET = re.compile(r"gk_live_\w{42}")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def made(place: Place, name: str = "mine", *options: str) -> str:
    """The id of a new key."""
    done = place.run("keys", "create", name, *options, "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


def shown(place: Place, *arguments: str) -> str:
    """What a command that succeeds prints."""
    done = place.run(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def on_terminal(place: Place, *arguments: str, **environ: str) -> str:
    """What a command prints on a terminal."""
    ours, theirs = pty.openpty()
    with Path(os.devnull).open("rb") as nothing:
        process = program.start(
            arguments,
            folder=place.folder,
            environ=place.environ(TERM="xterm-256color", COLUMNS="160", **environ),
            streams=(nothing.fileno(), theirs, theirs),
        )
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 4096):
            said += piece
    except OSError:
        pass  # so a terminal ends
    os.close(ours)
    assert process.wait(60) == 0, said
    return said.decode()


# The secret


def test_a_new_key_is_printed_once_with_a_line_that_works(place: Place) -> None:
    """As it stands it can be pasted: the gateway takes the key. No server ran when it was made."""
    text = shown(place, "keys", "create", "Отдел продаж", "--note", "for tests")
    (secret, again) = SECRET.findall(text)
    assert secret == again
    (line,) = [line for line in text.splitlines() if line.startswith("curl ")]
    curl, *arguments = shlex.split(line)
    with running(place.gateway()) as address:
        arguments = [argument.replace("http://127.0.0.1:8080", address) for argument in arguments]
        done = subprocess.run([curl, *arguments], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["object"] == "list"
    for command in (["list"], ["show", key_of(text)], ["audit"], ["list", "--json"], ["audit", "--json"]):
        assert not SECRET.search(shown(place, "keys", *command))


def key_of(text: str) -> str:
    found = re.search(r"key_\w{20}", text)
    assert found
    return found[0]


@pytest.mark.parametrize(("scope", "path"), [("admin", "/api/admin/keys"), ("usage", "/v1/usage")])
def test_the_line_fits_what_the_key_may_do(place: Place, scope: str, path: str) -> None:
    """A key that calls no models gets another request to try."""
    assert f"curl -s http://127.0.0.1:8080{path} " in shown(place, "keys", "create", "x", "--scope", scope)


def test_a_rotation_prints_the_new_secret_and_when_the_old_one_ends(place: Place) -> None:
    """And a repetition says that there is nothing to print."""
    key_id = made(place)
    text = shown(place, "keys", "rotate", key_id, "--grace", "1h", "--idempotency-key", "r")
    assert len(SECRET.findall(text)) == 2
    assert "the old secret works until" in text
    again = shown(place, "keys", "rotate", key_id, "--grace", "1h", "--idempotency-key", "r")
    assert not SECRET.search(again)
    assert "works no more" in shown(place, "keys", "rotate", key_id, "--grace", "0")


# What is seen


def test_lists_are_aligned_and_without_colours_in_a_pipe(place: Place) -> None:
    """Every row has its columns where the heading has them."""
    made(place, "short")
    made(place, "a name that is rather longer", "--expires", "never")
    made(place, "имя")
    text = shown(place, "keys", "list")
    heading, *rows = text.splitlines()
    assert len(rows) == 3
    assert "\x1b" not in text
    for column, pattern in {"name": r"[^ ]", "secret": "gk_live_…", "expires": "in 90d|never"}.items():
        at = heading.index(column)
        assert all(re.match(pattern, row[at:]) for row in rows), text
        assert all(row[at - 2 : at] == "  " for row in rows), text


def test_colours_are_for_terminals_alone(place: Place) -> None:
    """And for those not, who do not want them (no-color.org)."""
    key_id = made(place)
    assert "\x1b[32m✓" in on_terminal(place, "keys", "list")
    assert "\x1b" not in on_terminal(place, "keys", "list", NO_COLOR="1")
    assert "\x1b[1m" + key_id in on_terminal(place, "keys", "show", key_id)


def test_names_cannot_break_a_terminal(place: Place) -> None:
    """A row that came into the database by another way: no control character, no second line, no turned direction."""
    key_id = made(place)
    evil = 'x\n✓ key_0  forged\r\x1b[2J\x1b]0;title\x07\u202e\u2028\x9b31m\t",=cmd()'
    storage = place.gateway().storage
    assert storage is not None
    with storage.opened(), storage.transaction() as session:
        session.execute(update(KeyRow).values(name=evil, note=evil, owner=None, created_by=evil))
    for arguments in (
        ["list"],
        ["show", key_id],
        ["audit"],
        ["disable", key_id],
        ["list", "--json"],
        ["audit", "--json"],
    ):
        text = shown(place, "keys", *arguments)
        bad = {letter for letter in text if unicodedata.category(letter) in {"Cc", "Cf", "Zl", "Zp"}} - {"\n"}
        assert not bad, (arguments, bad)
    assert len(shown(place, "keys", "list").splitlines()) == 2
    assert json.loads(shown(place, "keys", "show", key_id, "--json"))["name"] == evil


def test_a_long_list_says_that_there_is_more(place: Place) -> None:
    """``--all`` shows it, also as JSON."""
    with running(place.gateway()) as address, Api(address) as api:
        for number in range(5):
            api.create(f"key {number}")
    assert "There are more" in shown(place, "keys", "list", "--limit", "2")
    assert len(shown(place, "keys", "list", "--limit", "2", "--all").splitlines()) == 6
    document = json.loads(shown(place, "keys", "list", "--limit", "2", "--all", "--json"))
    assert (len(document["items"]), document["next"]) == (5, None)
    assert [item["name"] for item in document["items"]] == [f"key {number}" for number in (4, 3, 2, 1, 0)]


def test_the_show_of_a_key_tells_all_of_it(place: Place) -> None:
    """Limits by name, money in decimals."""
    options = ["--rpm", "100", "--concurrency", "3", "--budget", "100.50", "--budget-period", "week"]
    text = shown(
        place, "keys", "show", made(place, "told", *options, "--model", "GigaChat*", "--network", "10.0.0.0/8")
    )
    assert "limits     rpm 100, concurrency 3, budget 100.50 a week" in text
    assert "models     GigaChat*" in text
    assert "networks   10.0.0.0/8" in text
    assert "scopes     inference, usage" in text
    assert re.search(r"expires +in 90d", text)


# What is changed


def test_an_update_changes_what_was_said_and_nothing_else(place: Place) -> None:
    """Limits one by one; ``none`` takes one away; lists are replaced; ``any`` empties the networks."""
    key_id = made(place, "mine", "--rpm", "5", "--tpm", "6", "--budget", "7", "--network", "10.0.0.0/8", "--note", "n")
    options = ["--rpm", "none", "--budget", "0.000001", "--network", "any", "--model", "a*", "--model", "b"]
    changed = json.loads(shown(place, "keys", "update", key_id, *options, "--expires", "never", "--json"))
    assert changed["limits"] == {"tpm": 6, "budget": 1}
    assert (changed["networks"], changed["models"], changed["note"]) == ([], ["a*", "b"], "n")
    assert changed["expires"] is None


def test_accounts_are_listed_with_what_they_may_use(place: Place) -> None:
    """And stop all their keys when they are disabled."""
    shown(place, "accounts", "create", "team", "--kind", "service", "--budget", "1000", "--rpm", "9")
    made(place, "of the team", "--owner", "team")
    assert re.search(r"✓ team  service .* rpm 9, budget 1000\.00 a month", shown(place, "accounts", "list"))
    shown(place, "accounts", "update", "team", "--longest-access", "1d")
    assert re.search(r"budget 1000\.00 a month, access 1d", shown(place, "accounts", "list"))
    shown(place, "accounts", "update", "team", "--longest-access", "none")
    assert "access" not in shown(place, "accounts", "list")
    assert "and so are all its keys" in shown(place, "accounts", "disable", "team")
    assert "– team" in shown(place, "accounts", "show", "team")


# What is refused


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["keys", "show", "nope"], 1, "✗ There is no such key."),
        (["keys", "create", "x", "--owner", "nobody"], 1, "✗ There is no such account."),
        (["keys", "create", "x\ny"], 1, "✗ The name must be 1 to 100 printable characters."),
        (["keys", "create", "x", "--network", "10/8"], 1, "✗ A network is an address"),
        (["keys", "create", "x", "--expires", "2001-01-01"], 1, "must be in the future"),
        (["keys", "rotate", "key_0", "--grace", "40d"], 1, "0 seconds to 30 days"),
        (["keys", "create", "x", "--budget", "1e3"], 2, "'1e3' is not an amount"),
        (["keys", "create", "x", "--expires", "soon"], 2, "'soon' is not 90d, 2027-01-01"),
        (["keys", "create", "x", "--scope", "boss"], 2, "'boss' is not one of"),
        (["keys", "create", "x", "--rpm", "-5"], 2, "'-5' is not a whole number"),
        (["keys", "create"], 2, "Missing argument 'NAME'"),
        (["keys", "update", "key_0"], 2, "Nothing to change"),
        (["keys", "update", "key_0", "--rpm", "5"], 1, "There is no such key."),
        (["keys", "revoke"], 2, "Say either IDs or --owner."),
        (["keys", "revoke", "key_0"], 2, "Nobody is there to ask; say --yes."),
    ],
)
def test_mistakes_are_told_in_plain_words(place: Place, arguments: list[str], code: int, said: str) -> None:
    """On standard error, without a traceback; 2 for what cannot be meant, 1 for what cannot be done."""
    done = place.run(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_update_of_nothing_is_a_mistake(place: Place) -> None:
    """Rather than a change that changes nothing."""
    done = place.run("keys", "update", made(place))
    assert (done.returncode, done.stdout) == (2, "")
    assert "Nothing to change" in done.stderr


def test_without_a_database_there_are_no_keys(tmp_path: Path) -> None:
    """The command names the setting; so does one that finds another pepper than the keys were made with."""
    place = Place(tmp_path)
    made(place)
    (tmp_path / "empty.toml").write_text("")
    without = place.run("keys", "list", "--config", "empty.toml")
    assert (without.returncode, without.stdout) == (1, "")
    assert "database.url" in without.stderr
    (tmp_path / "gatewaykit.db.pepper").write_text("0" * 64)
    done = place.run("keys", "create", "x")
    assert done.returncode == 1
    assert "not the one with which the stored keys were digested" in done.stderr


# What people type


@given(st.integers(0, 999_999_999), st.integers(0, 999_999), st.integers(0, 6))
def test_money_is_read_and_shown_without_rounding(whole: int, micro: int, digits: int) -> None:
    """Whatever the number of decimals; what is shown can be typed again."""
    fraction = f"{micro:06}"[:digits]
    text = f"{whole}.{fraction}" if fraction else str(whole)
    read = money(text)
    assert read == int(Decimal(text) * 10**6)
    assert money(show_money(int(read))) == read


@given(st.text(max_size=12))
def test_what_is_no_amount_is_refused_in_words(text: str) -> None:
    """With a message that repeats it; never with another error."""
    for read in (amount, money, span, expiry):
        try:
            read(text)
        except click.BadParameter as error:
            message = error.message
        else:
            continue
        assert repr(text) in message


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2031-02-03", datetime(2031, 2, 3, tzinfo=UTC)),
        ("2031-02-03T04:05:06Z", datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)),
        ("2031-02-03T04:05+03:00", datetime(2031, 2, 3, 1, 5, tzinfo=UTC)),
        ("never", "never"),
    ],
)
def test_moments_are_read(text: str, moment: object) -> None:
    """A date is its first moment in UTC; a time needs its zone."""
    assert expiry(text) == moment
    with pytest.raises(click.BadParameter):
        expiry("2031-02-03T04:05:06")


def test_lengths_of_time_are_read_and_shown() -> None:
    """In the largest unit that fits."""
    assert [span(text) for text in ("0", "90s", "24h", "2w")] == [
        timedelta(),
        timedelta(seconds=90),
        timedelta(days=1),
        timedelta(days=14),
    ]
    assert [show_span(timedelta(**given)) for given in ({"days": 400}, {"days": 89, "hours": 23}, {"seconds": 61})] == [
        "1y",
        "90d",
        "1m",
    ]
    now = datetime(2031, 1, 1, tzinfo=UTC)
    assert show_ago(now + timedelta(hours=5), now) == "in 5h"
    assert show_ago(now - timedelta(seconds=5), now) == "5s ago"
    assert abs((expiry("90d") - datetime.now(UTC)) - timedelta(days=90)) < timedelta(seconds=5)


def test_keys_end_together(place: Place) -> None:
    """Those that are named or all of an account; one that is not there keeps all of them as they are."""
    done(place, "accounts", "create", "ann")
    ids = [done(place, "keys", "create", name, "--owner", "ann")["id"] for name in "abc"]
    assert run(place, "keys", "revoke", ids[0], "key_0", "--yes").exit_code == 1
    assert done(place, "keys", "show", ids[0])["status"] == "active"
    revoked = done(place, "keys", "revoke", ids[1], ids[0], "--yes")["items"]
    assert [(key["id"], key["status"]) for key in revoked] == [(ids[1], "revoked"), (ids[0], "revoked")]
    assert [key["id"] for key in done(place, "keys", "revoke", "--owner", "ann", "--yes")["items"]] == ids[2:]
    assert done(place, "keys", "revoke", "--owner", "ann", "--yes")["items"] == []
    assert run(place, "keys", "revoke", "--owner", "nobody", "--yes").exit_code == 1


def test_a_repetition_makes_no_other_key(place: Place) -> None:
    """The second time there is the same key, without its secret."""
    first, second = (done(place, "keys", "create", "x", "--idempotency-key", "once") for _ in range(2))
    assert first["secret"]
    assert (second["id"], second["secret"]) == (first["id"], None)


def test_limits_that_are_not_named_stay(place: Place) -> None:
    """Of a key and of an account; "none" takes one away."""
    key = done(place, "keys", "create", "x", "--rpm", "100", "--budget", "5")
    assert done(place, "keys", "update", key["id"], "--rpm", "120")["limits"] == {"rpm": 120, "budget": 5_000_000}
    assert done(place, "keys", "update", key["id"], "--budget", "none")["limits"] == {"rpm": 120}
    done(place, "accounts", "create", "ann", "--tpm", "9")
    assert done(place, "accounts", "update", "ann", "--rpm", "1")["limits"] == {"rpm": 1, "tpm": 9}
