"""The wheel says the truth about where it runs, and an election runs with it where nothing else is installed.

Run by `make test-wheel`, which names the wheel in TENURE_WHEEL.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from support import found

WHEEL = pathlib.Path(os.environ["TENURE_WHEEL"])
TOOLS = pathlib.Path(sys.executable).parent

ELECTION = """
import tenure
print(tenure.library_path)
with tenure.Service(endpoints="memory://wheel", service="billing") as service:
    with service.campaign("shard-7", value=b"host-a") as campaign:
        campaign.wait_for_leadership(timeout=20)
        assert campaign.is_leader() and service.leader("shard-7").value == b"host-a"
        print("led with token", campaign.token)
"""

TYPED = """
import tenure
with tenure.Service(service="x", ttl=5) as service:
    reveal_type(service.campaign("x").token)
    service.campaign("x", rejoin=5)
    service.campaign("x", rejoni=True)
"""


def command(*words: str, folder: pathlib.Path) -> str:
    """Runs a program that knows nothing of this checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TENURE_", "PYTHON", "MYPY"))}
    ended = subprocess.run(
        words, check=False, cwd=folder, env=kept, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert ended.returncode == 0, f"{words}: {ended.stdout}"
    return ended.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A virtual environment with the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    command(sys.executable, "-m", "venv", "--without-pip", str(folder), folder=folder)
    pip(folder, "install", "--no-index", str(WHEEL))
    return folder


def pip(folder: pathlib.Path, *words: str) -> str:
    python = str(folder / "bin" / "python")
    return command(
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, *words, folder=folder
    )


def test_its_name_promises_no_more_than_the_library_keeps(tmp_path: pathlib.Path) -> None:
    tag = found(r"^tenure-[\d.]+-py3-none-(manylinux_(\d+)_(\d+)_\w+)\.whl$", WHEEL.name)
    judged = command(str(TOOLS / "auditwheel"), "show", str(WHEEL), folder=tmp_path)
    assert f'"{tag[1]}"' in judged
    assert f"Tag: py3-none-{tag[1]}\n" in content("WHEEL")
    with zipfile.ZipFile(WHEEL) as archive:
        archive.extract("tenure/libtenure.so.0", tmp_path)
    with (tmp_path / "tenure" / "libtenure.so.0").open("rb") as file:
        elf = ELFFile(file)
        needed, dynamic = (elf.get_section_by_name(name) for name in (".gnu.version_r", ".dynamic"))
        assert isinstance(needed, GNUVerNeedSection) and isinstance(dynamic, DynamicSection)
        versions = [part.name for _, parts in needed.iter_versions() for part in parts]
        soname = [vars(tag)["soname"] for tag in dynamic.iter_tags("DT_SONAME")]
        libraries = {vars(tag)["needed"] for tag in dynamic.iter_tags("DT_NEEDED")}
    newest = max(tuple(map(int, version[6:].split("."))) for version in versions if version.startswith("GLIBC_"))
    assert newest <= (int(tag[2]), int(tag[3]))
    assert soname == ["libtenure.so.0"]
    assert all(re.match(r"lib(c|m|gcc_s|dl|pthread)\.so|ld-linux", library) for library in libraries), libraries


def content(name: str) -> str:
    """A file about the wheel."""
    with zipfile.ZipFile(WHEEL) as archive:
        [path] = [path for path in archive.namelist() if path.endswith(f".dist-info/{name}")]
        return archive.read(path).decode()


def test_it_holds_the_package_and_needs_no_other() -> None:
    with zipfile.ZipFile(WHEEL) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        assert archive.testzip() is None
    sources = pathlib.Path(__file__).parents[1] / "src" / "tenure"
    package = {f"tenure/{path.name}" for path in sources.iterdir() if path.suffix in (".py", ".typed")}
    assert {name for name in names if name.startswith("tenure/")} == package | {"tenure/libtenure.so.0"}
    metadata = content("METADATA")
    assert "Requires-Dist" not in metadata and "Requires-Python: >=3.9\n" in metadata
    for text in ("LICENSE", "THIRD-PARTY.txt"):  # of what the library contains, too
        assert any(name.endswith(f"licenses/{text}") for name in names), text
    assert WHEEL.stat().st_size < 3_500_000


def test_an_election_in_an_empty_environment(environment: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert "tenure" in (installed := pip(environment, "list", "--format=freeze")) and installed.count("==") == 1
    out = command(str(environment / "bin" / "python"), "-I", "-W", "error", "-c", ELECTION, folder=tmp_path)
    path, led = out.splitlines()
    assert path.startswith(str(environment)) and re.match(r"led with token [1-9]", led)


def test_type_checkers_see_its_types(environment: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "program.py").write_text(TYPED)
    words = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(environment / "bin" / "python")]
    ended = subprocess.run(
        [*words, "--cache-dir", str(tmp_path / "cache"), "program.py"],
        check=False,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = ended.stdout.splitlines()
    assert 'Revealed type is "int"' in lines[0] or 'Revealed type is "builtins.int"' in lines[0], lines
    errors = [line for line in lines if ": error: " in line]
    assert len(errors) == 2 and '"rejoin"' in errors[0] and '"rejoni"' in errors[1], lines


def test_it_can_be_taken_out_again(environment: pathlib.Path) -> None:
    pip(environment, "uninstall", "--yes", "tenure")
    assert list(environment.rglob("*tenure*")) == []
