// AtomicFile: whole or not at all, under every name that a file can have.
#include "hydralm/io/atomic_file.hpp"

#include "support/files.hpp"

using namespace hydralm;
using namespace hydralm::test;

TEST_CASE("a file that is not committed changes nothing", "[io]") {
    const TemporaryDirectory directory;
    write_text(directory / "f", "old");
    {
        AtomicFile file(directory / "f");
        file.write("new");
    }
    CHECK(read_text(directory / "f") == "old");
    CHECK(directory.names() == std::vector<std::string>{"f"});
    write_file(directory / "f", "new");
    CHECK(read_text(directory / "f") == "new");
    CHECK(directory.names() == std::vector<std::string>{"f"});
}

TEST_CASE("an existing map keeps the old bytes when the file is replaced", "[io]") {
    const TemporaryDirectory directory;
    write_file(directory / "f", "old text");
    const MappedFile map(directory / "f");
    write_file(directory / "f", "n");
    CHECK(map.text() == "old text");
    CHECK(MappedFile(directory / "f").text() == "n");
}

TEST_CASE("links stay links, permissions stay, odd targets are refused", "[io]") {
    const TemporaryDirectory directory;
    write_file(directory / "f", "old");
    std::filesystem::permissions(directory / "f", std::filesystem::perms{0640});
    std::filesystem::create_symlink("f", directory / "link");
    write_file(directory / "link", "new");
    CHECK(std::filesystem::is_symlink(directory / "link"));
    CHECK(read_text(directory / "f") == "new");
    CHECK(std::filesystem::status(directory / "f").permissions() == std::filesystem::perms{0640});

    check_error([&] { write_file(directory.path(), "x"); },
                {"expected a file to write", "found a directory"});
    check_error([&] { write_file("/dev/null", "x"); }, {"/dev/null", "found a device"});
    check_error([&] { write_file(directory / "none/f", "x"); },
                {"none/f: expected a directory that can be written", "No such file",
                 "create the directory"});
    check_error([&] { write_file(directory / "f/g", "x"); }, {"f/g", "Not a directory"});
    check_error([&] { write_file("", "x"); }, {"expected the path of a file, found none"});
    check_error([&] { write_file("/proc/f", "x"); },
                {"/proc/f: expected a directory that can be written"});
    std::filesystem::create_symlink("circle", directory / "circle");
    check_error([&] { write_file(directory / "circle", "x"); },
                {"circle: expected the path of a file, found symbolic links in a circle"});
    std::filesystem::remove(directory / "circle");
    CHECK(directory.names() == std::vector<std::string>{"f", "link"});

    // Links to what is not there yet, one to another, one of them absolute, one up and down.
    std::filesystem::create_directory(directory / "disk");
    std::filesystem::create_symlink("disk/later", directory / "first");
    std::filesystem::create_symlink("../disk/then", directory / "disk/later");
    std::filesystem::create_symlink(directory / "disk/there", directory / "disk/then");
    write_file(directory / "first", "whole");
    CHECK(std::filesystem::is_symlink(directory / "first"));
    CHECK(std::filesystem::is_symlink(directory / "disk/then"));
    CHECK(read_text(directory / "disk/there") == "whole");
    CHECK(std::filesystem::is_regular_file(
        std::filesystem::symlink_status(directory / "disk/there")));
}

TEST_CASE("any name that a file can have is written, a longer one refused before", "[io]") {
    const TemporaryDirectory directory;
    for (const std::size_t length : {1U, 200U, 223U, 224U, 240U, 255U}) {
        const std::string name(length, 'n');
        write_file(directory / name, "old");
        write_file(directory / name, name);
        CHECK(read_text(directory / name) == name);
        CHECK(directory.names() == std::vector<std::string>{name});
        std::filesystem::remove(directory / name);
    }
    const std::string too_long(256, 'n');
    for (const auto& path : {directory / too_long, directory / (too_long + "/f")})
        check_error([&] { AtomicFile file(path); },
                    {path.string() + ": expected a name that a file can have, found File name too",
                     "; choose a shorter one"});
    CHECK(directory.names().empty());
}

TEST_CASE("a temporary file is named after its file and its process", "[io]") {
    const TemporaryDirectory directory;
    const std::string process = "." + std::to_string(::getpid()) + "-";
    for (const auto& [name, beginning] : {std::pair{std::string("m.state"), "m.state" + process},
                                          {std::string(250, 'n'), std::string(200, 'n')}}) {
        const AtomicFile file(directory / name), other(directory / name);
        const auto names = directory.names();
        CHECK(names.size() == 2);
        for (const std::string& temporary : names) {
            CHECK(temporary.starts_with(beginning));
            CHECK(temporary.find(process) != std::string::npos);
            CHECK(temporary.ends_with(".tmp"));
        }
    }
    CHECK(directory.names().empty());
}
