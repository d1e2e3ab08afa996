"""Resource indicators (RFC 8707): for which parts of the gateway a token is good."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import InvalidTarget
from .settings import OAuthSettings


class Resources:
    """The gateway as a whole, and those of its paths to which a token can be restricted."""

    def __init__(self, settings: OAuthSettings) -> None:
        self.base = settings.issuer or ""
        self.paths = ("", *settings.resources)
        self._paths = {self.base + path: path for path in self.paths}

    def asked(self, values: Sequence[str], granted: Sequence[str] | None = None) -> tuple[str, ...]:
        """The resources of a request: all that were ``granted`` and are there still, or the whole gateway, if it names
        none.

        Raises :class:`~.errors.InvalidTarget` for one that is unknown or was not granted.
        """
        if not values:
            return (self.base,) if granted is None else tuple(value for value in granted if value in self._paths)
        found = tuple(dict.fromkeys(value.rstrip("/") for value in values))
        for value in found:
            if value not in self._paths or not (granted is None or self._within(value, granted)):
                raise InvalidTarget()
        return found

    def paths_of(self, audience: Sequence[str]) -> tuple[str, ...]:
        """The paths that these resources stand for; unknown ones for none."""
        return tuple(self._paths[value] for value in audience if value in self._paths)

    def nearest(self, path: str) -> str:
        """The smallest resource that holds ``path``."""
        return max((one for one in self.paths if covers((one,), path)), key=len, default="")

    def _within(self, value: str, granted: Sequence[str]) -> bool:
        return any(covers((path,), self._paths[value]) for path in self.paths_of(granted))


def covers(paths: Sequence[str], path: str) -> bool:
    """Whether ``path`` is one of ``paths`` or below it."""
    return any(not one or path == one or path.startswith(one + "/") for one in paths)
