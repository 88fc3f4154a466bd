#!/usr/bin/env python3
"""The wraps in a Debian 13 that stands for a machine with internet: `./run debian-13 wraps`.

A package cache is filled by hand from Debian's source packages, and the library, its program, tests
and benchmarks, and a project that uses it are built from nothing else. Where Debian has the very
archive that a wrap names, the wrap is used as it is. Where Debian has only an archive of its own
making (repacked, or headers of the binary package), a copy of the wrap is given its checksum:
then the build files are tried, not the address.
"""

import configparser
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
import compiling

# wrap: source package; binary package with the headers and where they lie, if they are enough
DEBIAN = {
    "catch2": ("catch2", None, None),
    "cli11": ("cli11", "libcli11-dev", "usr"),
    "eigen": ("eigen3", "libeigen3-dev", "usr/include/eigen3"),
    "google-benchmark": ("benchmark", None, None),
    "nlohmann_json": ("nlohmann-json3", None, None),
    "xsimd": ("xsimd", "libxsimd-dev", "usr"),
    "zlib": ("zlib", None, None),
}
# None of these may be read: they are the system's.
FOREIGN = re.compile(
    r"/usr/(?:local/)?include/(?:eigen3|xsimd|nlohmann|CLI|catch2|benchmark|zlib\.h)")


def run(*command, **options):
    result = subprocess.run([*map(str, command)], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, **options)
    if result.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {result.returncode}\n"
                             f"{result.stdout[-4000:]}")
    return result.stdout


def sources_of_this_debian(directory):
    """apt's options for the sources of the packages that the machine installs."""
    lists = directory / "sources"
    lists.mkdir()
    for path in [pathlib.Path("/etc/apt/sources.list"),
                 *pathlib.Path("/etc/apt/sources.list.d").glob("*")]:
        if path.exists():
            text = re.sub(r"^deb(?=\s)", "deb-src", path.read_text(), flags=re.M)
            (lists / path.name).write_text(re.sub(r"^Types:.*", "Types: deb-src", text, flags=re.M))
    (directory / "lists").mkdir()
    options = ["-q", "-o", "Dir::Etc::SourceList=/dev/null", "-o", f"Dir::Etc::SourceParts={lists}",
               "-o", f"Dir::State::Lists={directory / 'lists'}", "-o", "APT::Sandbox::User=root"]
    run("apt-get", *options, "update")
    return options


def debian_archive(options, name, directory):
    """The upstream archive of a source package, or else headers packed as one."""
    source, package, headers = DEBIAN[name]
    directory.mkdir()
    try:
        run("apt-get", *options, "source", "--download-only", "--tar-only", source, cwd=directory)
        return next(directory.glob("*.orig.tar.*"))
    except AssertionError:
        if package is None:
            raise
    run("apt-get", "download", package, cwd=directory)
    run("dpkg-deb", "-x", next(directory.glob("*.deb")), directory / "files")
    archive = directory / f"{package}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(directory / "files" / headers, arcname=package)
    return archive


def fill_cache(tree, directory):
    """The archives where Meson looks for them; wraps are changed where they must be."""
    cache = tree / "subprojects" / "packagecache"
    cache.mkdir()
    options = sources_of_this_debian(directory)
    for path in sorted((tree / "subprojects").glob("*.wrap")):
        wrap = configparser.ConfigParser(interpolation=None)
        wrap.read(path)
        section = wrap["wrap-file"]
        named = section["source_hash"] in run("apt-cache", *options, "showsrc",
                                              DEBIAN[path.stem][0])
        archive = debian_archive(options, path.stem, directory / path.stem)
        shutil.copy(archive, cache / section["source_filename"])
        checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
        print(f"{path.name}: built from {archive.name}; Debian "
              f"{'has' if named else 'does not have'} an archive of the wrap's checksum")
        if checksum == section["source_hash"]:
            continue
        with tarfile.open(archive) as tar:
            section["directory"] = tar.getnames()[0].split("/")[0]
        section["source_hash"] = checksum
        with path.open("w") as file:
            wrap.write(file)


def built(project, environment, *options):
    build = project / "build"
    run("meson", "setup", build, project, "--wrap-mode=forcefallback", "-Doptimization=0",
        *options, env=environment)
    return build


def assert_own(build):
    read = FOREIGN.search(run("ninja", "-C", build, "-t", "deps"))
    assert not read, f"the system's {read[0]} was read"


def library(tree, environment):
    build = built(tree, environment, "-Dtests=enabled", "-Dbenchmarks=enabled",
                  "-Dexamples=enabled")
    run("meson", "compile", "-C", build, "hydralm", "test_simd", "bench_sampling_benchmark",
        env=environment)
    run(build / "tests" / "test_simd")
    run(build / "hydralm", "info")
    run(build / "benchmarks" / "bench_sampling_benchmark", "--benchmark_list_tests")
    assert_own(build)
    linked = run("ldd", build / "hydralm")
    assert "libz." not in linked, linked


def project(consumer, environment):
    build = built(consumer, environment)
    run("meson", "test", "-C", build, env=environment)
    assert_own(build)


def main():
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        tree = directory / "hydralm"
        shutil.copytree(ROOT, tree, ignore=lambda folder, names: [
            n for n in names if pathlib.Path(folder) == ROOT and re.match(r"build|\.git$", n)])
        (directory / "archives").mkdir()
        fill_cache(tree, directory / "archives")
        consumer = directory / "consumer"
        shutil.copytree(ROOT / "tests" / "consumer" / "project", consumer)
        shutil.copytree(tree, consumer / "subprojects" / "hydralm")
        (directory / "none").mkdir()
        environment = {**os.environ, "PKG_CONFIG_LIBDIR": str(directory / "none"),
                       "MESON_PACKAGE_CACHE_DIR": str(tree / "subprojects" / "packagecache")}

        def complaint_of(check, source):
            def job():
                try:
                    check(source, environment)
                except AssertionError as error:
                    return f"wraps, {check.__name__}: {error}"
            return job

        compiling.run_all([complaint_of(library, tree), complaint_of(project, consumer)])


if __name__ == "__main__":
    main()
