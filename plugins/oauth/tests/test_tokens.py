"""Access tokens: how they are issued and accepted, and the five ways to end one."""

from __future__ import annotations

from .oauth_world import world


async def test_smoke(url: str) -> None:
    """A code becomes tokens with which the gateway can be used."""
    async with world(url) as there:
        made = await there.client()
        tokens = await there.tokens(made)
        assert await there.is_good(tokens["access_token"])
        again = await there.refresh(made, tokens["refresh_token"])
        assert again.status_code == 200, again.text
        assert (await there.revoke(made, tokens["access_token"])).status_code == 200
        assert not await there.is_good(tokens["access_token"])
        assert await there.is_good(again.json()["access_token"])
