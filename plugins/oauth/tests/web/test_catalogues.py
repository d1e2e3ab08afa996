"""Languages: complete catalogues, the right plurals, and what a browser gets that wants this or that."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from gatewaykit_oauth.web.languages import language, preferred

ROOT = Path(__file__).resolve().parents[4]


def test_catalogues_are_complete() -> None:
    """Every text of the pages has a translation, and what is compiled is what stands in the catalogue."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/catalogues.py"), "--check"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("chosen", "accepted", "expected"),
    [
        (None, None, "en"),
        (None, "ru-RU,ru;q=0.9,en;q=0.8", "ru"),
        (None, "en-GB,ru;q=0.9", "en"),
        (None, "de,fr;q=0.9,ru;q=0.1", "ru"),
        (None, "ru;q=0,en", "en"),
        (None, "*;q=0.5, ;;;, ru;q=x," + "a" * 5000, "en"),
        ("ru", "en", "ru"),
        ("xx", "ru", "ru"),
    ],
)
def test_the_language_that_is_wanted(chosen: str | None, accepted: str | None, expected: str) -> None:
    """What was chosen, else what the browser likes best of those that there are."""
    assert preferred(chosen, accepted) == expected


def test_numbers_money_and_moments() -> None:
    """As each language writes them; Russian has three forms of plural."""
    now = datetime(2027, 1, 31, 12, 5, tzinfo=UTC)
    english, russian = language("en"), language("ru")
    assert [english.number(n) for n in (0, 1234, 1234567)] == ["0", "1,234", "1,234,567"]
    assert [russian.number(n) for n in (1234, 12345)] == ["1234", "12\u00a0345"]
    assert english.money(1_234_567_891, "RUB") == "1,234.57\u00a0₽"
    assert russian.money(21_500, "RUB") == "0,0215\u00a0₽"
    assert english.money(0, "XYZ") == "0.00\u00a0XYZ"
    assert russian.moment(now) == "31\u00a0янв.\u00a02027, 12:05"
    forms = [russian.ago(now - timedelta(minutes=n), now) for n in (1, 2, 5, 11, 21)]
    assert forms == ["1 минуту назад", "2 минуты назад", "5 минут назад", "11 минут назад", "21 минуту назад"]
    assert english.ago(now + timedelta(days=3), now) == "in 3 days"


def test_no_number_has_an_exponent() -> None:
    """Lengths of time, shares and axes are written out, however long, short or close to the next unit they are."""
    english, russian = language("en"), language("ru")
    times = [english.seconds(value) for value in (1e-8, 0.9994, 0.9996, 99.96, 432_000)]
    assert times == ["0.00001 ms", "999 ms", "1 s", "100 s", "120 h"]
    assert [english.share(value) for value in (1e-7, 0.125, 12.3456)] == ["0.00001%", "12.5%", "1230%"]
    assert [english.short(value) for value in (4.0, 999_999, 1e12, 1e15)] == ["4", "1M", "1T", "1000T"]
    assert [russian.short(value) for value in (2.5, 0.00075)] == ["2,5", "0,00075"]
    assert english.amount(1) == "0.000001"


def test_the_wheel_has_all_that_pages_need(tmp_path: Path) -> None:
    """Templates, static files with their licence, and compiled catalogues."""
    source = ROOT / "plugins/oauth"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    web = source / "src/gatewaykit_oauth/web"
    wanted = {
        str(file.relative_to(source / "src"))
        for pattern in ("templates/**/*.html", "static/*", "locale/**/*.mo")
        for file in web.glob(pattern)
    }
    assert len(wanted) > 30
    assert wanted <= names


def test_what_is_vendored_is_what_the_note_says() -> None:
    """The version that the file has, and its bytes; its licence lies beside it."""
    folder = ROOT / "plugins/oauth/src/gatewaykit_oauth/web/static"
    note, script = (folder / "VENDORED.md").read_text(), (folder / "htmx.min.js").read_bytes()
    version = re.search(rb'version:"([^"]+)"', script)
    assert version is not None
    assert f"htmx](https://htmx.org) {version[1].decode()}," in note
    assert f"`{sha256(script).hexdigest()}`" in note
    assert "Zero-Clause BSD" in (folder / "htmx.LICENSE.txt").read_text()


def test_nothing_of_the_pages_is_imported_before_the_first_one() -> None:
    """A gateway that is put together has no template engine, no password hasher and no QR code in memory."""
    program = (
        "import sys\nfrom gatewaykit import Gateway\n"
        "Gateway({'database': {'url': 'sqlite:///x.db'}}, environ={})\n"
        "print(sorted({'jinja2', 'argon2', 'pyotp', 'segno', 'gettext_'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
