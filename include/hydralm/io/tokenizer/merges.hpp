// MergeTable: which neighbouring tokens become one, and which of them first. MergeWorkspace: a
// piece on its way from symbols to tokens.
#pragma once

#include <algorithm>
#include <bit>
#include <functional>
#include <span>
#include <vector>

#include "hydralm/io/tokenizer/token_table.hpp"

namespace HYDRALM_NAMESPACE::detail {

struct Merge {
    std::uint32_t rank = no_rank;  // lower: sooner
    token_id product = -1;

    static constexpr std::uint32_t no_rank = 0xFFFFFFFF;
};

class MergeTable {
public:
    MergeTable() = default;
    explicit MergeTable(std::size_t merges) : slots_(std::bit_ceil(2 * merges + 2)) {}

    // A pair given twice has what was given last.
    void set(token_id left, token_id right, Merge merge) {
        slots_[place_of(left, right)] = {key_of(left, right), merge};
    }
    // no_rank: they do not merge.
    Merge find(token_id left, token_id right) const noexcept {
        return slots_[place_of(left, right)].merge;
    }

private:
    struct Slot {
        std::uint64_t key = 0;
        Merge merge;  // no_rank: the slot is empty
    };
    static std::uint64_t key_of(token_id left, token_id right) noexcept {
        return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
    }
    std::size_t place_of(token_id left, token_id right) const noexcept {
        const std::uint64_t key = key_of(left, right);
        const std::size_t last = slots_.size() - 1;
        std::size_t place = mixed(key) & last;
        while (slots_[place].merge.rank != Merge::no_rank && slots_[place].key != key)
            place = (place + 1) & last;
        return place;
    }

    std::vector<Slot> slots_ = std::vector<Slot>(1);
};

// Merges the pair of the lowest rank, the leftmost of those, until no neighbours merge. Cost of n
// symbols: O(n log n).
class MergeWorkspace {
public:
    // To be filled with the ids of a piece, fewer than 2^32.
    std::vector<token_id>& symbols() noexcept { return ids_; }

    // The tokens they merge to, in place of them.
    std::span<const token_id> merge(const MergeTable& merges) {
        const auto n = static_cast<std::uint32_t>(ids_.size());
        links_.resize(n);
        heap_.clear();
        for (std::uint32_t i = 0; i < n; ++i) {
            links_[i] = {i - 1, i + 1, {}};
            if (i + 1 < n) consider(merges, i, i + 1);
        }
        std::ranges::make_heap(heap_, std::greater<>());
        while (!heap_.empty()) {
            const std::uint64_t best = heap_.front();
            std::ranges::pop_heap(heap_, std::greater<>());
            heap_.pop_back();
            const auto i = static_cast<std::uint32_t>(best);
            Link& left = links_[i];
            if (left.merge.rank != best >> 32) continue;  // of a pair that is no more
            const std::uint32_t right = left.next, next = links_[right].next;
            ids_[i] = left.merge.product;
            left.merge = links_[right].merge = {};
            left.next = next;
            const std::size_t before = heap_.size();
            if (next < n) {
                links_[next].previous = i;
                consider(merges, i, next);
            }
            if (heap_.size() > before) std::ranges::push_heap(heap_, std::greater<>());
            if (i > 0) {
                const std::size_t so_far = heap_.size();
                consider(merges, left.previous, i);
                if (heap_.size() > so_far) std::ranges::push_heap(heap_, std::greater<>());
            }
        }
        std::size_t kept = 0;
        for (std::uint32_t i = 0; i < n; i = links_[i].next) ids_[kept++] = ids_[i];
        ids_.resize(kept);
        return ids_;
    }

private:
    struct Link {
        std::uint32_t previous, next;
        Merge merge;  // with the next; no_rank too where the symbol is part of one before
    };

    // Puts the merge of two neighbours at the end of the heap, if there is one.
    void consider(const MergeTable& merges, std::uint32_t i, std::uint32_t next) {
        const Merge merge = merges.find(ids_[i], ids_[next]);
        links_[i].merge = merge;
        if (merge.rank != Merge::no_rank) heap_.push_back(std::uint64_t{merge.rank} << 32 | i);
    }

    std::vector<token_id> ids_;
    std::vector<Link> links_;
    std::vector<std::uint64_t> heap_;  // rank, place: the lowest first
};

}  // namespace HYDRALM_NAMESPACE::detail
