#include "runtime/ops/packed_chain.h"

#include <algorithm>
#include <bit>

#include "runtime/ops/launch.h"
#include "shaders/args/packed_chain.h"

namespace vkqat {
namespace {

struct Plan {
    uint32_t workgroups = 0, width;
    uint32_t hidden_share, inner_share, qkv_share;  // rows of a workgroup
    uint32_t chunks, copies, depth;
};

uint32_t share_of(int64_t rows, uint32_t workgroups) { return uint32_t((rows + workgroups - 1) / workgroups + 7) / 8 * 8; }
uint32_t workgroups_of(int64_t rows, uint32_t share) { return uint32_t((rows + share - 1) / share); }

// Why there is no plan, or nothing.
std::string refused(const Capabilities& c, const PackedChainWeights& w) {
    const bool next = bool(w.next_norm);
    std::vector<const PackedLayer*> layers{&w.o, &w.gate_up, &w.down};
    if (next) layers.push_back(&w.qkv);
    for (const PackedLayer* l : layers) {
        if (l->rows.empty()) return "a weight is absent";
        if (l->bits != w.o.bits || l->block_size != w.o.block_size) return "weights differ in bits or blocks";
        if (l->block_size % 32) return "blocks are no multiple of 32";
        for (int64_t rows : l->rows)
            if (rows % 32) return "a matrix's rows are no multiple of 32";
    }
    const int64_t hidden = w.o.out();
    if (w.o.rows.size() != 1 || w.down.rows.size() != 1 || w.gate_up.rows.size() != 2 || w.gate_up.rows[0] != w.gate_up.rows[1] ||
        w.gate_up.in != hidden || w.down.in != w.gate_up.rows[0] || w.down.out() != hidden)
        return "shapes do not follow one another";
    if (next && (w.qkv.rows.size() != 3 || w.qkv.rows[1] != w.qkv.rows[2] || w.qkv.in != hidden)) return "q, k and v do not fit";
    if (std::max({w.o.in, hidden, w.down.in}) >= 65536 * 32) return "rows are too long";
    if (next && w.next_norm.dtype() != w.mlp_norm.dtype()) return "norms differ in type";
    if (!c.memory_model || !c.float16 || c.subgroup_size < 8 || c.subgroup_size > 64 || c.max_workgroup_invocations < 256 ||
        c.push_constant_bytes < sizeof(PackedChainArgs))
        return "the device cannot run it";
    return "";
}

std::string plan_for(const Capabilities& c, const PackedChainWeights& w, const PackedChainTuning& tuning, Plan& p) {
    if (std::string why = refused(c, w); !why.empty()) return why;
    const int bits = w.o.bits;
    const bool next = bool(w.next_norm);
    const uint32_t most = std::min(256u, tuning.workgroups ? tuning.workgroups : c.processors);
    if (most == 0) return "the number of processors is not known";
    const int64_t hidden = w.o.out(), inner = w.down.in, q = next ? w.qkv.rows[0] : 0, kv = next ? w.qkv.rows[1] : 0;
    p.hidden_share = share_of(hidden, most);
    p.inner_share = share_of(inner, most);
    p.qkv_share = next ? share_of(q + 2 * kv, most) : 8;
    while (workgroups_of(q, p.qkv_share) + 2 * workgroups_of(kv, p.qkv_share) > most) {
        if (most < 3) return "q, k and v need three workgroups";
        p.qkv_share += 8;
    }
    p.workgroups = std::max({workgroups_of(hidden, p.hidden_share), workgroups_of(inner, p.inner_share),
                             workgroups_of(q, p.qkv_share) + 2 * workgroups_of(kv, p.qkv_share)});
    auto parts = [&](int64_t in) { return uint32_t((in / 32 + p.chunks * 32 - 1) / (p.chunks * 32)); };
    const int64_t widest = std::max({hidden, inner, w.o.in});
    p.chunks = std::max(1u, tuning.chunks);
    p.width = std::min(512u, c.max_workgroup_invocations / 32 * 32);
    while (parts(widest) > p.width / 32) p.chunks++;
    const uint32_t squares = (p.hidden_share + c.subgroup_size - 1) / c.subgroup_size;  // sums of squares of a workgroup
    if (std::max({p.hidden_share, p.inner_share, p.qkv_share, p.workgroups * squares}) > p.width) return "matrices are too tall";
    p.depth = p.chunks == 1 ? 2 : 1;  // more code and registers do not pay: 12B at 1 bit 450, 437, 422 tokens/s with 2, 3, 4
    const uint32_t splits = 32 / std::min(32u, c.subgroup_size);
    auto sums = [&](uint32_t rows, int64_t in) { return rows * (parts(in) * splits | 1) * 4; };
    const uint32_t all_sums = std::max(
        {sums(2 * p.inner_share, hidden), sums(p.hidden_share, w.o.in), sums(p.hidden_share, inner), sums(p.qkv_share, hidden)});
    const uint32_t entry_bytes = bits == 2 ? 8 : 4, table = bits == 1 ? 0 : (bits == 3 ? 64 : 256) * entry_bytes;
    p.copies = 128 / entry_bytes;
    const uint32_t budget = std::min(c.shared_memory_bytes, 49152u) - p.width / c.subgroup_size * 4 - 16;
    const uint32_t centroids = bits == 1 ? 0 : (1u << bits) * 4;
    const uint32_t stage = uint32_t(w.o.in / 32 * 17 + w.o.in / 8 * (bits == 1 ? 2 : 1)) * 4;
    while (p.copies > 1 && p.copies * table + all_sums + centroids > budget) p.copies /= 2;
    if (std::max(p.copies * table + all_sums, stage) + centroids > budget) return "shared memory is too small";
    return "";
}

}  // namespace

// As packed_chain.comp lays them out.
int64_t packed_chain_words(int64_t hidden, int64_t inner) {
    auto words = [](int64_t columns) { return (columns + 1023) / 1024 * 512 + columns / 8 * 2; };
    return 2 * (words(hidden) + 512) + words(inner);
}

bool has_packed_chain(const Graph& g, const PackedChainWeights& w) {
    // Tokens/s on an H200 with five dispatches and with chains: 1B (hidden 2048) 1,396 and 1,354 at 4 bits, 4B (3072) 663 and
    // 757.
    constexpr int64_t least_hidden = 3072;
    Plan p;
    return g.capabilities().workgroups_run_together && w.o.out() >= least_hidden && plan_for(g.capabilities(), w, {}, p).empty();
}

PackedChained packed_chain(Graph& g, Tensor attended, Tensor residual, const PackedChainWeights& w,
                           const PackedChainMemory& memory, uint32_t number, uint32_t count, const PackedChainTuning& tuning) {
    const Capabilities& c = g.capabilities();
    Plan p;
    if (std::string why = plan_for(c, w, tuning, p); !why.empty()) fail("packed_chain: {}", why);
    const bool next = bool(w.next_norm);
    const int64_t hidden = w.o.out(), inner = w.down.in, q = next ? w.qkv.rows[0] : 0, kv = next ? w.qkv.rows[1] : 0;
    check_packed(w.o, "packed_chain: o");
    check_packed(w.gate_up, "packed_chain: gate_up");
    check_packed(w.down, "packed_chain: down");
    if (next) check_packed(w.qkv, "packed_chain: qkv");
    expect(attended, {1, w.o.in}, DType::f32, "packed_chain: attended");
    expect(residual, {1, hidden}, DType::f32, "packed_chain: residual");
    expect(w.mlp_norm, {hidden}, w.mlp_norm.dtype(), "packed_chain: mlp_norm");
    if (next) expect(w.next_norm, {hidden}, w.next_norm.dtype(), "packed_chain: next_norm");
    const int64_t of_chain = packed_chain_words(hidden, inner);
    expect(memory.handed_on, {3, of_chain}, DType::u32, "packed_chain: handed_on");
    expect(memory.in_vain, {1}, DType::u32, "packed_chain: in_vain");
    for (Tensor t : {attended, w.o.centroids, w.gate_up.centroids, w.down.centroids})
        if (!aligned(g, t, 16)) fail("packed_chain: {} must lie at a multiple of 16 bytes", t.name());

    PackedChained result{.hidden = g.tensor({1, hidden}, DType::f32, "hidden")};
    if (next) result.qkv = g.tensor({1, q + 2 * kv}, DType::f32, "qkv");
    if (count < 2 || number >= count) fail("packed_chain: chain {} of {}", number, count);
    // Neighbours have different thirds, also the last and the first.
    auto third = [&](uint32_t n) {
        return g.view(memory.handed_on, uint64_t(n + 1 == count && count % 2 ? 2 : n % 2) * uint64_t(of_chain) * 4, {of_chain},
                      "handed_on");
    };
    const double weights = double(w.o.in * hidden + 3 * inner * hidden + (q + 2 * kv) * hidden);
    PackedChainArgs args{.eps = w.eps};
    uint32_t* words = args.steps;
    auto step = [&](int64_t in, int64_t rows, uint32_t share, uint32_t first_quad) {
        const uint32_t parts = uint32_t((in / 32 + p.chunks * 32 - 1) / (p.chunks * 32)), groups = p.width / 32 / parts;
        *words++ = uint32_t(in / 32) | share << 16;
        *words++ = (65536 / parts + 1) | parts << 17 | groups << 23;
        *words++ = uint32_t(rows);
        *words++ = first_quad;
    };
    step(w.o.in, hidden, p.hidden_share, 0);
    step(hidden, inner, p.inner_share, 0);
    step(hidden, inner, p.inner_share, uint32_t(inner / 32 * 8));
    step(inner, hidden, p.hidden_share, 0);
    step(hidden, q, p.qkv_share, 0);
    g.dispatch(Kernel{fmt::format("packed_chain_{}", w.o.bits),
                      {p.width, uint32_t(w.o.in), uint32_t(hidden), uint32_t(inner), uint32_t(q), uint32_t(kv), p.hidden_share,
                       p.inner_share, p.qkv_share, p.chunks, uint32_t(std::countr_zero(p.copies)), uint32_t(w.o.block_size / 32),
                       norm_kind(w.mlp_norm), c.subgroup_size, next ? 5u : 4u, c.kind == DeviceKind::cpu, p.depth,
                       tuning.patience ? tuning.patience : 1u << 19}},
               {in(attended),          in(residual),         out(result.hidden),      in(w.mlp_norm),
                in(w.next_norm),       out(result.qkv),      inout(third(number)),    out(third((number + 1) % count)),
                out(memory.in_vain),   in(w.o.indices),      in(w.o.scales),          in(w.o.centroids),
                in(w.gate_up.indices), in(w.gate_up.scales), in(w.gate_up.centroids), in(w.down.indices),
                in(w.down.scales),     in(w.down.centroids), in(w.qkv.indices),       in(w.qkv.scales),
                in(w.qkv.centroids)},
               args, Grid{p.workgroups}, "chain", {.flops = 2 * weights});
    return result;
}

}  // namespace vkqat
