"""Keeps the catalogues of the pages true: ``tools/catalogues.py`` finds the texts and compiles what is translated.

New texts are added to each ``.po`` file without a translation; those that are gone are taken out. ``--check`` changes
nothing, and fails when something would change, or a text has no translation.
"""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

PACKAGE = Path(__file__).resolve().parents[1] / "plugins/oauth/src/gatewaykit_oauth"
LOCALES = PACKAGE / "web/locale"
DOMAIN = "gatewaykit_oauth"
METHODS = [("**.py", "python"), ("**.html", "jinja2")]
ERRORS = ("AuthFailed", "BadRequest", "NotFound", "PermissionDenied", "RateLimited")
PLURALS = {"NN_": (1, 2), "counted": (1, 2), "ngettext": (1, 2), "pgettext": ((1, "c"), 2)}
KEYWORDS = dict.fromkeys(("_", "N_", "filled", "gettext", *ERRORS)) | PLURALS
_ALWAYS = datetime(2026, 1, 1, tzinfo=UTC)
OPTIONS = {"**.html": {"trimmed": "true", "silent": "false", "extensions": "jinja2.ext.i18n"}}


def found() -> Catalog:
    """Every text of the package."""
    catalogue = Catalog(domain=DOMAIN)
    for name, _, message, comments, context in extract_from_dir(
        PACKAGE, METHODS, OPTIONS, keywords=KEYWORDS, comment_tags=["Translators:"]
    ):
        catalogue.add(message, None, [(name, 0)], auto_comments=comments, context=context)
    return catalogue


def renewed(file: Path, template: Catalog) -> Catalog:
    """The catalogue of a file, with the texts of now."""
    with file.open("rb") as stream:
        catalogue = read_po(stream, locale=file.parts[-3], domain=DOMAIN)
    catalogue.update(template, no_fuzzy_matching=True, update_header_comment=False)
    catalogue.obsolete.clear()
    return catalogue


def written(catalogue: Catalog) -> tuple[bytes, bytes]:
    """A catalogue as its two files, without anything that changes when nothing has."""
    plain, compiled = io.BytesIO(), io.BytesIO()
    catalogue.creation_date = catalogue.revision_date = _ALWAYS
    write_po(plain, catalogue, width=120, omit_header=False, sort_output=True, no_location=True, ignore_obsolete=True)
    write_mo(compiled, catalogue)
    lines = [
        line for line in plain.getvalue().split(b"\n") if not line.startswith((b'"POT-', b'"Generated-By', b'"PO-'))
    ]
    return b"\n".join(lines), compiled.getvalue()


def untranslated(catalogue: Catalog) -> list[str]:
    """Texts that nobody has translated."""
    return [
        str(message.id)
        for message in catalogue
        if message.id and not all(message.string if isinstance(message.string, tuple) else [message.string])
    ]


def main() -> int:
    """0 if all is well."""
    check, faults = "--check" in sys.argv, []
    template = found()
    for file in sorted(LOCALES.glob(f"*/LC_MESSAGES/{DOMAIN}.po")):
        catalogue = renewed(file, template)
        for target, content in zip((file, file.with_suffix(".mo")), written(catalogue), strict=True):
            if not check:
                target.write_bytes(content)
            elif not target.exists() or target.read_bytes() != content:
                faults.append(f"{target.relative_to(PACKAGE)} is not up to date: run tools/catalogues.py")
        faults += [f"{file.parts[-3]}: no translation of {text}" for text in untranslated(catalogue)]
    print("\n".join(faults) or "The catalogues are complete.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
