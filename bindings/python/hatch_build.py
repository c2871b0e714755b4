"""Makes the wheel a wheel of this platform, with libtenure inside."""

from __future__ import annotations

import os
import pathlib
import sysconfig
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

RELEASE = pathlib.Path("../../target/release/libtenure.so")


class LibraryHook(BuildHookInterface[Any]):
    """Takes the library that TENURE_LIBRARY names, or the one that `make` builds."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return  # a checkout finds its library by TENURE_LIBRARY
        library = pathlib.Path(self.root, os.environ.get("TENURE_LIBRARY") or RELEASE)
        if not library.is_file():
            raise FileNotFoundError(f"{library}: build it with `make`, or set TENURE_LIBRARY to a libtenure.so")
        build_data["pure_python"] = False
        # Any Python 3, since only ctypes is used. Which systems it runs on is for auditwheel to find out.
        build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["force_include"][str(library)] = "tenure/libtenure.so.0"
