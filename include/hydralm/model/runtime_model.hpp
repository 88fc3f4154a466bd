// RuntimeModel: one type for models of any config, whose shape is read at run time.
//
// The same layers as HydraLM's with run-time shapes, each behind one virtual call a tile. What the
// kernels must know when they are compiled, the head dimension and the chunk of retrieval, is taken
// from lists: a config of another one is refused by its field. HydraLM of the same config computes
// the same bits.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/layers/gated_delta_net.hpp"
#include "hydralm/layers/retrieval_attention.hpp"
#include "hydralm/layers/rms_norm.hpp"
#include "hydralm/layers/sliding_window_attention.hpp"
#include "hydralm/layers/swiglu.hpp"
#include "hydralm/model/config_fields.hpp"
#include "hydralm/model/erased_block.hpp"
#include "hydralm/model/model_calls.hpp"
#include "hydralm/model/mtp.hpp"
#include "hydralm/model/weight_memory.hpp"

namespace HYDRALM_NAMESPACE {

// Head dimensions, and chunks of retrieval, that a RuntimeModel is compiled for. Each pair of the
// two is a mixer type more to compile; give `RuntimeModel<T>(config, Kernels<…>())` a list of your
// own for others.
template <Index... values>
struct Sizes {};
template <class HeadDims, class Chunks>
struct Kernels {};
using CommonKernels = Kernels<Sizes<16, 32, 64, 128>, Sizes<16, 32, 64, 128>>;

namespace detail {

template <Real T>
struct RuntimeParts {
    using Mlp = SwiGLU<T, RuntimeMlpShape>;
    using Norm = RmsNorm<T, RuntimeNormShape>;
    Mlp mlp;
    Norm norm;

    explicit RuntimeParts(const HydraConfig& c)
        : mlp({c.d_model, mlp_hidden(c)}), norm({c.d_model, c.rms_eps}) {}
    template <class Mixer>
    std::unique_ptr<ErasedBlock<T>> block(Mixer mixer) const {
        return std::make_unique<ErasedBlockOf<Block<Mixer, Mlp, Norm>>>(
            Block<Mixer, Mlp, Norm>(mixer, mlp, norm));
    }
};

// f(std::integral_constant) of the size that is wanted. Throws Error naming the field for none.
template <Index... values, class F>
auto with_size(Sizes<values...>, Index wanted, const char* field, const F& f) {
    decltype(f(std::integral_constant<Index, 4>{})) made{};
    const bool found =
        ((wanted == values && (made = f(std::integral_constant<Index, values>{}), true)) || ...);
    if (!found) {
        std::string known;
        ((known += (known.empty() ? "" : ", ") + std::to_string(values)), ...);
        throw Error({.field = field,
                     .expected = "one of " + known,
                     .found = std::to_string(wanted),
                     .fix = "compile a model for this config (HydraLM), or give Kernels of it"});
    }
    return made;
}

// Layer i of a valid, resolved config.
template <Real T, class HeadDims, class Chunks>
std::unique_ptr<ErasedBlock<T>> make_block(const HydraConfig& c, int i, Kernels<HeadDims, Chunks>) {
    const RuntimeParts<T> parts(c);
    return with_size(HeadDims{}, c.head_dim, "head_dim", [&](auto head_dim) {
        constexpr Index D = head_dim;
        switch (c.layer_types[i]) {
            case LayerType::deltanet:
                return parts.block(GatedDeltaNet<T, D>(
                    RuntimeDeltaNetShape{c.d_model, c.n_heads, c.dn_short_conv_kernel,
                                         c.dn_use_gate, c.dn_norm_qk, c.dn_negative_eigenvalues}));
            case LayerType::swa:
                return parts.block(SlidingWindowAttention<T, D>(
                    RuntimeWindowShape{c.d_model, c.n_heads, c.swa_window, c.swa_rope_base}));
            case LayerType::retrieval: break;
        }
        return with_size(Chunks{}, c.retrieval_chunk_size, "retrieval_chunk_size", [&](auto chunk) {
            return parts.block(RetrievalAttention<T, D, chunk>(RuntimeRetrievalShape{
                c.d_model, c.n_heads, c.retrieval_top_k, c.dn_short_conv_kernel}));
        });
    });
}

}  // namespace detail

// T: scalar of weights, activations and state. Calls and states as LanguageModel's; movable, not
// copyable. Training needs the shape as a type: HydraLM.
template <Real T>
class RuntimeModel : public ModelCalls<RuntimeModel<T>, T> {
    using Calls = ModelCalls<RuntimeModel<T>, T>;

public:
    using Scalar = T;
    using State = typename Calls::State;

    // All parameters zero. Throws Error for a config that breaks a rule or asks for a kernel that
    // is not in the lists, naming the field.
    template <class Compiled = CommonKernels>
    explicit RuntimeModel(const HydraConfig& given, Compiled kernels = {})
        : config(checked(given)), parts_(config), mtp_(static_cast<std::size_t>(config.mtp_depth)) {
        for (int i = 0; i < config.n_layers; ++i) {
            blocks_.push_back(detail::make_block<T>(config, i, kernels));
            offsets_.push_back(extent_);
            extent_ = extent_ + blocks_.back()->state_extent();
        }
        Index bytes = 0;
        const ParameterList list = [&](const ParameterInfo& info) {
            parameters.push_back(info);
            parameter_count += info.size();
            largest_ = std::max(largest_, info.size());
            bytes += packed_size<T>(info) * static_cast<Index>(sizeof(T));
        };
        DescribeParameters<ParameterList> describe(list);
        visit(*this, describe);
        weight_bytes = bytes;
        state_bytes = extent_.bytes;
        memory_ = WeightMemory(bytes);
        BindPacked<T> bind(data());
        visit(*this, bind);
    }
    RuntimeModel(RuntimeModel&&) noexcept = default;
    RuntimeModel& operator=(RuntimeModel&&) noexcept = default;

    // Known once the model is made, as LanguageModel's constants are; not to be written.
    HydraConfig config;                     // head_dim and layer_types written out
    std::vector<ParameterInfo> parameters;  // in file order: name, shape, law
    Index parameter_count = 0;
    Index weight_bytes = 0;  // as they are computed with
    Index state_bytes = 0;   // that one stream carries on, beside what banks hold

    Index vocab_size() const noexcept { return config.vocab_size; }
    Index d_model() const noexcept { return config.d_model; }

    // Throws Error when this model was moved from.
    void expect_weights() const { memory_.expect(); }

    // As LanguageModel::set_parameters and get_parameters.
    void set_parameters(const ParameterSource<T>& f) {
        expect_weights();
        AlignedBuffer<T> scratch(largest_);
        ParameterSource<T> source = f;
        StorePacked<T, ParameterSource<T>> store(data(), scratch.span(), source);
        visit(*this, store);
    }
    void get_parameters(const ParameterSink<T>& f) const {
        expect_weights();
        AlignedBuffer<T> scratch(largest_);
        ParameterSink<T> sink = f;
        ReadPacked<T, ParameterSink<T>> read(scratch.span(), sink);
        visit(*this, read);
    }

    StreamMemory new_memory(const BankPolicy& policy = {}) const {
        std::vector<PageBank> banks;
        for (const auto& block : blocks_) block->add_banks(banks, policy);
        return {extent_.bytes, std::move(banks)};
    }

    // As LanguageModel's.
    Index workspace_bytes(Index B, Index N, Form form = Form::parallel) const noexcept {
        Index most = 0;
        for (const auto& block : blocks_) most = std::max(most, block->scratch_bytes({B, N, form}));
        return 2 * arena_bytes<T>(B * N * d_model()) + most;
    }
    MatrixView<T> forward(const token_id* tokens, Streams streams, Index N, Form form,
                          Arena& arena) const noexcept {
        const Index rows = streams.count() * N;
        const auto x = take_matrix<T>(arena, rows, d_model());
        const auto normed = take_matrix<T>(arena, rows, d_model());
        for (Index r = 0; r < rows; ++r) embed_.copy_row(tokens[r], x.row(r));
        for (std::size_t i = 0; i < blocks_.size(); ++i)
            blocks_[i]->forward(streams.at(offsets_[i]), N, x, form, arena);
        parts_.norm.forward(norm_f_, x, normed);
        return normed;
    }
    void head(MatrixView<const T> hidden, MatrixView<T> logits) const noexcept {
        kernels::matmul(hidden, config.tie_embeddings ? embed_ : lm_head_, logits);
    }

    // sink(name, shape, values) as LanguageModel::export_state has it.
    template <class Sink>
    void export_state(State& state, const Sink& sink) const {
        const Stream stream = state.stream();
        for (std::size_t i = 0; i < blocks_.size(); ++i)
            blocks_[i]->export_state(
                Streams(&stream, 1).at(offsets_[i]), state.position(),
                [&](const char* name, std::span<const Index> shape, const std::vector<T>& values) {
                    sink(std::to_string(i) + "." + name, shape, values);
                });
    }

private:
    using MtpType =
        MtpModule<typename detail::RuntimeParts<T>::Mlp, typename detail::RuntimeParts<T>::Norm>;

    static HydraConfig checked(const HydraConfig& config) {
        if (const BrokenRule broken = broken_rule(config))
            throw Error({.field = std::string(broken.field), .fix = std::string(broken.text)});
        return resolved(config);
    }
    T* data() const noexcept { return reinterpret_cast<T*>(memory_.data()); }

    // Every parameter in file order.
    template <class Self, class V>
    static void visit(Self& self, V& v) {
        const HydraConfig& c = self.config;
        v.matrix(self.embed_, "embed.weight", laws::embedding, c.vocab_size, c.d_model);
        v.nested("blocks", [&] {
            for (std::size_t i = 0; i < self.blocks_.size(); ++i)
                v.nested(std::to_string(i), [&] { self.blocks_[i]->visit(v); });
        });
        v.nested("norm_f", [&] { self.parts_.norm.visit(self.norm_f_, v); });
        if (!c.tie_embeddings)
            v.matrix(self.lm_head_, "lm_head.weight", laws::head, c.vocab_size, c.d_model);
        if (c.mtp_depth == 0) return;
        const MtpType module(self.parts_.mlp, self.parts_.norm);
        v.nested("mtp", [&] {
            for (std::size_t i = 0; i < self.mtp_.size(); ++i)
                v.nested(std::to_string(i), [&] { module.visit(self.mtp_[i], v); });
        });
    }

    detail::RuntimeParts<T> parts_;
    std::vector<std::unique_ptr<ErasedBlock<T>>> blocks_;
    std::vector<StateExtent> offsets_;
    StateExtent extent_;
    Index largest_ = 0;
    WeightMemory memory_{0};
    weights::PackedMatrix<T> embed_{}, lm_head_{};
    typename RmsNorm<T, RuntimeNormShape>::template Parameters<PackedStorage<T>> norm_f_{};
    std::vector<typename MtpType::template Parameters<PackedStorage<T>>> mtp_;
};

}  // namespace HYDRALM_NAMESPACE
