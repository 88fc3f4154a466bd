// config: a published model's shape as a C++ type.
#include <hydralm/families/model_type.hpp>
#include <hydralm/families/published.hpp>
#include <hydralm/io/atomic_file.hpp>
#include <hydralm/io/checkpoint.hpp>
#include <hydralm/io/mapped_file.hpp>

#include <filesystem>
#include <string>

#include "options.hpp"
#include "with_scalar.hpp"

namespace {

// Of a folder its config.json is enough, or that file itself.
hydralm::HybridShape shape_of(const std::filesystem::path& given) {
    if (hydralm::is_gguf(given)) {
        const hydralm::Checkpoint checkpoint(given);
        const auto published = hydralm::families::published(checkpoint);
        return published->family->shape(published->config());
    }
    std::error_code unknown;
    const hydralm::MappedFile file(
        std::filesystem::is_directory(given, unknown) ? given / "config.json" : given);
    return hydralm::families::shape_from_json(file.text(), file.name());
}

}  // namespace

void config(const Options& o) {
    expect_weights_of_scalar(o);
    const auto shape = shape_of(o.config);
    std::string weights = "Float";
    if (o.weights == "bf16") weights = "BF16";
    else if (o.weights == "q8") weights = "Q8";
    else if (o.weights == "q4") weights = "Q4";
    else if (o.weights == "mixed") weights = "Mixed";
    hydralm::write_file(o.out, hydralm::model_type(shape, o.scalar, weights));
}
