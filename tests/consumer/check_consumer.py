#!/usr/bin/env python3
"""A project that uses the library, with files and without: as a Meson subproject, and installed,
through pkg-config; and a program for a config of one's own."""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "support"))
import compiling

ONLY_THE_LIBRARY = ["-Dtests=disabled", "-Dbenchmarks=disabled", "-Dexamples=disabled"]


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **options).stdout


def complaint_of(check, io):
    def job():
        with tempfile.TemporaryDirectory() as directory:
            try:
                check(pathlib.Path(directory), io)
            except subprocess.CalledProcessError as error:
                return f"consumer, {check.__name__}, io {io}: {error}\n{error.stdout}"
            except AssertionError as error:
                return f"consumer, {check.__name__}, io {io}: {error}"
    return job


def build_and_run(project, *options, **environment):
    env = {**os.environ, **environment}
    run("meson", "setup", project / "build", project, *options, env=env)
    run("meson", "test", "-C", project / "build", env=env)


def as_subproject(directory, io):
    project = directory / "project"
    shutil.copytree(HERE / "project", project)
    (project / "subprojects").mkdir()
    (project / "subprojects" / "hydralm").symlink_to(SOURCE)
    build_and_run(project, "--force-fallback-for=hydralm,hydralm-io", f"-Dio={io}",
                  f"-Dhydralm:io={io}")


def through_pkg_config(directory, io):
    prefix = directory / "prefix"
    run("meson", "setup", directory / "build", SOURCE, "--prefix", prefix, "--libdir", "lib",
        f"-Dio={io}", *ONLY_THE_LIBRARY)
    run("meson", "install", "-C", directory / "build")
    project = directory / "project"
    shutil.copytree(HERE / "project", project)
    path = str(prefix / "lib" / "pkgconfig")
    build_and_run(project, "--wrap-mode=nofallback", f"-Dio={io}", PKG_CONFIG_PATH=path)
    if io == "disabled":
        assert not (prefix / "lib" / "pkgconfig" / "hydralm-io.pc").exists(), "hydralm-io.pc"
        return
    for name, package in {"model": "hydralm", "files": "hydralm-io"}.items():
        flags = run("pkg-config", "--cflags", "--libs", package,
                    env={**os.environ, "PKG_CONFIG_PATH": path})
        compiler = os.environ.get("CXX", "c++")
        run(*shlex.split(compiler), "-std=c++20", project / f"{name}.cpp", *shlex.split(flags),
            "-o", directory / name)
        run(directory / name, cwd=directory)


def as_the_readme_says(directory, _):
    lines = re.search(r"\*\*Meson subproject\*\*.*?\n\n((?:    [^\n]*\n)+)",
                      (SOURCE / "README.md").read_text(), re.S)[1]
    (directory / "meson.build").write_text(textwrap.dedent(lines))
    shutil.copy(HERE / "project" / "files.cpp", directory / "mine.cpp")
    (directory / "subprojects").mkdir()
    (directory / "subprojects" / "hydralm").symlink_to(SOURCE)
    run("meson", "setup", directory / "build", directory)
    run("meson", "compile", "-C", directory / "build")
    run(directory / "build" / "mine", cwd=directory)


def for_a_config(directory, _):
    """A program for a config of one's own: an impossible one is refused before anything is built."""
    config = directory / "config.json"
    setup = ("meson", "setup", directory / "build", SOURCE, f"-Dmodel_config={config}",
             "-Dtests=disabled", "-Dbenchmarks=disabled")
    config.write_text('{"d_model": 100, "n_heads": 3}')
    refused = subprocess.run(setup, text=True, capture_output=True)
    message = f"{config}: head_dim: n_heads must divide d_model"
    assert refused.returncode != 0 and message in refused.stdout, refused.stdout + refused.stderr
    config.write_text('{"d_model": 100, "n_heads": 5}')
    run(*setup)
    installed = json.loads(run("meson", "introspect", "--installed", directory / "build"))
    assert any(path.endswith("/bin/hydralm") for path in installed.values()), installed


# Where the dependencies are wraps, an installed library has no package to point to.
installed = subprocess.run(["pkg-config", "--exists", "eigen3", "xsimd", "nlohmann_json", "zlib"])
checks = [as_subproject] + ([through_pkg_config] if installed.returncode == 0 else [])
compiling.run_all([complaint_of(check, io) for check in checks for io in ("enabled", "disabled")]
                  + [complaint_of(check, "enabled") for check in (as_the_readme_says, for_a_config)])
