"""What can go wrong while somebody signs in elsewhere: one tree, with what the person is told and what the log is."""

from __future__ import annotations

from typing import ClassVar

from ..words import N_


class SignInFailed(Exception):
    """Somebody does not get in. ``said`` is what the page tells, ``str()`` the reason in the log, without secrets."""

    status: ClassVar[int] = 400
    said: ClassVar[str] = N_("This sign-in was begun too long ago, or in another browser. Start again.")


class BegunElsewhere(SignInFailed):
    """An answer that belongs to no attempt of this browser, or to one that was answered before."""


class ProviderAway(SignInFailed):
    """The provider cannot be reached, or does not answer in time."""

    status = 503
    said = N_("The sign-in service cannot be reached now. Try again in a moment.")


class ProviderWrong(SignInFailed):
    """The provider said what no such provider says, or what is not for us."""

    status = 502
    said = N_("The sign-in service gave an answer that cannot be trusted. Tell an admin of this gateway.")


class ProviderRefused(SignInFailed):
    """The provider did not let the person in, or the person did not want to."""

    status = 403
    said = N_("The sign-in service did not let you in.")


class NotAllowed(SignInFailed):
    """The person is who they are, and may not come in."""

    status = 403
    said = N_("You may not sign in here with this account. Ask an admin of this gateway.")
