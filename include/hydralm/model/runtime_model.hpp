// RuntimeModel: one type for models of any config, whose shape is read at run time.
//
// The same layers as HydraLM's with run-time shapes, each behind one virtual call a tile. What the
// kernels must know when they are compiled, the head dimension and the chunk of retrieval, is taken
// from lists, and HydraLM of the same config computes the same bits. Sizes between those of the
// lists are computed by the kernels of the next larger one: heads are padded (head_padding.hpp),
// chunks are not filled; the same to rounding. Larger ones are refused by their field.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/model/config_fields.hpp"
#include "hydralm/model/head_padding.hpp"
#include "hydralm/model/hybrid_stack.hpp"
#include "hydralm/model/model_calls.hpp"
#include "hydralm/model/mtp.hpp"
#include "hydralm/model/runtime_block.hpp"
#include "hydralm/model/shape_number.hpp"
#include "hydralm/model/weight_memory.hpp"

namespace HYDRALM_NAMESPACE {

// The format of every matrix that may be in another than the scalar.
using FormatChoice = std::function<weights::Format(const ParameterInfo&)>;
// What may refuse the parameters of a model before memory for them is taken.
using ParameterCheck = std::function<void(std::span<const ParameterInfo>)>;

// The choice of a policy (weights/formats.hpp).
template <Real T, class Weights>
FormatChoice format_choice(Weights) {
    return [](const ParameterInfo& info) { return format_of<T, Weights>(info); };
}

// T: scalar of weights, activations and state. Calls, states, files, training and
// drafts as LanguageModel's. Movable, not copyable.
template <Real T>
class RuntimeModel : public ModelCalls<RuntimeModel<T>, T> {
    using Calls = ModelCalls<RuntimeModel<T>, T>;
    using Parts = detail::RuntimeParts<T>;
    using MtpType = MtpModule<typename Parts::Mlp, typename Parts::Norm>;

    struct Facts {
        HydraConfig config;
        std::optional<HybridShape> hybrid;
        RuntimeStack<T> stack;
        typename Parts::Norm norm{Parts(config).norm};
        MtpType mtp_module{Parts(config).mlp, norm};
        Index layers = config.n_layers;
        Index mtp_depth = config.mtp_depth;
        Index state_bytes = stack.all_states().bytes;
        std::uint64_t shape = hybrid ? shape_number(*hybrid) : shape_number(config);
        Index kernel_head_dim = config.head_dim, kernel_chunk = config.retrieval_chunk_size;
        HeadPadding padding{};
        std::vector<ParameterInfo> parameters{};
        Index parameter_count = 0;
        Index weight_bytes = 0;
        Index largest_parameter = 0;

        Facts(const HydraConfig& c, std::optional<HybridShape> given, RuntimeStack<T> made)
            : config(c), hybrid(std::move(given)), stack(std::move(made)) {}
        template <class HeadDims, class Chunks>
        Facts(const HydraConfig& c, Kernels<HeadDims, Chunks> kernels)
            : Facts(c, std::nullopt, detail::make_runtime_stack<T>(c, kernels)) {
            kernel_head_dim = detail::size_for(HeadDims{}, c.head_dim, "head_dim");
            padding = {c.head_dim, kernel_head_dim};
            for (int i = 0; i < c.n_layers; ++i)
                if (c.layer_types[i] == LayerType::retrieval)
                    kernel_chunk =
                        detail::size_for(Chunks{}, c.retrieval_chunk_size, "retrieval_chunk_size");
        }
    };
    std::shared_ptr<const Facts> facts_;

public:
    using Scalar = T;
    using WeightFormats = weights::Any;
    using State = typename Calls::State;

    // All parameters zero. choose: what matrices are kept in, of those that may be in any format.
    // Throws Error for a config that breaks a rule or asks for a kernel that is not in the lists,
    // naming the field; for a format that a model of this scalar has not, naming the tensor; and
    // what accept throws.
    template <class Compiled = CommonKernels>
    explicit RuntimeModel(const HydraConfig& given, Compiled kernels = {},
                          const FormatChoice& choose = format_choice<T>(weights::Float{}),
                          const ParameterCheck& accept = {})
        : RuntimeModel(std::make_shared<Facts>(checked(given), kernels), choose, accept) {}
    // A hybrid, whose kernels need no lists.
    RuntimeModel(const HybridShape& shape, const FormatChoice& choose, const ParameterCheck& accept)
        : RuntimeModel(std::make_shared<Facts>(summary_of(shape), shape,
                                               detail::make_hybrid_stack<T>(shape)),
                       choose, accept) {}
    RuntimeModel(RuntimeModel&& other) noexcept
        : RuntimeModel(other.facts_, std::move(other.memory_), std::move(other.weights_)) {}
    RuntimeModel& operator=(RuntimeModel&& other) noexcept {
        if (this != &other) {
            std::destroy_at(this);
            std::construct_at(this, std::move(other));
        }
        return *this;
    }
    ~RuntimeModel() = default;

    // Known once the model is made, as LanguageModel's constants are.
    const HydraConfig& config = facts_->config;  // head_dim and layer_types written out; of a
                                                 // hybrid a summary
    const std::optional<HybridShape>& hybrid = facts_->hybrid;  // when no config says what it is
    const bool& ties_head = config.tie_embeddings;
    const Index& mtp_depth = facts_->mtp_depth;
    const double& initializer_range = config.initializer_range;
    const double& mtp_loss_weight = config.mtp_loss_weight;
    const Index& layers = facts_->layers;
    const typename Parts::Norm& norm = facts_->norm;
    const MtpType& mtp_module = facts_->mtp_module;  // all mtp_depth of them
    const RuntimeStack<T>& stack = facts_->stack;
    const Index& state_bytes = facts_->state_bytes;  // of one stream, beside what banks hold
    const std::vector<ParameterInfo>& parameters = facts_->parameters;  // in file order
    const Index& parameter_count = facts_->parameter_count;
    const Index& weight_bytes = facts_->weight_bytes;  // as they are computed with
    // The head dimension and the chunk of retrieval that the kernels are compiled for: the
    // config's, or larger ones.
    const Index& kernel_head_dim = facts_->kernel_head_dim;
    const Index& kernel_chunk = facts_->kernel_chunk;
    const HeadPadding& padding = facts_->padding;
    Index vocab_size() const noexcept { return config.vocab_size; }
    Index d_model() const noexcept { return config.d_model; }
    // Models of one number have states of one shape.
    std::uint64_t shape() const noexcept { return facts_->shape; }

    template <class Storage>
    struct Parameters {
        typename Storage::Matrix embed{};  // [V, d]
        typename RuntimeStack<T>::template Parameters<Storage> blocks{};
        typename Parts::Norm::template Parameters<Storage> norm_f{};
        typename Storage::Matrix lm_head{};  // [V, d] when untied
        std::vector<typename MtpType::template Parameters<Storage>> mtp{};
    };
    template <class P, class V>
    void visit(P& p, V& v) const {
        v.matrix(p.embed, "embed.weight", laws::embedding, vocab_size(), d_model());
        v.nested("blocks", [&] { stack.visit(p.blocks, v); });
        v.nested("norm_f", [&] { norm.visit(p.norm_f, v); });
        if (!ties_head) v.matrix(p.lm_head, "lm_head.weight", laws::head, vocab_size(), d_model());
        if (mtp_depth == 0) return;
        if constexpr (!std::is_const_v<P>) p.mtp.resize(static_cast<std::size_t>(mtp_depth));
        v.nested("mtp", [&] {
            for (std::size_t i = 0; i < p.mtp.size(); ++i)
                v.nested(std::to_string(i), [&] { mtp_module.visit(p.mtp[i], v); });
        });
    }

    // Throws Error when this model was moved from.
    void expect_weights() const { memory_.expect(); }

    // As LanguageModel's.
    void set_parameters(const ParameterSource<T>& f);
    void get_parameters(const ParameterSink<T>& f) const;
    const Parameters<RuntimeStorage<T>>& weights() const noexcept { return weights_; }
    StreamMemory new_memory(const BankPolicy& policy = {}) const {
        return stack.new_memory(policy);
    }
    BankPolicy bounded_banks(Index budget, BankFormat format = BankFormat::exact,
                             Index tile = Calls::prefill_tile) const {
        return bounded_policy(new_memory().banks(), budget, format, tile);
    }
    Index workspace_bytes(Index B, Index N, Form form = Form::parallel) const noexcept {
        return 2 * arena_bytes<T>(B * N * d_model()) + scratch_bytes(stack, {B, N, form}) +
               kernels::quantised_workspace_bytes(B * N, detail::widest_in_blocks(parameters));
    }
    MatrixView<T> forward(const token_id* tokens, Streams streams, Index N, Form form,
                          Arena& arena) const noexcept;
    void head(MatrixView<const T> hidden, MatrixView<T> logits) const noexcept;
    // sink("<layer>.<name>", shape, values).
    template <class Sink>
    void export_state(State& state, const Sink& sink) const {
        const Stream stream = state.stream();
        stack.export_state(Streams(&stream, 1), state.position(),
                           [&](std::size_t layer, const char* name, std::span<const Index> shape,
                               const std::vector<T>& values) {
                               const std::string path = std::to_string(layer) + "." + name;
                               if (!padding.pads()) sink(path, shape, values);
                               else
                                   padding.narrow_state(
                                       name, shape, values,
                                       [&](std::span<const Index> own, const std::vector<T>& v) {
                                           sink(path, own, v);
                                       });
                           });
    }

private:
    RuntimeModel(const std::shared_ptr<Facts>& facts, const FormatChoice& choose,
                 const ParameterCheck& accept);
    RuntimeModel(std::shared_ptr<const Facts> facts, WeightMemory&& memory,
                 Parameters<RuntimeStorage<T>>&& weights) noexcept
        : facts_(std::move(facts)), memory_(std::move(memory)), weights_(std::move(weights)) {}

    // Of a tensor as files have it, where memory has another.
    Index narrow_elements() const noexcept {
        return padding.pads() ? facts_->largest_parameter : 0;
    }
    static HydraConfig checked(const HydraConfig& given) {
        if (const BrokenRule broken = broken_rule(given))
            raise({.field = std::string(broken.field),
                   .found = found_in(given, broken.field),
                   .fix = std::string(broken.text)});
        const HydraConfig c = resolved(given);
        const double state =
            static_cast<double>(c.n_heads) * c.head_dim * (2.0 * c.swa_window + c.head_dim);
        if (state > static_cast<double>(most_parameters))
            raise({.field = "n_heads, head_dim, swa_window",
                   .expected = "a layer's state of at most 2^48 numbers",
                   .found = std::to_string(state),
                   .fix = "give fewer heads or a shorter window"});
        return c;
    }

    static std::string found_in(const HydraConfig& c, std::string_view name) {
        if (name == "head_dim" && c.head_dim == 0) return open_head_dim(c);
        std::string found;
        for_each_config_field([&](const auto& field) {
            if constexpr (requires { std::to_string(c.*field.member); })
                if (field.name == name) found = std::to_string(c.*field.member);
        });
        return found;
    }

    static constexpr Index most_parameters = Index{1} << 48;

    WeightMemory memory_{0};
    Parameters<RuntimeStorage<T>> weights_{};
};

// Outside of the class, and so not inline: `extern template class hydralm::RuntimeModel<float>;`
// compiles these once, as RuntimeBlock's.

template <Real T>
RuntimeModel<T>::RuntimeModel(const std::shared_ptr<Facts>& facts, const FormatChoice& choose,
                              const ParameterCheck& accept)
    : facts_(facts) {
    DescribeParameters<ParameterList> describe([&](const ParameterInfo& stored) {
        const ParameterInfo info = padding.in_file(stored);
        if (info.size() > most_parameters - facts->parameter_count)
            raise({.field = std::string(info.name()),
                   .expected = "at most 2^48 parameters in all",
                   .found = std::to_string(info.size()) + " and " +
                            std::to_string(parameter_count) + " before it",
                   .fix = "give a config of a smaller model"});
        facts->parameters.push_back(info);
        if (info.law.any_format) facts->parameters.back().format = choose(info);
        facts->parameter_count += info.size();
        facts->largest_parameter = std::max(facts->largest_parameter, stored.size());
    });
    Parameters<NoStorage> none;
    visit(none, describe);
    if (accept) accept(parameters);
    TakeFormats<T> take(parameters);
    visit(weights_, take);
    facts->weight_bytes = take.bytes();
    memory_ = WeightMemory(weight_bytes);
    BindPacked<T> bind(memory_.data());
    visit(weights_, bind);
}

template <Real T>
void RuntimeModel<T>::set_parameters(const ParameterSource<T>& f) {
    std::byte* const memory = memory_.to_write();
    ZeroPages<T> scratch(facts_->largest_parameter);
    AlignedBuffer<T> narrow(narrow_elements());
    auto info = parameters.begin();
    ParameterSource<T> source(
        [&](const ParameterInfo&, std::span<T> values) {
            if (padding.pads()) {
                const auto own = narrow.span().first(static_cast<std::size_t>(info->size()));
                f(*info, own);
                padding.widen(*info, own.data(), values.data());
            } else {
                f(*info, values);
            }
            ++info;
        },
        [&](const ParameterInfo&) {
            const auto* const rows = padding.pads() ? nullptr : f.rows(*info);
            if (rows != nullptr) ++info;
            return rows;
        });
    StorePacked<T, ParameterSource<T>> store(memory, scratch.span(), source);
    visit(weights_, store);
}

template <Real T>
void RuntimeModel<T>::get_parameters(const ParameterSink<T>& f) const {
    expect_weights();
    AlignedBuffer<T> scratch(facts_->largest_parameter), narrow(narrow_elements());
    auto info = parameters.begin();
    ParameterSink<T> sink = [&](const ParameterInfo&, std::span<const T> values) {
        if (padding.pads()) {
            padding.each_run(*info, [&](Index in_file, Index in_memory, Index count) {
                std::copy_n(values.data() + in_memory, count, narrow.data() + in_file);
            });
            values = narrow.span().first(static_cast<std::size_t>(info->size()));
        }
        f(*info, values);
        ++info;
    };
    ReadPacked<T, ParameterSink<T>> read(scratch.span(), sink);
    visit(weights_, read);
}

template <Real T>
MatrixView<T> RuntimeModel<T>::forward(const token_id* tokens, Streams streams, Index N, Form form,
                                       Arena& arena) const noexcept {
    const Index rows = streams.count() * N;
    const auto x = take_matrix<T>(arena, rows, d_model());
    const auto normed = take_matrix<T>(arena, rows, d_model());
    for (Index r = 0; r < rows; ++r) weights_.embed.copy_row(tokens[r], x.row(r));
    stack.forward(weights_.blocks, streams, N, x, form, arena);
    norm.forward(weights_.norm_f, x, normed);
    return normed;
}

template <Real T>
void RuntimeModel<T>::head(MatrixView<const T> hidden, MatrixView<T> logits) const noexcept {
    kernels::matmul(hidden, ties_head ? weights_.embed : weights_.lm_head, logits);
}

}  // namespace HYDRALM_NAMESPACE
