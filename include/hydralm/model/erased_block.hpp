// ErasedBlock: a block behind one virtual call a tile, for models whose shape is read at run time.
#pragma once

#include <concepts>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "hydralm/layers/transposed_parameters.hpp"
#include "hydralm/model/block.hpp"
#include "hydralm/state/stream_memory.hpp"

namespace HYDRALM_NAMESPACE {

// What a run-time model computes with: its matrices carry their format.
template <Real T>
using RuntimeStorage = PackedStorage<T, weights::Any>;

// What is done with every parameter, erased too.
using ParameterList = std::function<void(const ParameterInfo&)>;
template <Real T>
class ParameterSource {
public:
    using Rows = std::function<const weights::RowSource<T>*(const ParameterInfo&)>;

    template <std::invocable<const ParameterInfo&, std::span<T>> F>
    ParameterSource(const F& f) : values_(f) {
        if constexpr (GivesRows<F, T>)
            rows_ = [f](const ParameterInfo& info) { return f.rows(info); };
    }
    template <std::invocable<const ParameterInfo&, std::span<T>> F>
    ParameterSource(const F& values, Rows rows) : values_(values), rows_(std::move(rows)) {}
    void operator()(const ParameterInfo& info, std::span<T> values) const { values_(info, values); }
    const weights::RowSource<T>* rows(const ParameterInfo& info) const {
        return rows_ ? rows_(info) : nullptr;
    }

private:
    std::function<void(const ParameterInfo&, std::span<T>)> values_;
    Rows rows_;
};
template <Real T>
using ParameterSink = std::function<void(const ParameterInfo&, std::span<const T>)>;
template <Real T>
using StateSink = std::function<void(const char* name, std::span<const Index> shape,
                                     const std::vector<T>& values)>;

// As Block says, in place on x and dx [B·N, d]; parameters, of the storage that a function names,
// behind a pointer. Nothing but what makes parameters and lists them allocates or throws.
template <Real T>
class ErasedBlock {
public:
    virtual ~ErasedBlock() = default;

    // Parameters in a storage, bound to nothing.
    virtual std::shared_ptr<void> parameters(std::type_identity<RuntimeStorage<T>>) const = 0;
    virtual std::shared_ptr<void> parameters(std::type_identity<FlatStorage<T>>) const = 0;
    virtual std::shared_ptr<void> parameters(std::type_identity<TransposedStorage<T>>) const = 0;
    virtual void visit(DescribeParameters<ParameterList>& visitor) const = 0;
    virtual void visit(void* packed, TakeFormats<T>& visitor) const = 0;
    virtual void visit(void* packed, BindPacked<T>& visitor) const = 0;
    virtual void visit(void* packed, StorePacked<T, ParameterSource<T>>& visitor) const = 0;
    virtual void visit(const void* packed, ReadPacked<T, ParameterSink<T>>& visitor) const = 0;
    virtual void visit(void* flat, BindFlat<T>& visitor) const = 0;
    virtual void visit(void* transposed, BindTransposed<T>& visitor) const = 0;

    virtual StateExtent state_extent() const noexcept = 0;
    virtual void add_state(StateParts& parts, const BankPolicy& policy) const = 0;
    virtual void export_state(Streams streams, std::int64_t position,
                              const StateSink<T>& sink) const = 0;

    virtual Index most_history() const noexcept = 0;
    virtual Index history_bytes(Index N) const noexcept = 0;
    virtual void rollback(Streams streams, Index N, Index kept, Arena& history) const noexcept = 0;

    virtual Index scratch_bytes(const Call& call) const noexcept = 0;
    virtual void forward(const void* packed, Streams streams, Index N, MatrixView<T> x, Form form,
                         Arena& arena) const noexcept = 0;
    // As Block's; without cuts(), the others are not called.
    virtual bool cuts() const noexcept = 0;
    virtual Index halo() const noexcept = 0;
    virtual void advance(const void* packed, Streams streams, Index N, MatrixView<const T> x,
                         T* map, Arena& arena) const noexcept = 0;
    virtual Index map_size() const noexcept = 0;
    virtual T* mapped(Streams streams) const noexcept = 0;
    virtual void identity(T* map) const noexcept = 0;
    virtual void carry(const T* map, const T* before, T* state) const noexcept = 0;
    virtual void receive(Streams streams, Index first, Index end, Arena& arena) const noexcept = 0;
    virtual Index backward_scratch_bytes(Index B, Index N) const noexcept = 0;
    virtual Index tape_bytes(Index B, Index N) const noexcept = 0;
    // The tape in kept; backward finds it where it is given the same memory.
    virtual void record(const void* packed, Streams streams, Index N, MatrixView<T> x, Arena& arena,
                        Arena kept) const noexcept = 0;
    virtual void backward(const void* packed, const void* transposed, Arena kept, Streams streams,
                          Index N, MatrixView<T> dx, void* flat, Streams dstates,
                          Arena& arena) const noexcept = 0;
};

// BlockType: with a run-time shape. The same kernels as a static one's, the same bits.
template <class BlockType>
class ErasedBlockOf final : public ErasedBlock<typename BlockType::Scalar> {
public:
    using T = typename BlockType::Scalar;
    explicit ErasedBlockOf(BlockType block) : block_(block) {}

    std::shared_ptr<void> parameters(std::type_identity<RuntimeStorage<T>>) const override {
        return std::make_shared<In<RuntimeStorage<T>>>();
    }
    std::shared_ptr<void> parameters(std::type_identity<FlatStorage<T>>) const override {
        return std::make_shared<In<FlatStorage<T>>>();
    }
    std::shared_ptr<void> parameters(std::type_identity<TransposedStorage<T>>) const override {
        return std::make_shared<In<TransposedStorage<T>>>();
    }
    void visit(DescribeParameters<ParameterList>& visitor) const override {
        In<NoStorage> none;
        block_.visit(none, visitor);
    }
    void visit(void* p, TakeFormats<T>& visitor) const override {
        block_.visit(in<RuntimeStorage<T>>(p), visitor);
    }
    void visit(void* p, BindPacked<T>& visitor) const override {
        block_.visit(in<RuntimeStorage<T>>(p), visitor);
    }
    void visit(void* p, StorePacked<T, ParameterSource<T>>& visitor) const override {
        block_.visit(in<RuntimeStorage<T>>(p), visitor);
    }
    void visit(const void* p, ReadPacked<T, ParameterSink<T>>& visitor) const override {
        block_.visit(in<RuntimeStorage<T>>(p), visitor);
    }
    void visit(void* p, BindFlat<T>& visitor) const override {
        block_.visit(in<FlatStorage<T>>(p), visitor);
    }
    void visit(void* p, BindTransposed<T>& visitor) const override {
        block_.visit(in<TransposedStorage<T>>(p), visitor);
    }

    StateExtent state_extent() const noexcept override { return hydralm::state_extent(block_); }
    void add_state(StateParts& parts, const BankPolicy& policy) const override {
        hydralm::add_state(block_, parts, policy);
    }
    void export_state(Streams streams, std::int64_t position,
                      const StateSink<T>& sink) const override {
        if constexpr (exports_state<typename BlockType::MixerType>)
            block_.mixer().export_state(
                bind_state(block_, streams, 0), position,
                [&](const char* name, const auto& shape, const std::vector<T>& values) {
                    sink(name, {shape.data(), shape.size()}, values);
                });
    }

    Index most_history() const noexcept override {
        if constexpr (requires { block_.mixer().most_history(); })
            return block_.mixer().most_history();
        else return std::numeric_limits<Index>::max();
    }
    Index history_bytes(Index N) const noexcept override {
        if constexpr (keeps_history<Mixer>) return hydralm::history_bytes(block_.mixer(), N);
        else return 0;
    }
    void rollback(Streams streams, Index N, Index kept, Arena& history) const noexcept override {
        static_assert(can_roll_back<Mixer>);
        if constexpr (keeps_history<Mixer>)
            block_.mixer().rollback(bind_state(block_, streams, 0), streams.position(0), N, kept,
                                    history);
    }

    Index scratch_bytes(const Call& call) const noexcept override {
        return hydralm::scratch_bytes(block_, call);
    }
    bool cuts() const noexcept override { return block_.cuts(); }
    Index halo() const noexcept override { return block_.halo(); }
    void advance(const void* p, Streams streams, Index N, MatrixView<const T> x, T* map,
                 Arena& arena) const noexcept override {
        block_.advance(in<RuntimeStorage<T>>(p), streams, N, x, map, arena);
    }
    Index map_size() const noexcept override { return block_.map_size(); }
    T* mapped(Streams streams) const noexcept override { return block_.mapped(streams); }
    void identity(T* map) const noexcept override { block_.identity(map); }
    void carry(const T* map, const T* before, T* state) const noexcept override {
        block_.carry(map, before, state);
    }
    void receive(Streams streams, Index first, Index end, Arena& arena) const noexcept override {
        block_.receive(streams, first, end, arena);
    }
    Index backward_scratch_bytes(Index B, Index N) const noexcept override {
        return hydralm::backward_scratch_bytes(block_, B, N);
    }
    Index tape_bytes(Index B, Index N) const noexcept override {
        return hydralm::tape_bytes(block_, B, N);
    }
    void forward(const void* p, Streams streams, Index N, MatrixView<T> x, Form form,
                 Arena& arena) const noexcept override {
        block_.forward(in<RuntimeStorage<T>>(p), streams, N, x, form, arena);
    }
    void record(const void* p, Streams streams, Index N, MatrixView<T> x, Arena& arena,
                Arena kept) const noexcept override {
        block_.forward(in<RuntimeStorage<T>>(p), streams, N, x, Form::parallel, arena,
                       take_tape(block_, kept, streams.count(), N));
    }
    void backward(const void* p, const void* transposed, Arena kept, Streams streams, Index N,
                  MatrixView<T> dx, void* flat, Streams dstates,
                  Arena& arena) const noexcept override {
        block_.backward(in<RuntimeStorage<T>>(p), in<TransposedStorage<T>>(transposed),
                        take_tape(block_, kept, streams.count(), N), streams, N, dx,
                        in<FlatStorage<T>>(flat), dstates, arena);
    }

private:
    using Mixer = typename BlockType::MixerType;
    template <class Storage>
    using In = typename BlockType::template Parameters<Storage>;
    template <class Storage>
    static In<Storage>& in(void* p) noexcept {
        return *static_cast<In<Storage>*>(p);
    }
    template <class Storage>
    static const In<Storage>& in(const void* p) noexcept {
        return *static_cast<const In<Storage>*>(p);
    }

    BlockType block_;
};

}  // namespace HYDRALM_NAMESPACE
