"""What tests need of the machine that pip does not bring."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

REQUIRED = "TESTS_REQUIRE"
"""The environment variable that names tools, with commas between them, whose absence is a failure."""


def missing(tool: str, how: str) -> NoReturn:
    """Skip the test, or fail it where :data:`REQUIRED` names ``tool``. ``how`` says how to install it."""
    if tool in os.environ.get(REQUIRED, "").split(","):
        pytest.fail(how)
    pytest.skip(how)


def program(tool: str, how: str, *names: str) -> str:
    """The path of the first of these programs that is there (by default ``tool``), see :func:`missing`."""
    for name in names or (tool,):
        if found := shutil.which(name):
            return found
    missing(tool, how)
