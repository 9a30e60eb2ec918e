#include "runtime/ops/rope.h"

#include <cmath>
#include <numbers>

#include "runtime/ops/launch.h"
#include "shaders/args/rope.h"

namespace vkqat {

std::vector<float> rope_frequencies(int64_t head_dim, double theta, const std::optional<RopeStretch>& stretch) {
    if (head_dim < 2 || head_dim % 2) fail("rope: head_dim is {}, expected an even number", head_dim);
    if (!(theta > 0) || !std::isfinite(theta)) fail("rope: theta is {}, expected a positive number", theta);
    if (stretch) {
        const RopeStretch& s = *stretch;
        if (!(s.factor > 0) || !(s.low_freq_factor > 0) || !(s.high_freq_factor > s.low_freq_factor) ||
            s.original_max_position_embeddings < 1)
            fail("rope: scaling needs factor > 0 and 0 < low_freq_factor < high_freq_factor, found {}, {}, {} with {} positions",
                 s.factor, s.low_freq_factor, s.high_freq_factor, s.original_max_position_embeddings);
    }
    std::vector<float> frequencies;
    for (int64_t i = 0; i < head_dim / 2; i++) {
        double f = std::pow(theta, -2.0 * double(i) / double(head_dim));
        if (stretch) {
            double turns = double(stretch->original_max_position_embeddings) * f / (2 * std::numbers::pi);
            double kept = (turns - stretch->low_freq_factor) / (stretch->high_freq_factor - stretch->low_freq_factor);
            kept = std::clamp(kept, 0.0, 1.0);
            f = (1 - kept) * f / stretch->factor + kept * f;
        }
        frequencies.push_back(float(f));
    }
    return frequencies;
}

std::vector<float> rope_table(std::span<const float> frequencies, int64_t positions) {
    count32(positions, "rope: positions");
    std::vector<float> table;
    table.reserve(size_t(positions) * 2 * frequencies.size());
    for (int64_t p = 0; p < positions; p++) {
        for (float f : frequencies) table.push_back(float(std::cos(double(float(p) * f))));
        for (float f : frequencies) table.push_back(float(std::sin(double(float(p) * f))));
    }
    return table;
}

static void rotate(Graph& g, Tensor x, Tensor table, Tensor start, Tensor base, Tensor y, const RopeArgs& args) {
    auto half = uint32_t(table.cols() / 2);
    uint32_t pairs = args.heads * half;
    RowBlocks blocks = row_blocks(g.capabilities(), args.rows, args.cols - pairs);
    if (half % 8 || args.cols % 8) blocks.uniform_loads = 0;  // a subgroup has columns of one head
    g.dispatch(blocks.kernel(typed_shader("rope", y, "rope"), {half}), {in(x), in(table), in(start), in(base), out(y)}, args,
               blocks.grid, "rope",
               {.flops = 6.0 * args.rows * pairs, .bytes = double(x.bytes()) * (base ? 2 : 1) + double(y.bytes())});
}

Tensor rope(Graph& g, Tensor x, Tensor table, int64_t heads, const RopePositions& positions, DType type) {
    if (!x || !table) fail("rope: {} is absent", x ? "table" : "x");
    expect(x, {x.rows(), x.cols()}, DType::f32, "rope: x");
    expect(table, {table.rows(), table.cols()}, DType::f32, "rope: table");
    if (positions.start) expect(positions.start, {1}, DType::u32, "rope: start");
    int64_t head_dim = table.cols();
    if (head_dim < 2 || head_dim % 2) fail("rope: the table has {} columns, expected an even head_dim", head_dim);
    RopeArgs args{.rows = count32(x.rows(), "rope: rows of x"), .cols = count32(x.cols(), "rope: columns of x")};
    if (heads < 1 || heads > x.cols() / head_dim)
        fail("rope: {} heads of {} columns do not fit into the {} columns of '{}'", heads, head_dim, x.cols(), x.name());
    int64_t seq_len = positions.seq_len ? positions.seq_len : x.rows();
    if (seq_len < 1 || x.rows() % seq_len || seq_len > table.rows())
        fail("rope: sequences of {} tokens: expected a divisor of {} tokens and at most {} positions", seq_len, x.rows(),
             table.rows());
    args.heads = uint32_t(heads);
    args.positions = count32(table.rows(), "rope: positions");
    args.seq_len = uint32_t(seq_len);
    args.sign = 1;
    Tensor y = g.tensor(x.shape(), type, "rope"), start = positions.start;
    rotate(g, x, table, start, {}, y, args);
    g.on_backward(y, {x}, [=](Graph& graph, Tensor dy) {
        RopeArgs back = args;
        back.sign = -1;
        GradientSlot s = graph.gradient_slot(x, true);
        rotate(graph, dy, table, start, s.base, s.out, back);
    });
    return y;
}

}  // namespace vkqat
