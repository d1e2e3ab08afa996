"""``gatewaykit routes explain``."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click

from gatewaykit.builtin.router.asking import Explainer, Question
from gatewaykit.builtin.router.router import ModelRouter
from gatewaykit.builtin.router.settings import RouterSettings
from gatewaykit.commands import bad, config_option, configured, json_option, note, print_json, print_table, visible
from gatewaykit.errors import ConfigError, ConfigFault, GatewayError

_PATIENCE = 30.0


@click.group()
def routes() -> None:
    """Look at the routing table."""


@routes.command("explain")
@click.argument("model", default="")
@config_option
@click.option("--key", default="", help="Id of the key that asks, or its beginning.")
@click.option("--tenant", default="", help="Tenant that asks.")
@click.option("--path", default="", help="Path that is asked: that of chat completions.")
@click.option("--client", default="", help="Address that the request comes from.")
@click.option("--prompt-tokens", type=click.IntRange(0), help="Length of the prompt.")
@click.option("--max-tokens", type=click.IntRange(1), help="Most tokens of the answer, as the client asks for them.")
@click.option("--session", default="", help="The client's name for the conversation.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A request header; repeat it for more.")
@click.option("--tools", is_flag=True, help="The request offers tools.")
@click.option("--images", is_flag=True, help="The request has images.")
@click.option("--stream", is_flag=True, help="The request is streamed.")
@click.option("--request-id", default="", help="Explain a past request, from the ledger.")
@click.option(
    "--gateway", "url", metavar="URL", help="Ask the running gateway at this address: it knows circuits and limits."
)
@click.option(
    "--api-key", envvar="GATEWAYKIT_ADMIN_KEY", help="Key with the scope admin, for --gateway.", show_envvar=True
)
@json_option
def explain_command(
    config: Path | None, url: str | None, api_key: str | None, as_json: bool, headers: tuple[str, ...], **asked: Any
) -> None:
    """Say where a request for MODEL would go, why, and whether its key and the limits let it in; nobody is called.

    Without --gateway the configuration, the database and Redis are asked: no circuit is open, no provider has listed
    its models, and what is counted in the memory of a gateway stands at 0.
    """
    pairs = [header.partition("=") for header in headers]
    question = Question(**asked, headers={name: value for name, _, value in pairs})
    document = _remote(url, api_key or "", question) if url else _local(config, question)
    if as_json:
        print_json(document)
    else:
        _tell(document)


def _local(config: Path | None, question: Question) -> Any:
    gateway = configured(config)
    router = ModelRouter(gateway.settings.get(RouterSettings), gateway)

    async def asked() -> Any:
        async with AsyncExitStack() as stack:
            for opened in (gateway.storage, gateway.redis):
                if opened is not None:
                    await stack.enter_async_context(opened.lifespan())
            return await Explainer(router, gateway).explained(question)

    return asyncio.run(asked())


def _remote(url: str, key: str, question: Question) -> Any:
    import msgspec

    from gatewaykit.http import control_client, translated_errors

    async def asked() -> tuple[int, bytes]:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        with translated_errors():
            async with control_client(headers=headers, timeout=_PATIENCE) as client:
                answer = await client.post(
                    f"{url.rstrip('/')}/api/admin/routes/explain", content=msgspec.json.encode(question)
                )
                return answer.status_code, answer.content

    try:
        status, content = asyncio.run(asked())
    except GatewayError as error:
        raise ConfigError([ConfigFault(f"does not answer: {error.detail}", url)]) from error
    if status != 200:
        raise ConfigError([ConfigFault(f"answers {status}{_why(content)}", url)])
    return msgspec.json.decode(content)


def _why(content: bytes) -> str:
    """What the gateway says of its refusal, as far as it is a gateway of ours that says something."""
    import msgspec

    try:
        return f": {visible(str(msgspec.json.decode(content)['error']['message']))}"
    except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, TypeError):
        return ""


def _tell(document: dict[str, Any]) -> None:
    for rule in document["rules"]:
        unmet = "; ".join(visible(text) for text in rule["unmet"])
        note(f"rule {rule['rule']} → {visible(rule['to'])}: {f'wants {unmet}' if unmet else 'fits'}")
    if (key := document["key"]) is not None:
        note(_key_line(key))
    click.echo(f"{visible(document['model'])} is served by {visible(document['serves'])} ({document['strategy']})")
    order = document["order"]
    rows = []
    for line in document["candidates"]:
        place = str(order.index(line["target"]) + 1) if line["target"] in order and not line["dropped"] else "–"
        why = line["dropped"] or f"circuit {line['circuit']}, {line['in_flight']} in flight"
        rows.append((place, visible(line["target"]), why))
    print_table(rows, padded=2)
    print_table([_limit_row(line) for line in document["limits"]], padded=2)
    for attempt in document.get("past", {}).get("attempts", ()):
        click.echo(f"{visible(attempt['target'])}: {attempt['error'] or 'answered'} after {attempt['seconds']:.3f} s")
    if (refused := document["refused"]) is not None:
        bad(f"Nobody would be asked: {refused['status']} {refused['code']}. {visible(refused['message'])}")


def _key_line(key: dict[str, Any]) -> str:
    if not key["known"]:
        return f"key {visible(key['id'])}: nobody knows it; its rights and limits are not looked at"
    owner = f" of {visible(key['owner'])}" if key["owner"] else ""
    models = ", ".join(visible(model) for model in key["models"])
    networks = f"; only from {', '.join(visible(network) for network in key['networks'])}" if key["networks"] else ""
    rights = f"scopes {', '.join(key['scopes'])}; models {models}{networks}"
    return f"key {visible(key['id'])} ({visible(key['name'])}){owner}: {rights}"


def _limit_row(line: dict[str, Any]) -> tuple[str, str, str]:
    room = "fits" if line["fits"] else "full"
    resets = "" if line["resets_in"] is None else f", all of it back in {line['resets_in']} s"
    left = f"{line['remaining']} of {line['amount']} left, {line['charge']} asked for{resets}"
    return room, f"{line['limit']} of {line['of']}", left
