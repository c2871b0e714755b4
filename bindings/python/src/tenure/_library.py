"""Finds libtenure, checks that it is one that this package can use, and declares its functions."""

from __future__ import annotations

import ctypes
import os
import pathlib

from ._abi import ABI_VERSION, PROTOTYPES, VERSION_NUMBER, ErrorStruct

VARIABLE = "TENURE_LIBRARY"
# The ABI's version is part of the name, so that a library with another one isn't even looked at.
SONAME = f"libtenure.so.{ABI_VERSION}"


def _places() -> list[tuple[str, str]]:
    """Where to look, the first first: what it is, and what the loader is to be given."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        # Whoever names a library wants this one or none.
        return [(f"the environment variable {VARIABLE}", chosen)]
    inside = pathlib.Path(__file__).resolve().parent / SONAME
    return [("inside this package", str(inside)), ("where the system keeps its libraries", SONAME)]


def _open() -> tuple[ctypes.CDLL, str]:
    tried = []
    for what, name in _places():
        try:
            # A CDLL, never a PyDLL: calls let other threads run, which they may have to wait for.
            return ctypes.CDLL(name), name
        except OSError as failure:
            tried.append(f"{what}: {name} ({failure})")
    raise ImportError(
        "tenure: no usable libtenure was found. Looked for it\n  "
        + "\n  ".join(tried)
        + f"\nInstall the wheel of this platform or the library, or set {VARIABLE} to the path of {SONAME}."
    )


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def _check(library: ctypes.CDLL, path: str) -> None:
    """Refuses a library that this package would misread."""
    found = library.tenure_abi_version()
    if found != ABI_VERSION:
        raise ImportError(f"tenure: {path} has ABI version {found}, this package needs {ABI_VERSION}")
    if library.tenure_version_number() < VERSION_NUMBER:
        version = library.tenure_version_string().decode()
        raise ImportError(
            f"tenure: {path} is version {version}, this package needs {_version(VERSION_NUMBER)} or newer"
        )
    # A struct to look at: what a call with a bad argument says.
    error = ctypes.POINTER(ErrorStruct)()
    library.tenure_options_set(None, b"", b"", ctypes.byref(error))
    size = error.contents.struct_size
    library.tenure_error_free(error)
    if size < ctypes.sizeof(ErrorStruct):
        wanted = ctypes.sizeof(ErrorStruct)
        raise ImportError(f"tenure: {path}: its errors have {size} bytes, this package needs {wanted}")


def _load() -> tuple[ctypes.CDLL, str]:
    library, path = _open()
    for name, (result, arguments) in PROTOTYPES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise ImportError(f"tenure: {path} has no function {name}: it is no libtenure, or an older one") from None
        function.restype, function.argtypes = result, arguments
    _check(library, path)
    return library, path


library, library_path = _load()
library_version: str = library.tenure_version_string().decode()
