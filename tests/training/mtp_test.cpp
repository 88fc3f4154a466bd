// Multi-token prediction: golden logits, loss and gradients; central differences through a model.
#include "hydralm/training.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/golden.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

inline constexpr HydraConfig golden_config{.vocab_size = 53,
                                           .d_model = 24,
                                           .n_layers = 1,
                                           .n_heads = 2,
                                           .mlp_multiple_of = 64,
                                           .mtp_depth = 2};

template <class T>
std::vector<T> as(const GoldenTensor& tensor) {
    return tensor.as<T>();
}

// The weights of the file, zero where it has none.
template <class Model>
Model golden_model(const GoldenFile& golden) {
    Model model;
    model.set_parameters([&](const ParameterInfo& info, auto values) {
        const auto found = golden.tensors.find(std::string(info.name()));
        if (found == golden.tensors.end()) std::ranges::fill(values, 0);
        else
            std::transform(found->second.values.begin(), found->second.values.end(), values.begin(),
                           [](double x) { return static_cast<typename Model::Scalar>(x); });
    });
    return model;
}

template <Real T>
void check_golden() {
    using Model = HydraLM<golden_config, T>;
    constexpr double bound = sizeof(T) == 4 ? 2e-4 : 1e-9,
                     gradient_bound = sizeof(T) == 4 ? 1e-3 : 1e-9;
    constexpr Index N = 40, d = 24, V = 53;
    const GoldenFile golden = read_golden("mtp/depth2.safetensors");
    const auto model = golden_model<Model>(golden);
    const auto hidden_values = golden["hidden"].template as<T>();
    const MatrixView<const T> hidden(hidden_values.data(), N, d);
    const auto ids = golden["input_ids"].template as<token_id>();

    // Logits, module after module.
    AlignedBuffer<std::byte> workspace(
        scratch_bytes(Model::mtp_module, {.streams = N, .form = Form::recurrent}));
    Arena arena(workspace.span());
    std::vector<T> h(hidden_values), embedded(N * d), out(N * d);
    for (Index i = 0; i < 2; ++i) {
        const Index rows = N - i - 1;
        for (Index t = 0; t < rows; ++t)
            model.weights().embed.copy_row(ids[static_cast<std::size_t>(t + i + 1)],
                                           embedded.data() + t * d);
        Model::mtp_module.forward(model.weights().mtp[static_cast<std::size_t>(i)],
                                  {h.data(), rows, d}, {embedded.data(), rows, d},
                                  {out.data(), rows, d}, arena);
        std::vector<T> normed(out.size()),
            logits(static_cast<std::size_t>(rows * V), std::numeric_limits<T>::quiet_NaN());
        kernels::rms_norm(MatrixView<const T>(out.data(), rows, d),
                          std::span<const T>(model.weights().norm_f.weight), Model::config.rms_eps,
                          MatrixView<T>(normed.data(), rows, d));
        model.head({normed.data(), rows, d}, {logits.data(), rows, V});
        check_close(logits, golden["logits." + std::to_string(i)].values, bound,
                    "logits of module " + std::to_string(i));
        h = out;
    }

    // Loss and gradients.
    std::vector<token_id> labels(ids.begin() + 1, ids.end());
    labels.push_back(kernels::ignore_index);
    AlignedBuffer<T> flat(Model::parameter_count);
    Index turned_size = 0;
    for (const auto& info : Model::parameters) turned_size += transposed_size<T>(info);
    AlignedBuffer<T> turned(turned_size);
    typename Model::template Parameters<FlatStorage<T>> gradients;
    typename Model::template Parameters<TransposedStorage<T>> transposed;
    BindFlat<T> bind_flat(flat.data());
    Model::Structure::visit(gradients, bind_flat);
    BindTransposed<T> bind_turned(turned.data());
    Model::Structure::visit(transposed, bind_turned);
    T* next = turned.data();
    model.get_parameters([&](const ParameterInfo& info, std::span<const T> w) {
        next = store_transposed<T>(info, w, next);
    });
    AlignedBuffer<std::byte> scratch_memory(mtp_workspace_bytes(model, N));
    Arena scratch(scratch_memory.span());
    std::vector<T> dhidden(static_cast<std::size_t>(N * d), T(0));
    const double loss = mtp_gradient(model, transposed, hidden, ids, labels, N, 1.0,
                                     {dhidden.data(), N, d}, gradients, scratch);
    check_close(std::vector{loss}, golden["mtp_loss"].values, bound, "loss");
    check_close(dhidden, golden["grad.hidden"].values, gradient_bound, "grad.hidden");
    const T* values = flat.data();
    for (const auto& info : Model::parameters) {
        const auto size = static_cast<std::size_t>(info.size());
        const std::string name = "grad." + std::string(info.name());
        if (golden.tensors.contains(name))
            check_close(std::span(values, size), golden[name].values, gradient_bound, name);
        else CHECK(std::all_of(values, values + size, [](T x) { return x == 0; }));
        values += size;
    }
}

inline constexpr HydraConfig small{.vocab_size = 11,
                                   .d_model = 8,
                                   .n_layers = 2,
                                   .n_heads = 2,
                                   .head_dim = 4,
                                   .mlp_multiple_of = 4,
                                   .swa_every = 2,
                                   .mtp_depth = 3,
                                   .mtp_loss_weight = 0.7,
                                   .tie_embeddings = false};
using Small = HydraLM<small, double>;

// Mean main loss + weight · mtp loss, of B sequences.
double total_loss(const Small& model, const std::vector<token_id>& ids,
                  const std::vector<token_id>& labels, Index B, Gradients<Small>& gradients) {
    gradients.clear();
    gradients.refresh(model);
    BatchStates<Small> states(model, B);
    const Index N = static_cast<Index>(ids.size()) / B;
    const auto loss = gradients.add(
        model, ids, labels, states.streams(N),
        1.0 / static_cast<double>(kernels::count_labels(std::span<const token_id>(labels))));
    return loss.mean() + small.mtp_loss_weight * gradients.mtp_loss();
}

}  // namespace

TEST_CASE("Multi-token prediction: golden vectors", "[golden][mtp]") {
    check_golden<float>();
    check_golden<double>();
}

TEST_CASE("Multi-token prediction: gradient of main and module losses together", "[mtp]") {
    for (const Index N : {2, 3, 19}) {
        constexpr Index B = 2;
        Random random(5);
        std::vector<token_id> ids(static_cast<std::size_t>(B * N)), labels(ids.size());
        for (auto& id : ids) id = static_cast<token_id>(random.below(11));
        for (auto& label : labels) label = static_cast<token_id>(random.below(11));
        labels[labels.size() / 2] = kernels::ignore_index;
        Small model;
        initialise(model, 3, InitScheme::fan_in);
        std::vector<double> weights;
        model.get_parameters([&](const ParameterInfo&, auto values) {
            weights.insert(weights.end(), values.begin(), values.end());
        });
        Gradients<Small> gradients(model, B, N);
        total_loss(model, ids, labels, B, gradients);
        const std::vector<double> exact(gradients.values().begin(), gradients.values().end());
        Gradients<Small> scratch(model, B, N);
        std::size_t first = 0;
        for (const auto& info : Small::parameters) {
            std::vector<double> some, differences;
            const auto size = static_cast<std::size_t>(info.size());
            for (std::size_t i = first; i < first + size; i += 1 + size / 12) {
                const auto loss_at = [&](double step) {
                    auto from = weights.begin();
                    std::size_t at = 0;
                    model.set_parameters([&](const ParameterInfo&, std::span<double> values) {
                        for (double& value : values) value = *from++ + (at++ == i ? step : 0.0);
                    });
                    return total_loss(model, ids, labels, B, scratch);
                };
                constexpr double h = 8e-4;
                some.push_back(exact[i]);
                differences.push_back((45 * (loss_at(h) - loss_at(-h)) -
                                       9 * (loss_at(2 * h) - loss_at(-2 * h)) +
                                       (loss_at(3 * h) - loss_at(-3 * h))) /
                                      (60 * h));
            }
            check_close(some, differences, 5e-8,
                        "N " + std::to_string(N) + ", " + std::string(info.name()));
            first += size;
        }
    }
}
