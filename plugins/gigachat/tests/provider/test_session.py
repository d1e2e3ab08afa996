"""Names of conversations and tenants."""

from __future__ import annotations

import uuid
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.types import Call, ChatRequest, ImagePart, Incoming, Message, Principal, TextPart, Tool
from gatewaykit_gigachat.connection import naming_secret
from gatewaykit_gigachat.session import Sessions, client_id
from gatewaykit_gigachat.settings import GigaChatSettings

SESSIONS = Sessions(b"secret")
SYSTEM = Message("system", "Be brief.")
HELLO = Message("user", "Hello")


def call(*messages: Message, tenant: str = "one", **fields: Any) -> Call:
    incoming = Incoming("POST", "/", {}, None, "r")
    return Call(incoming, Principal("p", tenant=tenant), "openai_chat", ChatRequest("m", messages, **fields))


def named(*messages: Message, **fields: Any) -> str:
    return SESSIONS.session_id(call(*messages, **fields))


def test_a_conversation_keeps_its_name_while_it_grows() -> None:
    """Later turns do not change the name."""
    later = (Message("assistant", "Hi"), Message("user", "And now?"))
    assert named(SYSTEM, HELLO) == named(SYSTEM, HELLO, *later)


def test_another_beginning_is_another_conversation() -> None:
    """System prompt, first user message, tools, images and tenant each tell conversations apart."""
    image = (TextPart("Hello"), ImagePart("data:image/png;base64,AAAA"))
    names = [
        named(SYSTEM, HELLO),
        named(HELLO),
        named(SYSTEM, Message("user", "Hello!")),
        named(SYSTEM, HELLO, tools=(Tool("f"),)),
        named(SYSTEM, HELLO, tools=(Tool("f", parameters={"type": "object"}),)),
        named(SYSTEM, Message("user", image)),
        named(SYSTEM, HELLO, tenant="two"),
        named(SYSTEM, HELLO, session="mine"),
        named(SYSTEM, HELLO, session="mine", tenant="two"),
        named(SYSTEM, HELLO, session="yours"),
        Sessions(b"other").session_id(call(SYSTEM, HELLO)),
    ]
    assert len(set(names)) == len(names)


def test_the_clients_own_name_counts_and_is_not_shown() -> None:
    """The same name of the client is the same conversation, whatever is said; the name itself does not leave."""
    assert named(HELLO, session="mine") == named(SYSTEM, session="mine") != "mine"


@given(st.text(), st.text(), st.text(), st.text())
def test_names_are_uuids_and_boundaries_count(system: str, user: str, tenant: str, session: str) -> None:
    """Any text gives a UUID, and moving text from one message to another gives another one."""
    messages = (Message("system", system), Message("user", user))
    name = named(*messages, tenant=tenant or "t", session=session or None)
    assert str(uuid.UUID(name)) == name
    if user and not session:
        assert named(Message("system", system + user), Message("user", ""), tenant=tenant or "t") != name


def test_long_texts_are_told_apart_by_beginning_and_length() -> None:
    """A picture of many megabytes costs no more than its first part, and another length is another conversation."""
    long = "data:image/png;base64," + "A" * 200_000
    names = {named(Message("user", (ImagePart(url),))) for url in (long, long + "A", long[:-2] + "BB", "B" + long)}
    assert len(names) == 3


def test_client_ids_belong_to_tenants() -> None:
    """A tenant has one id, others have others, and it does not tell the tenant."""
    assert client_id("one") == client_id("one") != client_id("two")
    assert "one" not in client_id("one")


def test_workers_agree_on_the_secret() -> None:
    """The same settings give the same secret in every process; another credential or an own secret gives another."""
    secrets = [
        naming_secret(GigaChatSettings(**fields))
        for fields in (
            {"credentials": "a"},
            {"credentials": "b"},
            {"access_token": "c"},
            {"credentials": "a", "session_secret": "x" * 16},
        )
    ]
    assert naming_secret(GigaChatSettings(credentials="a")) == secrets[0]
    assert len(set(secrets)) == 4
