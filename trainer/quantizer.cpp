#include "trainer/quantizer.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/ops/launch.h"
#include "shaders/args/quantize.h"

namespace vkqat {
namespace {

constexpr std::array<std::string_view, 8> kind_names = {"none",   "nonlinear", "sym_int", "ternary",
                                                        "binary", "int_asym",  "nf",      "onebit"};

// Blocks of more elements are worked on by several subgroups.
constexpr int64_t part_elements = 16384;

enum Stage : uint32_t { all, statistics, apply };  // as in quantize.comp

Kernel quantize_kernel(Graph& g, const QuantizerConfig& config, DType output, Stage stage, bool whole_tiles,
                       uint32_t parts_each = 1) {
    return {"quantize_" + std::string(name(output)),
            {g.capabilities().subgroup_size, g.capabilities().uniform_loads(), uint32_t(config.kind), uint32_t(config.scale),
             uint32_t(config.bits), stage, whole_tiles, parts_each}};
}

// Scales, and q(W) where `q` is there.
void run(Graph& g, Tensor w, Tensor q, QuantizerConfig config, Tensor centroids, const std::string& layer, Tensor scales) {
    if (config.kind == QuantizerKind::none || config.kind == QuantizerKind::onebit) config.scale = ScaleStatistic::none;
    const BlockLayout layout = block_layout(config, w.rows(), w.cols(), layer);
    const int64_t lanes = g.capabilities().subgroup_size;
    int64_t part_cols = layout.block_cols, part_rows = layout.block_rows;
    if (part_cols > part_elements) part_cols = part_elements;
    part_rows = std::min(part_rows, std::max<int64_t>(1, part_elements / part_cols));
    const int64_t parts = ((layout.block_rows + part_rows - 1) / part_rows) * ((layout.block_cols + part_cols - 1) / part_cols);
    const bool whole_tiles = part_cols % lanes == 0 && layout.block_cols % lanes == 0;
    const QuantizeArgs args{.out_rows = uint32_t(w.rows()),
                            .cols = uint32_t(w.cols()),
                            .block_rows = uint32_t(layout.block_rows),
                            .block_cols = uint32_t(layout.block_cols),
                            .part_rows = uint32_t(part_rows),
                            .part_cols = uint32_t(part_cols)};
    // Small blocks: several for a workgroup, which loads the centroids once, where enough workgroups are left (all layers of
    // flavor 1B: 10.3 -> 8.1 ms on an H200). On CPUs it was not tried.
    const int64_t all_parts = layout.blocks() * parts;
    const Grid grid = linear_grid(all_parts);
    const bool several = g.capabilities().kind != DeviceKind::cpu && part_cols * part_rows <= 1024 && all_parts >= 65536;
    const int64_t each = several ? 8 : 1;
    const double elements = double(w.elements());
    const DType output = q ? q.dtype() : DType::f32;
    if (parts == 1 || config.scale == ScaleStatistic::none) {  // without statistics the parts are independent
        g.dispatch(quantize_kernel(g, config, output, all, whole_tiles, uint32_t(each)),
                   {in(w), in(centroids), {}, out(q), out(scales)}, args, linear_grid((all_parts + each - 1) / each),
                   q ? "quantize" : "block_scales",
                   {.flops = elements * (2 + double(std::max<int64_t>(centroids ? config.bits : 2, 2)))});
        return;
    }
    Tensor joined = g.tensor({layout.blocks(), 2}, DType::f32, "quantize.statistics");
    Tensor partials = g.tensor({layout.blocks(), parts, 2}, DType::f32, "quantize.partials");
    g.dispatch(quantize_kernel(g, config, DType::f32, statistics, whole_tiles), {in(w), {}, out(partials), {}, {}}, args, grid,
               "quantize.statistics", {.flops = 2 * elements});
    g.dispatch(Kernel{"quantize_scales", {uint32_t(lanes), 0, uint32_t(config.kind), uint32_t(config.scale)}},
               {in(partials), out(joined), out(scales)},
               QuantizeScalesArgs{.blocks = uint32_t(layout.blocks()),
                                  .parts = uint32_t(parts),
                                  .block_elements = uint32_t(layout.block_rows * layout.block_cols)},
               linear_grid(layout.blocks()), "quantize.scales");
    if (q)
        g.dispatch(quantize_kernel(g, config, output, apply, whole_tiles), {in(w), in(centroids), in(joined), out(q), {}}, args,
                   grid, "quantize", {.flops = 2 * elements});
}

// The kernels that have one subgroup for each block of neighbours in a row.
struct RowBlockLaunch {
    Kernel kernel;
    uint32_t blocks, group;
};
RowBlockLaunch row_block_launch(Graph& g, const std::string& shader, Tensor w, const QuantizerConfig& config,
                                const std::string& layer) {
    const BlockLayout layout = block_layout(config, w.rows(), w.cols(), layer);
    const Capabilities& device = g.capabilities();
    const bool whole_tiles = layout.block_cols % device.subgroup_size == 0;
    return {
        {shader, {device.subgroup_size, device.uniform_loads(), uint32_t(config.kind), 0, uint32_t(config.bits), whole_tiles}},
        uint32_t(layout.blocks()),
        uint32_t(layout.block_cols)};
}

void expect_weight(Tensor w, const std::string& layer) {
    if (!w) fail("{}: weight is absent", layer);
    if (w.shape().rank() != 2 || w.dtype() != DType::f32)
        fail("{}: a weight to be quantized must be f32 [out, in], it is {} {}", layer, name(w.dtype()), w.shape().text());
    if (w.elements() >= int64_t(1) << 32) fail("{}: a weight of {} elements is too large to be quantized", layer, w.elements());
}

}  // namespace

std::string_view name(QuantizerKind kind) { return kind_names[size_t(kind)]; }

QuantizerKind parse_quantizer_kind(std::string_view text) {
    auto found = std::find(kind_names.begin(), kind_names.end(), text);
    if (found == kind_names.end()) fail("unknown quantizer '{}'; possible are {}", text, fmt::join(kind_names, ", "));
    return QuantizerKind(found - kind_names.begin());
}

void validate(const QuantizerConfig& c) {
    if (c.kind == QuantizerKind::none) return;
    if (c.block_dim_1 < 0 || c.block_dim_2 < 0)
        fail("quantizer '{}': blocks of {} x {}; a dimension is at least 1, or 0 for all of it", name(c.kind), c.block_dim_1,
             c.block_dim_2);
    if (c.kind == QuantizerKind::ternary || c.kind == QuantizerKind::binary) {
        if (c.scale != ScaleStatistic::absmean) fail("quantizer '{}' needs scale absmean, not {}", name(c.kind), name(c.scale));
        return;
    }
    if (c.kind == QuantizerKind::onebit) return;
    if (c.asymmetric() && c.block_dim_1 != 1)
        fail("quantizer '{}': blocks of {} rows; it has blocks of one row", name(c.kind), c.block_dim_1);
    if (c.kind == QuantizerKind::nf && c.bits != 3 && c.bits != 4) fail("quantizer 'nf': {} bits; possible are 3 and 4", c.bits);
    if (!is_packed_bits(c.bits)) fail("quantizer '{}': {} bits; possible are 1, 2, 3, 4, 8", name(c.kind), c.bits);
    if ((c.kind == QuantizerKind::sym_int || c.kind == QuantizerKind::int_asym) && c.bits == 1)
        fail("quantizer '{}' is not made for 1 bit: choose 2, 3, 4 or 8 bits, or 'binary', 'onebit' or 'nonlinear'",
             name(c.kind));
}

BlockLayout block_layout(const QuantizerConfig& config, int64_t out, int64_t in, std::string_view layer) {
    BlockLayout b{.block_rows = config.block_dim_1 ? config.block_dim_1 : out,
                  .block_cols = config.block_dim_2 ? config.block_dim_2 : in};
    if (config.kind == QuantizerKind::none || config.kind == QuantizerKind::onebit) b.block_rows = 1, b.block_cols = in;
    auto check = [&](std::string_view dimension, int64_t extent, std::string_view key, int64_t block) {
        if (block <= 0 || extent <= 0 || extent % block != 0)
            fail("{}: its {} of {} are no multiple of {} = {}; choose a divisor, or 0 for the whole dimension", layer, dimension,
                 extent, key, block);
    };
    check("rows", out, "block_dim_1", b.block_rows);
    check("columns", in, "block_dim_2", b.block_cols);
    b.rows = out / b.block_rows;
    b.cols = in / b.block_cols;
    return b;
}

void quantize_weights(Graph& g, Tensor w, Tensor q, const QuantizerConfig& config, Tensor centroids, const std::string& layer,
                      Tensor scales) {
    in_context(layer, [&] { validate(config); });
    expect_weight(w, layer);
    if (!q || !is_float(q.dtype()) || q.shape() != w.shape())
        fail("{}: the quantized weight must be {} in f32, f16 or bf16", layer, w.shape().text());
    if (config.kind == QuantizerKind::nonlinear)
        expect(centroids, {config.centroids()}, DType::f32, layer + ": centroids");
    else if (centroids)
        fail("{}: quantizer '{}' takes no centroids", layer, name(config.kind));
    if (scales && config.has_gradient()) fail("{}: quantizer '{}' has no scales of this form", layer, name(config.kind));
    if (config.asymmetric()) {
        const RowBlockLaunch launch =
            row_block_launch(g, "quantize_asymmetric_" + std::string(name(q.dtype())), w, config, layer);
        g.dispatch(launch.kernel, {in(w), out(q)}, QuantizeAsymmetricArgs{.blocks = launch.blocks, .group = launch.group},
                   linear_grid(launch.blocks), "quantize", {.flops = 10 * double(w.elements())});
        return;
    }
    if (scales) {
        BlockLayout layout = block_layout(config, w.rows(), w.cols(), layer);
        expect(scales, {layout.rows, layout.cols}, DType::f32, layer + ": scales");
    }
    run(g, w, q, config, centroids, layer, scales);
}

void blend_weights(Graph& g, Tensor w, Tensor used, Tensor strength, const std::string& layer) {
    expect_weight(w, layer);
    expect(used, w.shape(), used.dtype(), layer + ": weight for the products");
    expect(strength, {1}, DType::f32, layer + ": strength");
    const RowBlocks blocks = row_blocks(g.capabilities(), w.rows(), w.cols());
    g.dispatch(blocks.kernel(typed_shader("blend_weights", used, layer)), {in(w), inout(used), in(strength)},
               BlendWeightsArgs{.rows = uint32_t(w.rows()), .dim = uint32_t(w.cols())}, blocks.grid, "blend_weights",
               {.flops = 3 * double(w.elements())});
}

void quantizer_gradient(Graph& g, Tensor w, Tensor gradient, const QuantizerConfig& config, const std::string& layer) {
    in_context(layer, [&] { validate(config); });
    if (!config.has_gradient()) return;
    expect_weight(w, layer);
    expect(gradient, w.shape(), DType::f32, layer + ": gradient");
    const RowBlockLaunch launch = row_block_launch(g, "quantizer_gradient", w, config, layer);
    g.dispatch(launch.kernel, {in(w), inout(gradient)}, QuantizerGradientArgs{.blocks = launch.blocks, .group = launch.group},
               linear_grid(launch.blocks), "quantizer_gradient", {.flops = 20 * double(w.elements())});
}

std::vector<float> asymmetric_table(const QuantizerConfig& config) {
    std::vector<float> table;
    if (config.kind == QuantizerKind::int_asym) {
        for (int i = 0; i < 1 << config.bits; i++) table.push_back(float(i));
        return table;
    }
    const NormalFloat levels = normal_float(config.bits);
    table.assign(levels.negative.rbegin(), levels.negative.rend() - 1);  // without its 0
    table.insert(table.end(), levels.positive.begin(), levels.positive.end());
    return table;
}

AsymmetricIndices asymmetric_indices(std::span<const float> w, int64_t out, int64_t in, const QuantizerConfig& config,
                                     const std::string& layer) {
    in_context(layer, [&] { validate(config); });
    if (!config.asymmetric()) fail("{}: quantizer '{}' is not an asymmetric one", layer, name(config.kind));
    const auto group = size_t(block_layout(config, out, in, layer).block_cols);
    if (w.size() != size_t(out * in)) fail("{}: {} weights are no [{}, {}]", layer, w.size(), out, in);
    const NormalFloat levels = config.kind == QuantizerKind::nf ? normal_float(config.bits) : NormalFloat{};
    const int zero_level = int(levels.negative.size()) - 1;  // its place in the sorted table
    const float largest = float((1 << config.bits) - 1);
    // The farther of two levels has the half between them, for positive values; for negative ones the nearer has it.
    auto level = [](float u, const std::vector<float>& table) {
        size_t k = 0;
        while (k + 1 < table.size()) {
            const auto boundary = float((double(table[k]) + double(table[k + 1])) / 2);
            if (u < 0 ? !(u < boundary) : !(u >= boundary)) break;
            k++;
        }
        return int(k);
    };
    AsymmetricIndices result;
    result.indices.resize(w.size());
    for (size_t first = 0; first < w.size(); first += group) {
        const auto block = w.subspan(first, group);
        for (float v : block)
            if (!std::isfinite(v)) fail("{}: a weight is {}", layer, v);
        const auto [low, high] = std::minmax_element(block.begin(), block.end());
        const float step = std::max(*high - *low, 1e-5f) / largest, zero = std::clamp(-std::nearbyint(*low / step), 0.f, largest);
        if (config.kind == QuantizerKind::int_asym) {
            result.scales.push_back(step);
            result.zeros.push_back(uint8_t(zero));
        } else {
            result.scales.push_back(std::abs(*high));
            result.negative_scales.push_back(std::abs(*low));
        }
        for (size_t i = 0; i < group; i++) {
            const float v = block[i];
            uint8_t& index = result.indices[first + i];
            if (config.kind == QuantizerKind::int_asym) {
                const float rounded = std::copysign(std::floor(std::abs(v / step) + 0.5f), v);
                index = uint8_t(std::clamp(rounded + zero, 0.f, largest));
            } else {
                const float scale = std::abs(v < 0 ? *low : *high);
                const int steps = scale == 0 ? 0 : level(v / scale, v < 0 ? levels.negative : levels.positive);
                index = uint8_t(zero_level + (v < 0 ? -steps : steps));
            }
        }
    }
    return result;
}

std::vector<float> asymmetric_values(std::span<const float> w, int64_t out, int64_t in, const QuantizerConfig& config,
                                     const std::string& layer) {
    const AsymmetricIndices chosen = asymmetric_indices(w, out, in, config, layer);
    const std::vector<float> table = asymmetric_table(config);
    const size_t group = w.size() / chosen.scales.size();
    std::vector<float> result(w.size());
    for (size_t i = 0; i < w.size(); i++) {
        const size_t block = i / group;
        const float t = table[chosen.indices[i]];
        if (config.kind == QuantizerKind::int_asym)
            result[i] = (t - float(chosen.zeros[block])) * chosen.scales[block];
        else
            result[i] = t * (t < 0 ? chosen.negative_scales : chosen.scales)[block];
    }
    return result;
}

NormalFloat normal_float(int bits) {
    if (bits == 3)
        return {{0, 0.1833375245332718f, 0.3819939494132996f, 0.6229856610298157f, 1},
                {0, -0.2469314038753510f, -0.5350227355957031f, -1}};
    if (bits == 4)
        return {{0, 0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f,
                 0.5626170039176941f, 0.7229568362236023f, 1},
                {0, -0.09105003625154495f, -0.18477343022823334f, -0.28444138169288635f, -0.39491748809814453f,
                 -0.5250730514526367f, -0.6961928009986877f, -1}};
    fail("quantizer 'nf': {} bits; possible are 3 and 4", bits);
}

void block_scales(Graph& g, Tensor w, Tensor scales, const QuantizerConfig& config, const std::string& layer) {
    in_context(layer, [&] { validate(config); });
    expect_weight(w, layer);
    if (config.has_gradient()) fail("{}: quantizer '{}' has no scales of this form", layer, name(config.kind));
    BlockLayout layout = block_layout(config, w.rows(), w.cols(), layer);
    expect(scales, {layout.rows, layout.cols}, DType::f32, layer + ": scales");
    run(g, w, {}, config, {}, layer, scales);
}

}  // namespace vkqat
