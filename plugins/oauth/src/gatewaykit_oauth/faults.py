"""Errors that say something with figures or names in it: in English to programs, in any language on pages."""

from __future__ import annotations

from gatewaykit.errors import BadRequest, PermissionDenied

from .words import Filled


class Fault(BadRequest):
    """A field holds what it cannot."""

    def __init__(self, words: Filled, *, param: str | None = None) -> None:
        super().__init__(str(words), param=param)
        self.words = words


class Refusal(PermissionDenied):
    """Somebody may not do this."""

    def __init__(self, words: Filled, *, param: str | None = None) -> None:
        super().__init__(str(words), param=param)
        self.words = words
