"""Options, by the names and with the meanings of docs/options.md. They are checked by the library alone."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from ctypes import byref
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Callable, TypedDict

from ._calls import Handle, call, text, value_bytes
from ._codes import InvalidValueError, UnknownOptionError
from ._library import library

if TYPE_CHECKING:
    from typing_extensions import TypeAlias

#: ``"5s"``, as in docs/options.md, or a number of seconds.
Duration: TypeAlias = "str | float | timedelta"
PathLike: TypeAlias = "str | os.PathLike[str]"


class ServiceOptions(TypedDict, total=False):
    """The keyword arguments of `Service`. None, or leaving one out, means the default."""

    endpoints: str | list[str] | tuple[str, ...] | None
    root: str | None
    environment: str | None
    service: str | None
    prefix: str | None
    ttl: Duration | None
    username: str | None
    password: str | None
    ca_file: PathLike | None
    cert_file: PathLike | None
    key_file: PathLike | None
    server_name: str | None
    dial_timeout: Duration | None
    call_timeout: Duration | None
    open_offline: bool | None
    value: str | None
    log_level: str | None


class CampaignOptions(TypedDict, total=False):
    """The keyword arguments of `Service.campaign`. None, or leaving one out, means the default."""

    value: bytes | str | None
    rejoin: bool | None
    at_risk: bool | None
    step_down_margin: Duration | None
    wait_limit: Duration | None


def _written(name: str, value: object) -> str:
    """A value as text, as the library takes it. What it means is not looked at."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, (int, float)):
        if not abs(value) < 1e12:
            raise InvalidValueError(f"option `{name}`: {value} is no number of seconds")
        return f"{math.ceil(value * 1000)}ms"  # up: 0 may mean something else
    if isinstance(value, os.PathLike):
        path = os.fspath(value)
        if isinstance(path, str):
            return path
    elif isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    raise TypeError(f"option `{name}`: {type(value).__name__} is not what an option can be")


def _made(new: Callable[..., int], free: Callable[[Any], None]) -> Handle:
    handle = Handle(free)
    call(new, byref(handle.out))
    return handle


def _set(function: Callable[..., int], handle: Handle, name: str, value: object) -> None:
    if value is None:
        return
    encoded = text(_written(name, value), f"option {name}", InvalidValueError)
    call(function, handle.pointer, text(name, "name of an option", UnknownOptionError), encoded)


def service_options(options: Mapping[str, object]) -> Handle:
    """Options for tenure_service_open."""
    if options.get("events") is not None:
        raise InvalidValueError("option `events`: this package always pulls events, by a thread of its own")
    handle = _made(library.tenure_options_new, library.tenure_options_free)
    for name, value in options.items():
        _set(library.tenure_options_set, handle, name, value)
    _set(library.tenure_options_set, handle, "events", "pull")
    return handle


def campaign_options(options: Mapping[str, object]) -> Handle:
    """Options for tenure_service_campaign."""
    handle = _made(library.tenure_campaign_options_new, library.tenure_campaign_options_free)
    for name, value in options.items():
        if name == "value":
            data = value_bytes(value)
            call(library.tenure_campaign_options_set_value, handle.pointer, data, len(data))
        else:
            _set(library.tenure_campaign_options_set, handle, name, value)
    return handle
