"""Every error of gatewaykit, in one tree.

::

    GatewayKitError
    ├── ConfigError                     the configuration has faults; the gateway does not start
    ├── PluginError                     a plugin is missing, broken or in conflict; the gateway does not start
    ├── StorageError                    the database cannot be used as it is; the gateway does not start
    │   └── BackupError                 a backup cannot be made, is damaged, or must not be put back
    └── GatewayError                    answered to a client         status  code                     retry  fallback
        ├── BadRequest                  the client's request         400     invalid_request            no     no
        │   ├── BodyTooLarge            more bytes than allowed      413     body_too_large             no     no
        │   ├── RequestTimeout          its body does not come       408     request_timeout            no     no
        │   └── ContextTooLong          more tokens than the model   400     context_length_exceeded    no     yes
        ├── AuthFailed                  no or bad credentials        401     invalid_api_key            no     no
        ├── PermissionDenied            known, but not allowed       403     permission_denied          no     no
        │   └── PriceUnknown            a budget, but no price       403     price_unknown              no     no
        ├── NotFound                    no such path or object       404     not_found                  no     no
        │   └── ModelNotFound           no such model                404     model_not_found            no     yes
        ├── MethodNotAllowed            path known, method not       405     method_not_allowed         no     no
        ├── RateLimited                 a limit of this gateway      429     rate_limit_exceeded        no     no
        │   └── QuotaExhausted          a budget of this gateway     429     insufficient_quota         no     no
        ├── ContentBlocked              a filter refused it          400     content_filter             no     yes
        ├── Unavailable                 the gateway cannot, now      503     unavailable                no     no
        │   └── Unanswered              a store was asked, in vain   503     unavailable                no     no
        ├── InternalError               a defect                     500     internal_error             no     no
        ├── ClientGone                  nobody is left to answer     499     client_gone                no     no
        └── ProviderError               the provider's doing         502     provider_error             no     yes
            ├── ProviderUnavailable     down, refused, 5xx, cut      503     provider_unavailable       yes    yes
            ├── ProviderTimeout         too slow                     504     provider_timeout           yes    yes
            ├── ProviderBusy            its limit, its 429           429     rate_limit_exceeded        yes    yes
            ├── ProviderAuthFailed      the gateway's credential     502     upstream_auth_failed       no     yes
            ├── ProviderDenied          not for this credential      403     permission_denied          no     yes
            ├── ProviderUnpaid          its credit is used up        429     insufficient_quota         no     yes
            └── ProviderBadAnswer       garbage, or half an answer   502     provider_bad_answer        no     yes

*retry*: the same target may answer if asked again. *fallback*: another target may answer. Both hold only before the
first event reached the client. ``message`` is what a client may read; ``detail`` and the cause are for the log only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct


class GatewayKitError(Exception):
    """Root of the tree: catch it to catch everything that gatewaykit raises on purpose."""


class ConfigFault(Struct, frozen=True):
    """One thing wrong with the configuration.

    ``where`` names the place (``gatewaykit.toml:12``, ``environment GATEWAYKIT_SERVER__PORT``, ``plugin acme``).
    """

    message: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class ConfigError(GatewayKitError):
    """The configuration has faults; ``faults`` lists all of them, not only the first."""

    def __init__(self, faults: Sequence[ConfigFault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class PluginError(GatewayKitError):
    """A plugin is missing, broken, in conflict with another, or part of an order cycle.

    ``plugin`` names it (several names are joined by commas), ``message`` says what is wrong.
    """

    def __init__(self, plugin: str, message: str) -> None:
        self.plugin = plugin
        self.message = message
        super().__init__(f"plugin {plugin}: {message}")


class StorageError(GatewayKitError):
    """The database cannot be used as it is: not to be reached, a migration failed, or its schema is too new."""


class BackupError(StorageError):
    """A backup cannot be made, is not there, is damaged, or must not be put back as things stand."""


class GatewayError(GatewayKitError):
    """An error that a client receives, encoded in the client's own dialect.

    Arguments: ``message`` for the client; ``param``, the request field it speaks of; ``retry_after`` in seconds;
    ``detail``, for the log alone; ``headers``, added to the answer.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False
    fallback: ClassVar[bool] = False
    default_message: ClassVar[str] = "The gateway failed to answer this request."

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        detail: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.message = message or self.default_message
        self.param = param
        self.retry_after = retry_after
        self.detail = detail
        self.headers = tuple(headers)
        super().__init__(self.message if detail is None else f"{self.message} [{detail}]")


class BadRequest(GatewayError):
    """The request itself is wrong; sending it again unchanged cannot help."""

    status = 400
    code = "invalid_request"
    default_message = "The request is not valid."


class BodyTooLarge(BadRequest):
    """The request body has more bytes than the gateway accepts (RFC 9110, 15.5.14)."""

    status = 413
    code = "body_too_large"
    default_message = "The request body is too large."


class RequestTimeout(BadRequest):
    """The request's body did not arrive in time (RFC 9110, 15.5.9)."""

    status = 408
    code = "request_timeout"
    default_message = "The request did not arrive in time."


class ContextTooLong(BadRequest):
    """The prompt does not fit into the model's context window; a model with a longer one may take it."""

    code = "context_length_exceeded"
    fallback = True
    default_message = "The request is longer than the model's context window."


class AuthFailed(GatewayError):
    """No credentials, or credentials that are not valid (RFC 9110, 15.5.2)."""

    status = 401
    code = "invalid_api_key"
    default_message = "No valid API key was given. Send it as 'Authorization: Bearer <key>'."


class PermissionDenied(GatewayError):
    """The principal is known and may not do this."""

    status = 403
    code = "permission_denied"
    default_message = "This key is not allowed to do that."


class PriceUnknown(PermissionDenied):
    """The call is under a budget, and nobody knows what the model costs."""

    code = "price_unknown"
    default_message = "The price of this model is not known, and this key has a budget."


class NotFound(GatewayError):
    """There is nothing at this path."""

    status = 404
    code = "not_found"
    default_message = "There is nothing at this address."


class ModelNotFound(NotFound):
    """No target serves the model that was asked for."""

    code = "model_not_found"
    fallback = True
    default_message = "The model does not exist, or this key has no access to it."


class MethodNotAllowed(GatewayError):
    """The path exists, with other methods."""

    status = 405
    code = "method_not_allowed"
    default_message = "This method is not allowed here."


class RateLimited(GatewayError):
    """A limit of this gateway refused the call; ``retry_after`` says when to come back.

    ``unit`` is what the limit counts, such as ``requests`` or ``tokens``; an infinite ``retry_after`` says that waiting
    does not help.
    """

    status = 429
    code = "rate_limit_exceeded"
    default_message = "Too many requests."
    unit: str = ""


class QuotaExhausted(RateLimited):
    """A budget of this gateway is used up; waiting some seconds does not help."""

    code = "insufficient_quota"
    default_message = "The budget of this key is used up."


class ContentBlocked(GatewayError):
    """A content filter refused the prompt before anything was generated."""

    status = 400
    code = "content_filter"
    fallback = True
    default_message = "The content filter refused this request."


class Unavailable(GatewayError):
    """The gateway itself cannot serve now: a store is down, it is starting or stopping, or it is overloaded."""

    status = 503
    code = "unavailable"
    default_message = "The gateway cannot serve this request now."


class Unanswered(Unavailable):
    """A store was asked and did not answer: nobody knows whether it has done, or will do, what it was asked for."""


class InternalError(GatewayError):
    """A defect in the gateway or in a plugin; the log has the cause under the request's id."""


class ClientGone(GatewayError):
    """The client left before its answer was complete; nothing is sent, the call is still accounted."""

    status = 499
    code = "client_gone"
    default_message = "The client closed the connection."


class ProviderError(GatewayError):
    """The provider did not answer as asked; root of all that is the provider's doing."""

    status = 502
    code = "provider_error"
    fallback = True
    default_message = "The model provider failed to answer."


class ProviderUnavailable(ProviderError):
    """The provider is down, refuses connections, answers 5xx or breaks off."""

    status = 503
    code = "provider_unavailable"
    retryable = True
    default_message = "The model provider is not available."


class ProviderTimeout(ProviderError):
    """The provider did not connect, begin or go on within its time limit."""

    status = 504
    code = "provider_timeout"
    retryable = True
    default_message = "The model provider took too long to answer."


class ProviderBusy(ProviderError):
    """The provider's own limit refused the call."""

    status = 429
    code = "rate_limit_exceeded"
    retryable = True
    default_message = "The model provider is at its limit. Try again later."


class ProviderAuthFailed(ProviderError):
    """The provider refused the gateway's credential: the operator's matter, never the client's 401."""

    code = "upstream_auth_failed"
    default_message = "The gateway could not sign in to the model provider."


class ProviderDenied(ProviderError):
    """The gateway's credential is valid and may not do this at the provider."""

    status = 403
    code = "permission_denied"
    default_message = "The model provider does not allow this request."


class ProviderUnpaid(ProviderError):
    """The credit at the provider is used up."""

    status = 429
    code = "insufficient_quota"
    default_message = "The credit at the model provider is used up."


class ProviderBadAnswer(ProviderError):
    """The provider's answer cannot be read, or ended in the middle."""

    code = "provider_bad_answer"
    default_message = "The model provider sent an answer that cannot be read."


__all__ = [
    "AuthFailed",
    "BackupError",
    "BadRequest",
    "BodyTooLarge",
    "ClientGone",
    "ConfigError",
    "ConfigFault",
    "ContentBlocked",
    "ContextTooLong",
    "GatewayError",
    "GatewayKitError",
    "InternalError",
    "MethodNotAllowed",
    "ModelNotFound",
    "NotFound",
    "PermissionDenied",
    "PluginError",
    "PriceUnknown",
    "ProviderAuthFailed",
    "ProviderBadAnswer",
    "ProviderBusy",
    "ProviderDenied",
    "ProviderError",
    "ProviderTimeout",
    "ProviderUnavailable",
    "ProviderUnpaid",
    "QuotaExhausted",
    "RateLimited",
    "RequestTimeout",
    "StorageError",
    "Unanswered",
    "Unavailable",
]
