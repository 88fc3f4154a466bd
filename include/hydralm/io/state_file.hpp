// State files: what a stream or a training run carries on, in named sections, tied to a config and
// checked to the byte.
//
// Layout (little-endian): "HYDRASTA", version u32, bytes of the table u32, bytes of the file u64;
// the table as JSON
// {"fingerprint": ..., "sections": [[name, bytes], ...]}; the sections, each at a multiple of 64
// with zeros between; at the end the CRC-32 of all bytes before it. A fingerprint is what must be
// equal to read the file: of a model's state config, scalar and what its banks leave out.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "hydralm/io/atomic_file.hpp"
#include "hydralm/io/config_json.hpp"
#include "hydralm/io/crc32.hpp"
#include "hydralm/io/json_difference.hpp"

namespace HYDRALM_NAMESPACE {

struct StateSection {
    std::string name;
    std::span<const std::byte> bytes;
};

// The bytes of values, as a section.
template <class T>
    requires std::is_trivially_copyable_v<T>
StateSection state_section(std::string name, std::span<const T> values) {
    return {std::move(name), std::as_bytes(values)};
}

namespace detail {

// The fields of a valid config that a state depends on, as what they come to.
inline Json state_fields(const HydraConfig& config) {
    const HydraConfig full = resolved(config);
    Json fields = Json::object();
    for_each_config_field([&](const auto& field) {
        if (field.compared == Compared::everywhere)
            fields[field.name] = field_json(full.*field.member);
    });
    return fields;
}

// A fingerprint of a file as it would be written today: fields of the config that it lacks have
// their defaults, those no state depends on are left out. Throws Error where config_of does.
inline Json todays_fingerprint(Json fingerprint, const std::string& file_name) {
    Json fields = Json::object();
    for (const auto& [key, value] : fingerprint.items())
        if (is_config_field(key)) fields[key] = value;
    if (fields.empty()) return fingerprint;
    for (const auto& [key, value] : fields.items()) fingerprint.erase(key);
    fingerprint.update(state_fields(config_of(fields, file_name)));
    return fingerprint;
}

}  // namespace detail

// The fingerprint of a state of this model, a JSON object: the fields of its config that a state
// depends on, and the scalar it computes in ("float", "double"). config is valid.
inline std::string state_fingerprint(const HydraConfig& config, std::string_view scalar) {
    detail::Json fields = detail::state_fields(config);
    fields["scalar"] = scalar;
    return fields.dump();
}

namespace detail {

struct StateHeader {
    std::array<char, 8> magic{'H', 'Y', 'D', 'R', 'A', 'S', 'T', 'A'};
    std::uint32_t version = 2;
    std::uint32_t table_bytes = 0;
    std::uint64_t file_bytes = 0;
};
static_assert(sizeof(StateHeader) == 24);
inline constexpr Index state_alignment = 64;

// n rounded up to where a section may begin. n < 2^63 − 64, as the bytes of a file are.
constexpr std::uint64_t aligned_section(std::uint64_t n) noexcept {
    return static_cast<std::uint64_t>(round_up(static_cast<Index>(n), state_alignment));
}

}  // namespace detail

// Writes a state file piece by piece, for what is not in memory at once; it appears whole or not at
// all.
class StateWriter {
public:
    // Name and bytes of every section, in order. fingerprint: a JSON object. Throws Error as
    // AtomicFile does, and for a name given twice.
    using Sizes = std::vector<std::pair<std::string, std::uint64_t>>;
    StateWriter(const std::filesystem::path& path, std::string_view fingerprint, Sizes sections)
        : file_(path), sections_(std::move(sections)) {
        detail::Json list = detail::Json::array();
        std::set<std::string_view> names;
        for (const auto& [section, bytes] : sections_) {
            if (!names.insert(section).second)
                raise({.file = file_.name(),
                       .field = section,
                       .expected = "each section once",
                       .found = "this one twice",
                       .fix = "rename one of the two"});
            list.push_back({section, bytes});
        }
        const std::string table =
            "{\"fingerprint\":" + std::string(fingerprint) + ",\"sections\":" + list.dump() + "}";
        detail::StateHeader header;
        header.table_bytes = static_cast<std::uint32_t>(table.size());
        header.file_bytes = detail::aligned_section(sizeof(header) + table.size());
        for (const auto& [section, bytes] : sections_)
            header.file_bytes += detail::aligned_section(bytes);
        header.file_bytes += sizeof(crc_);
        put(std::as_bytes(std::span(&header, 1)));
        put(std::as_bytes(std::span(table)));
        pad();
        end_sections();
    }

    // The next bytes of a section; it ends where its size is reached. Throws Error for more than
    // is left of it, and when the disk is full or fails.
    void write(std::span<const std::byte> bytes) {
        if (bytes.empty()) return;
        if (next_ == sections_.size()) refuse("sections", 0, bytes.size());
        const auto& [section, size] = sections_[next_];
        if (bytes.size() > size - written_) refuse(section, size, written_ + bytes.size());
        put(bytes);
        written_ += bytes.size();
        end_sections();
    }
    // Once, behind the last byte of the last section. Throws Error before it, and as write does.
    void commit() {
        if (next_ < sections_.size())
            refuse(sections_[next_].first, sections_[next_].second, written_);
        file_.write(std::as_bytes(std::span(&crc_, 1)));
        file_.commit();
    }

private:
    [[noreturn]] void refuse(const std::string& section, std::uint64_t expected,
                             std::uint64_t found) const {
        raise({.file = file_.name(),
               .field = section,
               .expected = std::to_string(expected) + " bytes, as announced",
               .found = std::to_string(found),
               .fix = "write each section whole, in order"});
    }
    // Ends those whose size is reached.
    void end_sections() {
        for (; next_ < sections_.size() && written_ == sections_[next_].second; ++next_) {
            pad();
            written_ = 0;
        }
    }
    void put(std::span<const std::byte> bytes) {
        crc_ = crc32(bytes, crc_);
        file_.write(bytes);
    }
    void pad() {
        constexpr std::array<std::byte, detail::state_alignment> zeros{};
        const auto at = static_cast<std::uint64_t>(file_.bytes_written());
        put(std::span(zeros).first(static_cast<std::size_t>(detail::aligned_section(at) - at)));
    }

    AtomicFile file_;
    Sizes sections_;
    std::size_t next_ = 0;       // of sections_
    std::uint64_t written_ = 0;  // of its bytes
    std::uint32_t crc_ = 0;
};

// Replaces the file at path by these sections, atomically. fingerprint: a JSON object. Throws Error
// as StateWriter does.
inline void save_state(const std::filesystem::path& path, std::string_view fingerprint,
                       std::span<const StateSection> sections) {
    StateWriter::Sizes sizes;
    for (const StateSection& section : sections)
        sizes.emplace_back(section.name, section.bytes.size());
    StateWriter writer(path, fingerprint, std::move(sizes));
    for (const StateSection& section : sections) writer.write(section.bytes);
    writer.commit();
}

// A state file, mapped and checked whole.
class StateFile {
public:
    // Throws Error for all that MappedFile refuses, a file that is not a state, another version,
    // one that was cut off, a changed byte anywhere, two sections of one name, and another
    // fingerprint (naming the fields that differ).
    StateFile(const std::filesystem::path& path, std::string_view fingerprint) : file_(path) {
        const auto bytes = file_.bytes();
        const detail::StateHeader current;
        detail::StateHeader header;
        if (bytes.size() < sizeof(header) + sizeof(std::uint32_t) ||
            std::memcmp(bytes.data(), current.magic.data(), current.magic.size()) != 0)
            fail("", "a state file of HydraLM", "another kind of file",
                 "give a file that was saved as a state");
        std::memcpy(&header, bytes.data(), sizeof(header));
        if (header.version != current.version) {
            fail("version", std::to_string(current.version), std::to_string(header.version),
                 std::string(header.version < current.version
                                 ? "go on with the older HydraLM that wrote it (CHANGELOG.md names "
                                   "the versions)"
                                 : "use the newer HydraLM that wrote it") +
                     anew);
        }
        if (header.file_bytes != bytes.size()) {
            fail("", std::to_string(header.file_bytes) + " bytes", std::to_string(bytes.size()),
                 changed);
        }
        std::uint32_t crc = 0;
        std::memcpy(&crc, bytes.data() + bytes.size() - sizeof(crc), sizeof(crc));
        if (crc != crc32(bytes.first(bytes.size() - sizeof(crc))) ||
            header.table_bytes > bytes.size() - sizeof(header))
            fail("checksum", "the one stored in the file", "another", changed);
        const detail::Json table =
            parse_json(file_.text().substr(sizeof(header), header.table_bytes), name(), "table");
        if (!table.is_object() || !table.contains("fingerprint") || !table.contains("sections"))
            fail("table", "fingerprint and sections", detail::shown(table), changed);
        expect_fingerprint(parse_json(fingerprint, "fingerprint", ""),
                           detail::todays_fingerprint(table["fingerprint"], name()));
        read_sections(table["sections"], sizeof(header) + header.table_bytes);
    }

    const std::string& name() const noexcept { return file_.name(); }
    const std::vector<StateSection>& sections() const noexcept { return sections_; }

    // The bytes of a section, aligned to 64, valid as long as this object. Throws Error when there
    // is none of that name.
    std::span<const std::byte> section(std::string_view section_name) const {
        for (const StateSection& section : sections_)
            if (section.name == section_name) return section.bytes;
        fail(std::string(section_name), "a section of this name", "none",
             "save the state with this version");
    }
    // Throws Error when there is a section of another name.
    void expect_only(std::initializer_list<std::string_view> names) const {
        for (const StateSection& section : sections_)
            if (std::ranges::find(names, section.name) == names.end())
                fail(section.name, "only sections that are read", "an unknown one",
                     "save the state with this version");
    }
    // Throws Error unless there is a section of this name, of so many bytes.
    void expect_size(std::string_view section_name, std::size_t size) const {
        const auto bytes = section(section_name);
        if (bytes.size() != size)
            fail(std::string(section_name), std::to_string(size) + " bytes",
                 std::to_string(bytes.size()), "save the state with this version");
    }
    // out = the values of a section. Throws Error as expect_size does.
    template <class T>
        requires std::is_trivially_copyable_v<T>
    void read(std::string_view section_name, std::span<T> out) const {
        expect_size(section_name, out.size_bytes());
        const auto bytes = section(section_name);
        if (!bytes.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
    }

    // Throws Error unless a stream can have been fed so many tokens: what is computed from them
    // stays inside 64 bits.
    void expect_position(std::int64_t position) const {
        if (position < 0 || position > std::int64_t{1} << 48)
            fail("position", "a number of tokens up to 2^48", std::to_string(position), changed);
    }

private:
    void expect_fingerprint(const detail::Json& expected, const detail::Json& found) const {
        std::string list;
        for (const auto& [key, value] : expected.items()) {
            const auto other = found.find(key);
            if (other != found.end() && *other == value) continue;
            if (key == "stack" && other != found.end()) {
                list += (list.empty() ? "" : "; ") + detail::json_difference(value, *other);
                continue;
            }
            list += (list.empty() ? "" : "; ") + key + ": expected " + detail::shown(value) +
                    ", found " + (other == found.end() ? "nothing" : detail::shown(*other));
        }
        for (const auto& [key, value] : found.items())
            if (!expected.contains(key))
                list += (list.empty() ? "" : "; ") + key + ": expected nothing, found " +
                        detail::shown(value);
        if (list.starts_with("bank: ") || list.starts_with("state: "))
            fail("config: " + list, "", "",
                 "give load_state the BankPolicy that the state was saved under");
        if (list.find("training.") != std::string::npos)
            fail("config: " + list, "", "",
                 "resume with the options the run began with; to train further, begin a run from "
                 "its weights");
        if (!list.empty())
            fail("config: " + list, "", "", "a state continues only in the model that made it");
    }

    void read_sections(const detail::Json& list, std::uint64_t begin) {
        auto rest = file_.bytes().first(file_.bytes().size() - sizeof(std::uint32_t));
        const auto skip = [&](std::uint64_t n) {
            if (n > rest.size() || detail::aligned_section(n) > rest.size())
                fail("sections", "sections inside the file", "longer ones", changed);
            rest = rest.subspan(static_cast<std::size_t>(detail::aligned_section(n)));
        };
        skip(begin);
        if (!list.is_array()) fail("sections", "a list", detail::shown(list), changed);
        std::set<std::string_view> names;
        for (const detail::Json& entry : list) {
            if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() ||
                !entry[1].is_number_unsigned())
                fail("sections", "[name, bytes]", detail::shown(entry), changed);
            const auto& section_name = entry[0].get_ref<const std::string&>();
            if (!names.insert(section_name).second)
                fail(section_name, "each section once", "this one twice", changed);
            const auto size = entry[1].get<std::size_t>();
            const std::byte* const data = rest.data();
            skip(size);
            sections_.push_back({section_name, {data, size}});
        }
        if (!rest.empty())
            fail("sections", "sections up to the end of the file", "shorter ones", changed);
    }

    [[noreturn]] void fail(std::string field, std::string expected, std::string found,
                           std::string fix) const {
        raise({.file = name(),
               .field = std::move(field),
               .expected = std::move(expected),
               .found = std::move(found),
               .fix = std::move(fix)});
    }

    static constexpr const char* changed =
        "the file was cut off or changed: copy it again, or save the state again";
    static constexpr const char* anew =
        ", or make the file anew: a state by feeding its text, a fact bank by writing its facts, a "
        "training run from its weights";

    MappedFile file_;
    std::vector<StateSection> sections_;
};

// One section, for callers that lay out their own bytes.
inline void save_blob(const std::filesystem::path& path, std::string_view fingerprint,
                      std::span<const std::byte> bytes) {
    const StateSection section{"blob", bytes};
    save_state(path, fingerprint, std::span(&section, 1));
}
inline std::vector<std::byte> load_blob(const std::filesystem::path& path,
                                        std::string_view fingerprint) {
    const StateFile file(path, fingerprint);
    file.expect_only({"blob"});
    const auto bytes = file.section("blob");
    return {bytes.begin(), bytes.end()};
}

}  // namespace HYDRALM_NAMESPACE
