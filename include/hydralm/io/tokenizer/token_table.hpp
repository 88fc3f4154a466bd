// TokenTable: the text of every id, and the id of a text.
#pragma once

#include <bit>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE::detail {

inline std::uint64_t mixed(std::uint64_t value) noexcept {
    value *= 0x9E3779B97F4A7C15U;
    return value ^ value >> 32;
}

// Not for texts that someone chose to collide.
inline std::uint64_t hash_of(std::string_view text) noexcept {
    std::uint64_t hash = text.size(), part = 0;
    for (; text.size() > 8; text.remove_prefix(8)) {
        std::memcpy(&part, text.data(), 8);
        hash = mixed(hash ^ part);
    }
    part = 0;
    if (!text.empty()) std::memcpy(&part, text.data(), text.size());
    return mixed(mixed(hash ^ part));
}

class TokenTable {
public:
    TokenTable() = default;
    // Ids in [0, ids), at most `findable` of them to be found by their text.
    TokenTable(std::size_t ids, std::size_t findable)
        : texts_(ids), slots_(std::bit_ceil(2 * findable + 2)) {}

    Index size() const noexcept { return std::ssize(texts_); }

    // Gives an id its text. Once for each.
    void set(token_id id, std::string_view text) {
        texts_[static_cast<std::size_t>(id)] = {static_cast<std::uint32_t>(bytes_.size()),
                                                static_cast<std::uint32_t>(text.size())};
        bytes_ += text;
    }
    // Makes it findable, unless its text is another's already. Returns the id that has the text.
    token_id insert(token_id id) {
        const std::uint64_t hash = hash_of(text(id));
        Slot& slot = slots_[place_of(text(id), hash)];
        if (slot.id < 0) slot = {static_cast<std::uint32_t>(hash >> 32), id};
        return slot.id;
    }

    // Empty for an id without a token, in [0, size()) or not.
    std::string_view text(token_id id) const noexcept {
        if (id < 0 || id >= size()) return {};
        const auto [begin, length] = texts_[static_cast<std::size_t>(id)];
        return {bytes_.data() + begin, length};
    }
    // The id of a text; -1: none has it.
    token_id find(std::string_view text) const noexcept {
        return slots_[place_of(text, hash_of(text))].id;
    }

private:
    struct Range {
        std::uint32_t begin = 0, length = 0;  // in bytes_
    };
    struct Slot {
        std::uint32_t hash = 0;
        token_id id = -1;
    };

    // The slot that has the text, or the empty one where it belongs.
    std::size_t place_of(std::string_view wanted, std::uint64_t hash) const noexcept {
        const std::size_t last = slots_.size() - 1;
        std::size_t place = hash & last;
        while (slots_[place].id >= 0 &&
               (slots_[place].hash != static_cast<std::uint32_t>(hash >> 32) ||
                text(slots_[place].id) != wanted))
            place = (place + 1) & last;
        return place;
    }

    std::string bytes_;
    std::vector<Range> texts_;
    std::vector<Slot> slots_ = std::vector<Slot>(1);
};

}  // namespace HYDRALM_NAMESPACE::detail
