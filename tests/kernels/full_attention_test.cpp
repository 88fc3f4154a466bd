// Attention to the whole past over pages, against its reference: every format, grouped keys, any
// cut of the text, the gradient.
#include "hydralm/kernels/full_attention/full_attention.hpp"

#include <cstring>

#include "hydralm/core/aligned_buffer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random_rows.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

// Pages for N tokens, every byte of them `fill`.
class Pages {
public:
    Pages(Index N, Index C, Index bytes, unsigned char fill) {
        for (Index c = 0; c < ceil_div(N, C); ++c) {
            std::memset(pages_.emplace_back(bytes).data(), fill, static_cast<std::size_t>(bytes));
            places_.push_back(pages_.back().data());
        }
    }
    PageView view() const { return {places_.data(), 0}; }

private:
    std::vector<AlignedBuffer<std::byte>> pages_;
    std::vector<std::byte*> places_;
};

// N tokens of H heads that read Hkv groups of keys and values, all of them random.
template <class T, Index D, Index C>
struct Case {
    using Past = kernels::FullAttentionPast<T, D, C>;
    static constexpr auto page_of() { return typename Past::Page(); }

    Index N, H, Hkv;
    BankFormat format;
    Rows<T> q, k, v, out, lse;
    Pages pages;

    Case(Index tokens, Index heads, Index groups, BankFormat kept, std::uint64_t seed,
         double scale = 1.0)
        : N(tokens),
          H(heads),
          Hkv(groups),
          format(kept),
          q(N, H * D, seed, scale),
          k(N, Hkv * D, seed + 1),
          v(N, Hkv * D, seed + 2),
          out(N, H * D),
          lse(N, H),
          pages(N, C, Hkv * page_of().bytes(format), 0xff) {}  // NaN

    Past past(Index g) const { return {pages.view(), format, g}; }
    MatrixView<T> of_group(MatrixView<T> all, Index g, Index width) const {
        return all.middle_cols(g * (H / Hkv) * width, H / Hkv * width);
    }
    std::string where() const {
        return "D " + std::to_string(D) + ", C " + std::to_string(C) + ", N " + std::to_string(N) +
               ", H " + std::to_string(H) + ", Hkv " + std::to_string(Hkv) + ", " +
               std::string(name(format));
    }

    // In calls of at most piece tokens.
    std::vector<T> run(Index piece) {
        AlignedBuffer<std::byte> memory(kernels::full_attention_workspace_bytes<T, D, C>());
        std::memset(memory.data(), 0xff, static_cast<std::size_t>(memory.size()));
        Arena arena(memory.span());
        for (Index first = 0; first < N; first += piece) {
            const Index n = std::min(piece, N - first);
            for (Index g = 0; g < Hkv; ++g) {
                for (Index t = first; t < first + n; ++t)
                    past(g).put(t, k.view().row(t) + g * D, v.view().row(t) + g * D);
                kernels::full_attention<D, C, T>(
                    of_group(q.view().middle_rows(first, n), g, D), first, past(g),
                    of_group(out.view().middle_rows(first, n), g, D), arena,
                    of_group(lse.view().middle_rows(first, n), g, 1));
            }
        }
        CHECK(out.padding_untouched());
        CHECK(lse.padding_untouched());
        CHECK(arena.used() == 0);
        std::vector<T> all = out.values(), sums = lse.values();
        all.insert(all.end(), sums.begin(), sums.end());
        return all;
    }

    // Keys and values as the format keeps them.
    std::pair<Rows<T>, Rows<T>> kept() const {
        Rows<T> keys(N, Hkv * D), values(N, Hkv * D);
        std::vector<T> scratch(static_cast<std::size_t>(page_of().scratch_elements()));
        for (Index g = 0; g < Hkv; ++g)
            for (Index t = 0; t < N; ++t) {
                const auto page = past(g).read(t / C, scratch.data());
                for (Index d = 0; d < D; ++d) {
                    keys.view()(t, g * D + d) = page.keys[d * Past::Page::key_stride + t % C];
                    values.view()(t, g * D + d) = page.values[t % C * page_of().value_stride() + d];
                }
            }
        return {std::move(keys), std::move(values)};
    }

    // The reference over those.
    std::vector<T> reference() const {
        Rows<T> expected(N, H * D), sums(N, H);
        const auto [keys, values] = kept();
        kernels::full_attention_reference<T>(q.view(), keys.view(), values.view(), H, Hkv,
                                             expected.view(), sums.view());
        std::vector<T> all = expected.values(), last = sums.values();
        all.insert(all.end(), last.begin(), last.end());
        return all;
    }
};

template <class T>
constexpr double bound = sizeof(T) == 4 ? 4e-6 : 1e-14;

template <class T, Index D, Index C>
void check(Index N, Index H, Index Hkv, BankFormat format) {
    Case<T, D, C> whole(N, H, Hkv, format, 3), by_token(N, H, Hkv, format, 3),
        cut(N, H, Hkv, format, 3);
    const auto out = whole.run(N);
    check_close(out, whole.reference(), bound<T>, whole.where());
    INFO(whole.where());
    CHECK(same_bits(by_token.run(1), out));
    CHECK(same_bits(cut.run(C + 3), out));
}

template <class T, Index D, Index C>
void sweep() {
    for (const Index N : {Index{0}, Index{1}, C - 1, C, C + 1, 3 * C + 5})
        for (const auto& [H, Hkv] : {std::pair<Index, Index>{1, 1}, {4, 2}, {6, 2}, {5, 1}})
            for (const BankFormat format : {BankFormat::exact, BankFormat::bf16, BankFormat::int8})
                check<T, D, C>(N, H, Hkv, format);
}

// A window, and a head dimension that only the page knows, over the pages of a case: the reference,
// and the same bits in any cut.
template <class T, Index D, Index C>
void check_window(Index N, Index H, Index Hkv, Index window) {
    Case<T, D, C> c(N, H, Hkv, BankFormat::exact, 4);
    c.run(N);
    const kernels::KeyValuePage<T, dynamic, C> page(D);
    AlignedBuffer<std::byte> memory(kernels::full_attention_workspace_bytes<T, dynamic, C>(page));
    std::memset(memory.data(), 0xff, static_cast<std::size_t>(memory.size()));
    Arena arena(memory.span());
    const auto run = [&](Index piece) {
        Rows<T> out(N, H * D);
        for (Index first = 0; first < N; first += piece)
            for (Index g = 0; g < Hkv; ++g) {
                const Index n = std::min(piece, N - first);
                kernels::full_attention<dynamic, C, T>(
                    c.of_group(c.q.view().middle_rows(first, n), g, D), first,
                    {c.pages.view(), BankFormat::exact, g, page},
                    c.of_group(out.view().middle_rows(first, n), g, D), arena, {}, window);
            }
        CHECK(out.padding_untouched());
        return out.values();
    };
    Rows<T> expected(N, H * D), sums(N, H);
    kernels::full_attention_reference<T>(c.q.view(), c.k.view(), c.v.view(), H, Hkv,
                                         expected.view(), sums.view(), window);
    const std::string where = c.where() + ", window " + std::to_string(window);
    const auto whole = run(N);
    check_close(whole, expected.values(), bound<T>, where);
    INFO(where);
    CHECK(same_bits(run(1), whole));
    CHECK(same_bits(run(C + 3), whole));
}

// The chunks that a query chooses, in calls of at most piece tokens, of a page whose head dimension
// the type knows or not.
template <Index PageD, class T, Index D, Index C>
std::vector<T> run_sparse(Case<T, D, C>& c, const SparsePast& sparse, Index open, Index piece) {
    const kernels::KeyValuePage<T, PageD, C> page(D);
    using Bounds = kernels::KeyBounds<T, PageD, C>;
    const Index bytes = c.Hkv * Bounds::bytes(page);
    std::vector<Pages> tree;
    std::array<PageView, tree_heights> nodes;
    for (Index h = 0; h < tree_heights; ++h)
        nodes[static_cast<std::size_t>(h)] =
            tree.emplace_back(c.N, C * node_chunks(h + 1), bytes, 0xff).view();
    AlignedBuffer<std::byte> memory(
        kernels::sparse_attention_workspace_bytes<T, PageD, C>(piece, c.H / c.Hkv, page));
    Rows<T> out(c.N, c.H * D);
    std::vector<T> scratch(static_cast<std::size_t>(page.scratch_elements()));
    for (Index first = 0; first < c.N; first += piece)
        for (Index g = 0; g < c.Hkv; ++g) {
            std::memset(memory.data(), 0xff, static_cast<std::size_t>(memory.size()));
            Arena arena(memory.span());
            const Index n = std::min(piece, c.N - first);
            const kernels::FullAttentionPast<T, PageD, C> past{c.pages.view(), c.format, g, page};
            const Bounds bounds{nodes, g, sparse, open, page};
            for (Index t = first; t < first + n; ++t) {
                past.put(t, c.k.view().row(t) + g * D, c.v.view().row(t) + g * D);
                if ((t + 1) % C == 0) bounds.summarise(past, t / C, scratch.data());
            }
            kernels::sparse_attention<PageD, C, T>(
                c.of_group(c.q.view().middle_rows(first, n), g, D), first, past, bounds,
                c.of_group(out.view().middle_rows(first, n), g, D), arena);
            CHECK(arena.used() == 0);
        }
    CHECK(out.padding_untouched());
    return out.values();
}

template <class T, Index D, Index C>
void check_sparse(Index N, Index H, Index Hkv, BankFormat format, const SparsePast& sparse,
                  Index open = 0) {
    const auto fresh = [&] { return Case<T, D, C>(N, H, Hkv, format, 6); };
    auto c = fresh(), by_token = fresh(), cut = fresh();
    const auto out = run_sparse<D>(c, sparse, open, N);
    Rows<T> expected(N, H * D);
    const auto [keys, values] = c.kept();
    kernels::sparse_attention_reference<T>(c.q.view(), keys.view(), values.view(), H, Hkv, C,
                                           sparse, open, expected.view());
    const std::string where = c.where() + ", chunks " + std::to_string(sparse.chunks) +
                              ", recent " + std::to_string(sparse.recent) + ", open " +
                              std::to_string(open);
    check_close(out, expected.values(), bound<T>, where);
    INFO(where);
    CHECK(same_bits(run_sparse<dynamic>(by_token, sparse, open, 1), out));
    CHECK(same_bits(run_sparse<D>(cut, sparse, open, C + 3), out));
}

// Every node's bounds, of the keys of all its tokens.
template <class T, Index D, Index C>
void check_bounds(Index N) {
    Case<T, D, C> c(N, 2, 2, BankFormat::exact, 7);
    const kernels::KeyValuePage<T, D, C> page(D);
    using Bounds = kernels::KeyBounds<T, D, C>;
    std::vector<Pages> tree;
    std::array<PageView, tree_heights> nodes;
    for (Index h = 0; h < tree_heights; ++h)
        nodes[static_cast<std::size_t>(h)] =
            tree.emplace_back(N, C * node_chunks(h + 1), 2 * Bounds::bytes(page), 0xff).view();
    const Bounds bounds{nodes, 1, {}, 0, page};
    for (Index t = 0; t < N; ++t) {
        c.past(1).put(t, c.k.view().row(t) + D, c.v.view().row(t) + D);
        if ((t + 1) % C == 0) bounds.summarise(c.past(1), t / C, nullptr);
    }
    for (Index h = 0; h < tree_heights; ++h)
        for (Index n = 0; n < N / (C * node_chunks(h)); ++n) {
            const T* const found = bounds.summaries(h, n / chunk_group) + n % chunk_group;
            std::array<T, 2 * D> most;
            most.fill(-std::numeric_limits<T>::infinity());
            for (Index t = n * C * node_chunks(h); t < (n + 1) * C * node_chunks(h); ++t)
                for (std::size_t d = 0; d < D; ++d) {
                    const T x = c.k.view()(t, D + static_cast<Index>(d));
                    most[d] = std::max(most[d], x);
                    most[D + d] = std::max(most[D + d], -x);
                }
            bool same = true;
            for (std::size_t d = 0; d < most.size(); ++d)
                same = same && found[static_cast<Index>(d) * chunk_group] == most[d];
            INFO("height " << h << ", node " << n);
            CHECK(same);
        }
}

// Gradients by way of pages, in calls of at most piece tokens, the last first.
template <class T, Index D, Index C>
struct Gradients {
    Rows<T> dq, dk, dv;

    Gradients(Case<T, D, C>& c, const Rows<T>& dout, Index piece)
        : dq(c.N, c.H * D), dk(c.N, c.Hkv * D), dv(c.N, c.Hkv * D) {
        using Past = kernels::FullAttentionPast<T, D, C>;
        const Pages dpages(c.N, C, c.Hkv * c.page_of().bytes(BankFormat::exact), 0);
        AlignedBuffer<std::byte> memory(
            kernels::full_attention_backward_workspace_bytes<T, D, C>());
        std::memset(memory.data(), 0xff, static_cast<std::size_t>(memory.size()));
        Arena arena(memory.span());
        Rows<T> given = dout;
        for (Index first = (c.N - 1) / piece * piece; first >= 0; first -= piece)
            for (Index g = 0; g < c.Hkv; ++g) {
                const Index n = std::min(piece, c.N - first);
                const auto rows = [&](Rows<T>& all, Index width) {
                    return c.of_group(all.view().middle_rows(first, n), g, width);
                };
                const Past dpast{dpages.view(), BankFormat::exact, g};
                kernels::full_attention_backward<D, C, T>(
                    rows(c.q, D), first, c.past(g), rows(c.out, D), rows(c.lse, 1), rows(given, D),
                    rows(dq, D), dpast, arena);
                kernels::take_key_value_gradients<D, C, T>(
                    n, first, dpast, dk.view().middle_rows(first, n).middle_cols(g * D, D),
                    dv.view().middle_rows(first, n).middle_cols(g * D, D));
            }
        CHECK(dq.padding_untouched());
    }
};

template <class T, Index D, Index C>
void check_gradients(Index N, Index H, Index Hkv, Index piece) {
    Case<T, D, C> c(N, H, Hkv, BankFormat::exact, 5);
    c.run(N);
    const Rows<T> dout(N, H * D, 9);
    const Gradients<T, D, C> fast(c, dout, piece);
    Rows<T> dq(N, H * D), dk(N, Hkv * D), dv(N, Hkv * D);
    kernels::full_attention_backward_reference<T>(c.q.view(), c.k.view(), c.v.view(), H, Hkv,
                                                  c.out.view(), c.lse.view(), dout.view(),
                                                  dq.view(), dk.view(), dv.view());
    const double limit = sizeof(T) == 4 ? 2e-5 : 1e-12;
    const std::string where = c.where() + ", pieces of " + std::to_string(piece);
    check_close(fast.dq.values(), dq.values(), limit, where + ", dq");
    check_close(fast.dk.values(), dk.values(), limit, where + ", dk");
    check_close(fast.dv.values(), dv.values(), limit, where + ", dv");
}

// The same to a window, heads of a size that only the page knows.
template <class T, Index D, Index C>
void check_window_gradients(Index N, Index H, Index Hkv, Index window, Index piece) {
    Case<T, D, C> c(N, H, Hkv, BankFormat::exact, 5);
    c.run(N);  // the pages
    Rows<T> out(N, H * D), sums(N, H), dout(N, H * D, 9), dq(N, H * D), dk(N, Hkv * D),
        dv(N, Hkv * D), fast_dq(N, H * D), fast_dk(N, Hkv * D), fast_dv(N, Hkv * D);
    kernels::full_attention_reference<T>(c.q.view(), c.k.view(), c.v.view(), H, Hkv, out.view(),
                                         sums.view(), window);
    kernels::full_attention_backward_reference<T>(c.q.view(), c.k.view(), c.v.view(), H, Hkv,
                                                  out.view(), sums.view(), dout.view(), dq.view(),
                                                  dk.view(), dv.view(), window);
    const kernels::KeyValuePage<T, dynamic, C> page(D);
    const Pages dpages(N, C, Hkv * page.bytes(BankFormat::exact), 0);
    AlignedBuffer<std::byte> memory(
        kernels::full_attention_backward_workspace_bytes<T, dynamic, C>(page));
    std::memset(memory.data(), 0xff, static_cast<std::size_t>(memory.size()));
    Arena arena(memory.span());
    for (Index first = (N - 1) / piece * piece; first >= 0; first -= piece)
        for (Index g = 0; g < Hkv; ++g) {
            const Index n = std::min(piece, N - first);
            const auto rows = [&](Rows<T>& all, Index width) {
                return c.of_group(all.view().middle_rows(first, n), g, width);
            };
            const auto of_key = [&](Rows<T>& all) {
                return all.view().middle_rows(first, n).middle_cols(g * D, D);
            };
            const kernels::FullAttentionPast<T, dynamic, C> past{c.pages.view(), BankFormat::exact,
                                                                 g, page},
                dpast{dpages.view(), BankFormat::exact, g, page};
            kernels::full_attention_backward<dynamic, C, T>(rows(c.q, D), first, past, rows(out, D),
                                                            rows(sums, 1), rows(dout, D),
                                                            rows(fast_dq, D), dpast, arena, window);
            kernels::take_key_value_gradients<dynamic, C, T>(n, first, dpast, of_key(fast_dk),
                                                             of_key(fast_dv));
        }
    const double limit = sizeof(T) == 4 ? 2e-5 : 1e-12;
    const std::string where =
        c.where() + ", window " + std::to_string(window) + ", pieces of " + std::to_string(piece);
    check_close(fast_dq.values(), dq.values(), limit, where + ", dq");
    check_close(fast_dk.values(), dk.values(), limit, where + ", dk");
    check_close(fast_dv.values(), dv.values(), limit, where + ", dv");
}

}  // namespace

TEMPLATE_TEST_CASE("attention to the whole past is its reference, whatever is computed together",
                   "[full_attention]", float, double) {
    sweep<TestType, 4, 8>();
    sweep<TestType, 12, 13>();
    sweep<TestType, 64, 64>();
    check<TestType, 32, 64>(1000, 2, 1, BankFormat::exact);
}

TEMPLATE_TEST_CASE("attention to a window of the past, heads of a size read at run time",
                   "[full_attention]", float, double) {
    for (const Index window : {0, 1, 5, 8, 9, 16, 100}) {
        check_window<TestType, 4, 8>(29, 2, 1, window);
        check_window<TestType, 12, 8>(45, 6, 2, window);
    }
}

TEST_CASE("A node's bounds are those of all the keys in it", "[full_attention]") {
    check_bounds<float, 4, 8>(8 * (64 * 64 * 2 + 64 + 1) + 5);
}

TEMPLATE_TEST_CASE("attention to the chunks that a query chooses is its reference",
                   "[full_attention]", float, double) {
    for (const BankFormat format : {BankFormat::exact, BankFormat::bf16, BankFormat::int8})
        for (const SparsePast sparse : {SparsePast{1, 0}, {2, 1}, {3, 2}, {1, 64}})
            for (const Index N : {Index{0}, Index{1}, Index{13}, Index{14}, Index{101}}) {
                check_sparse<TestType, 12, 13>(N, 6, 2, format, sparse);
                check_sparse<TestType, 4, 8>(N, 1, 1, format, sparse);
            }
    check_sparse<TestType, 64, 64>(700, 4, 2, BankFormat::exact, {3, 1});
    for (const Index open : {1, 2})  // more than two groups of 64 chunks
        check_sparse<TestType, 4, 2>(64 * 2 * 3 + 5, 4, 2, BankFormat::exact, {3, 1}, open);
    check_sparse<TestType, 4, 1>(64 * 64 + 64 * 3 + 5, 1, 1, BankFormat::exact, {2, 0}, 2);
}

TEST_CASE("attention to all chunks is attention to the whole past, bit for bit",
          "[full_attention]") {
    for (const BankFormat format : {BankFormat::exact, BankFormat::int8}) {
        Case<float, 12, 8> whole(205, 6, 2, format, 6), chosen(205, 6, 2, format, 6),
            fewer(205, 6, 2, format, 6), of_groups(205, 6, 2, format, 6);
        whole.run(205);
        const auto full = whole.out.values();
        CHECK(same_bits(run_sparse<12>(chosen, {25, 0}, 0, 205), full));
        CHECK(same_bits(run_sparse<12>(of_groups, {1, 24}, 1, 205), full));
        CHECK_FALSE(same_bits(run_sparse<12>(fewer, {23, 1}, 0, 205), full));
    }
}

TEST_CASE("attention to chosen chunks finds a key that stands out, and no later token changes it",
          "[full_attention]") {
    constexpr Index D = 16, C = 8, N = 400;
    Case<float, D, C> c(N, 1, 1, BankFormat::exact, 7), later(N, 1, 1, BankFormat::exact, 7);
    for (Index d = 0; d < D; ++d) {  // token 77 is what token 300 looks for
        c.k.view()(77, d) = later.k.view()(77, d) = 4 * c.q.view()(300, d);
        later.k.view()(333, d) = later.v.view()(333, d) = 50.0F;
    }
    const auto out = run_sparse<D>(c, {1, 0}, 0, N), other = run_sparse<D>(later, {1, 0}, 0, N);
    float largest = 0;
    for (Index d = 0; d < D; ++d)
        largest = std::max(
            largest, std::abs(out[static_cast<std::size_t>(300 * D + d)] - c.v.view()(77, d)));
    CHECK(largest < 1e-2F);
    CHECK(same_bits(std::span(out).first(333 * D), std::span(other).first(333 * D)));
    CHECK_FALSE(same_bits(out, other));
}

TEST_CASE("attention to the whole past: large scores, and values that are not numbers",
          "[full_attention]") {
    Case<float, 16, 8> large(100, 2, 1, BankFormat::exact, 7, 60.0);  // scores in the hundreds
    const auto out = large.run(100);
    check_close(out, large.reference(), 2e-4, large.where());

    // A NaN shows in its token and in those after it.
    Case<float, 16, 8> bad(60, 2, 1, BankFormat::exact, 8), good(60, 2, 1, BankFormat::exact, 8);
    bad.v.view()(33, 4) = std::numeric_limits<float>::quiet_NaN();
    bad.run(60);
    good.run(60);
    for (Index n = 0; n < 60; ++n) {
        CHECK(std::isfinite(bad.out.view()(n, 4)) == (n < 33));
        if (n < 33) CHECK(same_bits(bad.out.row(n), good.out.row(n)));
    }
}

TEMPLATE_TEST_CASE("gradients of attention to the whole past match their reference",
                   "[full_attention]", float, double) {
    for (const Index N : {1, 7, 8, 9, 45, 130})
        for (const Index piece : {1000, 11}) {
            check_gradients<TestType, 4, 8>(N, 4, 2, piece);
            check_gradients<TestType, 12, 13>(N, 3, 1, piece);
            check_gradients<TestType, 64, 64>(N, 1, 1, piece);
        }
}

TEMPLATE_TEST_CASE("gradients of attention to a window, heads of a size read at run time",
                   "[full_attention]", float, double) {
    for (const Index window : {0, 1, 5, 8, 9, 16, 100})
        for (const Index piece : {1000, 11}) {
            check_window_gradients<TestType, 4, 8>(29, 2, 1, window, piece);
            check_window_gradients<TestType, 12, 8>(45, 6, 2, window, piece);
        }
}

TEST_CASE("gradients of attention to the whole past are central differences of its reference",
          "[full_attention]") {
    constexpr Index D = 4, N = 19, H = 4, Hkv = 2;
    Case<double, D, 8> c(N, H, Hkv, BankFormat::exact, 5);
    c.run(N);
    const Rows<double> dout(N, H * D, 9);
    Gradients<double, D, 8> g(c, dout, 7);
    Rows<double> out(N, H * D), lse(N, H);
    const auto loss = [&] {
        kernels::full_attention_reference<double>(c.q.view(), c.k.view(), c.v.view(), H, Hkv,
                                                  out.view(), lse.view());
        return inner_product(out, dout);
    };
    const auto differences = [&](Rows<double>& x, Index cols) {
        std::vector<double> all;
        for (Index n = 0; n < N; ++n)
            for (Index d = 0; d < cols; ++d)
                all.push_back(central_difference(loss, x.view()(n, d)));
        return all;
    };
    check_close(g.dq.values(), differences(c.q, H * D), 1e-8, "dq");
    check_close(g.dk.values(), differences(c.k, Hkv * D), 1e-8, "dk");
    check_close(g.dv.values(), differences(c.v, Hkv * D), 1e-8, "dv");
}
