"""``gatewaykit demo``: a gateway in front of the sandbox, so that the first request needs no account anywhere."""

from __future__ import annotations

import secrets

import click

from gatewaykit import Gateway
from gatewaykit.serving import GatewayServer

from .sandbox import B2B, running_sandbox

MODEL = "GigaChat-2"


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port to listen on; without it a free one.")
def demo(port: int) -> None:
    """Start a gateway and a local GigaChat, and print an address, a key and a curl line.

    Nothing is kept, and nothing leaves this machine.
    """
    key = f"gk_demo_{secrets.token_urlsafe(24)}"
    with running_sandbox() as sandbox:
        gateway = Gateway(
            {
                "server": {"port": port},
                "static_keys": {"keys": {"demo": key}},
                "gigachat": {
                    "base_url": sandbox.base_url,
                    "auth_url": sandbox.auth_url,
                    "credentials": sandbox.key(B2B),
                    "scope": B2B,
                },
                "log": {"level": "warning"},
            },
            environ={},
        )
        server = GatewayServer(gateway)
        server.run(on_ready=lambda: click.echo(greeting(server.address, key)))


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
