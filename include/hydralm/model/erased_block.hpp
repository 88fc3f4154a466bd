// ErasedBlock: a block behind one virtual call a tile, for models whose shape is read at run time.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "hydralm/model/block.hpp"
#include "hydralm/state/stream_memory.hpp"

namespace HYDRALM_NAMESPACE {

// What is done with every parameter, erased too.
template <Real T>
using ParameterSource = std::function<void(const ParameterInfo&, std::span<T>)>;
template <Real T>
using ParameterSink = std::function<void(const ParameterInfo&, std::span<const T>)>;
using ParameterList = std::function<void(const ParameterInfo&)>;
template <Real T>
using StateSink = std::function<void(const char* name, std::span<const Index> shape,
                                     const std::vector<T>& values)>;

// As Block, its weights in memory of the model's. The same kernels, the same bits.
template <Real T>
class ErasedBlock {
public:
    virtual ~ErasedBlock() = default;
    virtual void visit(DescribeParameters<ParameterList>& visitor) const = 0;
    virtual void visit(BindPacked<T>& visitor) = 0;
    virtual void visit(StorePacked<T, ParameterSource<T>>& visitor) = 0;
    virtual void visit(ReadPacked<T, ParameterSink<T>>& visitor) const = 0;

    virtual StateExtent state_extent() const noexcept = 0;
    virtual void add_banks(std::vector<PageBank>& banks, const BankPolicy& policy) const = 0;
    virtual Index scratch_bytes(const Call& call) const noexcept = 0;
    // In place on x [B·N, d]. No allocation; never throws.
    virtual void forward(Streams streams, Index N, MatrixView<T> x, Form form,
                         Arena& arena) const noexcept = 0;
    virtual void export_state(Streams streams, std::int64_t position,
                              const StateSink<T>& sink) const = 0;
};

// BlockType: with a run-time shape.
template <class BlockType>
class ErasedBlockOf final : public ErasedBlock<typename BlockType::Scalar> {
public:
    using T = typename BlockType::Scalar;
    explicit ErasedBlockOf(BlockType block) : block_(block) {}

    void visit(DescribeParameters<ParameterList>& visitor) const override {
        typename BlockType::template Parameters<NoStorage> none;
        block_.visit(none, visitor);
    }
    void visit(BindPacked<T>& visitor) override { block_.visit(weights_, visitor); }
    void visit(StorePacked<T, ParameterSource<T>>& visitor) override {
        block_.visit(weights_, visitor);
    }
    void visit(ReadPacked<T, ParameterSink<T>>& visitor) const override {
        block_.visit(weights_, visitor);
    }
    StateExtent state_extent() const noexcept override { return hydralm::state_extent(block_); }
    void add_banks(std::vector<PageBank>& banks, const BankPolicy& policy) const override {
        hydralm::add_banks(block_, banks, policy);
    }
    Index scratch_bytes(const Call& call) const noexcept override {
        return hydralm::scratch_bytes(block_, call);
    }
    void forward(Streams streams, Index N, MatrixView<T> x, Form form,
                 Arena& arena) const noexcept override {
        block_.forward(weights_, streams, N, x, form, arena);
    }
    void export_state(Streams streams, std::int64_t position,
                      const StateSink<T>& sink) const override {
        const auto state = bind_state(block_, streams, 0);
        if constexpr (exports_state<typename BlockType::MixerType>)
            block_.mixer().export_state(
                state, position,
                [&](const char* name, const auto& shape, const std::vector<T>& values) {
                    sink(name, {shape.data(), shape.size()}, values);
                });
    }

private:
    BlockType block_;
    typename BlockType::template Parameters<PackedStorage<T>> weights_{};
};

}  // namespace HYDRALM_NAMESPACE
