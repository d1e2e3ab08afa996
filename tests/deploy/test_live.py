"""A real Prometheus and a real Alertmanager watch a real gateway: every expression has data, and a death is told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import trustme
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from gatewaykit.testing import Upstream, until
from gatewaykit.testing.servers import redis_program, redis_server
from gatewaykit_gigachat.sandbox import B2B, running_sandbox

from ..cli.conftest import Place, Running
from ..e2e import openai_upstream
from .conftest import DEPLOY, program
from .expressions import expressions, in_plain_promql, rules

KEY, LIMITED = "operator-canary-0a1b2c3d4e5f", "limited-canary-0a1b2c3d4e5f"
TOKEN = "scrape-token-0a1b2c3d4e5f"
PASSWORD = "mail-password-0a1b2c3d"
PATIENCE = 60
CONFIG = """
[server]
workers = 2
tls_certfile = "{folder}/server.pem"
[keys]
pepper = "pepper-canary-0a1b2c3d4e5f60718293a4b5c6d7"
[metrics]
token = "{token}"
keys = true
[database]
url = "sqlite:///{folder}/books.db"
[redis]
url = "{redis}"
timeout = 1.0
[static_keys.keys]
operator = "{key}"
limited = "{limited}"
[limits.each_key]
budget = 1000
[limits.keys."static:limited"]
rpm = 1
[router.aliases]
either = ["broken/gpt-sandbox", "openai/gpt-small"]
remembered = ["openai/gpt-small"]
[router.models.mirrored]
targets = [{{ to = "openai/gpt-small" }}]
mirror = {{ to = "broken/gpt-sandbox" }}
[prices]
currency = "RUB"
[[prices.models]]
model = "*/*"
input = "10"
output = "20"
[plugins]
blocked = {blocked}
[gigachat]
base_url = "{sandbox.base_url}"
auth_url = "{sandbox.auth_url}"
credentials = "{gigachat}"
scope = "GIGACHAT_API_B2B"
balance_interval = 1
[backup]
every = 24
[cache]
enabled = true
models = ["remembered"]
[openai.upstreams.openai]
base_url = "{upstream}/v1"
api_key = "{credential}"
ca_bundle_file = "{folder}/authority.pem"
[openai.upstreams.broken]
base_url = "{upstream}/v1"
api_key = "wrong"
models = ["gpt-sandbox"]
"""
FAILING = """
from gatewaykit import Observer, hookimpl

class Failing(Observer):
    name = "failing"

    def record(self, record):
        raise RuntimeError("on purpose")

@hookimpl
def gateway_observers(gateway):
    return [Failing()]
"""


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def running(folder: Path, *command: object) -> Iterator[None]:
    """A program beside the test, with its output in a file."""
    with (folder / f"{Path(str(command[0])).name}.out").open("wb") as out:
        process = subprocess.Popen(
            list(map(str, command)), cwd=folder, stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE)


class World:
    """A gateway that can be killed and started again at the same port, and Prometheus with the rules of ``deploy/``."""

    def __init__(self, place: Place, stack: ExitStack) -> None:
        self._place = place
        self._stack = stack
        self.folder = place.temporary
        self.port, self.prometheus, self.alertmanager = free_port(), free_port(), free_port()
        self.gateway = self.serve()

    @property
    def url(self) -> str:
        """Of the gateway."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def trust(self) -> ssl.SSLContext:
        """For clients."""
        return ssl.create_default_context(cafile=str(self.folder / "authority.pem"))

    def serve(self) -> Running:
        """Start the gateway."""
        self.gateway = self._stack.enter_context(self._place.start("serve", "--port", str(self.port)))
        assert self.gateway.address
        return self.gateway

    def watch(self) -> None:
        """Start Prometheus: what is shipped, but quick, at these ports, and with the token's file here."""
        text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
        config = yaml.safe_load(text)
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(self._quick_rules())]
        config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{self.alertmanager}"]
        config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] == "gatewaykit"]
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{self.port}"]
        config["scrape_configs"][0] |= {
            "scheme": "https",
            "tls_config": {"ca_file": str(self.folder / "authority.pem")},
        }
        (self.folder / "token").write_text(TOKEN)
        config["scrape_configs"][0]["authorization"]["credentials_file"] = str(self.folder / "token")
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._stack.enter_context(
            running(
                self.folder,
                program("prometheus"),
                f"--config.file={self.folder}/prometheus.yml",
                f"--storage.tsdb.path={self.folder}/data",
                f"--web.listen-address=127.0.0.1:{self.prometheus}",
            )
        )

    def _quick_rules(self) -> Path:
        """All rules in one group, with no patience where the shipped ones wait for a minute."""
        quick = [{**rule, **({"for": "1s"} if rule.get("for") == "1m" else {})} for rule in rules()]
        file = self.folder / "rules.yml"
        recorded = sorted(quick, key=lambda rule: "alert" in rule)
        file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": recorded}]}))
        return file

    async def ask(self, query: str) -> list[dict[str, Any]]:
        """What Prometheus answers now."""
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(
                f"http://127.0.0.1:{self.prometheus}/api/v1/query", data={"query": query}, timeout=PATIENCE
            )
        if answer.status_code == 503:  # it is starting
            return []
        document = answer.json()
        assert document["status"] == "success", (query, document)
        found: list[dict[str, Any]] = document["data"]["result"]
        return found

    async def alerts(self) -> set[str]:
        """The names of the alerts that fire."""
        with contextlib.suppress(httpx.TransportError):
            return {each["metric"]["alertname"] for each in await self.ask('ALERTS{alertstate="firing"}')}
        return set()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """All of it. Without its programs the test is skipped."""
    for name in ("prometheus", "prometheus-alertmanager"):
        program(name)
    place = Place(tmp_path)
    place.install("failing-plugin", "failing", FAILING)
    authority = trustme.CA()
    for folder in (place.temporary, place.folder):
        authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(place.folder / "server.pem"))
    async with Upstream(openai_upstream.serve) as upstream:
        with ExitStack() as stack:
            redis = stack.enter_context(redis_server(redis_program()))
            sandbox = stack.enter_context(running_sandbox())
            place.configure(
                CONFIG.format(
                    token=TOKEN,
                    folder=place.folder,
                    redis=redis.url,
                    key=KEY,
                    limited=LIMITED,
                    blocked=[
                        each.name
                        for each in entry_points(group="gatewaykit")
                        if each.name not in {"openai", "oauth", "gigachat"}
                    ],
                    sandbox=sandbox,
                    gigachat=sandbox.key(B2B),
                    upstream=upstream.url,
                    credential=openai_upstream.CREDENTIAL,
                )
            )
            yield World(place, stack)


CALLS = (
    ("say 5 words", "gpt-small", KEY),
    ("say 5 words", "gpt-small", LIMITED),
    ("say 5 words", "either", KEY),
    ("say 5 words", "GigaChat-2", KEY),
    ("say 5 words", "remembered", KEY),
    ("[[upstream: 500]]", "gpt-sandbox", KEY),
    ("[[upstream: close]]", "gpt-sandbox", KEY),
)


async def load(world: World, stop: asyncio.Event) -> None:
    """Calls of all kinds until ``stop``: good and bad, streams and answers in one piece, refused and falling back."""
    async with httpx.AsyncClient(base_url=world.url, timeout=PATIENCE, verify=world.trust) as client:
        while not stop.is_set():
            for (text, model, key), stream in itertools.product(CALLS, (False, True)):
                body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}
                with contextlib.suppress(httpx.TransportError):  # a worker is killed meanwhile
                    await client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
            with contextlib.suppress(httpx.TransportError):
                await client.get("/nowhere")


def kill_a_worker(world: World) -> None:
    """One of the two is replaced."""
    pid = world.gateway.process.pid
    os.kill(int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]), 9)


def with_data(expression: str) -> str:
    """An alert's expression, with comparisons that give 0 or 1 instead of nothing."""
    return re.sub(r"(?<=\s)(==|!=|>=|<=|>|<)(?=\s)", r"\1 bool", expression)


async def test_every_expression_has_data(world: World) -> None:
    """With a gateway under load and with faults, each expression of each panel and rule finds something."""
    world.watch()
    stop = asyncio.Event()
    loading = [asyncio.create_task(load(world, stop)) for _ in range(2)]
    await until(lambda: Path(f"/proc/{world.gateway.process.pid}").exists(), PATIENCE)
    asked = [in_plain_promql(expression) for expression in expressions()]
    asked += [with_data(rule["expr"]) for rule in rules()]
    for expression in asked:
        promql_parser.parse(expression)
    empty = asked
    kill_a_worker(world)
    try:
        for _ in range(3 * PATIENCE):
            with contextlib.suppress(httpx.TransportError):
                empty = [expression for expression in empty if not await world.ask(expression)]
            if not empty or all(task.done() for task in loading):
                break
            await asyncio.sleep(0.5)
    finally:
        stop.set()
        await asyncio.gather(*loading)
    assert not empty
    assert len(asked) > 140


class Sink:
    """Takes what Alertmanager sends: mail, and JSON over HTTP."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.posts: list[tuple[str, dict[str, Any]]] = []
        self.passwords: set[bytes] = set()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """One mail."""
        from email import message_from_bytes, policy

        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
        return "250 OK"

    def sign_in(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        """Everybody may, and leaves the password."""
        self.passwords.add(data.password)
        return AuthResult(success=True)

    def said(self, what: str) -> tuple[bool, bool, bool]:
        """Whether mail, Slack and Telegram have heard of it."""
        slack = [json.dumps(body, ensure_ascii=False) for path, body in self.posts if path == "/slack"]
        telegram = [
            json.dumps(body, ensure_ascii=False) for path, body in self.posts if path.startswith("/botbot-token")
        ]
        mails = [f"{mail['subject']} {mail.get_body().get_content()}" for mail in self.mails]  # type: ignore[union-attr]
        heard = [any(what in text for text in texts) for texts in (mails, slack, telegram)]
        return heard[0], heard[1], heard[2]


@pytest.fixture
def sink() -> Iterator[tuple[Sink, int, int]]:
    """Sinks, with the ports of mail and HTTP."""
    made = Sink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.posts.append((self.path, json.loads(body)))
            answer = b'{"ok": true, "result": {"message_id": 1, "chat": {"id": 1}}}'
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever, args=(0.05,))
    thread.start()
    mail = Controller(
        made,
        hostname="127.0.0.1",
        port=free_port(),
        authenticator=made.sign_in,
        auth_required=True,
        auth_require_tls=False,
        auth_exclude_mechanism=["LOGIN"],  # its prompts are not those that Alertmanager expects
    )
    mail.start()
    try:
        yield made, mail.port, web.server_address[1]
    finally:
        mail.stop()
        web.shutdown()
        thread.join()
        web.server_close()


def alertmanager(world: World, mail: int, web: int) -> None:
    """What is shipped, started by its own script, but quick and with its addresses on this machine."""
    shipped = DEPLOY / "alertmanager"
    folder = world.folder / "alertmanager"
    (folder / "templates").mkdir(parents=True)
    for template in (shipped / "templates").iterdir():
        (folder / "templates" / template.name).write_bytes(template.read_bytes())
    config = yaml.safe_load((shipped / "alertmanager.yml").read_text())
    config["global"] |= {
        "smtp_smarthost": f"127.0.0.1:{mail}",
        "smtp_require_tls": False,
        "smtp_auth_password_file": str(world.folder / "password"),
        "slack_api_url_file": str(world.folder / "slack"),
        "telegram_api_url": f"http://127.0.0.1:{web}",
    }
    config["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    secrets = {"password": PASSWORD, "slack": f"http://127.0.0.1:{web}/slack", "telegram": "bot-token"}
    for name, secret in secrets.items():
        (world.folder / name).write_text(secret)
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    environment = {
        "CONFIG_DIR": str(folder),
        "TELEGRAM_TOKEN_FILE": str(world.folder / "telegram"),
        "ALERTMANAGER": program("prometheus-alertmanager"),
        "TMPDIR": str(world.folder),
    }
    world._stack.enter_context(
        running(
            world.folder,
            "env",
            *(f"{name}={value}" for name, value in environment.items()),
            shipped / "start.sh",
            f"--storage.path={world.folder}/alerts",
            "--cluster.listen-address=",
            f"--web.listen-address=127.0.0.1:{world.alertmanager}",
        )
    )


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait until it holds."""
    for _ in range(PATIENCE * 5):
        if condition():
            return
        await asyncio.sleep(0.2)
    raise AssertionError("it did not come true in time")


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
async def test_a_death_is_told_and_so_is_a_return(world: World, sink: tuple[Sink, int, int]) -> None:
    """A gateway that is killed reaches e-mail, Slack and Telegram with the runbook's address; one that came back is
    told as resolved. Passwords and tokens come from files.
    """
    heard, mail, web = sink
    alertmanager(world, mail, web)
    world.watch()
    for _ in range(PATIENCE * 2):
        with contextlib.suppress(httpx.TransportError):
            if await world.ask('up{job="gatewaykit"} == 1'):
                break
        await asyncio.sleep(0.5)
    assert not heard.mails
    world.gateway.end(9)
    await eventually(lambda: all(heard.said("GatewayDown firing")) and all(heard.said("docs/runbooks/GatewayDown.md")))
    world.serve()
    await eventually(lambda: all(heard.said("GatewayDown resolved")))
    assert heard.passwords == {PASSWORD.encode()}
