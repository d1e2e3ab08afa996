"""Files: formats, sizes, access, and their use in chats."""

from __future__ import annotations

import pytest

from gatewaykit_gigachat.sandbox import CORP, SandboxSettings, running_sandbox


def ask(api, *attachments: list[str], model: str = "GigaChat-2-Max", **headers: str):
    messages = [{"role": "user", "content": "look", "attachments": ids} for ids in attachments]
    return api.chat(headers=headers, model=model, messages=messages)


@pytest.fixture
def image(api):
    """Uploads a picture and gives its id."""
    return lambda name="a.png", content=b"picture": api.upload(name, content, "image/png").json()["id"]


def test_upload(api):
    """The file object has the documented fields, in both families of paths."""
    file = api.upload("a.txt", b"text", "text/plain").json()
    assert list(file) == ["id", "object", "bytes", "created_at", "filename", "purpose", "access_policy", "modalities"]
    assert (file["bytes"], file["modalities"], file["access_policy"]) == (4, ["text"], "private")
    assert api.http.get(f"{api.running.new_base_url}/files/{file['id']}").json() == file
    content = api.http.get(f"/files/{file['id']}/content")
    assert (content.content, content.headers["content-type"]) == (b"text", "application/octet-stream")
    deleted = api.http.post(f"/files/{file['id']}/delete").json()
    assert deleted == {"id": file["id"], "deleted": True, "access_policy": "private"}
    assert api.http.get(f"/files/{file['id']}").json() == {"status": 404, "message": "No such file"}


@pytest.mark.parametrize("mime", ["image/webp", "image/gif", "application/octet-stream", "text/html"])
def test_unsupported_formats(api, mime):
    """Formats outside the list get 422."""
    answer = api.upload("a.bin", b"x", mime)
    assert (answer.status_code, answer.json()["message"]) == (422, f"Unsupported file format: {mime}")


def test_sizes(open_api):
    """A file over the limit of its kind gets 413, and so does one that the whole store has no room for."""
    settings = SandboxSettings(max_text_file=30, max_image_file=20, max_audio_file=10, max_stored=50)
    with running_sandbox(settings) as running:
        api = open_api(running)
        for mime, limit in (("text/plain", 30), ("image/png", 20), ("audio/mp3", 10)):
            assert api.upload("a", b"x" * (limit + 1), mime).status_code == 413
        assert api.upload("a", b"x" * 30, "text/plain").status_code == 200
        assert api.upload("a", b"x" * 20, "image/png").status_code == 200
        assert api.upload("a", b"x" * 1, "audio/mp3").status_code == 413
        assert api.upload("a", b"x" * 2_000_000, "text/plain").status_code == 413


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {}},
        {"files": {"file": ("a.png", b"x", "image/png")}},
        {"files": {"file": ("a.png", b"x", "image/png")}, "data": {"purpose": "other"}},
        {"files": {"other": ("a.png", b"x", "image/png")}, "data": {"purpose": "general"}},
        {"content": b"--b\r\nnonsense", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        {"content": b"", "headers": {"content-type": "multipart/form-data"}},
    ],
)
def test_malformed_uploads(api, request_):
    """A form without a named file or a known purpose gets 400."""
    assert api.http.post("/files", **request_).status_code == 400


def test_access(api, open_api):
    """A file is seen under the ``X-Client-ID`` it was uploaded with; another gets 403, another client 404."""
    file_id = api.upload("a.png", b"x", "image/png", **{"x-client-id": "anna"}).json()["id"]
    anna, boris = {"x-client-id": "anna"}, {"x-client-id": "boris"}
    denied = {"status": 403, "message": f"Access to file '{file_id}' is denied"}
    for path in (f"/files/{file_id}", f"/files/{file_id}/content"):
        assert api.http.get(path, headers=anna).status_code == 200
        assert api.http.get(path, headers=boris).json() == denied
        assert api.http.get(path).json() == denied
    assert api.http.post(f"/files/{file_id}/delete", headers=boris).json() == denied
    assert file_id in [file["id"] for file in api.http.get("/files", headers=anna).json()["data"]]
    assert file_id not in [file["id"] for file in api.http.get("/files").json()["data"]]
    stranger = open_api(api.running, CORP)
    assert stranger.http.get(f"/files/{file_id}", headers=anna).status_code == 404
    assert ask(api, [file_id], **anna).status_code == 200
    assert ask(api, [file_id], **boris).json() == denied


def test_attachments(api, image):
    """Attached files are named in the answer to their message; only the last message's count there."""
    answer = ask(api, [image("first.png")], [image("second.png", b"four")]).json()["choices"][0]["message"]["content"]
    assert "second.png (image/png, 4 bytes)" in answer
    assert "first.png" not in answer


def test_attachment_refusals(api, image):
    """Unknown files, two images in a message, mixed kinds, eleven images, models without vision are refused."""
    text = api.upload("a.txt", b"text", "text/plain").json()["id"]
    cases = [
        (ask(api, ["nothing"]), 404),
        (ask(api, [image(), image()]), 422),
        (ask(api, [image(), text]), 422),
        (ask(api, *([image()] for _ in range(11))), 422),
        (ask(api, [image()], model="GigaChat-2"), 422),
        (api.chat(messages=[{"role": "assistant", "content": "", "attachments": [text]}]), 422),
    ]
    assert [answer.status_code for answer, _ in cases] == [status for _, status in cases]
    assert ask(api, *([image()] for _ in range(10))).status_code == 200
    assert ask(api, [text]).status_code == 200


def test_media_and_documents_have_limits(open_api):
    """Too much media in a request gets 413; a document over the context gets 422 and counts as prompt otherwise."""
    with running_sandbox(SandboxSettings(max_media_per_request=100)) as running:
        api = open_api(running)
        images = [[api.upload("a.png", b"x" * 50, "image/png").json()["id"]] for _ in range(2)]
        assert ask(api, *images).json() == {"status": 413, "message": "Payload too large"}
        assert ask(api, images[0]).status_code == 200
        long = api.upload("a.txt", b"x" * 500_000, "text/plain").json()["id"]
        assert ask(api, [long]).json() == {"status": 422, "message": "Unprocessable Entity"}
        short = api.upload("a.txt", b"x" * 3500, "text/plain").json()["id"]
        assert ask(api, [short]).json()["usage"]["prompt_tokens"] > 1000


def test_uploads_are_counted_and_remembered(api):
    """Uploads and deletions are counted, and the journal keeps the latest requests with their bodies."""
    before = (api.running.stats.uploads, api.running.stats.deletions)
    file_id = api.upload("a.png", b"needle", "image/png").json()["id"]
    api.http.post(f"/files/{file_id}/delete")
    assert (api.running.stats.uploads, api.running.stats.deletions) == (before[0] + 1, before[1] + 1)
    upload = api.running.journal.entries("/files")[-1]
    assert (upload.method, b"needle" in upload.body) == ("POST", True)
    assert upload.headers["content-type"].startswith("multipart/form-data")
    assert len(api.running.journal.entries()) <= api.running.sandbox.settings.journal_size
