#include "runtime/ops/dense_matvec.h"

#include <algorithm>
#include <bit>

#include "runtime/ops/add.h"
#include "runtime/ops/launch.h"
#include "runtime/ops/matmul.h"
#include "runtime/ops/rms_norm.h"
#include "runtime/ops/swiglu.h"
#include "shaders/args/dense_matvec.h"

namespace vkqat {
namespace {

constexpr int64_t most_tokens = 8;

bool fits(const Graph& g, Tensor x, Tensor weight) {
    const Capabilities& c = g.capabilities();
    return x.rows() <= most_tokens && weight.cols() * int64_t(bytes(weight.dtype())) % 16 == 0 && aligned(g, weight, 16) &&
           c.max_workgroup_invocations >= 256 && c.shared_memory_bytes >= 32768;
}

}  // namespace

bool has_dense_matvec(const Graph& g, Tensor x, Tensor weight) {
    // Many rows, as a model's head has, are faster on matrix units from few tokens on: 128256 x 4096 with 4 and 8 tokens takes
    // 594 and 934 us here, with 16 there 366.
    const bool units = has_matrix_units(g.capabilities(), g.precision()) && weight.rows() >= 32768;
    return g.capabilities().kind != DeviceKind::cpu && x.rows() <= (units ? 2 : most_tokens) && fits(g, x, weight);
}

Tensor dense_linear(Graph& g, Tensor x, Tensor weight, const std::string& label, const LinearFusion& fusion,
                    const MatvecTuning& tuning, Tensor into) {
    const int64_t tokens = x.rows(), in_cols = weight.cols();
    if (!is_float(weight.dtype())) fail("{}: a weight cannot be {}", label, name(weight.dtype()));
    expect(x, {tokens, in_cols}, DType::f32, "dense_linear: x");
    if (fusion.swiglu && weight.rows() % 2) fail("{}: swiglu needs as many gate rows as up rows, found {}", label, weight.rows());
    if (g.requires_gradient(x)) fail("{}: dense_linear is for inference, but '{}' requires a gradient", label, x.name());
    auto result = [&](const Shape& shape) {
        if (into) expect(into, shape, DType::f32, label + ": into");
        return into ? into : g.tensor(shape, DType::f32, label);
    };
    const bool forced = tuning.width != 0;
    if (forced && !fits(g, x, weight))
        fail("{}: [{}, {}] x {} {} does not fit the matvec kernel", label, tokens, in_cols, weight.name(), weight.shape().text());
    if (!forced && !has_dense_matvec(g, x, weight)) {
        if (fusion.norm) x = rms_norm(g, x, fusion.norm, fusion.eps);
        if (fusion.swiglu && (into || fusion.residual))
            fail("{}: SwiGLU goes neither with a residual nor into a given tensor", label);
        Tensor y = result({tokens, weight.rows()});
        matmul(g, Product::nt, x, weight, fusion.residual, y, label);
        return fusion.swiglu ? swiglu(g, y) : y;
    }
    const Capabilities& c = g.capabilities();
    const uint32_t lanes = c.subgroup_size, chunk = 16 / uint32_t(bytes(weight.dtype()));
    const auto group = uint32_t(std::bit_ceil(uint64_t(tokens)));
    uint32_t width = tuning.width ? tuning.width : 256;
    uint32_t rows = tuning.tiles ? tuning.tiles : group <= 2 && in_cols >= 8192 ? 4 : 2;
    const bool small = in_cols < 8192 && weight.rows() <= 4096;
    // Few long rows: more workgroups, and x from the caches, which is too large to be brought to each of them (3072 x 11264 on an
    // H200: 24.3 to 25.3 us against 28.7).
    const bool few_long = in_cols >= 8192 && weight.rows() <= 8192 && group == 1;
    uint32_t split = tuning.split ? tuning.split : small ? 2 : few_long ? 4 : 1;
    split = std::min(split, width / lanes);
    uint32_t depth = tuning.depth ? tuning.depth : rows == 2 && group == 1 && weight.rows() > 8192 ? 4 : 2;
    const bool staged = tuning.staged < 0 ? !few_long : tuning.staged != 0;
    const uint32_t budget = std::min(c.shared_memory_bytes, 49152u) - 4 * (width / lanes) * group * (rows + 1);
    const int64_t most = budget / (4 * group);
    uint32_t slab = tuning.slab;
    if (!slab) {
        auto slabs = [&](uint32_t d) {
            int64_t unit = int64_t(chunk) * lanes * split * d, fit = most / unit * unit;
            return fit ? (in_cols + fit - 1) / fit : INT64_MAX;
        };
        while (depth > 1 && (slabs(depth) == INT64_MAX || slabs(depth) > slabs(depth / 2))) depth /= 2;
        while (split > 1 && slabs(depth) == INT64_MAX) split /= 2;
        const int64_t unit = int64_t(chunk) * lanes * split * depth;
        if (slabs(depth) == INT64_MAX) fail("{}: {} bytes of shared memory are too few for {} tokens", label, budget, tokens);
        slab = uint32_t(std::min(most / unit * unit, (in_cols + unit - 1) / unit * unit));
    }
    const int64_t out_rows = fusion.swiglu ? weight.rows() / 2 : weight.rows();
    const int64_t rows_of_workgroup = width / lanes / split * (fusion.swiglu ? rows / 2 : rows);
    Tensor y = result({tokens, out_rows});
    if (fusion.norm) expect(fusion.norm, {in_cols}, fusion.norm.dtype(), "dense_linear: norm");
    if (fusion.residual) expect(fusion.residual, y.shape(), DType::f32, "dense_linear: residual");
    const bool vector = in_cols % 4 == 0 && aligned(g, x, 16) && (!fusion.norm || aligned(g, fusion.norm, 16));
    g.dispatch(
        Kernel{typed_shader("dense_matvec", weight, label),
               {width, group, rows, split, depth, slab, lanes, norm_kind(fusion.norm), vector, fusion.swiglu, staged}},
        {in(x), in(weight), in(fusion.norm), in(fusion.residual), out(y)},
        DenseMatvecArgs{
            .tokens = uint32_t(tokens), .in_cols = uint32_t(in_cols), .out_rows = uint32_t(weight.rows()), .eps = fusion.eps},
        linear_grid((out_rows + rows_of_workgroup - 1) / rows_of_workgroup), label,
        {.flops = 2.0 * double(tokens) * double(weight.rows()) * double(in_cols)});
    return y;
}

}  // namespace vkqat
