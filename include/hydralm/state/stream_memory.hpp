// StreamMemory: the state of one stream as a value: its bytes, its banks, its position.
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/error.hpp"
#include "hydralm/state/stream_state.hpp"

namespace HYDRALM_NAMESPACE {

// Copying is taking a snapshot: bytes are copied (without allocation when assigned between streams
// of one model without banks), pages of banks shared. A copy that runs out of memory changes
// nothing. Belongs to one thread at a time.
//
// In StateFormat::int16 the bytes are those at rest, half as many for a delta rule's memory; beside
// them the stream is awake, with memory that modules compute in, from wake() on and whatever is
// assigned to it. advance rounds what they computed, once a call, and the stream goes on from what
// was kept. Copies are not awake.
class StreamMemory {
public:
    // A stream before its first token.
    StreamMemory(StateParts parts, StateFormat format) : banks_(std::move(parts.banks)) {
        if (format == StateFormat::int16 && !parts.resting.empty())
            resting_.emplace(parts.bytes, std::move(parts.resting));
        bytes_ = AlignedBuffer<std::byte>(resting_ ? resting_->bytes() : parts.bytes);
    }
    StreamMemory(const StreamMemory& other)
        : bytes_(other.bytes_),
          resting_(other.resting_),
          banks_(other.banks_),
          position_(other.position_) {}
    StreamMemory(StreamMemory&&) noexcept = default;
    // Throws std::bad_alloc, both unchanged, where this is awake and the other has yet to be.
    // NOLINTNEXTLINE(performance-noexcept-move-constructor)
    StreamMemory& operator=(StreamMemory&& other) {
        if (computes_) other.wake();
        bytes_ = std::move(other.bytes_);
        awake_ = std::move(other.awake_);
        resting_ = std::move(other.resting_);
        banks_ = std::move(other.banks_);
        position_ = other.position_;
        computes_ = other.computes_;
        return *this;
    }
    StreamMemory& operator=(const StreamMemory& other) {
        if (this == &other) return *this;
        if (bytes_.size() != other.bytes_.size() || resting_ != other.resting_) {
            return *this = StreamMemory(other);
        }
        std::vector<PageBank> banks = other.banks_;
        banks_ = std::move(banks);
        std::copy_n(other.bytes_.data(), bytes_.size(), bytes_.data());
        widen();
        position_ = other.position_;
        return *this;
    }
    ~StreamMemory() = default;

    // Tokens fed so far.
    std::int64_t position() const noexcept { return position_; }
    // Whether fixed arrays rest in int16.
    bool rests() const noexcept { return resting_.has_value(); }
    // Memory to compute in, where bytes are at rest and there is none yet. Throws std::bad_alloc.
    void wake() {
        computes_ = true;
        if (!resting_ || bytes_.size() == 0 || awake_.size() > 0) return;
        awake_ = AlignedBuffer<std::byte>(resting_->awake_bytes());
        widen();
    }
    // Before the next tokens are computed: awake, with memory for them in every bank. Throws
    // std::bad_alloc and Error as PageBank::reserve does, the stream unchanged.
    void reserve(Index tokens) {
        wake();
        for (PageBank& bank : banks_) {
            bank.reserve(position_, position_ + tokens);
            bank.expect_reads(tokens);
        }
    }
    // Memory for a long text that will be computed piece by piece, in every bank that grows with
    // it: the others have no room for all of it. Throws as reserve does.
    void reserve_growth(Index tokens) {
        for (PageBank& bank : banks_)
            if (bank.grows()) bank.reserve(position_, position_ + tokens);
    }
    // Behind them: so many are part of the past, and what rests is rounded.
    void advance(Index tokens) noexcept {
        if (resting_ && awake_.size() > 0) resting_->rest(awake_.data(), bytes_.data());
        position_ += tokens;
        for (const PageBank& bank : banks_) bank.release_reads();
    }
    // Back to before the first token; the pages of banks are given back.
    void reset() noexcept {
        std::fill_n(bytes_.data(), bytes_.size(), std::byte{0});
        std::fill_n(awake_.data(), awake_.size(), std::byte{0});
        for (PageBank& bank : banks_) bank.clear();
        position_ = 0;
    }

    // What modules see, of a stream that is awake if its arrays rest; valid until the next reserve.
    Stream stream() noexcept {
        return {rests() ? awake_.data() : bytes_.data(), position_, banks_.data()};
    }

    // What the stream carries on, banks aside: at rest where arrays rest.
    std::span<std::byte> bytes() noexcept { return bytes_.span(); }
    std::span<const std::byte> bytes() const noexcept { return bytes_.span(); }
    std::span<const PageBank> banks() const noexcept { return banks_; }
    // Memory in use by bytes and banks, shared pages included.
    Index size() const noexcept {
        Index size = bytes_.size();
        for (const PageBank& bank : banks_) size += bank.bytes();
        return size;
    }

    // How many groups of chunks tokens look into from now on (BankPolicy::open_groups). Throws
    // Error.
    void set_open_groups(Index groups) {
        for (PageBank& bank : banks_) bank.set_open_groups(groups);
    }

    // Whether both keep the past in the same way, so that one may go on where the other is.
    bool keeps_as(const StreamMemory& other) const noexcept {
        return resting_ == other.resting_ &&
               std::equal(
                   banks_.begin(), banks_.end(), other.banks_.begin(), other.banks_.end(),
                   [](const PageBank& a, const PageBank& b) { return a.policy() == b.policy(); });
    }

    // What the banks hold, as bytes for files. Allocates.
    std::vector<std::byte> bank_bytes() const {
        std::vector<std::byte> bytes;
        for (const PageBank& bank : banks_)
            bank.for_each_page(position_, [&](std::span<const std::byte> page) {
                bytes.insert(bytes.end(), page.begin(), page.end());
            });
        return bytes;
    }
    // Takes the bytes and bank_bytes of a stream of the same model at position. Throws Error for
    // other sizes, the stream unchanged.
    void restore(std::span<const std::byte> bytes, std::span<const std::byte> bank_bytes,
                 std::int64_t position) {
        if (position < 0) refuse("position", 0, position);
        if (static_cast<Index>(bytes.size()) != bytes_.size())
            refuse("state", bytes_.size(), static_cast<std::int64_t>(bytes.size()));
        Index expected = 0;
        for (const PageBank& bank : banks_) expected += bank.bytes(position);
        if (static_cast<Index>(bank_bytes.size()) != expected)
            refuse("banks", expected, static_cast<std::int64_t>(bank_bytes.size()));
        std::vector<PageBank> banks;
        for (const PageBank& bank : banks_) {
            PageBank& filled = banks.emplace_back(bank.layout(), bank.policy());
            filled.make_pages(position);
            filled.for_each_page(position, [&](std::span<std::byte> page) {
                std::copy_n(bank_bytes.data(), page.size(), page.data());
                bank_bytes = bank_bytes.subspan(page.size());
            });
            filled.derive(position);
        }
        banks_ = std::move(banks);
        std::copy_n(bytes.data(), bytes_.size(), bytes_.data());
        widen();
        position_ = position;
    }
    // Throws Error when the state is not one of so many bytes as modules see it.
    void expect_bytes(Index expected) const {
        if (computed_bytes() != expected) refuse("state", expected, computed_bytes());
    }
    // Bytes as modules see them, in either format; 0 when moved from.
    Index computed_bytes() const noexcept {
        return resting_ && bytes_.size() > 0 ? resting_->awake_bytes() : bytes_.size();
    }

private:
    void widen() noexcept {
        if (resting_ && awake_.size() > 0) resting_->wake(bytes_.data(), awake_.data());
    }
    [[noreturn]] static void refuse(const char* field, Index expected, std::int64_t found) {
        raise({.field = field,
               .expected = std::to_string(expected) +
                           (std::string_view(field) == "position" ? " or more" : " bytes"),
               .found = std::to_string(found),
               .fix = "use a state made by this model's new_state()"});
    }

    AlignedBuffer<std::byte> bytes_;
    std::optional<RestingLayout> resting_;
    AlignedBuffer<std::byte> awake_;  // empty, or what modules see of bytes_ at rest
    std::vector<PageBank> banks_;
    std::int64_t position_ = 0;
    bool computes_ = false;  // woken once: whatever is assigned is awake too
};

}  // namespace HYDRALM_NAMESPACE
