#include "runtime/ops/onebit_linear.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "runtime/ops/launch.h"
#include "runtime/ops/matmul.h"
#include "shaders/args/onebit.h"
#include "shaders/args/rms_norm.h"

namespace vkqat {
namespace {

// y = base + x * factor
void scale(Graph& g, Tensor x, Tensor factor, Tensor base, Tensor y, const std::string& label) {
    const RowBlocks blocks = row_blocks(g.capabilities(), x.rows(), x.cols());
    g.dispatch(blocks.kernel(typed_shader("scale_columns", factor, label)), {in(x), in(factor), in(base), out(y)},
               ScaleColumnsArgs{.rows = uint32_t(x.rows()), .dim = uint32_t(x.cols())}, blocks.grid, label,
               {.flops = double(x.elements())});
}

// The gradient of a factor: the sum of a * b over rows. In two stages, as that of a norm's weight (rms_norm.cpp).
void factor_gradient(Graph& g, Tensor a, Tensor b, Tensor factor, const std::string& label) {
    if (!g.requires_gradient(factor)) return;
    const auto rows = uint32_t(a.rows()), dim = uint32_t(a.cols());
    const uint32_t chunk_rows = std::max(32u, (rows + 255) / 256), chunks = (rows + chunk_rows - 1) / chunk_rows;
    constexpr uint32_t width = 64;
    const uint32_t blocks = (dim + width - 1) / width;
    Tensor partial = g.tensor({chunks, dim}, DType::f32, "onebit.partial");
    g.dispatch(Kernel{"column_products", {width, g.capabilities().uniform_loads() && dim % 8 == 0}}, {in(a), in(b), out(partial)},
               ColumnProductsArgs{.rows = rows, .dim = dim, .chunk_rows = chunk_rows}, linear_grid(int64_t(chunks) * blocks),
               label, {.flops = 2.0 * rows * dim});
    const GradientSlot s = g.gradient_slot(factor);
    g.dispatch(Kernel{"rms_norm_weight", {width}}, {in(partial), in(s.base), out(s.out)},
               RmsNormWeightArgs{.chunks = chunks, .dim = dim}, linear_grid(blocks), label, {.flops = double(chunks) * dim});
}

void backward(Graph& g, Tensor x, const OnebitPart& part, Tensor u, Tensor statistics, Tensor dy, int64_t first,
              const std::string& name) {
    const Tensor& h = part.output_factor;
    Tensor dt = g.like(u, "onebit.dt"), du = g.like(u, "onebit.du"), scaled = g.like(x, "onebit.input");
    g.dispatch(
        row_kernel(g.capabilities(), typed_shader("onebit_norm_backward", h, name), u.cols()),
        {in(dy), in(u), in(h), in(statistics), out(dt), out(du)},
        OnebitNormBackwardArgs{
            .rows = uint32_t(u.rows()), .dim = uint32_t(u.cols()), .stride = uint32_t(dy.cols()), .first = uint32_t(first)},
        linear_grid(u.rows()), name + ".norm", {.flops = 12.0 * double(u.elements())});
    factor_gradient(g, dt, u, h, name + ".d_output_factor");
    if (g.requires_gradient(part.sign)) {
        scale(g, x, part.input_factor, {}, scaled, name + ".input");  // once more: cheaper than to keep it
        const GradientSlot s = g.gradient_slot(part.sign);
        matmul(g, Product::tn, du, scaled, s.base, s.out, name + ".dw");
    }
    if (!g.requires_gradient(x) && !g.requires_gradient(part.input_factor)) return;
    Tensor d_scaled = g.like(x, "onebit.d_input");
    matmul(g, Product::nn, du, part.sign, {}, d_scaled, name + ".dx");
    factor_gradient(g, d_scaled, x, part.input_factor, name + ".d_input_factor");
    if (g.requires_gradient(x)) {
        const GradientSlot s = g.gradient_slot(x);
        scale(g, d_scaled, part.input_factor, s.base, s.out, name + ".dx");
    }
}

}  // namespace

Tensor scale_columns(Graph& g, Tensor x, Tensor factor, const std::string& name) {
    if (!x) fail("{}: x is absent", name);
    expect(x, {x.rows(), x.cols()}, DType::f32, name + ": x");
    typed_shader("scale_columns", factor, name + ": factor");
    expect(factor, {x.cols()}, factor.dtype(), name + ": factor");
    count32(x.rows(), name + ": rows of x");
    count32(x.cols(), name + ": columns of x");
    Tensor y = g.like(x, name);
    scale(g, x, factor, {}, y, name);
    return y;
}

void onebit_norm_into(Graph& g, Tensor u, Tensor factor, Tensor y, int64_t first_column, Tensor statistics,
                      const std::string& name) {
    const std::string shader = typed_shader("onebit_norm", factor, name + ": output_factor");
    expect(u, {u.rows(), u.cols()}, DType::f32, name + ": product");
    expect(factor, {u.cols()}, factor.dtype(), name + ": output_factor");
    if (!y || y.dtype() != DType::f32 || y.rows() != u.rows() || first_column < 0 || first_column + u.cols() > y.cols())
        fail("{}: {} columns from {} on do not fit the output", name, u.cols(), first_column);
    g.dispatch(row_kernel(g.capabilities(), shader, u.cols()), {in(u), in(factor), out(y), out(statistics)},
               OnebitNormArgs{.rows = count32(u.rows(), name + ": rows"),
                              .dim = count32(u.cols(), name + ": columns"),
                              .stride = count32(y.cols(), name + ": columns of the output"),
                              .first = uint32_t(first_column),
                              .eps = onebit_norm_eps},
               linear_grid(u.rows()), name + ".norm", {.flops = 8.0 * double(u.elements())});
}

Tensor onebit_linear(Graph& g, Tensor x, const std::vector<OnebitPart>& parts, const std::string& name) {
    if (!x) fail("{}: x is absent", name);
    if (parts.empty() || parts.size() > 3) fail("{}: {} sign matrices, expected 1 to 3", name, parts.size());
    int64_t columns = 0;
    bool trained = g.requires_gradient(x);
    for (const OnebitPart& part : parts) {
        if (!part.sign || !is_float(part.sign.dtype())) fail("{}: the sign matrix must be f32, f16 or bf16", name);
        expect(part.sign, {part.sign.rows(), x.cols()}, part.sign.dtype(), name + ": sign matrix");
        columns += part.sign.rows();
        trained |=
            g.requires_gradient(part.sign) || g.requires_gradient(part.input_factor) || g.requires_gradient(part.output_factor);
    }
    trained &= g.training();
    Tensor y = g.tensor({x.rows(), columns}, DType::f32, name);
    std::vector<Tensor> products, statistics;
    int64_t first = 0;
    for (const OnebitPart& part : parts) {
        Tensor scaled = scale_columns(g, x, part.input_factor, name + ".input");
        Tensor u = g.tensor({x.rows(), part.sign.rows()}, DType::f32, name + ".product");
        matmul(g, Product::nt, scaled, part.sign, {}, u, name);
        products.push_back(u);
        statistics.push_back(trained ? g.tensor({x.rows(), 2}, DType::f32, name + ".statistics") : Tensor());
        onebit_norm_into(g, u, part.output_factor, y, first, statistics.back(), name);
        first += part.sign.rows();
    }
    const OnebitPart none;
    const OnebitPart &a = parts[0], &b = parts.size() > 1 ? parts[1] : none, &c = parts.size() > 2 ? parts[2] : none;
    g.on_backward(y,
                  {x, a.sign, a.input_factor, a.output_factor, b.sign, b.input_factor, b.output_factor, c.sign, c.input_factor,
                   c.output_factor},
                  [=](Graph& graph, Tensor dy) {
                      int64_t column = 0;
                      for (size_t i = 0; i < parts.size(); i++) {
                          backward(graph, x, parts[i], products[i], statistics[i], dy, column, name);
                          column += parts[i].sign.rows();
                      }
                  });
    return y;
}

Tensor onebit_output(Graph& g, Tensor u, Tensor factors, const std::vector<int64_t>& rows, const OnebitOutput& options,
                     const std::string& name) {
    if (rows.empty() || rows.size() > 3 || (options.swiglu && (rows.size() != 2 || rows[0] != rows[1])))
        fail("{}: expected one to three parts, or with swiglu two equal ones", name);
    const int64_t all = std::accumulate(rows.begin(), rows.end(), int64_t(0));
    for (int64_t r : rows) count32(r, name + ": rows of a part");
    count32(u.rows(), name + ": tokens");
    expect(u, {u.rows(), all}, DType::f32, name + ": product");
    expect(factors, {all}, DType::f32, name + ": factors");
    Tensor y = g.tensor({u.rows(), options.swiglu ? rows[0] : all}, DType::f32, name);
    if (options.residual) expect(options.residual, y.shape(), DType::f32, name + ": residual");
    if (options.x) expect(options.x, {u.rows(), options.x.cols()}, DType::f32, name + ": x");
    // A workgroup finds the mean and variance of its part by itself and writes a slice of it: tokens are few.
    const Capabilities& c = g.capabilities();
    const int64_t longest = *std::max_element(rows.begin(), rows.end()), input = options.x ? options.x.cols() : 0;
    const uint32_t most = std::bit_floor(std::min(c.quirks.barriers_are_slow ? 64u : 1024u, c.max_workgroup_invocations));
    const auto width = uint32_t(std::clamp<int64_t>(int64_t(std::bit_ceil(uint64_t(longest))), c.subgroup_size, most));
    constexpr int64_t slice = 1024;
    int64_t slices = 0;
    for (size_t i = 0; i < (options.swiglu ? 1 : rows.size()); i++) slices += (rows[i] + slice - 1) / slice;
    Grid grid = linear_grid(slices);
    if (u.rows() > 65535) fail("{}: {} tokens at once are too many", name, u.rows());
    grid.z = uint32_t(u.rows());
    g.dispatch(Kernel{"onebit_output",
                      {width, uint32_t(slice), options.swiglu, uint32_t((longest + width - 1) / width),
                       uint32_t((input + width - 1) / width)}},
               {in(u), in(factors), in(options.x), in(options.residual), out(y)},
               OnebitOutputArgs{.rows_0 = uint32_t(rows[0]),
                                .rows_1 = uint32_t(rows.size() > 1 ? rows[1] : 0),
                                .rows_2 = uint32_t(rows.size() > 2 ? rows[2] : 0),
                                .in_cols = uint32_t(input),
                                .eps = onebit_norm_eps,
                                .input_eps = options.input_eps},
               grid, name + ".norm", {.flops = 8.0 * double(u.elements())});
    return y;
}

}  // namespace vkqat
