"""What the core's tests share: packages that look installed, records that were seen, and gateways over real sockets."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from gatewaykit import Gateway

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a distribution with entry points on ``sys.path``: ``install("acme", {"acme": "acme_mod"}, acme_mod=source)``.

    Each lies in a folder of its own. Its modules are forgotten after the test.
    """
    before = set(sys.modules)

    def add(
        distribution: str, entry_points: Mapping[str, str], *, version: str = "1.0", first: bool = True, **modules: str
    ) -> Path:
        folder = tmp_path / f"{distribution}-{version}"
        metadata = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = [f"{name} = {target}" for name, target in entry_points.items()]
        (metadata / "entry_points.txt").write_text("\n".join(["[gatewaykit]", *lines, ""]))
        for name, source in modules.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(source))
        if first:
            monkeypatch.syspath_prepend(folder)
        else:
            monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
        return folder

    yield add
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def assemble() -> Callable[..., Gateway]:
    """A gateway of the default plugins and those that :func:`install` puts there, whatever else this machine has."""
    others = sorted({entry.name for entry in entry_points(group="gatewaykit")})

    def make(*plugins: object, required: tuple[str, ...] = (), blocked: tuple[str, ...] = (), **config: Any) -> Gateway:
        given = {"plugins": {"required": list(required), "blocked": [*others, *blocked]}, **config}
        return Gateway(given, plugins=plugins, environ={})

    return make
