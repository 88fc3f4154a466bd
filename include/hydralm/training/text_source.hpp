// Batches of text: windows drawn at random, or the whole text in order.
#pragma once

#include <string>
#include <vector>

#include "hydralm/core/error.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/kernels/cross_entropy/cross_entropy.hpp"
#include "hydralm/training/batch_source.hpp"
#include "hydralm/training/text_corpus.hpp"
#include "hydralm/training/token_corpus.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

inline void check_batch_shape(Index streams, Index length) {
    if (streams < 1 || length < 1)
        raise({.field = "batch",
               .expected = "at least 1 stream of at least 1 token",
               .found = std::to_string(streams) + " of " + std::to_string(length),
               .fix = "give a batch size and a length above 0"});
}

inline void shape_batch(Batch& batch, Index streams, Index length) {
    batch.streams = streams;
    batch.length = length;
    batch.tokens.resize(static_cast<std::size_t>(streams * length));
    batch.labels.resize(batch.tokens.size());
}

}  // namespace detail

// Every stream of every batch is a window of length + 1 tokens of one text (the last is a label
// only), each window of the corpus equally likely. Texts shorter than that are not used. Cost of a
// batch: its tokens, and log(texts) a window. Corpus: TextCorpus, whose tokens are bytes, or
// TokenCorpus.
template <class Corpus>
class RandomWindowsOf : public BatchSource {
public:
    // Throws Error when no text is long enough, or for a count below 1.
    RandomWindowsOf(Corpus corpus, Index streams, Index length, std::uint64_t seed)
        : corpus_(std::move(corpus)), streams_(streams), length_(length), seed_(seed) {
        detail::check_batch_shape(streams, length);
        std::uint64_t windows = 0;
        Index longest = 0;
        for (const auto& text : corpus_.texts()) {
            const auto size = static_cast<Index>(text.size());
            longest = std::max(longest, size);
            if (size > length) windows += static_cast<std::uint64_t>(size - length);
            ends_.push_back(windows);
        }
        if (windows == 0)
            raise({.field = "text",
                   .expected =
                       "a file of at least " + std::to_string(length + 1) + " " + Corpus::unit,
                   .found = "at most " + std::to_string(longest),
                   .fix = "give a longer text, or a smaller length"});
    }

    void next(Batch& batch) override {
        detail::shape_batch(batch, streams_, length_);
        batch.fresh = true;
        Random random(seed_, window_stream ^ position_++);
        for (Index b = 0; b < streams_; ++b) {
            const std::uint64_t window = random.below(ends_.back());
            const auto text = static_cast<std::size_t>(
                std::upper_bound(ends_.begin(), ends_.end(), window) - ends_.begin());
            const std::uint64_t before = text == 0 ? 0 : ends_[text - 1];
            const auto* const tokens = corpus_.texts()[text].data() + (window - before);
            const auto first = static_cast<std::size_t>(b * length_);
            for (std::size_t n = 0; n < static_cast<std::size_t>(length_); ++n) {
                batch.tokens[first + n] = static_cast<token_id>(tokens[n]);
                batch.labels[first + n] = static_cast<token_id>(tokens[n + 1]);
            }
        }
    }
    std::uint64_t position() const override { return position_; }
    void seek(std::uint64_t position) override { position_ = position; }

private:
    static constexpr std::uint64_t window_stream = std::uint64_t{1} << 63;  // apart from weights

    Corpus corpus_;
    Index streams_, length_;
    std::uint64_t seed_, position_ = 0;
    std::vector<std::uint64_t> ends_;  // windows in the texts up to each
};

using RandomWindows = RandomWindowsOf<TextCorpus>;
using RandomTokenWindows = RandomWindowsOf<TokenCorpus>;

// The corpus as one long text, in as many equal parts as there are streams; batch i holds piece i
// of each, so that states are carried from batch to batch. After the last whole piece it begins
// anew, fresh. The label at a seam between two texts is the first byte of the next.
class ConsecutiveChunks : public BatchSource {
public:
    // Throws Error when a part is shorter than length + 1, or for a count below 1.
    ConsecutiveChunks(TextCorpus corpus, Index streams, Index length)
        : corpus_(std::move(corpus)), streams_(streams), length_(length) {
        detail::check_batch_shape(streams, length);
        Index end = 0;
        for (const auto& text : corpus_.texts())
            ends_.push_back(end += static_cast<Index>(text.size()));
        part_ = (end - 1) / streams;
        if (part_ < length)
            raise({.field = "text",
                   .expected = std::to_string(streams * length + 1) + " bytes, for " +
                               std::to_string(streams) + " streams of " + std::to_string(length),
                   .found = std::to_string(end),
                   .fix = "give a longer text, or a smaller batch or length"});
    }

    // Batches from the beginning to the last whole piece.
    std::int64_t chunks_per_pass() const noexcept { return part_ / length_; }

    void next(Batch& batch) override {
        detail::shape_batch(batch, streams_, length_);
        const auto pieces = static_cast<std::uint64_t>(chunks_per_pass());
        const Index piece = static_cast<Index>(position_++ % pieces);
        batch.fresh = piece == 0;
        for (Index b = 0; b < streams_; ++b) {
            const auto first = static_cast<std::size_t>(b * length_);
            Reader reader(*this, b * part_ + piece * length_);
            token_id token = reader.next();
            for (std::size_t n = 0; n < static_cast<std::size_t>(length_); ++n) {
                batch.tokens[first + n] = token;
                batch.labels[first + n] = token = reader.next();
            }
        }
    }
    std::uint64_t position() const override { return position_; }
    void seek(std::uint64_t position) override { position_ = position; }

private:
    // The bytes from one place of the long text on.
    class Reader {
    public:
        Reader(const ConsecutiveChunks& source, Index offset) : source_(source) {
            text_ = static_cast<std::size_t>(
                std::upper_bound(source.ends_.begin(), source.ends_.end(), offset) -
                source.ends_.begin());
            byte_ = static_cast<std::size_t>(offset - (text_ == 0 ? 0 : source.ends_[text_ - 1]));
        }
        token_id next() {
            const auto& texts = source_.corpus_.texts();
            while (byte_ == texts[text_].size()) {
                ++text_;
                byte_ = 0;
            }
            return static_cast<token_id>(texts[text_][byte_++]);
        }

    private:
        const ConsecutiveChunks& source_;
        std::size_t text_, byte_;
    };

    TextCorpus corpus_;
    Index streams_, length_, part_ = 0;
    std::uint64_t position_ = 0;
    std::vector<Index> ends_;  // of the texts, in the long one
};

}  // namespace HYDRALM_NAMESPACE
