#include "runtime/ops/prefix_attention.h"

#include <cmath>

#include "runtime/ops/launch.h"
#include "shaders/args/prefix_attention.h"

namespace vkqat {

Tensor prefix_attention(Graph& g, Tensor qkv, const AttentionShape& s, Tensor first, Tensor skip_from, Tensor skip_to) {
    if (g.training()) fail("prefix_attention: has no backward pass");
    if (s.batch != 1 || s.seq_len == 0) fail("prefix_attention: expected one row of tokens, found {} x {}", s.batch, s.seq_len);
    if (s.heads > 65535) fail("prefix_attention: heads ({}) must be at most 65535", s.heads);
    if (s.head_dim < 2 || s.head_dim > 256 || s.head_dim % 2)
        fail("prefix_attention: head_dim must be even and 2 .. 256, found {}", s.head_dim);
    if (s.kv_heads == 0 || s.heads == 0 || s.heads % s.kv_heads)
        fail("prefix_attention: heads ({}) must be a multiple of kv_heads ({})", s.heads, s.kv_heads);
    expect(qkv, {s.seq_len, s.qkv_cols()}, DType::f32, "prefix_attention: qkv");
    for (Tensor t : {first, skip_from, skip_to}) expect(t, {s.seq_len}, DType::i32, "prefix_attention: what a query sees");
    Tensor y = g.tensor({s.seq_len, s.out_cols()}, DType::f32, "attention");
    const AttentionTile tile = attention_tile(g.capabilities(), s.head_dim, false);
    const uint32_t width = g.capabilities().subgroup_size, rows = width / tile.split * tile.rows;
    const bool vector = s.head_dim % 4 == 0 && aligned(g, qkv, 16) && aligned(g, y, 16);
    // Half of the pairs lie above the diagonal; how many more the sequences cut off is not known here.
    const double pairs = 0.5 * s.seq_len * (s.seq_len + 1.0) * s.heads;
    g.dispatch(Kernel{"prefix_attention", {width, s.head_dim, tile.split, tile.rows, tile.step, vector}},
               {in(qkv), in(first), in(skip_from), in(skip_to), out(y)},
               PrefixAttentionArgs{
                   .tokens = s.seq_len, .heads = s.heads, .kv_heads = s.kv_heads, .scale = 1 / std::sqrt(float(s.head_dim))},
               Grid{(s.seq_len + rows - 1) / rows, s.heads, 1}, "attention", {.flops = 4 * pairs * s.head_dim});
    return y;
}

}  // namespace vkqat
