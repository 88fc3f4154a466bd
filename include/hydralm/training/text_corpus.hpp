// TextCorpus: files of text, memory-mapped, one token a byte; divided into training and held-out.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "hydralm/core/random.hpp"
#include "hydralm/io/mapped_file.hpp"

namespace HYDRALM_NAMESPACE {

// A list of texts, each a file or a part of one. A value: copies share the maps.
class TextCorpus {
public:
    using Text = std::span<const std::byte>;

    TextCorpus() = default;
    // Files, and all regular files below folders, in the order of their paths; hidden and empty
    // ones are left out of folders, and of files with the same bytes the first is kept. Throws
    // Error for a path that is missing or unreadable, and when there is no text at all.
    explicit TextCorpus(const std::vector<std::string>& paths) {
        for (const std::string& path : paths)
            for (const auto& file : files_of(path)) add(file);
        if (texts_.empty())
            throw Error({.file = paths.empty() ? "text" : paths.front(),
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

    // {training, held out}. Of several texts whole ones are held out, drawn by the seed, until they
    // hold `fraction` of the bytes; of one text, its end. Both parts have at least one byte. Throws
    // Error when there is only one byte, or for a fraction outside (0, 1).
    std::pair<TextCorpus, TextCorpus> split(double fraction, std::uint64_t seed) const {
        if (!(fraction > 0.0 && fraction < 1.0) || size() < 2)
            throw Error({.field = "held-out fraction",
                         .expected = "in (0, 1), of at least 2 bytes",
                         .found = std::to_string(fraction) + " of " + std::to_string(size()),
                         .fix = "give more text"});
        const double wanted = fraction * static_cast<double>(size());
        TextCorpus training, held_out;
        training.maps_ = held_out.maps_ = maps_;
        if (texts_.size() == 1) {
            const Text all = texts_.front();
            const std::size_t cut = std::clamp<std::size_t>(
                all.size() - static_cast<std::size_t>(wanted), 1, all.size() - 1);
            training.texts_ = {all.first(cut)};
            held_out.texts_ = {all.subspan(cut)};
            return {training, held_out};
        }
        std::vector<std::size_t> order(texts_.size());
        for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
        Random random(seed, split_stream);
        for (std::size_t i = order.size() - 1; i > 0; --i)
            std::swap(order[i], order[static_cast<std::size_t>(random.below(i + 1))]);
        std::vector<bool> out(texts_.size(), false);
        double bytes = 0.0;
        for (std::size_t i = 0; i + 1 < order.size() && (i == 0 || bytes < wanted); ++i) {
            out[order[i]] = true;
            bytes += static_cast<double>(texts_[order[i]].size());
        }
        for (std::size_t i = 0; i < texts_.size(); ++i)
            (out[i] ? held_out : training).texts_.push_back(texts_[i]);
        return {training, held_out};
    }

private:
    static constexpr std::uint64_t split_stream = 0x73706c6974;  // apart from weights and windows

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
            throw Error({.file = path,
                         .expected = "a folder that can be read",
                         .found = failure.message(),
                         .fix = "check its permissions"});
        std::sort(files.begin(), files.end());
        return files;
    }

    void add(const std::filesystem::path& path) {
        auto map = std::make_shared<const MappedFile>(path);
        const Text bytes = map->bytes();
        const auto same = [&](const Text& text) {
            return text.size() == bytes.size() &&
                   std::equal(text.begin(), text.end(), bytes.begin());
        };
        if (bytes.empty() || std::any_of(texts_.begin(), texts_.end(), same)) return;
        texts_.push_back(bytes);
        maps_.push_back(std::move(map));
    }

    std::vector<std::shared_ptr<const MappedFile>> maps_;
    std::vector<Text> texts_;
};

}  // namespace HYDRALM_NAMESPACE
