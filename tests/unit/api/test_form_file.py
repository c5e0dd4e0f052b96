"""Files within forms are read while they arrive, whatever their bytes are and wherever pieces of them end."""

from __future__ import annotations

import io
import random

import pytest
from werkzeug.exceptions import RequestEntityTooLarge

from api.compat.form_file import CHUNK_BYTES, MAX_FORM_BYTES, FormFile
from jobs.errors import RequestInvalidError

HEAD = b'--b0\r\nContent-Disposition: form-data; name="content"; filename="a.mp4"\r\nContent-Type: video/mp4\r\n\r\n'
TAIL = b"\r\n--b0--\r\n"


class Trickle(io.BytesIO):
    """Gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__(data)
        self._step = step

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(self._step, size if size is not None and size >= 0 else self._step))


def form_of(body: bytes, step: int = 10**9) -> FormFile:
    return FormFile(Trickle(body, step), "b0", {"content"})


@pytest.mark.parametrize("step", [1, 7, 1000, 10**9])
@pytest.mark.parametrize(
    "content",
    [b"a", b"\r\n", b"\r\n--b", b"--b0x\r\n--b1\r\n", b"\n" * 300, b"\r\n--b" * 40, b"a\r\n--b0x"],
    ids=range(7),
)
def test_the_content_is_the_files_own(content: bytes, step: int) -> None:
    form = form_of(HEAD + content + TAIL, step)
    assert (form.filename, form.content_type) == ("a.mp4", "video/mp4")
    assert form.read() == content


def test_large_files_come_through_unchanged() -> None:
    content = random.Random(1).randbytes(3 * CHUNK_BYTES + 17)
    assert form_of(HEAD + content + TAIL).read() == content


def test_fields_before_and_after_the_file_are_read() -> None:
    field = b'--b0\r\nContent-Disposition: form-data; name="type"\r\n\r\nvideo/webm\r\n'
    after = b'\r\n--b0\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{}' + TAIL
    form = form_of(field + HEAD + b"abc" + after)
    assert form.fields == {"type": "video/webm"}
    assert form.read() == b"abc"
    assert form.fields == {"type": "video/webm", "metadata": "{}"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form",
        TAIL,
        HEAD + b"cut",
        HEAD + b"abc\r\n--b0\r\n",
        b"--b0\r\n\r\nno header" + TAIL,
        HEAD + b"a\r\n" + HEAD + b"a second file" + TAIL,
        HEAD.replace(b"content", b"other") + b"a" + TAIL,
    ],
    ids=range(8),
)
def test_what_is_no_form_with_one_file_is_refused(body: bytes) -> None:
    with pytest.raises(RequestInvalidError):
        form_of(body).read()


def test_what_is_not_the_file_is_bounded() -> None:
    field = b'--b0\r\nContent-Disposition: form-data; name="type"\r\n\r\n'
    with pytest.raises(RequestEntityTooLarge):
        form_of(field + b"x" * (MAX_FORM_BYTES + 1) + b"\r\n" + HEAD + b"a" + TAIL)
    with pytest.raises(RequestEntityTooLarge):
        form_of(b"--b0\r\nX: " + b"x" * (4 * MAX_FORM_BYTES))
