#include "runtime/ops/packed_linear.h"

#include <algorithm>
#include <bit>

#include "shaders/args/packed_linear.h"

namespace vkqat {
namespace {

void validate(const PackedLayer& w) {
    const int b = w.bits;
    if (b != 1 && b != 2 && b != 3 && b != 4 && b != 8) fail("packed weight: {} bits; possible are 1, 2, 3, 4, 8", b);
    if (w.out <= 0 || w.in <= 0 || w.block_size <= 0 || w.in % w.block_size != 0 || w.in * b % 8 != 0)
        fail("packed weight [{}, {}] at {} bits with blocks of {}: a row must be whole blocks and whole bytes", w.out, w.in, b,
             w.block_size);
    if (w.in >= int64_t(1) << 28 || w.out >= int64_t(1) << 31) fail("packed weight [{}, {}] is too large", w.out, w.in);
    expect(w.indices, {w.out, w.in * b / 8}, DType::u8, "packed weight: indices");
    expect(w.scales, {w.out, w.in / w.block_size}, DType::bf16, "packed weight: scales");
    expect(w.centroids, {int64_t(1) << b}, DType::f32, "packed weight: centroids");
}

// One row per variant: its shader, and how many rows of W a workgroup of `width` invocations makes.
struct Variant {
    const char* shader;
    bool row_per_invocation;
};
constexpr Variant variants[] = {{}, {"packed_linear_rows", true}, {"packed_linear_subgroup", false}};

PackedLinearVariant choose(const Capabilities& c) {
    return c.quirks.gathers_are_slow ? PackedLinearVariant::rows : PackedLinearVariant::subgroup;
}

}  // namespace

Tensor packed_linear(Graph& g, Tensor x, const PackedLayer& w, const std::string& label) {
    return packed_linear(g, x, w, label, PackedLinearVariant::automatic);
}

static void run(Graph& g, Tensor x, const PackedLayer& w, Tensor y, int64_t first_column, const std::string& label,
                PackedLinearVariant variant) {
    validate(w);
    expect(x, {x.rows(), w.in}, DType::f32, "packed_linear: x");
    if (g.requires_gradient(x)) fail("packed_linear: a packed weight is for inference, but '{}' requires a gradient", x.name());
    const int64_t tokens = x.rows(), group = std::min<int64_t>(8, int64_t(std::bit_ceil(uint64_t(tokens))));
    if (y.dtype() != DType::f32 || y.rows() != tokens || first_column < 0 || first_column + w.out > y.cols())
        fail("packed_linear: {} columns from {} on do not fit into {} {}", w.out, first_column, y.name(), y.shape().text());
    if (tokens == 0) return;
    const uint32_t width = g.capabilities().subgroup_size;
    if (variant == PackedLinearVariant::automatic) variant = choose(g.capabilities());
    const Variant& v = variants[size_t(variant)];
    Grid grid = linear_grid(v.row_per_invocation ? (w.out + width - 1) / width : w.out);
    const int64_t groups = (tokens + group - 1) / group;
    if (groups > 65535) fail("packed_linear: {} tokens at once are too many", tokens);
    grid.z = uint32_t(groups);
    g.dispatch(Kernel{v.shader, {width, uint32_t(group), uint32_t(w.bits), w.block_size % 32 == 0}},
               {in(x), in(w.indices), in(w.scales), in(w.centroids), out(y)},
               PackedLinearArgs{.tokens = uint32_t(tokens),
                                .in_cols = uint32_t(w.in),
                                .out_rows = uint32_t(w.out),
                                .row_bytes = uint32_t(w.in * w.bits / 8),
                                .block_size = uint32_t(w.block_size),
                                .y_cols = uint32_t(y.cols()),
                                .y_first = uint32_t(first_column)},
               grid, label, {.flops = 2.0 * double(tokens) * double(w.out) * double(w.in)});
}

Tensor packed_linear(Graph& g, Tensor x, const PackedLayer& w, const std::string& label, PackedLinearVariant variant) {
    Tensor y = g.tensor({x.rows(), w.out}, DType::f32, label);
    run(g, x, w, y, 0, label, variant);
    return y;
}

void packed_linear_into(Graph& g, Tensor x, const PackedLayer& w, Tensor y, int64_t first_column, const std::string& label) {
    run(g, x, w, y, first_column, label, PackedLinearVariant::automatic);
}

Tensor dequantize(Graph& g, const PackedLayer& w, DType type) {
    validate(w);
    if (!is_float(type)) fail("dequantize: a weight cannot be {}", name(type));
    Tensor weight = g.tensor({w.out, w.in}, type, "dequantized");
    g.dispatch(Kernel{"packed_dequantize_" + std::string(name(type)), {g.capabilities().subgroup_size, 0, uint32_t(w.bits)}},
               {in(w.indices), in(w.scales), in(w.centroids), out(weight)},
               DequantizeArgs{.in_cols = uint32_t(w.in),
                              .out_rows = uint32_t(w.out),
                              .row_bytes = uint32_t(w.in * w.bits / 8),
                              .block_size = uint32_t(w.block_size)},
               linear_grid(w.out), "dequantize");
    return weight;
}

}  // namespace vkqat
