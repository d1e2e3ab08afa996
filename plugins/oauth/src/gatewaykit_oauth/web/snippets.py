"""A first request with a new key, ready to be pasted."""

from __future__ import annotations

import json
import shlex


def snippets(base_url: str, secret: str, model: str) -> dict[str, str]:
    """The same request by curl and by the official SDK, under the names of the two."""
    message = {"role": "user", "content": "Hello!"}
    body = json.dumps({"model": model, "messages": [message]})
    curl = "\n".join(
        (
            f"curl {shlex.quote(base_url + '/v1/chat/completions')} \\",
            f"  -H {shlex.quote(f'Authorization: Bearer {secret}')} \\",
            "  -H 'Content-Type: application/json' \\",
            f"  -d {shlex.quote(body)}",
        )
    )
    python = "\n".join(
        (
            "from openai import OpenAI",
            "",
            f"client = OpenAI(base_url={base_url + '/v1'!r}, api_key={secret!r})",
            f"answer = client.chat.completions.create(model={model!r}, messages=[{message!r}])",
            "print(answer.choices[0].message.content)",
        )
    )
    return {"curl": curl, "Python": python}
