#!/usr/bin/env python3
"""What `make install`, `make dist` and `make deb` put somewhere can be used there, and after a move as well.

Run by `make test-install`, which names the libraries' folder in INSTALLED. Everything happens in a temporary folder.
"""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest
from typing import ClassVar

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VERSION = next(
    line.split('"')[1] for line in (ROOT / "Cargo.toml").read_text().splitlines() if line.startswith("version")
)
LED = f"led with {VERSION}\n"
COMPILERS = {"c": ["cc", "-std=c99"], "cpp": ["c++", "-std=c++17"]}
WARNINGS = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-pthread"]
# In memory where that can be: the libraries are large.
FOLDER = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
# Nothing of the machine may help to find the library.
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if name not in {"LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH", "PKG_CONFIG_PATH", "CMAKE_PREFIX_PATH", "MAKEFLAGS"}
}


def run(*command: str | pathlib.Path, ok: bool = True, env: dict[str, str] | None = None) -> str:
    """What a command prints; it must succeed, or fail if not `ok`."""
    ended = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env={**CLEAN, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    if (ended.returncode == 0) != ok:
        raise AssertionError(f"{shlex.join(str(word) for word in command)}: {ended.returncode}\n{ended.stdout}")
    return ended.stdout


def make(*targets: str, ok: bool = True) -> str:
    return run(
        os.environ.get("MAKE", "make"), "--no-print-directory", f"INSTALLED={os.environ['INSTALLED']}", *targets, ok=ok
    )


def files_below(folder: pathlib.Path) -> list[str]:
    """Files and links, by their paths below the folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def needs_the_library(program: pathlib.Path) -> bool:
    return "[libtenure.so.0]" in run("readelf", "-d", program)


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tenure-install-", dir=FOLDER))
        self.addCleanup(shutil.rmtree, self.folder)

    def check_program(self, program: pathlib.Path, lib: pathlib.Path, shared: bool) -> None:
        self.assertEqual(needs_the_library(program), shared, program)
        self.assertEqual(run(program, env={"LD_LIBRARY_PATH": str(lib)} if shared else {}), LED)

    def check_pkg_config(self, prefix: pathlib.Path, lib: str = "lib") -> None:
        where = {"PKG_CONFIG_LIBDIR": str(prefix / lib / "pkgconfig")}
        self.assertEqual(run("pkg-config", "--modversion", "tenure", env=where).strip(), VERSION)

        def build(language: str) -> None:
            consumer = self.folder / f"{language}.o"
            flags = shlex.split(run("pkg-config", "--cflags", "tenure", env=where))
            run(*COMPILERS[language], *WARNINGS, *flags, "-c", "-o", consumer, HERE / f"consumer.{language}")
            for package in ("tenure", "tenure-static"):
                flags = shlex.split(run("pkg-config", "--libs", package, env=where))
                run(*COMPILERS[language], "-pthread", "-o", self.folder / f"{language}-{package}", consumer, *flags)

        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(build, COMPILERS))
        for language in COMPILERS:
            for package in ("tenure", "tenure-static"):
                self.check_program(self.folder / f"{language}-{package}", prefix / lib, shared=package == "tenure")

    def check_cmake(self, prefix: pathlib.Path, lib: str = "lib") -> None:
        build = self.folder / "build"
        run("cmake", "-S", HERE, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}", "-DWANTED=0.1",
            f"-DCMAKE_LIBRARY_ARCHITECTURE={multiarch()}")  # fmt: skip
        run("cmake", "--build", build, "--parallel", "2")
        for language in COMPILERS:
            self.check_program(build / f"{language}-shared", prefix / lib, shared=True)
            self.check_program(build / f"{language}-static", prefix / lib, shared=False)
        shutil.rmtree(build)


def multiarch() -> str:
    return run("cc", "-print-multiarch").strip()


class Install(Case):
    installed: ClassVar[pathlib.Path]

    @classmethod
    def setUpClass(cls) -> None:
        cls.installed = pathlib.Path(tempfile.mkdtemp(prefix="tenure-install-", dir=FOLDER))
        cls.addClassCleanup(shutil.rmtree, cls.installed)
        make("install", f"DESTDIR={cls.installed}", "PREFIX=/opt/tenure")

    def prefix(self) -> pathlib.Path:
        """An installed prefix that the test may do with as it likes."""
        copy = self.folder / "opt/tenure"
        shutil.copytree(self.installed / "opt/tenure", copy, symlinks=True, copy_function=os.link)
        return copy

    def test_a_prefix_is_used_moved_and_used_again(self) -> None:
        prefix = self.prefix()
        self.check_pkg_config(prefix)
        moved = self.folder / "moved to here"
        prefix.rename(moved)
        self.check_pkg_config(moved)
        self.check_cmake(moved)

    def test_the_usual_links_and_no_path_inside(self) -> None:
        prefix = self.prefix()
        lib = prefix / "lib"
        self.assertEqual(os.readlink(lib / "libtenure.so"), "libtenure.so.0")
        self.assertEqual(os.readlink(lib / "libtenure.so.0"), f"libtenure.so.{VERSION}")
        dynamic = run("readelf", "-d", lib / "libtenure.so")
        self.assertIn("Library soname: [libtenure.so.0]", dynamic)
        self.assertNotRegex(dynamic, "RPATH|RUNPATH")
        for name in files_below(prefix):
            if pathlib.Path(name).suffix in {".pc", ".cmake", ".h", ".hpp"}:
                text = (prefix / name).read_text()
                self.assertNotIn("/opt/tenure", text, name)
                self.assertNotRegex(text, "@[A-Z_]+@", name)
        self.assertIn("include/tenure.h", files_below(prefix))

    def test_another_folder_for_libraries(self) -> None:
        make("install", f"DESTDIR={self.folder}", "PREFIX=/usr", "LIB=lib/some-place/deep")
        self.check_pkg_config(self.folder / "usr", "lib/some-place/deep")

    def test_a_program_without_any_shared_library(self) -> None:
        where = {"PKG_CONFIG_LIBDIR": str(self.prefix() / "lib/pkgconfig")}
        flags = shlex.split(run("pkg-config", "--static", "--cflags", "--libs", "tenure", env=where))
        program = self.folder / "static"
        run("cc", "-static", "-o", program, HERE / "consumer.c", *flags)
        self.assertNotIn("NEEDED", run("readelf", "-d", program))
        self.assertEqual(run(program), LED)

    def test_cmake_takes_versions_that_fit_only(self) -> None:
        prefix = self.prefix()
        build = self.folder / "build"
        for wanted in ("", "0", "0.1", VERSION):
            run("cmake", "-S", HERE, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}", f"-DWANTED={wanted}")
        for wanted in ("0.0.9", "0.1.99", "0.2", "1.0"):
            said = run(
                "cmake", "-S", HERE, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}", f"-DWANTED={wanted}", ok=False
            )
            self.assertIn(f"version: {VERSION}", said)

    def test_cmake_says_what_is_missing(self) -> None:
        prefix = self.prefix()
        (prefix / "lib/libtenure.a").unlink()
        build = self.folder / "build"
        said = run("cmake", "-S", HERE, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}", "-DWANTED=0.1", ok=False)
        self.assertIn("libtenure.a is missing", re.sub(r"\s+", " ", said))

    def test_uninstalling_leaves_what_belongs_to_others(self) -> None:
        prefix = self.folder / "opt/tenure"
        for _ in range(2):
            said = make("install", f"DESTDIR={self.folder}", "PREFIX=/opt/tenure")
            self.assertEqual(said, f"installed Tenure {VERSION} in {prefix}\n")
        others = prefix / "lib/pkgconfig/other.pc"
        others.write_text("")
        make("uninstall", f"DESTDIR={self.folder}", "PREFIX=/opt/tenure")
        self.assertEqual(files_below(self.folder), ["opt/tenure/lib/pkgconfig/other.pc"])
        self.assertEqual([str(path) for path in self.folder.rglob("*[Tt]enure") if path != prefix], [])
        make("uninstall", f"DESTDIR={self.folder}", "PREFIX=/opt/tenure")

    def test_settings_that_make_no_sense_are_refused(self) -> None:
        self.assertIn("it must begin with /", make("install", f"DESTDIR={self.folder}", "PREFIX=opt", ok=False))
        self.assertIn("a plain path", make("install", f"DESTDIR={self.folder}", "LIB=../lib", ok=False))
        self.assertEqual(files_below(self.folder), [])


class Archive(Case):
    def test_it_is_used_where_it_is_unpacked(self) -> None:
        make("dist", f"DIST={self.folder / 'dist'}")
        name = f"tenure-{VERSION}-linux-{os.uname().machine}"
        self.assertEqual(files_below(self.folder), [f"dist/{name}.tar.gz"])
        with tarfile.open(self.folder / "dist" / f"{name}.tar.gz") as archive:
            self.assertEqual({member.uid for member in archive} | {member.gid for member in archive}, {0})
            self.assertEqual({member.name.split("/")[0] for member in archive}, {name})
            archive.extractall(self.folder)
        unpacked = self.folder / name
        self.assertTrue((unpacked / "share/doc/tenure/docs/options.md").is_file())
        for text in ("LICENSE", "THIRD-PARTY.txt"):
            self.assertTrue((unpacked / "share/doc/tenure" / text).is_file(), text)
        self.check_pkg_config(unpacked)


class Debian(Case):
    """The packages are installed with dpkg below a root of their own; the machine's stays as it is."""

    NAMES = ("libtenure0", "libtenure-dev")
    packages: ClassVar[pathlib.Path]

    @classmethod
    def setUpClass(cls) -> None:
        cls.packages = pathlib.Path(tempfile.mkdtemp(prefix="tenure-deb-", dir=FOLDER))
        cls.addClassCleanup(shutil.rmtree, cls.packages)
        make("deb", f"DEB={cls.packages}", "DEB_COMPRESSION=none")

    def setUp(self) -> None:
        super().setUp()
        self.root = self.folder / "root"
        database = self.root / "var/lib/dpkg"
        for name in ("info", "updates", "triggers"):
            (database / name).mkdir(parents=True)
        # What the packages depend on is there in the machine's version, so dpkg really checks it.
        given = ("libc6", "libgcc-s1", "libc6-dev")
        (database / "status").write_text("\n".join(run("dpkg-query", "--status", name) for name in given))
        for name in given:
            for kind in ("", f":{run('dpkg', '--print-architecture').strip()}"):
                (database / "info" / f"{name}{kind}.list").write_text("")

    def file(self, name: str) -> pathlib.Path:
        (found,) = self.packages.glob(f"{name}_*.deb")
        return found

    def dpkg(self, *words: str | pathlib.Path, ok: bool = True) -> str:
        as_root = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
        return run(*as_root, "dpkg", f"--root={self.root}", f"--log={self.folder / 'log'}", *words, ok=ok)

    def test_installed_used_and_removed(self) -> None:
        self.dpkg("--install", *(self.file(name) for name in self.NAMES))
        for name in self.NAMES:
            self.assertIn("Status: install ok installed", self.dpkg("--status", name))
        self.assertEqual(self.dpkg("--verify"), "")
        self.check_cmake(self.root / "usr", f"lib/{multiarch()}")
        self.dpkg("--remove", *self.NAMES)
        self.assertEqual([name for name in files_below(self.root) if not name.startswith("var/lib/dpkg/")], [])

    def test_the_development_files_need_the_library(self) -> None:
        said = self.dpkg("--install", self.file("libtenure-dev"), ok=False)
        self.assertIn("depends on libtenure0", said)

    def test_the_fields(self) -> None:
        fields = {
            name: dict(
                line.split(": ", 1)
                for line in run("dpkg-deb", "--field", self.file(name)).splitlines()
                if not line.startswith(" ")
            )
            for name in self.NAMES
        }
        for name in self.NAMES:
            self.assertEqual((fields[name]["Package"], fields[name]["Version"]), (name, f"{VERSION}-1"))
            self.assertEqual(fields[name]["Multi-Arch"], "same")
            self.assertIn(f"/usr/share/doc/{name}/THIRD-PARTY.txt", run("dpkg-deb", "--contents", self.file(name)))
            owners = {line.split()[1] for line in run("dpkg-deb", "--contents", self.file(name)).splitlines()}
            self.assertEqual(owners, {"root/root"})
        self.assertRegex(fields["libtenure0"]["Depends"], r"^libc6 \(>= 2\.\d+\), libgcc-s1 \(>= [\d.]+\)$")
        self.assertIn(f"libtenure0 (= {VERSION}-1)", fields["libtenure-dev"]["Depends"])
        for member, text in (
            ("triggers", "activate-noawait ldconfig\n"),
            ("shlibs", f"libtenure 0 libtenure0 (>= {VERSION})\n"),
        ):
            self.assertEqual(run("dpkg-deb", "--info", self.file("libtenure0"), member), text)


def main() -> int:
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
