"""GigaChat's files: images, sound and documents are uploaded and then named in a message."""

from __future__ import annotations

import asyncio
import re

from gatewaykit.errors import BadRequest, ContextTooLong, ModelNotFound, NotFound, ProviderBadAnswer

from .api import Api

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


_DELETIONS_AT_ONCE = 4
_LOOK_SECONDS = 10.0


class GigaChatFiles:
    """Uploads and deletes over the files API, in one event loop.

    A file belongs to the ``client_id`` that it was uploaded with. Deletions wait for each other: there may be many of
    them at the end, and none is urgent.
    """

    def __init__(self, api: Api, upload_timeout: float) -> None:
        self._api = api
        self._upload_timeout = upload_timeout
        self._deletions = asyncio.Semaphore(_DELETIONS_AT_ONCE)

    async def upload(self, data: bytes, filename: str, mime: str, client_id: str) -> str:
        """The id of the new file. Raises :class:`~gatewaykit.errors.GatewayError`."""
        content_type, body = await asyncio.to_thread(_form, data, filename, mime)
        try:
            document = await self._api.ask(
                "POST",
                "/files",
                headers={"X-Client-ID": client_id, "Content-Type": content_type},
                body=body,
                limit=self._upload_timeout,
            )
        except ContextTooLong as error:
            raise BadRequest("A file of the request is too large for GigaChat.", detail=error.detail) from error
        file_id = document.get("id")
        if not isinstance(file_id, str) or not _ID.fullmatch(file_id):
            raise ProviderBadAnswer(detail="an uploaded file got no id")
        return file_id

    async def has(self, file_id: str, client_id: str) -> bool:
        """Whether the account has this file. Asking costs nothing.

        Raises :class:`~gatewaykit.errors.PermissionDenied` for a file of another ``client_id``, and other
        :class:`~gatewaykit.errors.GatewayError` where that cannot be known.
        """
        if not _ID.fullmatch(file_id):
            raise BadRequest("This is not the id of a file.", param="messages")
        try:
            await self._api.ask("GET", f"/files/{file_id}", headers={"X-Client-ID": client_id}, limit=_LOOK_SECONDS)
        except (NotFound, ModelNotFound):
            return False
        return True

    async def delete(self, file_id: str, client_id: str) -> None:
        """Delete a file; one that is gone already is no error. Raises :class:`~gatewaykit.errors.GatewayError`."""
        if not _ID.fullmatch(file_id):
            raise BadRequest("This is not the id of a file.")
        try:
            async with self._deletions:
                await self._api.ask("POST", f"/files/{file_id}/delete", headers={"X-Client-ID": client_id})
        except (NotFound, ModelNotFound):
            return


def _form(data: bytes, filename: str, mime: str) -> tuple[str, bytes]:
    """The form of an upload (RFC 7578), and its type with the boundary. For a thread: files are large, httpx is slow
    to import and not needed by a gateway that sends none.
    """
    import httpx

    form = httpx.Request("POST", "/", data={"purpose": "general"}, files={"file": (filename, data, mime)})
    return form.headers["content-type"], form.read()
