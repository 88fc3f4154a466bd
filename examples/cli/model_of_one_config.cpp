// The models of the program that is built for one config: new, and of checkpoints.
#include "program_model.hpp"

namespace {

// Throws Error, listing the fields, where a program built for one config meets another.
void expect_program_config(const hydralm::HydraConfig& found, const std::string& file) {
    std::string list;
    for (const auto& difference : hydralm::config_differences(program_config, found))
        list += (list.empty() ? "" : "; ") + difference;
    if (!list.empty())
        throw hydralm::Error({.file = file,
                              .field = "config: " + list,
                              .fix = "this program was built for one config: use one built without "
                                     "-Dmodel_config, which opens any"});
}

}  // namespace

template <class Model>
Model new_program_model(const std::string& config_file) {
    if (!config_file.empty()) {
        const hydralm::MappedFile file(config_file);
        expect_program_config(hydralm::config_from_json(file.text(), file.name()), config_file);
    }
    return Model();
}

template <class Model>
Model load_program_model(const std::string& path, const std::string&) {
    expect_no_training(path);
    const hydralm::Checkpoint checkpoint(path);
    expect_program_config(hydralm::read_config(checkpoint), checkpoint.name());
    return hydralm::load<Model>(checkpoint, warn_of_weights);
}

template ProgramModel<float> new_program_model(const std::string&);
template ProgramModel<float> load_program_model(const std::string&, const std::string&);
template ProgramModel<double> new_program_model(const std::string&);
template ProgramModel<double> load_program_model(const std::string&, const std::string&);
template ProgramModel<float, hydralm::weights::BF16> new_program_model(const std::string&);
template ProgramModel<float, hydralm::weights::BF16> load_program_model(const std::string&,
                                                                        const std::string&);
