"""The languages of the pages: which one a browser gets, its catalogue, and how it writes numbers, money and moments."""

from __future__ import annotations

import gettext
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib.resources import files

from msgspec import Struct

from ..words import N_, NN_, Filled

DOMAIN = "gatewaykit_oauth"
LANGUAGES = {"en": "English", "ru": "Русский"}
DEFAULT = "en"
SYMBOLS = {"RUB": "₽", "USD": "$", "EUR": "€"}
_RANGE = re.compile(r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9-]{1,40})?\s*(?:;\s*q=([01](?:\.\d{1,3})?))?\s*")


MONTHS = (
    N_("Jan"), N_("Feb"), N_("Mar"), N_("Apr"), N_("May"), N_("Jun"),
    N_("Jul"), N_("Aug"), N_("Sep"), N_("Oct"), N_("Nov"), N_("Dec"),
)  # fmt: skip


def preferred(chosen: str | None, accepted: str | None) -> str:
    """The language that somebody has chosen, or else that their browser likes best (RFC 9110, 12.5.4)."""
    if chosen in LANGUAGES:
        return str(chosen)
    wanted = sorted(_ranges(accepted or ""), reverse=True)
    return wanted[0][2] if wanted else DEFAULT


def _ranges(accepted: str) -> Iterator[tuple[float, int, str]]:
    for place, part in enumerate(accepted[:1000].split(",")):
        found = _RANGE.fullmatch(part)
        if found and found[1].lower() in LANGUAGES and (weight := float(found[2] or 1)) > 0:
            yield weight, -place, found[1].lower()


class Language(Struct, frozen=True):
    """One language. ``decimal`` and ``thousands`` are the marks in its numbers."""

    code: str
    catalogue: gettext.NullTranslations
    decimal: str
    thousands: str

    @property
    def gettext(self) -> Callable[[str], str]:
        """The translation of a text; the text itself where there is none."""
        return self.catalogue.gettext

    def knows(self, text: str) -> bool:
        """Whether there is a translation, or none is needed."""
        return self.code == DEFAULT or self.gettext(text) != text

    def plural(self, one: str, many: str, number: int) -> str:
        """The form for this number, with ``%(n)s`` replaced by it."""
        return self.catalogue.ngettext(one, many, number) % {"n": self.number(number)}

    def filled(self, words: Filled) -> str:
        """What a service says of this and that, with its numbers as this language writes them."""
        given = {name: self.number(value) if isinstance(value, int) else value for name, value in words.given.items()}
        if words.many is None:
            return self.gettext(words.text) % given
        return self.catalogue.ngettext(words.text, words.many, words.number) % given

    def number(self, value: int) -> str:
        """With marks between thousands; those of four digits have none in Russian."""
        if self.code == "ru" and abs(value) < 10_000:
            return str(value)
        return f"{value:,}".replace(",", self.thousands)

    def short(self, value: float) -> str:
        """Three digits and a unit, for axes of charts."""
        for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
            if value >= 0.9995 * size:
                return self._three(value / size) + unit
        return self._three(value)

    def _three(self, value: float) -> str:
        """Three digits, and never an exponent."""
        return f"{Decimal(f'{value:.3g}'):f}".replace(".", self.decimal)

    def seconds(self, value: float) -> str:
        """A length of time: three digits, and the unit that suits it."""
        if value < 0.9995:
            return self.gettext("%(n)s ms") % {"n": self._three(value * 1000)}
        if value < 100:
            return self.gettext("%(n)s s") % {"n": self._three(value)}
        if value < 6000:
            return self.gettext("%(n)s min") % {"n": self.number(round(value / 60))}
        return self.gettext("%(n)s h") % {"n": self.number(round(value / 3600))}

    def size(self, value: float) -> str:
        """Bytes, in mebibytes."""
        return self.gettext("%(n)s MiB") % {"n": self.number(round(value / 2**20))}

    def share(self, value: float) -> str:
        """A part of 1, in hundredths."""
        return self._three(value * 100) + ("\u00a0%" if self.code == "ru" else "%")

    def money(self, micros: int, currency: str) -> str:
        """An amount in micro-units with its currency."""
        return f"{self.amount(micros)}\u00a0{SYMBOLS.get(currency, currency)}"

    def amount(self, micros: int) -> str:
        """An amount in micro-units: two decimals, or as many as it takes to show what is smaller than that."""
        whole, rest = divmod(abs(micros), 10**6)
        decimals = f"{rest:06}".rstrip("0")
        decimals = decimals.ljust(2, "0") if abs(micros) < 10**6 or not rest else f"{round(rest / 10**4):02}"
        if decimals == "100":
            whole, decimals = whole + 1, "00"
        sign = "−" if micros < 0 else ""
        return f"{sign}{self.number(whole)}{self.decimal}{decimals}"

    def about(self, amount: float, currency: str) -> str:
        """An amount in units of the currency, to two digits where it is less than one."""
        micros = round(amount * 10**6)
        return self.money(micros if micros >= 10**6 else round(micros, 2 - len(str(micros))), currency)

    def date(self, moment: datetime) -> str:
        """A day, in UTC."""
        moment = moment.astimezone(UTC)
        return f"{moment.day}\u00a0{self.gettext(MONTHS[moment.month - 1])}\u00a0{moment.year}"

    def moment(self, moment: datetime) -> str:
        """A day and a time, in UTC."""
        return f"{self.date(moment)}, {moment.astimezone(UTC):%H:%M}"

    def ago(self, moment: datetime, now: datetime) -> str:
        """How long before or after ``now``, in one unit."""
        distance = now - moment
        passed = distance >= timedelta(0)
        seconds = abs(distance).total_seconds()
        if seconds < 60:
            return self.gettext("just now") if passed else self.gettext("in less than a minute")
        for size, past, future in _SPANS:
            if seconds < size * 60 or size == 86_400:
                number = int(seconds // size)
                return self.plural(*(past if passed else future), number)
        raise AssertionError("the last span has no end")


_SPANS = (
    (60, NN_("%(n)s minute ago", "%(n)s minutes ago"), NN_("in %(n)s minute", "in %(n)s minutes")),
    (3600, NN_("%(n)s hour ago", "%(n)s hours ago"), NN_("in %(n)s hour", "in %(n)s hours")),
    (86_400, NN_("%(n)s day ago", "%(n)s days ago"), NN_("in %(n)s day", "in %(n)s days")),
)


@cache
def language(code: str) -> Language:
    """The language of this code. Reads its catalogue once."""
    if code == DEFAULT:
        return Language(code, gettext.NullTranslations(), ".", ",")
    folder = files("gatewaykit_oauth") / "web" / "locale" / code / "LC_MESSAGES"
    with (folder / f"{DOMAIN}.mo").open("rb") as compiled:
        return Language(code, gettext.GNUTranslations(compiled), ",", "\u00a0")
