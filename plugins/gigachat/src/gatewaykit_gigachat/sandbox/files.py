"""The ``/files`` endpoints."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import ASGIApp

from .call import Call
from .refusals import api_refusal
from .replies import JsonReply, bytes_reply
from .store import StoredFile

_PURPOSES = ("general", "assistant")


async def upload_file(call: Call) -> ASGIApp:
    """``POST /files``: a multipart form with ``file`` (named, with a MIME type) and ``purpose``."""
    form = await _form(call)
    try:
        upload, purpose = form.get("file"), form.get("purpose")
        if not isinstance(upload, UploadFile) or not upload.filename or purpose not in _PURPOSES:
            raise api_refusal(400)
        mime = (upload.content_type or "").partition(";")[0].strip().lower()
        call.sandbox.files.check_size(mime, upload.size or 0)
        content = await upload.read()
        file = call.sandbox.files.add(
            call.grant.client_id, call.client_id, upload.filename, mime, str(purpose), content
        )
    finally:
        await form.close()
    call.sandbox.stats.uploads += 1
    return JsonReply(call, file.as_dict())


async def _form(call: Call) -> FormData:
    async def body() -> AsyncGenerator[bytes, None]:
        yield call.body

    headers = call.request.headers
    if not headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise api_refusal(400)
    try:
        return await MultiPartParser(headers, body(), max_files=1, max_fields=10).parse()
    except MultiPartException as error:
        raise api_refusal(400) from error


async def list_files(call: Call) -> ASGIApp:
    """``GET /files``."""
    files = call.sandbox.files.listed(call.grant.client_id, call.client_id)
    return JsonReply(call, {"data": [file.as_dict() for file in files]})


async def get_file(call: Call) -> ASGIApp:
    """``GET /files/{id}``."""
    return JsonReply(call, _file(call).as_dict())


async def get_content(call: Call) -> ASGIApp:
    """``GET /files/{id}/content``."""
    return bytes_reply(call, _file(call).content)


async def delete_file(call: Call) -> ASGIApp:
    """``POST /files/{id}/delete``."""
    file = _file(call)
    call.sandbox.files.remove(file)
    call.sandbox.stats.deletions += 1
    return JsonReply(call, {"id": file.id, "deleted": True, "access_policy": "private"})


def _file(call: Call) -> StoredFile:
    return call.sandbox.files.get(call.grant.client_id, call.client_id, call.param("id"))
