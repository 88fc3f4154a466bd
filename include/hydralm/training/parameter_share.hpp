// ParameterShare: the run of parameters that one rank owns. It alone has their moments, sums their
// gradient over ranks, updates them, and tells the others (ZeRO-1: Rajbhandari et al. 2020, arXiv
// 1910.02054).
#pragma once

#include <algorithm>

#include "hydralm/training/pairwise_sum.hpp"
#include "hydralm/training/ranks.hpp"

namespace HYDRALM_NAMESPACE {

// Of R ranks, rank r owns the elements up to ends[r]. Memory beside one rank's: a gradient, and
// ⌈log2 R⌉ shares.
template <Real T>
class ParameterShare {
public:
    // Throws Error, the same on every rank, for more elements than ranks send each other at once.
    ParameterShare(Ranks& ranks, std::vector<Index> ends)
        : ranks_(ranks),
          ends_(checked(ranks, std::move(ends))),
          first_(ranks.rank() == 0 ? 0 : ends_[static_cast<std::size_t>(ranks.rank() - 1)]),
          size_(ends_[static_cast<std::size_t>(ranks.rank())] - first_),
          received_(ranks.count() > 1 ? ranks.count() * size_ : 0),
          sum_(ranks.count(), size_) {}

    Index first() const noexcept { return first_; }
    Index size() const noexcept { return size_; }
    template <class U>
    std::span<U> own(std::span<U> all) const noexcept {
        return all.subspan(static_cast<std::size_t>(first_), static_cast<std::size_t>(size_));
    }

    // The elements of the gradient that this rank owns become their sum over ranks; the others
    // stay. A rank sends (R − 1)/R of a gradient. The sum goes on with the tree of PairwiseSum, in
    // which the batches of the last rank come first.
    void sum(std::span<T> gradient) {
        begin_sum(gradient, 0, std::ssize(gradient));
        finish_sum(gradient);
    }
    // The same piece by piece, each element in one of them: what is begun of [begin, end) goes on
    // while the rest is computed; the piece is not touched before finish_sum, behind the last.
    void begin_sum(std::span<const T> gradient, Index begin, Index end) {
        if (ranks_.count() == 1) return;
        std::vector<Index> to(ends_);
        for (Index& e : to) e = std::clamp(e, begin, end) - begin;
        const Piece piece{std::clamp(begin - first_, Index{0}, size_),
                          std::clamp(end - first_, Index{0}, size_)};
        const auto at = [](std::span<const T> all, Index first, Index n) {
            return all.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(n));
        };
        ranks_.begin_exchange(at(gradient, begin, end - begin), to, received(piece),
                              ranks_.equal_ends(piece.size()));
        pieces_.push_back(piece);
    }
    void finish_sum(std::span<T> gradient) {
        if (ranks_.count() == 1) return;
        ranks_.finish();
        for (Index r = ranks_.count() - 1; r >= 0; --r) {
            for (const Piece& piece : pieces_) sum_.add_part(piece.first, received(piece, r));
            sum_.next();
        }
        for (const Piece& piece : pieces_)
            std::ranges::copy(received(piece, 0), own(gradient).data() + piece.first);
        pieces_.clear();
    }
    // Every element comes from the rank that owns it to all.
    void publish(std::span<T> all) { ranks_.share(all, ends_); }
    // all = what the ranks have of their elements, on rank 0; empty on the others.
    void collect(std::span<const T> own_values, std::span<T> all) {
        const std::vector<Index> to(ends_.size(), size_), none(ends_.size(), 0);
        ranks_.exchange(own_values, to, all, ranks_.rank() == 0 ? ends_ : none);
    }

private:
    // Elements [first, end) of the share.
    struct Piece {
        Index first, end;
        Index size() const noexcept { return end - first; }
    };
    static std::vector<Index> checked(const Ranks& ranks, std::vector<Index> ends) {
        Index most = ends.back(), first = 0;  // that a rank sends, or receives of its share
        for (const Index end : ends) {
            most = std::max(most, ranks.count() * (end - first));
            first = end;
        }
        if (ranks.count() > 1) detail::expect_sendable(most);
        return ends;
    }
    // What comes of a piece, from every rank and from one.
    std::span<T> received(const Piece& piece) noexcept {
        return received_.span().subspan(static_cast<std::size_t>(ranks_.count() * piece.first),
                                        static_cast<std::size_t>(ranks_.count() * piece.size()));
    }
    std::span<T> received(const Piece& piece, Index r) noexcept {
        return received(piece).subspan(static_cast<std::size_t>(r * piece.size()),
                                       static_cast<std::size_t>(piece.size()));
    }

    Ranks& ranks_;
    std::vector<Index> ends_;
    Index first_, size_;
    AlignedBuffer<T> received_;
    PairwiseSum<T> sum_;
    std::vector<Piece> pieces_;  // begun
};

}  // namespace HYDRALM_NAMESPACE
