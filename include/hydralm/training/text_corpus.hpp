// TextCorpus: files of text, one token a byte; divided into training and held-out.
//
// Large files are memory-mapped, small ones copied, so that a folder may hold any number of them.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "hydralm/core/random.hpp"
#include "hydralm/io/mapped_file.hpp"

namespace HYDRALM_NAMESPACE {

// A list of texts, each a file or a part of one. A value: copies share the bytes.
class TextCorpus {
public:
    using Text = std::span<const std::byte>;
    static constexpr const char* unit = "bytes";

    TextCorpus() = default;
    // Files, and all regular files below folders, in the order of their paths; hidden and empty
    // ones are left out of folders, and of files with the same bytes the first is kept. Throws
    // Error for a path that is missing or unreadable, and when there is no text at all.
    explicit TextCorpus(const std::vector<std::string>& paths) {
        Known known;
        for (const std::string& path : paths)
            for (const auto& file : files_of(path)) add(file, known);
        if (texts_.empty())
            raise({.file = paths.empty() ? "text" : paths.front(),
                   .expected = "at least one byte of text",
                   .found = "none",
                   .fix = "give files, or folders that hold some"});
    }

    const std::vector<Text>& texts() const noexcept { return texts_; }
    // Bytes of all texts.
    Index size() const noexcept {
        Index n = 0;
        for (const Text& text : texts_) n += static_cast<Index>(text.size());
        return n;
    }

    // {training, held out}, every byte of the corpus in one of them. The texts that are longer than
    // `window` are cut into pieces of at least window + 1 bytes, or stay whole; of these pieces the
    // seed draws those held out, `fraction` of their bytes to within half a piece. Where a
    // part would be less than one piece, the end of the longest text is held out. Shorter texts are
    // training's, whose windows leave them out. Each part has a text of at least 2 bytes, and
    // training one longer than window. Throws Error for a corpus too small for that, a fraction
    // outside (0, 1), and a window below 1. Cost: a pass over the list of texts, none over their
    // bytes.
    std::pair<TextCorpus, TextCorpus> split(double fraction, std::uint64_t seed,
                                            Index window = 1) const {
        if (!(fraction > 0.0 && fraction < 1.0) || window < 1)
            raise({.field = "held-out part",
                   .expected = "a fraction in (0, 1), and windows of at least 1 byte",
                   .found = std::to_string(fraction) + " and " + std::to_string(window),
                   .fix = "give 0.05, and the length that is trained on"});
        const auto read = static_cast<double>(bytes_in_longer_than(window));
        const Index wanted = std::max<Index>(2, static_cast<Index>(fraction * read));
        const Index least = std::max({window + 1, least_piece, wanted / most_pieces});
        const bool small = std::min(wanted, static_cast<Index>(read) - wanted) < least;
        const auto parts =
            small ? without_end_of_longest(wanted) : drawn(pieces_of(least, window), wanted, seed);
        if (parts.first.bytes_in_longer_than(window) == 0 ||
            parts.second.bytes_in_longer_than(1) == 0)
            raise({.field = "held-out part",
                   .expected = std::to_string(wanted) + " bytes for it, beside a text of " +
                               std::to_string(window + 1) + " to train on",
                   .found = "texts of at most " + std::to_string(longest()) + " bytes",
                   .fix = "give a longer text, or a smaller length"});
        return parts;
    }

    // Bytes of the longest text; 0 without any.
    Index longest() const noexcept {
        Index most = 0;
        for (const Text& text : texts_) most = std::max(most, static_cast<Index>(text.size()));
        return most;
    }
    // Bytes of the texts longer than `length`: those that windows of so many bytes, and the label
    // behind each, are drawn from.
    Index bytes_in_longer_than(Index length) const noexcept {
        Index n = 0;
        for (const Text& text : texts_)
            if (static_cast<Index>(text.size()) > length) n += static_cast<Index>(text.size());
        return n;
    }

private:
    static constexpr std::uint64_t split_stream = 0x73706c6974;  // apart from weights and windows
    // How finely a corpus is divided: pieces of no fewer bytes than this, and about so many held
    // out where the corpus is large.
    static constexpr Index least_piece = 256, most_pieces = 256;

    struct Piece {
        Text bytes;
        bool begins_text = true, read = true;  // read: of a text longer than the window
    };

    // All texts, those longer than window cut evenly into as many pieces of `least` bytes or more
    // as there can be.
    std::vector<Piece> pieces_of(Index least, Index window) const {
        std::vector<Piece> pieces;
        for (const Text& text : texts_) {
            const auto size = static_cast<Index>(text.size());
            const bool read = size > window;
            const Index count = read ? std::max<Index>(1, size / least) : 1;
            const auto begin_of = [&](Index i) {
                return static_cast<std::size_t>(size / count * i + size % count * i / count);
            };
            for (Index i = 0; i < count; ++i)
                pieces.push_back({.bytes = text.subspan(begin_of(i), begin_of(i + 1) - begin_of(i)),
                                  .begins_text = i == 0,
                                  .read = read});
        }
        return pieces;
    }

    // {the others, those drawn}: each part's neighbours in one text are one text again.
    std::pair<TextCorpus, TextCorpus> drawn(const std::vector<Piece>& pieces, Index wanted,
                                            std::uint64_t seed) const {
        std::vector<std::size_t> order;
        for (std::size_t i = 0; i < pieces.size(); ++i)
            if (pieces[i].read) order.push_back(i);
        Random random(seed, split_stream);
        for (std::size_t i = order.size(); i > 1; --i)
            std::swap(order[i - 1], order[static_cast<std::size_t>(random.below(i))]);
        order.pop_back();  // one is always left to train on
        std::vector<bool> out(pieces.size(), false);
        Index left = wanted;
        for (const std::size_t i : order) {
            const auto size = static_cast<Index>(pieces[i].bytes.size());
            if (size / 2 > left) continue;  // nearer to what is wanted without it
            out[i] = true;
            left -= size;
        }
        std::pair parts(part(), part());
        for (std::size_t i = 0; i < pieces.size(); ++i) {
            auto& texts = (out[i] ? parts.second : parts.first).texts_;
            const Text& bytes = pieces[i].bytes;
            if (i == 0 || pieces[i].begins_text || out[i] != out[i - 1]) texts.push_back(bytes);
            else texts.back() = {texts.back().data(), texts.back().size() + bytes.size()};
        }
        return parts;
    }

    // {all but the last bytes of the longest text, those}.
    std::pair<TextCorpus, TextCorpus> without_end_of_longest(Index bytes) const {
        std::pair parts(part(), part());
        parts.first.texts_ = texts_;
        Text& text = *std::ranges::max_element(parts.first.texts_, {}, &Text::size);
        const std::size_t cut =
            text.size() - std::min(text.size(), static_cast<std::size_t>(bytes));
        parts.second.texts_ = {text.subspan(cut)};
        text = text.first(cut);
        return parts;
    }

    // No text yet, of the same files.
    TextCorpus part() const {
        TextCorpus empty;
        empty.owners_ = owners_;
        return empty;
    }

    static std::vector<std::filesystem::path> files_of(const std::string& path) {
        std::error_code failure;
        if (!std::filesystem::is_directory(path, failure)) return {path};
        std::vector<std::filesystem::path> files;
        for (auto entry = std::filesystem::recursive_directory_iterator(path, failure);
             !failure && entry != std::filesystem::recursive_directory_iterator();
             entry.increment(failure)) {
            std::error_code gone;  // a link to nothing is no file
            if (entry->path().filename().string().starts_with('.')) {
                if (entry->is_directory(gone)) entry.disable_recursion_pending();
            } else if (entry->is_regular_file(gone) && entry->file_size(gone) > 0 && !gone) {
                files.push_back(entry->path());
            }
        }
        if (failure)
            raise({.file = path,
                   .expected = "a folder that can be read",
                   .found = failure.message(),
                   .fix = "check its permissions"});
        std::sort(files.begin(), files.end());
        return files;
    }

    // A file up to this size is copied: a process may have some 65,000 maps, and a folder more
    // files. (The allocator, too, maps blocks beyond 128 KiB.)
    static constexpr std::size_t largest_copy = 65536;

    // Texts by a number that those with the same bytes share.
    using Known = std::unordered_multimap<std::size_t, std::size_t>;

    void add(const std::filesystem::path& path, Known& known) {
        auto map = std::make_shared<const MappedFile>(path);
        const bool copied = map->bytes().size() <= largest_copy;
        const std::size_t key =
            copied ? std::hash<std::string_view>{}(map->text()) : map->bytes().size();
        const auto [first, last] = known.equal_range(key);
        if (std::any_of(first, last, [&](const auto& entry) {
                return std::ranges::equal(texts_[entry.second], map->bytes());
            }))
            return;
        known.emplace(key, texts_.size());
        if (copied) {
            auto copy = std::make_shared<const std::vector<std::byte>>(map->bytes().begin(),
                                                                       map->bytes().end());
            texts_.push_back(*copy);
            owners_.push_back(std::move(copy));
        } else {
            texts_.push_back(map->bytes());
            owners_.push_back(std::move(map));
        }
    }

    std::vector<std::shared_ptr<const void>> owners_;  // of the bytes: maps, copies
    std::vector<Text> texts_;
};

}  // namespace HYDRALM_NAMESPACE
