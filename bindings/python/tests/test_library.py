"""The library is found where it is said to be, is the right one, and has the layout that this package reads."""

from __future__ import annotations

import ctypes
import os
import pathlib
import re
import subprocess
import sys

import pytest
import tenure
from support import ROOT, found, outcome, python, run
from tenure import _abi

HEADER = ROOT / "include" / "tenure.h"
LIBRARY = os.environ["TENURE_LIBRARY"]


def compiled(source: str, folder: pathlib.Path, *flags: str) -> pathlib.Path:
    """A C program, or with flags something else, made of a source."""
    (folder / "source.c").write_text(source)
    command = ["cc", "-std=c11", "-Wall", "-Werror", f"-I{HEADER.parent}", "-o", str(folder / "made"), *flags]
    subprocess.run([*command, str(folder / "source.c")], check=True, timeout=60)
    return folder / "made"


def test_structs_are_laid_out_as_in_c(tmp_path: pathlib.Path) -> None:
    lines = []
    expected = []
    for name, struct in _abi.STRUCTS.items():
        lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
        expected.append(f"{name} {ctypes.sizeof(struct)}")
        for field, *_ in struct._fields_:
            member = f"(({name} *)0)->{field}"
            lines.append(f'printf("{name}.{field} %zu %zu\\n", offsetof({name}, {field}), sizeof({member}));')
            descriptor = getattr(struct, field)
            expected.append(f"{name}.{field} {descriptor.offset} {descriptor.size}")
        # And no field is missing at the end or between.
        declared = found(rf"typedef struct {name} {{(.*?)}} {name};", HEADER.read_text().replace("\n", " "))[1]
        members = re.findall(r"(\w+);", re.sub(r"/\*.*?\*/", "", declared))
        assert members == [field for field, *_ in struct._fields_], name
    numbers = ["ABI_VERSION", "EVENT_CAMPAIGN", "EVENT_OBSERVER", "EVENT_LOG"]
    numbers += ["LEVEL_ERROR", "LEVEL_WARN", "LEVEL_INFO", "LEVEL_DEBUG", "VERSION_NUMBER"]
    values = [(f"TENURE_{number}", getattr(_abi, number)) for number in numbers]
    values += [(f"TENURE_{code.name}", int(code)) for code in tenure.Code]
    values += [(f"TENURE_STATE_{state.name}", int(state)) for state in tenure.State]
    for name, value in values:
        lines.append(f'printf("{name} %d\\n", (int){name});')
        expected.append(f"{name} {value}")
    source = "#include <stdio.h>\n#include <tenure.h>\nint main(void) {\n" + "\n".join(lines) + "\nreturn 0;\n}\n"
    program = compiled(source, tmp_path)
    printed = subprocess.run([str(program)], stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout
    assert printed.splitlines() == expected


def c_type(declaration: str) -> str:
    """What kind of argument a declaration in C is, for ctypes."""
    if "**" in declaration:
        struct = found(r"tenure_(\w+)", declaration)[1]
        plain = {"error": "ErrorStruct", "event": "EventStruct", "candidate": "CandidateStruct"}
        plain["candidates"] = "CandidatesStruct"
        return f"LP_LP_{plain[struct]}" if struct in plain else "LP_c_void_p"
    if match := re.search(r"struct tenure_(error|event|candidates?) \*", declaration):
        return f"LP_{match[1].capitalize()}Struct"
    if "char *" in declaration or "const void *value" in declaration:
        return "c_char_p"
    if "*" in declaration or "tenure_event_fn" in declaration or "tenure_drop_fn" in declaration:
        return "c_void_p"
    kinds = {"int32_t": "c_int", "tenure_code": "c_int", "tenure_state": "c_int", "size_t": "c_ulong", "bool": "c_bool"}
    kinds |= {"int64_t": "c_long", "uint32_t": "c_uint"} if sys.version_info >= (3, 9) else {}
    return kinds[declaration.split()[0]]


def test_functions_are_declared_as_in_c() -> None:
    header = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    declared = {
        match[2]: (match[1].strip(), [part.strip() for part in match[3].split(",") if part.strip() != "void"])
        for match in re.finditer(r"^([\w ]+[ *]+)(tenure_\w+)\(([^;]*?)\);", header, flags=re.MULTILINE)
    }
    assert len(declared) > 35
    for name, (result, arguments) in _abi.PROTOTYPES.items():
        c_result, c_arguments = declared[name]
        assert [argument.__name__ for argument in arguments] == [c_type(part) for part in c_arguments], name
        assert (result.__name__ if result else "void") == ("void" if c_result == "void" else c_type(c_result)), name


def test_versions_agree() -> None:
    cargo = found(r'(?m)^version = "(.*)"', (ROOT / "Cargo.toml").read_text())[1]
    assert tenure.__version__ == cargo == tenure.library_version
    assert tenure.library_path == LIBRARY


def importing(**variables: str) -> str:
    """Why the package can't be imported."""
    status, out, err = outcome(python("import tenure; print('imported', tenure.library_path)", **variables))
    assert status == 1 and out == "", out
    return found(r"(?s)ImportError: (.*)", err)[1]


def test_the_variable_comes_first_and_alone(tmp_path: pathlib.Path) -> None:
    assert run("import tenure; print(tenure.library_path)") == f"{LIBRARY}\n"
    missing = str(tmp_path / "libtenure.so")
    message = importing(TENURE_LIBRARY=missing, LD_LIBRARY_PATH=str(pathlib.Path(LIBRARY).parent))
    assert "TENURE_LIBRARY" in message and missing in message and "No such file" in message


def test_then_the_systems_library(tmp_path: pathlib.Path) -> None:
    place = str(pathlib.Path(LIBRARY).parent)
    found_by_name = run("import tenure; print(tenure.library_path)", TENURE_LIBRARY="", LD_LIBRARY_PATH=place)
    assert found_by_name == "libtenure.so.0\n"


def test_nothing_found_says_where_it_looked() -> None:
    message = importing(TENURE_LIBRARY="", LD_LIBRARY_PATH="")
    package = pathlib.Path(tenure.__file__).parent
    for part in ("no usable libtenure", str(package / "libtenure.so.0"), ": libtenure.so.0 (", "TENURE_LIBRARY"):
        assert part in message


STAND_IN = """
#include <tenure.h>
uint32_t tenure_abi_version(void) { return ABI; }
uint32_t tenure_version_number(void) { return VERSION; }
const char *tenure_version_string(void) { return "0.0.9"; }
static tenure_error small = { SIZE, TENURE_NULL_POINTER, "NULL_POINTER", "", false };
tenure_code tenure_options_set(tenure_options *o, const char *n, const char *v, tenure_error **err) {
    *err = &small;
    return o || n || v ? TENURE_NULL_POINTER : TENURE_OK;
}
"""


@pytest.mark.parametrize(
    ("abi", "version", "size", "words"),
    [
        (7, 1000, 32, "has ABI version 7, this package needs 0"),
        (0, 9, 32, "is version 0.0.9, this package needs 0.1.0 or newer"),
        (0, 1000, 8, "its errors have 8 bytes"),
        (None, 1000, 32, "has no function tenure_abi_version"),
    ],
)
def test_a_library_that_does_not_fit_is_refused(
    tmp_path: pathlib.Path, abi: int | None, version: int, size: int, words: str
) -> None:
    source = STAND_IN
    for name in _abi.PROTOTYPES:
        if f"{name}(" not in source:
            source += f'void *stub_{name}(void) __asm__("{name}"); void *stub_{name}(void) {{ return 0; }}\n'
    if abi is None:
        source = source.replace("uint32_t tenure_abi_version(void)", "uint32_t other(void)")
    made = compiled(source, tmp_path, "-shared", "-fPIC", f"-DABI={abi or 0}", f"-DVERSION={version}", f"-DSIZE={size}")
    message = importing(TENURE_LIBRARY=str(made))
    assert words in message and str(made) in message


def test_something_else_is_refused(tmp_path: pathlib.Path) -> None:
    text = tmp_path / "libtenure.so"
    text.write_text("no library")
    assert str(text) in importing(TENURE_LIBRARY=str(text))
