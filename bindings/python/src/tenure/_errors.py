"""The base of all exceptions; one class for each code is in _codes.py, which is generated."""

from __future__ import annotations


class TenureError(Exception):
    """Something that the library refused, or that went wrong.

    `except tenure.TenureError` catches every error of this package; each code has a class of its own below it.
    (Arguments of a wrong type raise TypeError, as everywhere in Python.)
    """

    #: The number of the code, see `Code`.
    code: int = 0
    #: Its name, ``NO_LEADER`` for instance.
    name: str = "UNKNOWN"
    #: Whether the same call may succeed later with nothing changed by the caller.
    retryable: bool = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        #: A sentence that names the thing, the reason and what to do.
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r})"
