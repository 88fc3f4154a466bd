// Trainer: the loop body of training. Batches in, one update of the weights out.
//
//   g = Σ over accumulated batches of ∇(mean loss) / accumulate;  g *= min(1, clip / ‖g‖);
//   update(g)
//
// The sum, and that of the losses, is one fixed tree (PairwiseSum), for which ⌈log2 accumulate⌉
// gradients are kept; ‖g‖² is the sum, in file order, of the squares of parameter_blocks.
//
// The master weights are one flat buffer in file order, as are gradient and moments; the model's
// packed weights are written from it after every update. The same numbers for any thread count.
//
// On R ranks each adds up accumulate / R of the batches, and the sums of ranks go on in the tree.
// Rank 0 takes the last of them, and so has the streams that a checkpoint carries on. Each updates
// its ParameterShare. The same numbers for any R. Of its last batch, the sums of the layers that
// the way back is through pass on while it goes through those before (SumBehindLayers).
//
// Where texts are cut over ranks (TrainerOptions::cut_texts), each adds up its runs of all batches:
// the numbers of one process to rounding.
#pragma once

#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>

#include "hydralm/io/model_file.hpp"
#include "hydralm/training/batch_gradient.hpp"
#include "hydralm/training/evaluator.hpp"
#include "hydralm/training/gradient_clip.hpp"
#include "hydralm/training/same_ranks.hpp"
#include "hydralm/training/sum_behind_layers.hpp"
#include "hydralm/training/trainer_options.hpp"

namespace HYDRALM_NAMESPACE {

// The model must outlive the trainer, which changes its weights.
template <class Model>
class Trainer {
public:
    using T = typename Model::Scalar;

    // Starts from the model's weights. Allocates weights, sums of gradients and moments; gradient
    // and tape when the first batch shows its shape. Throws Error for options outside their range,
    // and on several ranks, unless texts are cut, where the batches of each are no power of two;
    // and for ranks of which some cut texts, or that accumulate other numbers of batches. All ranks
    // make it, and call step and sections, together: what one of them throws all do.
    Trainer(Model& model, const TrainerOptions& options, Ranks& ranks = one_rank())
        : model_(model),
          options_(options),
          ranks_(ranks),
          gradient_(ranks, options.cut_texts, options.keep) {
        detail::expect_same(ranks,
                            {{"cut texts", options.cut_texts}, {"accumulate", options.accumulate}});
        ranks.on_all([&] {
            detail::expect_fit(options, ranks.count());
            take_memory();
            take_weights();
        });
    }

    // One update from options.accumulate batches of the source. Throws what the source throws,
    // Error for a token or label outside the vocabulary, for a batch that BatchGradient cannot cut,
    // and, unless such steps are skipped, for a loss or gradient that is not finite: naming the
    // step and the parameter it began in. Then the weights are unchanged; streams that are carried
    // may have read some of the batches, and the source, on several ranks, stands anywhere. Throws
    // Error, too, for an update that is not finite, naming the parameter: the model is unchanged,
    // the trainer goes on only from what it restores; as it does where memory ends in an update.
    StepReport step(BatchSource& source) {
        StepReport report{.step = step_ + 1, .rate = options_.rate(step_)};
        std::optional<BatchStates<Model>> before;  // of streams that are carried
        if (options_.non_finite == NonFinite::skip && ranks_.count() == 1) before = states_;
        begun_ = false;
        add_batches(source, report);
        report.gradient_norm = gradient_norm();
        if (!std::isfinite(report.loss) || !std::isfinite(report.gradient_norm)) {
            if (options_.non_finite == NonFinite::stop) fail(report);
            report.skipped = true;
            if (begun_) states_->reset();
            else states_ = std::move(before);
        } else {
            ranks_.on_all([&] { update(report); });
            share_->publish(parameters_.span());
            ranks_.on_all([&] { give_weights(); });
        }
        ++step_;
        tokens_ += report.tokens;
        return report;
    }

    const Model& model() const noexcept { return model_; }
    const TrainerOptions& options() const noexcept { return options_; }
    Ranks& ranks() const noexcept { return ranks_; }
    // Of both moments, on this rank.
    Index moment_bytes() const noexcept { return 2 * share_->size() * Index{sizeof(T)}; }
    // Updates made and tokens read so far.
    std::int64_t steps() const noexcept { return step_; }
    std::int64_t tokens() const noexcept { return tokens_; }

    // All that training carries on, beside the source's position, as sections of a state file:
    // valid until the next step. On several ranks they are whole on rank 0, which takes memory for
    // the moments of all.
    std::vector<StateSection> sections() {
        progress_ = {step_, tokens_, optimiser_->steps(), states_ ? states_->position() : 0,
                     states_ ? states_->count() : 0};
        ranks_.on_all([&] {
            if (states_) {
                state_bytes_ = states_->bytes();
                bank_bytes_ = states_->bank_bytes();
            }
            if (ranks_.count() == 1 || ranks_.rank() > 0) return;
            first_moments_.resize(parameters_.span().size());
            second_moments_.resize(parameters_.span().size());
        });
        std::span<const T> first = optimiser_->first_moment(), second = optimiser_->second_moment();
        if (ranks_.count() > 1) {
            share_->collect(first, first_moments_);
            share_->collect(second, second_moments_);
            first = first_moments_;
            second = second_moments_;
        }
        return {state_section("progress", std::span<const std::int64_t>(progress_)),
                state_section("parameters", std::span<const T>(parameters_.span())),
                state_section("first_moment", first),
                state_section("second_moment", second),
                {"states", state_bytes_},
                {"banks", bank_bytes_}};
    }
    // Continues from such sections exactly, of a run of at most last_step updates. Throws Error,
    // all being as it was, when a section is missing, has another size, or holds numbers that
    // training does not come to.
    void restore(const StateFile& file, std::int64_t last_step = std::int64_t{1} << 48) {
        std::array<std::int64_t, 5> progress{};
        file.read("progress", std::span<std::int64_t>(progress));
        const auto expect = [&](const char* field, std::int64_t most, std::int64_t found) {
            if (found < 0 || found > most)
                raise({.file = file.name(),
                       .field = field,
                       .expected = "a number in [0, " + std::to_string(most) + "]",
                       .found = std::to_string(found),
                       .fix = "resume from another checkpoint of the run"});
        };
        expect("steps", last_step, progress[0]);
        expect("tokens", std::int64_t{1} << 48, progress[1]);
        expect("optimiser steps", progress[0], progress[2]);
        std::optional<BatchStates<Model>> states;
        if (progress[4] != 0) {
            const auto bytes = file.section("states");
            const bool fit = progress[4] > 0 && progress[4] < 1 << 24 &&
                             progress[4] * model_.state_bytes == std::ssize(bytes);
            if (!fit)
                raise({.file = file.name(),
                       .field = "states",
                       .expected = std::to_string(progress[4]) + " streams of " +
                                   std::to_string(model_.state_bytes) + " bytes",
                       .found = std::to_string(bytes.size()) + " bytes",
                       .fix = "resume from another checkpoint of the run"});
            file.expect_position(progress[3]);
            states.emplace(model_, static_cast<Index>(progress[4]));
            states->restore(bytes, file.section("banks"), progress[3]);
        }
        for (const char* name : {"parameters", "first_moment", "second_moment"})
            file.expect_size(name, parameters_.span().size_bytes());  // all before one is changed
        constexpr T lowest = std::numeric_limits<T>::lowest();
        if (options_.non_finite == NonFinite::stop) expect_values(file, "parameters", lowest);
        expect_values(file, "first_moment", lowest);
        expect_values(file, "second_moment", T(0));
        file.read("parameters", parameters_.span());
        read_own(file, "first_moment", optimiser_->first_moment());
        read_own(file, "second_moment", optimiser_->second_moment());
        step_ = progress[0];
        tokens_ = progress[1];
        optimiser_->set_steps(progress[2]);
        states_ = std::move(states);
        give_weights();
    }

private:
    void take_memory() {
        parameters_ = AlignedBuffer<T>(model_.parameter_count);
        blocks_ = parameter_blocks(model_.parameters);
        block_ends_ = deal_blocks(blocks_, ranks_.count(), [&](std::size_t tensor) {
            return moved_by_muon(options_.optimiser, model_.parameters[tensor]);
        });
        squares_.resize(blocks_.size());
        share_ = std::make_unique<ParameterShare<T>>(ranks_, element_ends());
        optimiser_ = std::make_unique<Optimiser<Model>>(model_, options_.optimiser, share_->first(),
                                                        share_->size());
        gradient_sum_ = std::make_unique<PairwiseSum<T>>(own_batches(), model_.parameter_count);
        loss_sum_ = std::make_unique<PairwiseSum<double>>(own_batches(), 1);
    }

    // Throws Error unless the values of a section, one for each weight, are finite and not below
    // least.
    void expect_values(const StateFile& file, const char* section, T least) const {
        const T* next = reinterpret_cast<const T*>(file.section(section).data());
        for (const ParameterInfo& info : model_.parameters)
            for (const T* const end = next + info.size(); next != end; ++next)
                if (!(*next >= least) || !std::isfinite(*next))
                    raise({.file = file.name(),
                           .field = std::string(section) + " of " + std::string(info.name()),
                           .expected = least < 0 ? "finite values" : "finite values from 0 up",
                           .found = detail::short_number(static_cast<double>(*next)),
                           .fix = "resume from another checkpoint of the run"});
    }

    // out = this rank's elements of a section.
    void read_own(const StateFile& file, const char* section, std::span<T> out) const {
        const auto bytes = file.section(section);
        if (!out.empty())
            std::memcpy(out.data(), bytes.data() + share_->first() * Index{sizeof(T)},
                        out.size_bytes());
    }

    // Of this rank's share, by its gradient, which is clipped.
    void update(const StepReport& report) {
        const auto gradient = share_->own(gradient_.values());
        if (options_.clip > 0.0 && report.gradient_norm > options_.clip)
            scale_gradient<T>(gradient, options_.clip / report.gradient_norm);
        optimiser_->step(share_->own(parameters_.span()), gradient,
                         report.rate / options_.rate.peak, [&](const ParameterInfo& info) {
                             return options_.frozen && options_.frozen(info, step_);
                         });
        expect_finite_update(report.step);
    }
    // Throws Error for what an update made not finite, before the model takes it. Where steps are
    // skipped, weights that were not finite may stay so.
    void expect_finite_update(std::int64_t step) {
        const auto first = optimiser_->first_moment(), second = optimiser_->second_moment();
        const std::span<const T> weights = share_->own(parameters_.span());
        if (std::isfinite(hydralm::gradient_norm<T>(weights) + hydralm::gradient_norm<T>(first) +
                          hydralm::gradient_norm<T>(second)))
            return;
        const bool skip = options_.non_finite == NonFinite::skip;
        Index i = -share_->first();
        model_.get_parameters([&](const ParameterInfo& info, std::span<const T> before) {
            for (const T old : before) {
                if (i >= 0 && i < share_->size()) {
                    const auto at = static_cast<std::size_t>(i);
                    const bool good = std::isfinite(weights[at]) || (skip && !std::isfinite(old));
                    if (!good || !std::isfinite(first[at]) || !std::isfinite(second[at]))
                        raise({.field = "step " + std::to_string(step),
                               .expected = "a finite update",
                               .found = "NaN or infinity in weights or moments of " +
                                        std::string(info.name()),
                               .fix = "lower the learning rate, or clip the gradient"});
                }
                ++i;
            }
        });
    }
    std::string name_of(Index tensor) const {
        return std::string(model_.parameters[static_cast<std::size_t>(tensor)].name());
    }

    // Whether each rank has other batches.
    bool deals_out() const noexcept { return ranks_.count() > 1 && !options_.cut_texts; }
    int own_batches() const noexcept {
        return deals_out() ? options_.accumulate / ranks_.count() : options_.accumulate;
    }
    std::vector<Index> element_ends() const {
        std::vector<Index> ends;
        for (const Index end : block_ends_) {
            const auto last = static_cast<std::size_t>(end) - 1;
            ends.push_back(end == 0 ? 0 : blocks_[last].first + blocks_[last].size);
        }
        return ends;
    }

    // The step's loss, tokens and gradient.
    void add_batches(BatchSource& source, StepReport& report) {
        gradient_sum_->clear();  // of a step that an Error ended
        loss_sum_->clear();
        if (deals_out()) add_own_batches(source, report);
        else add_all_batches(source, report);
        report.loss /= options_.accumulate;
    }
    // Of all batches, with the ranks that cut them.
    void add_all_batches(BatchSource& source, StepReport& report) {
        for (int i = 0; i < options_.accumulate; ++i) {
            ranks_.on_all([&] { read_batch(source); });
            gradient_.begin(model_, batch_, *states_);
            add_batch(report);
        }
        if (gradient_.cuts()) share_->sum(gradient_.values());
    }
    // Of this rank's batches, then of all ranks. The way back of the last batch sends, so all that
    // may fail is done before it, and fails on every rank.
    void add_own_batches(BatchSource& source, StepReport& report) {
        std::unique_ptr<SumBehindLayers<T>> sum;
        ranks_.on_all([&] {
            const std::uint64_t begin = source.position();
            source.seek(begin + static_cast<std::uint64_t>(own_batches() *
                                                           (ranks_.count() - 1 - ranks_.rank())));
            for (int i = 0; i < own_batches(); ++i) {
                if (i > 0) add_batch(report);
                read_batch(source);
                gradient_.begin(model_, batch_, *states_);
            }
            source.seek(begin + static_cast<std::uint64_t>(options_.accumulate));
            sum = std::make_unique<SumBehindLayers<T>>(model_, gradient_.values(), *gradient_sum_,
                                                       *share_);
        });
        add_batch(report, sum.get());
        share_->finish_sum(gradient_.values());
        struct Part {
            double loss;
            std::int64_t tokens;
        };
        auto parts = ranks_.gather(Part{report.loss, report.tokens});
        PairwiseSum<double> losses(std::ssize(parts), 1);
        report.tokens = 0;
        for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
            losses.add({&part->loss, 1});
            report.tokens += part->tokens;
        }
        report.loss = parts.front().loss;
    }

    // The next batch, and its streams.
    void read_batch(BatchSource& source) {
        source.next(batch_);
        if (ranks_.count() > 1) expect_fresh(batch_);
        if (!states_ || states_->count() != batch_.streams) states_.emplace(model_, batch_.streams);
        if (batch_.fresh) states_->reset();
        begun_ = begun_ || batch_.fresh;
    }
    // Gradient and mean loss of batch_, whose gradient_ has begun, join those of the step; sum: of
    // the batch that is this rank's last, where ranks have other batches.
    void add_batch(StepReport& report, SumBehindLayers<T>* sum = nullptr) {
        const Index counted = std::max<Index>(1, kernels::count_labels(batch_.labels));
        const double scale = 1.0 / (static_cast<double>(counted) * options_.accumulate);
        LayerWatch* const watch = gradient_.final_behind_layers() ? sum : nullptr;
        report.loss = gradient_.add(model_, batch_, *states_, scale, watch).mean();
        if (sum) sum->begin_rest();
        else gradient_sum_->add_part(0, gradient_.values());
        gradient_sum_->next();
        loss_sum_->add({&report.loss, 1});
        report.tokens += static_cast<std::int64_t>(batch_.tokens.size());
    }

    // Of the gradient, from the squares of each rank's blocks.
    double gradient_norm() {
        const std::span<const T> gradient = gradient_.values();
        const auto me = static_cast<std::size_t>(ranks_.rank());
        const Index first = me == 0 ? 0 : block_ends_[me - 1];
        parallel_for(block_ends_[me] - first, [&](Index i) {
            const ParameterBlock& block = blocks_[static_cast<std::size_t>(first + i)];
            squares_[static_cast<std::size_t>(first + i)] = sum_of_squares(gradient.subspan(
                static_cast<std::size_t>(block.first), static_cast<std::size_t>(block.size)));
        });
        ranks_.share(std::span(squares_), block_ends_);
        return std::sqrt(std::accumulate(squares_.begin(), squares_.end(), 0.0));
    }

    void take_weights() {
        T* next = parameters_.data();
        model_.get_parameters([&](const ParameterInfo&, std::span<const T> values) {
            next = std::copy(values.begin(), values.end(), next);
        });
    }
    void give_weights() {
        const T* next = parameters_.data();
        model_.set_parameters([&](const ParameterInfo&, std::span<T> values) {
            std::copy_n(next, values.size(), values.data());
            next += values.size();
        });
        gradient_.refresh(model_);
    }

    // Back-propagation goes from the loss down, so what is not finite began in the last parameter
    // of file order that shows it, unless a weight itself is not finite.
    [[noreturn]] void fail(const StepReport& report) {
        const auto bad = [](T x) { return !std::isfinite(x); };
        Index weight = -1, gradient = -1;  // the first and the last tensor
        for (const ParameterBlock& block : blocks_) {
            const auto of = [&](std::span<const T> all) {
                return all.subspan(static_cast<std::size_t>(block.first),
                                   static_cast<std::size_t>(block.size));
            };
            const auto tensor = static_cast<Index>(block.tensor);
            if (weight < 0 && std::ranges::any_of(of(parameters_.span()), bad)) weight = tensor;
            const bool own =
                block.first >= share_->first() && block.first < share_->first() + share_->size();
            if (own && std::ranges::any_of(of(gradient_.values()), bad)) gradient = tensor;
        }
        gradient = std::ranges::max(ranks_.gather(gradient));
        const std::string where = weight >= 0     ? "weight " + name_of(weight)
                                  : gradient >= 0 ? "gradient of " + name_of(gradient)
                                                  : "the loss";
        raise({.field = "step " + std::to_string(report.step),
               .expected = "a finite loss and gradient",
               .found = "loss " + detail::short_number(report.loss) + ", gradient norm " +
                        detail::short_number(report.gradient_norm) + ", first in " + where,
               .fix = "lower the learning rate, or clip the gradient (in code, NonFinite::skip "
                      "leaves such steps out)"});
    }

    Model& model_;
    TrainerOptions options_;
    Ranks& ranks_;
    AlignedBuffer<T> parameters_;
    std::vector<ParameterBlock> blocks_;
    std::vector<Index> block_ends_;  // of the ranks' shares
    std::unique_ptr<ParameterShare<T>> share_;
    std::unique_ptr<Optimiser<Model>> optimiser_;
    std::vector<double> squares_;  // of the gradient, a block each
    BatchGradient<Model> gradient_;
    std::unique_ptr<PairwiseSum<T>> gradient_sum_;
    std::unique_ptr<PairwiseSum<double>> loss_sum_;
    std::optional<BatchStates<Model>> states_;
    Batch batch_;
    bool begun_ = false;  // whether streams began anew in this step
    std::int64_t step_ = 0, tokens_ = 0;
    std::array<std::int64_t, 5> progress_{};  // what sections shows
    std::vector<std::byte> state_bytes_, bank_bytes_;
    std::vector<T> first_moments_, second_moments_;  // of all ranks
};

}  // namespace HYDRALM_NAMESPACE
