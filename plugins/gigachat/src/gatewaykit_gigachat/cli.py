"""The command ``gatewaykit-gigachat``."""

from __future__ import annotations

from contextlib import suppress

import click

from .sandbox import PERS, RunningSandbox, SandboxServer, SandboxSettings, bound_socket, create_sandbox, url_of


@click.group()
def main() -> None:
    """Tools around the GigaChat provider."""


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 chooses a free one.")
@click.option(
    "--token-lifetime",
    default=1800.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds that an access token lives.",
)
@click.option(
    "--event-interval",
    default=0.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds between the events of a stream.",
)
@click.option("--strict-fields", is_flag=True, help="Refuse unknown fields of chat requests.")
def sandbox(host: str, port: int, token_lifetime: float, event_interval: float, strict_fields: bool) -> None:
    """Serve a local GigaChat until interrupted."""
    settings = SandboxSettings(
        token_lifetime=token_lifetime, event_interval=event_interval, strict_fields=strict_fields
    )
    try:
        bound = bound_socket(host, port)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    app = create_sandbox(settings)
    running = RunningSandbox(url_of(bound), app.state.sandbox)
    click.echo(f"GIGACHAT_BASE_URL={running.base_url}")
    click.echo(f"GIGACHAT_AUTH_URL={running.auth_url}")
    click.echo(f"GIGACHAT_CREDENTIALS={running.credentials}")
    click.echo(f"GIGACHAT_SCOPE={PERS}")
    with suppress(KeyboardInterrupt):
        SandboxServer(app).run([bound])


if __name__ == "__main__":
    main()
