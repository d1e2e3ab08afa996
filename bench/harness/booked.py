"""The gateway with keys from a database, every limit and the ledger: its database, its configuration, its process."""

from __future__ import annotations

import http.client
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .build import HERE
from .failures import SubjectError
from .lab import Lab, Running
from .subjects import Exchange, Launch, Subject, exchange, gateway_config, gateways, own_python, serve

PLAIN = "passthrough"
MEMORY, DATABASE, REDIS = "books-memory", "books-database", "books-redis"
LABELS = {
    PLAIN: "static key, nothing else",
    MEMORY: "all, limits in memory",
    DATABASE: "all, limits in SQLite",
    REDIS: "all, limits in Redis",
}
OWN_LIMITS = 12
PLENTY = 10**10


@dataclass(frozen=True)
class Books:
    """What a database holds of the calls that were answered with 200."""

    records: int
    priced: int
    keys: int


def prepare(directory: Path) -> str:
    """Makes an SQLite database and 100 keys; the path of a Redis server, or nothing where none is installed."""
    argv = [own_python(), str(HERE / "installation.py"), str(directory)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SubjectError(f"no keys could be made: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def keys_of(directory: Path) -> Path:
    """The file with the keys, one a line."""
    return directory / "keys.txt"


def plain() -> Subject:
    """The gateway without any of it."""
    return next(subject for subject in gateways() if subject.name == PLAIN)


def booked(name: str, directory: Path) -> Subject:
    """The gateway with all of it and a copy of the database of its own; `name` says what counts its limits."""

    def command(launch: Launch) -> list[str]:
        shutil.copyfile(directory / "books.db", database(directory, name))
        return serve(launch, name, gateway_config(launch) + additions(directory, name))

    key = keys_of(directory).read_text().split()[0]
    return Subject(name, LABELS[name], exchange("gpt-test", (f"Authorization: Bearer {key}",)), command)


def database(directory: Path, name: str) -> Path:
    """The database of one gateway; its outbox is beside it."""
    return directory / f"{name}.db"


def additions(directory: Path, name: str) -> str:
    """Configuration for keys, limits on everything, prices and the ledger. What is the key's own is in the database."""
    limits = f'rpm = {PLENTY}\nrpd = {PLENTY}\ntpm = {PLENTY}\ntpd = {PLENTY}\nconcurrency = {PLENTY}\nbudget = "1e6"\n'
    redis = f'[redis]\nurl = "unix://{directory}/redis.sock"\n' if name == REDIS else ""
    return f"""
[database]
url = "sqlite:///{database(directory, name)}"

[keys]
pepper = "{(directory / "pepper.txt").read_text()}"

[limits]
store = "{name.removeprefix("books-")}"
[limits.all]
{limits}
[limits.models."gpt-*"]
{limits}
{redis}
[[prices.models]]
model = "*"
input = "100"
output = "200"
"""


def ensure_limited(running: Running) -> None:
    """SubjectError unless an answer tells of every limit of the key and its account: figures without are worthless."""
    told = header_of(running.port, running.subject.exchange, "ratelimit-policy").count(";q=")
    if told != OWN_LIMITS:
        raise SubjectError(f"the key is under {told} limits of its own, not {OWN_LIMITS}")


def header_of(port: int, asked: Exchange, name: str) -> str:
    """One header of the answer to a chat request; empty when it is not there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", asked.path, asked.body, dict(line.split(": ", 1) for line in asked.headers))
        return connection.getresponse().headers.get(name, "")
    finally:
        connection.close()


def books_of(lab: Lab, name: str) -> Books:
    """What one gateway's database holds now."""
    connection = sqlite3.connect(f"file:{database(lab.directory, name)}?mode=ro", uri=True, timeout=10)
    try:
        question = "SELECT count(*), count(spend), count(DISTINCT principal) FROM call_records WHERE status = 200"
        found: Sequence[int] = connection.execute(question).fetchone()
    finally:
        connection.close()
    return Books(*found)
