// The models of the program that opens any config: new, and of checkpoints.
#include "program_model.hpp"

template class hydralm::RuntimeModel<float>;
template class hydralm::RuntimeModel<double>;

template <class Model>
Model new_program_model(const std::string& config_file) {
    hydralm::HydraConfig config = program_config;
    if (!config_file.empty()) {
        const hydralm::MappedFile file(config_file);
        config = hydralm::config_from_json(file.text(), file.name());
    }
    try {
        return Model(config);
    } catch (const hydralm::Error& error) {
        hydralm::ErrorDetail detail = error.detail();
        detail.file = config_file;
        throw hydralm::Error(std::move(detail));
    }
}

template <class Model>
Model load_program_model(const std::string& path, const std::string& format) {
    using T = typename Model::Scalar;
    expect_no_training(path);
    constexpr hydralm::CommonKernels kernels{};
    if (format.empty()) return hydralm::open<T>(path, kernels, warn_of_weights);
    const auto open = [&](auto policy) {
        return hydralm::open<T>(path, policy, kernels, warn_of_weights);
    };
    if constexpr (std::is_same_v<T, float>) {
        if (format == "bf16") return open(hydralm::weights::BF16{});
        if (format == "q8") return open(hydralm::weights::Q8{});
        if (format == "q4") return open(hydralm::weights::Q4{});
        if (format == "mixed") return open(hydralm::weights::Mixed{});
    }
    return open(hydralm::weights::Float{});
}

template ProgramModel<float> new_program_model(const std::string&);
template ProgramModel<float> load_program_model(const std::string&, const std::string&);
template ProgramModel<double> new_program_model(const std::string&);
template ProgramModel<double> load_program_model(const std::string&, const std::string&);
