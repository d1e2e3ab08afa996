"""Translation between the gateway's words and GigaChat's chat API (v1). Everything here is pure: no I/O, no clock.

:func:`~gatewaykit_gigachat.convert.request.translate` makes the request,
:class:`~gatewaykit_gigachat.convert.answer.AnswerReader` reads the answer, and
:func:`~gatewaykit_gigachat.convert.plain.plain_reply` the plainest ones.
"""

from gatewaykit_gigachat.convert.answer import AnswerReader
from gatewaykit_gigachat.convert.plain import plain_reply
from gatewaykit_gigachat.convert.request import translate
from gatewaykit_gigachat.convert.translation import ConvertOptions, Translation

__all__ = ["AnswerReader", "ConvertOptions", "Translation", "plain_reply", "translate"]
