"""Metrics that the live test cannot see, in one place. Expressions that ask for one of them are only parsed.

Whoever brings a source for one takes it out of here, and the live test demands its data from then on.
"""

from __future__ import annotations

from gatewaykit.metrics import names

NO_SOURCE_YET = {
    names.CREDENTIAL_STATE,
    names.CREDENTIAL_EXPIRES,
    names.TOKEN_EXPIRES,
    names.TOKEN_FAILURES,
    names.CREDENTIAL_BALANCE,
    names.SLOTS_BUSY,
    names.QUEUE_LENGTH,
    names.QUEUE_WAIT,
    names.QUEUE_REFUSED,
    names.CACHE_REQUESTS,
    names.BACKUP_TIME,
    names.BACKUP_FAILURES,
}
"""Named, and measured as soon as the part of the gateway is there that they speak of."""

NOT_PROVOKED = {names.SERIES_FOLDED}
"""Counted only when a metric has more series than fit, which would spoil the others that are looked at."""
