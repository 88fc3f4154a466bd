// info, init, convert, embed and logits: the model itself.
#include <hydralm/io.hpp>
#include <hydralm/model/kernels_in_use.hpp>
#include <hydralm/training/text_over_ranks.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <vector>

#include "bank_policy.hpp"
#include "convert_report.hpp"
#include "inputs_kept.hpp"
#include "namespace_name.hpp"
#include "options.hpp"
#include "program_model.hpp"
#include "ranks.hpp"
#include "text_input.hpp"

namespace {

// Of the pages of a stream: those a token more takes, of these what stays in memory where the
// others lie in a file, and the most that windows hold beside them.
struct PageBytes {
    double per_token = 0, in_memory = 0;
    hydralm::Index windows = 0;
};
PageBytes page_bytes(const hydralm::StreamMemory& memory, hydralm::Index tile) {
    PageBytes bytes;
    for (const auto& bank : memory.banks()) {
        const hydralm::PageLayout& layout = bank.layout();
        const auto format = static_cast<std::size_t>(bank.policy().format);
        if (!bank.grows()) {
            bytes.windows += layout.kinds[0].bytes[format] *
                             (hydralm::ceil_div(layout.window + tile, layout.chunk_tokens) + 1);
            continue;
        }
        for (std::size_t k = 0; k < layout.kinds.size(); ++k) {
            if (!bank.has(k)) continue;
            const auto& kind = layout.kinds[k];
            const double bytes_of_token = static_cast<double>(kind.bytes[format]) /
                                          static_cast<double>(kind.chunks * layout.chunk_tokens);
            bytes.per_token += bytes_of_token;
            if (k > 0) bytes.in_memory += bytes_of_token;
        }
    }
    return bytes;
}

// What became of the weights of a published checkpoint, type by type: how many tensors of it are
// kept in which format, and how far that is off.
template <class Model>
void add_kept_weights(const Model& model, const std::string& path, nlohmann::ordered_json& facts) {
    auto& types = facts["weights"] = nlohmann::ordered_json::array();
    auto parameter = facts["parameters"].begin();
    for (const auto& w : hydralm::kept_weights(model, path)) {
        (*parameter)["stored"] = w.stored;
        (*parameter)["largest_error"] = w.largest_error;
        (*parameter++)["rms_error"] = w.rms_error;
        const auto same = [&](const auto& type) {
            return type["stored"] == w.stored && type["kept"] == name(w.kept);
        };
        auto type = std::ranges::find_if(types, same);
        if (type == types.end()) {
            types.push_back({{"stored", w.stored},
                             {"kept", name(w.kept)},
                             {"parameters", 0},
                             {"largest_error", 0.0},
                             {"largest_rms_error", 0.0}});
            type = types.end() - 1;
        }
        (*type)["parameters"] = (*type)["parameters"].template get<int>() + 1;
        const auto raise_to = [&](const char* field, double error) {
            (*type)[field] = std::max((*type)[field].template get<double>(), error);
        };
        raise_to("largest_error", w.largest_error);
        raise_to("largest_rms_error", w.rms_error);
    }
}

template <class Model>
nlohmann::ordered_json facts(const Model& model, const Options& o) {
    nlohmann::ordered_json result;
    result["config"] = nlohmann::ordered_json::parse(hydralm::config_to_json(model.config));
    if constexpr (requires { model.hybrid; })
        if (model.hybrid) result["config"] = hydralm::hybrid_json(*model.hybrid);
    for (int i = 0; i < model.config.n_layers; ++i)
        result["schedule"].push_back(name(model.config.layer_types[i]));
    result["parameter_count"] = model.parameter_count;
    result["weight_bytes"] = model.weight_bytes;
    const auto memory = model.new_memory({.format = bank_format(o.bank),
                                          .sparse = sparse_past(model, o.bank),
                                          .state = state_format(model, o.bank)});
    result["state_bytes"] = memory.bytes().size();
    result["state"] = memory.rests() ? "int16" : o.scalar;
    const PageBytes pages = page_bytes(memory, Model::prefill_tile);
    result["window_bytes"] = pages.windows;
    result["state_bytes_per_token"] = pages.per_token;
    result["memory_bytes_per_token"] = pages.in_memory;
    add_sparse_reading(result, memory);
    result["scalar"] = o.scalar;
    result["simd"] = hydralm::simd::architecture();
    for (const auto& kernel : hydralm::kernels_in_use(model))
        result["kernels"][kernel.operation] = kernel.form;
    for (const auto& info : model.parameters)
        result["parameters"].push_back({{"name", info.name()},
                                        {"shape", info.shape()},
                                        {"format", hydralm::weights::name(info.format)},
                                        {"optimiser_group", hydralm::name(info.law.group)}});
    if constexpr (requires { model.hybrid; })
        if (model.hybrid) add_kept_weights(model, o.model, result);
    return result;
}

void print_facts(const nlohmann::ordered_json& f) {
    std::printf("config            %s\n", f["config"].dump().c_str());
    std::printf("schedule          %s\n", f["schedule"].dump().c_str());
    std::printf("parameter_count   %lld\n", f["parameter_count"].get<long long>());
    std::printf("weight_bytes      %lld\n", f["weight_bytes"].get<long long>());
    std::printf("state_bytes       %lld\n", f["state_bytes"].get<long long>());
    std::printf("state             %s\n", f["state"].get<std::string>().c_str());
    if (const auto windows = f["window_bytes"].get<long long>(); windows > 0)
        std::printf("  and windows     %lld\n", windows);
    if (const double more = f["state_bytes_per_token"].get<double>(); more > 0)
        std::printf("  and a token     %.0f\n", more);
    if (f.contains("sparse_reading"))
        std::printf("sparse_reading    %s\n", f["sparse_reading"].dump().c_str());
    if (f.contains("tokenizer"))
        std::printf("tokenizer         %s\n", f["tokenizer"].dump().c_str());
    std::printf("scalar            %s\n", f["scalar"].get<std::string>().c_str());
    std::printf("simd              %s\n", f["simd"].get<std::string>().c_str());
    for (const auto& [operation, form] : f["kernels"].items())
        std::printf("kernel            %-18s %s\n", operation.c_str(),
                    form.get<std::string>().c_str());
    if (f.contains("weights"))
        for (const auto& w : f["weights"]) {
            std::printf("weights           %s kept in %s, %d parameters",
                        w["stored"].get<std::string>().c_str(),
                        w["kept"].get<std::string>().c_str(), w["parameters"].get<int>());
            if (const double most = w["largest_error"].get<double>(); most > 0)
                std::printf(": errors up to %.3g, RMS up to %.3g", most,
                            w["largest_rms_error"].get<double>());
            std::printf("\n");
        }
    for (const auto& p : f["parameters"])
        std::printf("parameter         %-45s %-16s %-6s %s\n", p["name"].get<std::string>().c_str(),
                    p["shape"].dump().c_str(), p["format"].get<std::string>().c_str(),
                    p["optimiser_group"].get<std::string>().c_str());
}

template <class Model>
void run_init(const Options& o) {
    Model model = new_program_model<Model>(o.config);
    hydralm::initialise(model, o.seed, *hydralm::init_scheme(o.scheme));
    hydralm::save(model, o.out);
}

template <class Model>
void run_embed(const Options& o) {
    hydralm::EmbeddedModel embedded;
    embedded.name = namespace_name::of_header(o.out);
    const Model model = load_program_model<Model>(o.model, o.weights);
    if constexpr (requires { model.hybrid; })
        if (model.hybrid)
            throw hydralm::Error({.file = o.model,
                                  .field = "model",
                                  .expected = "a model with a config of this library",
                                  .found = "a published one, " + model.hybrid->family,
                                  .fix = "write its type with hydralm config, and load its files"});
    embedded.config = model.config;
    embedded.policy = hydralm::policy_name(model.parameters);
    if (embedded.policy.empty())
        throw hydralm::Error({.file = o.model,
                              .field = "weights",
                              .expected = "matrices in one format, or MLPs in q4 and others in q8",
                              .found = "another choice of formats",
                              .fix = "give the --format of all"});
    embedded.vector_bytes = o.vector_bytes > 0 ? static_cast<hydralm::Index>(o.vector_bytes)
                                               : hydralm::simd::vector_bytes;
    const auto image = hydralm::weight_image(model, embedded.vector_bytes);
    embedded.image = image;
    if (o.assembler) {
        const std::string bytes = beside(o.out, ".bin");
        hydralm::write_file(bytes, {reinterpret_cast<const char*>(image.data()), image.size()});
        hydralm::write_file(
            beside(o.out, ".S"),
            hydralm::embedded_assembly(embedded, std::filesystem::path(bytes).filename().string()));
        hydralm::write_file(o.out, hydralm::embedded_declaration(embedded));
    } else {
        if (image.size() > hydralm::most_header_bytes)
            throw hydralm::Error({.file = o.out,
                                  .field = "weights",
                                  .expected = "at most " +
                                              std::to_string(hydralm::most_header_bytes) +
                                              " bytes of weights in a header",
                                  .found = std::to_string(image.size()),
                                  .fix = "give --assembler, or a --format of fewer bits"});
        hydralm::write_file(o.out, hydralm::embedded_header(embedded));
    }
    const nlohmann::ordered_json report{{"weights", embedded.policy},
                                        {"weight_bytes", image.size()},
                                        {"vector_bytes", embedded.vector_bytes}};
    std::printf("%s\n", report.dump().c_str());
}

// logits [N, V] of all ids and the state behind them, on the last rank; the others send it theirs,
// and keep those of their run alone.
template <class Model>
void logits_over_ranks(const Model& model, std::span<const hydralm::token_id> ids,
                       typename Model::State& state, hydralm::Ranks& ranks,
                       std::vector<typename Model::Scalar>& logits) {
    using T = typename Model::Scalar;
    using hydralm::Index;
    const Index V = model.vocab_size();
    const int last = ranks.count() - 1;
    const bool is_last = ranks.rank() == last;
    ranks.on_all([&] {
        if (is_last) logits.resize(ids.size() * static_cast<std::size_t>(V));
    });
    Index next = 0;  // row to write
    hydralm::run_over_ranks(
        model, ids, state, ranks, [&](hydralm::MatrixView<const T> hidden, std::size_t first) {
            if (is_last) next = static_cast<Index>(first);
            else logits.resize(static_cast<std::size_t>((next + hidden.rows()) * V));
            model.head(hidden, {logits.data() + next * V, hidden.rows(), V});
            next += hidden.rows();
        });
    const auto ends = ranks.gather(static_cast<Index>(state.position()) * V);
    constexpr Index most = Index{1} << 24;  // numbers of a message
    Index begin = 0;
    for (int r = 0; r < last; ++r) {
        const Index end = ends[static_cast<std::size_t>(r)];
        for (Index at = begin; at < end; at += most) {
            const Index n = std::min(most, end - at);
            const auto piece = [&](Index from) {
                return std::span(logits).subspan(static_cast<std::size_t>(from),
                                                 static_cast<std::size_t>(n));
            };
            const bool sends = ranks.rank() == r;
            ranks.send<T>(sends ? piece(at - begin) : std::span<T>(), sends ? last : ranks.nobody,
                          is_last ? piece(at) : std::span<T>(), is_last ? r : ranks.nobody);
        }
        begin = end;
    }
}

template <class Model>
void run_logits(const Options& o) {
    using T = typename Model::Scalar;
    using hydralm::Index;
    const std::string form = o.form.empty() ? "prefill" : o.form;
    const Model model = load_program_model<Model>(o.model, o.weights);
    const Index V = model.vocab_size();
    const auto ids = read_ids(o.ids, model.vocab_size());
    const auto N = static_cast<Index>(ids.size());
    const Index piece = form == "step"      ? 1
                        : form == "prefill" ? N
                        : o.chunk > 0       ? o.chunk
                                            : model.config.dn_chunk_size;
    std::vector<T> logits;
    auto state = model.new_state();
    hydralm::Ranks& ranks = program_ranks();
    if (ranks.count() > 1) {
        if (form != "prefill")
            throw hydralm::Error({.field = "--form",
                                  .expected = "prefill, of a text that is cut over ranks",
                                  .found = form,
                                  .fix = "leave it out, or start one process"});
        logits_over_ranks<Model>(model, ids, state, ranks, logits);
        if (ranks.rank() + 1 < ranks.count()) return;  // the last has the state behind the text
    }
    logits.resize(ids.size() * static_cast<std::size_t>(V));
    for (Index first = static_cast<Index>(state.position()); first < N; first += piece) {
        const Index n = std::min(piece, N - first);
        model.logits(
            std::span(ids).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(n)),
            state, {logits.data() + first * V, n, V},
            form == "step" ? hydralm::Form::recurrent : hydralm::Form::parallel);
    }

    constexpr hydralm::DType dtype = sizeof(T) == 4 ? hydralm::DType::f32 : hydralm::DType::f64;
    std::vector<hydralm::TensorSpec> tensors{{"logits", {N, V}, dtype}};
    model.export_state(state, [&](const std::string& name, auto shape, const std::vector<T>&) {
        tensors.push_back({"state." + name, {shape.begin(), shape.end()}, dtype});
    });
    hydralm::SafetensorsWriter writer(o.out, tensors);
    writer.write("logits", std::span<const T>(logits));
    model.export_state(state, [&](const std::string& name, auto, const std::vector<T>& values) {
        writer.write("state." + name, std::span<const T>(values));
    });
    writer.commit();
}

// In a GGUF file one that cannot be read is no fault of the file: it says why.
nlohmann::ordered_json tokenizer_facts(const std::string& model) {
    if (!hydralm::is_gguf(model)) return ProgramTokenizer::of(model).description();
    try {
        return ProgramTokenizer::of(model).description();
    } catch (const hydralm::Error& error) {
        return {{"type", "none that can be read"}, {"error", error.what()}};
    }
}

}  // namespace

void info(const Options& o) {
    with_model(o, [&]<class Model>() {
        auto result = facts(o.model.empty() ? new_program_model<Model>(o.config)
                                            : load_program_model<Model>(o.model, o.weights),
                            o);
        if (!o.model.empty()) result["tokenizer"] = tokenizer_facts(o.model);
        if (o.json) std::printf("%s\n", result.dump().c_str());
        else print_facts(result);
    });
}
void init(const Options& o) {
    with_scalar(o.scalar, [&]<class T>(T) { run_init<ProgramModel<T>>(o); });
}
void convert(const Options& o) {
    with_model(o, [&]<class Model>() {
        hydralm::save(load_program_model<Model>(o.model, o.weights), o.out);
    });
    const hydralm::Checkpoint before(o.model), after(o.out);
    std::printf("%s\n", convert_report(before, after).dump().c_str());
}
// There is no --scalar: models of other scalars are only compiled.
void embed(const Options& o) {
    with_model(o, [&]<class Model>() {
        if constexpr (std::is_same_v<typename Model::Scalar, float>) run_embed<Model>(o);
    });
}
void logits(const Options& o) {
    program_ranks();  // so that an error of all is said once
    with_model(o, [&]<class Model>() { run_logits<Model>(o); });
}
