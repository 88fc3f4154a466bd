#!/usr/bin/env python3
"""A project that uses the library: as a Meson subproject, and installed, through pkg-config."""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "support"))
import compiling

ONLY_THE_LIBRARY = ["-Dtests=disabled", "-Dbenchmarks=disabled", "-Dexamples=disabled"]


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **options).stdout


def complaint_of(check):
    def job():
        with tempfile.TemporaryDirectory() as directory:
            try:
                check(pathlib.Path(directory))
            except subprocess.CalledProcessError as error:
                return f"consumer, {check.__name__}: {error}\n{error.stdout}"
    return job


def build_and_run(project, *options, **environment):
    env = {**os.environ, **environment}
    run("meson", "setup", project / "build", project, *options, env=env)
    run("meson", "test", "-C", project / "build", env=env)


def as_subproject(directory):
    project = directory / "project"
    shutil.copytree(HERE / "project", project)
    (project / "subprojects").mkdir()
    (project / "subprojects" / "hydralm").symlink_to(SOURCE)
    build_and_run(project, "--force-fallback-for=hydralm,hydralm-io")


def through_pkg_config(directory):
    prefix = directory / "prefix"
    run("meson", "setup", directory / "build", SOURCE, "--prefix", prefix, "--libdir", "lib",
        *ONLY_THE_LIBRARY)
    run("meson", "install", "-C", directory / "build")
    project = directory / "project"
    shutil.copytree(HERE / "project", project)
    path = str(prefix / "lib" / "pkgconfig")
    build_and_run(project, "--wrap-mode=nofallback", PKG_CONFIG_PATH=path)
    flags = run("pkg-config", "--cflags", "--libs", "hydralm", "hydralm-io",
                env={**os.environ, "PKG_CONFIG_PATH": path})
    compiler = os.environ.get("CXX", "c++")
    run(*shlex.split(compiler), "-std=c++20", project / "main.cpp", *shlex.split(flags),
        "-o", directory / "program")
    run(directory / "program")


# Where the dependencies are wraps, an installed library has no package to point to.
installed = subprocess.run(["pkg-config", "--exists", "eigen3", "xsimd", "nlohmann_json", "zlib"])
checks = [as_subproject] + ([through_pkg_config] if installed.returncode == 0 else [])
compiling.run_all([complaint_of(check) for check in checks])
