"""``gatewaykit demo``: a gateway in front of the sandbox, so that the first request needs no account anywhere."""

from __future__ import annotations

import secrets
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from .sandbox import RunningSandbox

MODEL = "GigaChat-2"


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="Port to listen on; without it a free one."
)
def demo(port: int) -> None:
    """Start a gateway and a local GigaChat to try it with.

    Prints an address, a key and a curl line. Nothing is kept, and nothing leaves this machine.
    """
    from gatewaykit import Gateway
    from gatewaykit.logs import configure_logs
    from gatewaykit.serving.server import GatewayServer

    from .sandbox import running_sandbox

    key = f"gk_demo_{secrets.token_urlsafe(24)}"
    with TemporaryDirectory(prefix="gatewaykit-demo-") as folder, running_sandbox() as sandbox:
        gateway = Gateway(configuration(sandbox, port, key, Path(folder)), environ={})
        server = GatewayServer(gateway)
        configure_logs(gateway.settings)
        server.run(on_ready=lambda: click.echo(greeting(server.address, key)))


def configuration(sandbox: RunningSandbox, port: int, key: str, folder: Path) -> dict[str, Any]:
    """All that the gateway is told; nothing of this machine's configuration."""
    from .sandbox import B2B

    return {
        "server": {"port": port},
        "static_keys": {"keys": {"demo": key}},
        "gigachat": {
            "base_url": sandbox.base_url,
            "auth_url": sandbox.auth_url,
            "credentials": sandbox.key(B2B),
            "scope": B2B,
        },
        "database": {"url": f"sqlite:///{folder / 'demo.db'}"},
        "log": {"level": "warning"},
    }


def greeting(address: str, key: str) -> str:
    """What a newcomer needs to see: where, with which key, and a line to paste."""
    body = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Привет! Как дела?"}}]}}'
    headers = f"-H 'Authorization: Bearer {key}' -H 'Content-Type: application/json'"

    def label(text: str) -> str:
        return click.style(f"{text:8}", dim=True)

    return "\n".join(
        [
            "",
            click.style("gatewaykit demo", bold=True) + "  a gateway in front of a local GigaChat",
            "",
            f"  {label('address')} {click.style(address, fg='cyan')}",
            f"  {label('key')} {click.style(key, fg='cyan')}",
            "",
            f"curl -s {address}/v1/chat/completions {headers} -d '{body}'",
            "",
            f"  {label('Python')} OpenAI(base_url='{address}/v1', api_key='{key}')",
            f"  {label('stop')} Ctrl-C",
            "",
        ]
    )
