"""Models that the admin API keeps: a JSON file beside the configuration, replaced whole, shared by all workers.

::

    {"models": {"chat": {"targets": [{"to": "openai/gpt-5"}]}}}
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from gatewaykit.builtin.router.settings import ModelTable, RouterSettings
from gatewaykit.errors import ConfigError, ConfigFault

_PRIVATE = 0o600


def with_managed(settings: RouterSettings) -> RouterSettings:
    """``settings`` with the models of ``router.file``, which are stronger than those of the configuration.

    Raises :class:`~gatewaykit.errors.ConfigError` when the file cannot be read or has faults.
    """
    if settings.file is None:
        return settings
    return joined(settings, read(settings.file))


def joined(settings: RouterSettings, managed: Mapping[str, ModelTable]) -> RouterSettings:
    """``settings`` with further models. Raises :class:`~gatewaykit.errors.ConfigError` when they do not go together."""
    if clash := sorted(set(managed) & set(settings.aliases)):
        problem = f"{clash[0]!r} is both an alias and a model"
        raise ConfigError([ConfigFault(problem, str(settings.file))])
    return settings.model_copy(update={"models": {**settings.models, **managed}})


def read(path: Path) -> dict[str, ModelTable]:
    """The models in the file; none while it does not exist."""
    try:
        document = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Any]])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError([ConfigFault(f"cannot be read: {type(error).__name__}", str(path))]) from error
    if unknown := sorted(document.keys() - {"models"}):
        raise ConfigError([ConfigFault(f"{unknown[0][:100]}: unknown key", str(path))])
    return {name: model_of(name, model, str(path)) for name, model in document.get("models", {}).items()}


def model_of(name: str, document: Any, where: str) -> ModelTable:
    """One model. Raises :class:`~gatewaykit.errors.ConfigError` with every fault of it."""
    try:
        return ModelTable.model_validate_json(msgspec.json.encode(document), strict=True)
    except ValidationError as error:
        faults = [
            ConfigFault(f"{'.'.join(map(str, ('models', name, *detail['loc'])))}: {detail['msg']}", where)
            for detail in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigError(faults) from None


def write(path: Path, models: Mapping[str, ModelTable]) -> None:
    """Replace the file, whole or not at all."""
    document = {
        "models": {name: model.model_dump(mode="json", exclude_defaults=True) for name, model in models.items()}
    }
    other = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    other.replace(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one worker changes the file at a time."""
    with path.with_name(f".{path.name}.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


__all__ = ["joined", "locked", "model_of", "read", "with_managed", "write"]
