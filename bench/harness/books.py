"""The scenario `books`: what keys from a database, all limits and the ledger add to a call, and if they keep up."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from . import generator
from .failures import SubjectError
from .generator import Shape
from .lab import Lab, Running, say
from .plan import Plan
from .processes import Group
from .subjects import HERE, Launch, Subject, exchange, gateway_config, gateways, own_python, serve

PEPPER = "bench-0123456789abcdef0123456789abcdef"
PLENTY = 10**15
SETTLED_S = 30.0
STORES = ("memory", "database", "redis")


def books(lab: Lab, plan: Plan) -> None:
    """The gateway without keys, limits and ledger beside itself with all of them, and then a flood for its books."""
    redis = prepare(lab)
    keys = (lab.directory / "keys.txt").read_text().split()
    plain = next(subject for subject in gateways() if subject.name == "passthrough")
    stores = [store for store in STORES if store != "redis" or redis]
    subjects = [plain, *(with_books(store, keys[0]) for store in stores)]
    with redis_server(lab, redis):
        for stream in (False, True):
            variant = "streams" if stream else "answers"
            shape = Shape(connections=16, duration_s=plan.seconds, stream=stream)
            for turn in range(plan.rounds):
                say(f"books {variant}: round {turn + 1} of {plan.rounds}")
                for subject in lab.working(subjects):
                    with lab.attempt(subject):
                        running = lab.resident(subject)
                        asked = commands(lab)
                        values = lab.measure(running, shape)
                        values["redis_calls"] = (commands(lab) - asked) / values["requests"]
                        lab.results.add("books", variant, subject.name, turn, values)
        memory = with_books("memory", keys[0])
        with lab.attempt(memory):
            flood(lab, plan, lab.resident(memory), keys)


def prepare(lab: Lab) -> str:
    """Makes the database and the keys; the path of a Redis server, or nothing."""
    done = subprocess.run(
        [own_python(), str(HERE / "installation.py"), str(lab.directory)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SubjectError(f"no keys could be made: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def with_books(store: str, key: str) -> Subject:
    """The gateway with an API key from SQLite, every limit, and the ledger; `store` is what counts the limits."""

    def command(launch: Launch) -> list[str]:
        return serve(launch, f"books-{store}", gateway_config(launch) + additions(launch.directory, store))

    label = f"gateway, keys, limits in {store}, ledger"
    return Subject(f"books-{store}", label, exchange("gpt-test", (f"Authorization: Bearer {key}",)), command)


def additions(folder: Path, store: str) -> str:
    """Configuration for keys, limits on everything, prices and the ledger. Each gateway has an outbox of its own."""
    limits = f'rpm = {PLENTY}\nrpd = {PLENTY}\ntpm = {PLENTY}\ntpd = {PLENTY}\nconcurrency = {PLENTY}\nbudget = "1e9"\n'
    redis = f'[redis]\nurl = "unix://{folder}/redis.sock"\n' if store == "redis" else ""
    return f"""
[database]
url = "sqlite:///{folder}/books.db"

[keys]
pepper = "{PEPPER}"

[ledger]
outbox = "{folder}/outbox-{store}"

[limits]
store = "{store}"
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


@contextmanager
def redis_server(lab: Lab, program: str) -> Iterator[None]:
    """A Redis on the load's cores, so that a subject's CPU is its own; none without a program."""
    if not program:
        say("  no Redis server is installed: its row is left out")
        yield
        return
    argv = [program, "--port", "0", "--unixsocket", str(lab.directory / "redis.sock"), "--save", ""]
    with Group(argv, cores=lab.placement.load, log=lab.directory / "redis.log"):
        yield


def commands(lab: Lab) -> int:
    """How many commands Redis has run so far; 0 without one."""
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(str(lab.directory / "redis.sock"))
        except OSError:
            return 0
        link.sendall(b"INFO commandstats\r\n")
        size = int(link.makefile("rb").readline()[1:])
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(lab.directory / "redis.sock"))
        link.sendall(b"INFO commandstats\r\n")
        answer = link.makefile("rb")
        answer.readline()
        text = answer.read(size).decode()
    return sum(
        int(line.partition("calls=")[2].partition(",")[0])
        for line in text.splitlines()
        if "evalsha" in line.split(":")[0]
    )


def flood(lab: Lab, plan: Plan, running: Running, keys: list[str]) -> None:
    """Many keys at a fixed rate each; whether the outbox stays small, and every answered call is in the books."""
    say(f"books: {len(keys)} keys, {plan.books_rate:.0f} requests/s in all for {plan.books_seconds:.0f} s")
    before = written(lab)
    shape = Shape(connections=1, duration_s=plan.books_seconds, rate=plan.books_rate / len(keys))
    depths: list[int] = []
    with ExitStack() as stack:
        loads = [stack.enter_context(load_of(lab, running, shape, number, key)) for number, key in enumerate(keys)]
        while any(load.alive() for load in loads):
            time.sleep(0.5)
            depths.append(sum(file.stat().st_size for file in (lab.directory / "outbox-memory").iterdir()))
        answered = sum(answered_by(lab, number) for number in range(len(keys)))
    deadline = time.monotonic() + SETTLED_S
    while (found := written(lab) - before) < answered and time.monotonic() < deadline:
        time.sleep(0.2)
    half = len(depths) // 2
    values = {
        "requests": float(answered),
        "records": float(found),
        "outbox_kb_first_half": max(depths[:half], default=0) / 1000,
        "outbox_kb_second_half": max(depths[half:], default=0) / 1000,
    }
    lab.results.add("books", "flood", running.subject.name, 0, values)


def load_of(lab: Lab, running: Running, shape: Shape, number: int, key: str) -> Group:
    """The generator with one key; its report goes into a file."""
    asked = replace(
        running.subject.exchange, headers=("Content-Type: application/json", f"Authorization: Bearer {key}")
    )
    argv = generator.command(lab.programs, running.port, asked, shape)
    return Group(argv, cores=lab.placement.load, log=lab.directory / f"flood-{number}.json")


def answered_by(lab: Lab, number: int) -> int:
    """The requests that one generator got a good answer to."""
    report = generator.report_of((lab.directory / f"flood-{number}.json").read_text())
    return int(report["requests"] - report["non_200"])


def written(lab: Lab) -> int:
    """Records in the database."""
    with sqlite3.connect(f"file:{lab.directory}/books.db?mode=ro", uri=True) as connection:
        (count,) = connection.execute("SELECT count(*) FROM call_records WHERE status = 200").fetchone()
    return int(count)
