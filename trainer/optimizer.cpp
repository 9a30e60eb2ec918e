#include "trainer/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace vkqat {

void gradient_squares(Graph& g, const std::vector<OptimizerBlock>& blocks, Tensor partial) {
    const uint32_t lanes = g.capabilities().subgroup_size;
    for (const OptimizerBlock& b : blocks) {
        const int64_t count = b.weight.elements(), n = (count + squares_chunk - 1) / squares_chunk;
        g.dispatch(Kernel{"sum_squares", {lanes}},
                   {in(b.gradient), out(g.view(partial, uint64_t(b.first_square) * 4, {n}, "partial"))},
                   SumSquaresArgs{.count = uint32_t(count), .chunk = uint32_t(squares_chunk)}, linear_grid(n), "gradient_norm",
                   {.flops = 2.0 * double(count)});
    }
}

void adamw_update(Graph& g, const std::vector<OptimizerBlock>& blocks, Tensor partial, Tensor loss, Tensor settings,
                  Tensor state) {
    const uint32_t lanes = g.capabilities().subgroup_size;
    g.dispatch(Kernel{"adamw_prepare", {lanes}}, {in(partial), in(loss), in(settings), inout(state)},
               AdamwPrepareArgs{.count = uint32_t(partial.elements())}, Grid{}, "adamw.prepare");
    for (const OptimizerBlock& b : blocks) {
        int64_t count = b.weight.elements();
        if (b.m.dtype() != b.v.dtype()) fail("adamw: moments of two types");
        g.dispatch(Kernel{fmt::format("adamw_{}", name(b.m.dtype())), {64}},
                   {inout(b.weight), in(b.gradient), inout(b.m), inout(b.v), in(settings), in(state)},
                   AdamwArgs{.count = uint32_t(count), .first = uint32_t(b.first_square * squares_chunk)},
                   linear_grid((count + 255) / 256), "adamw", {.flops = 14.0 * double(count)});
    }
}

void adamw(Graph& g, std::vector<OptimizerBlock> blocks, Tensor loss, Tensor settings, Tensor state) {
    int64_t squares = 0;
    for (OptimizerBlock& b : blocks) {
        b.first_square = squares;
        squares += (b.weight.elements() + squares_chunk - 1) / squares_chunk;
    }
    Tensor partial = g.tensor({squares}, DType::f32, "gradient.partial_squares");
    gradient_squares(g, blocks, partial);
    adamw_update(g, blocks, partial, loss, settings, state);
}

double LearningRateSchedule::at(int64_t step) const {
    const double peak_now = peak * (in_second_stage(step) ? second_stage_lr_factor : 1);
    if (step <= warmup_steps) return peak_now * double(step) / double(std::max<int64_t>(warmup_steps, 1));
    auto decay_steps = int64_t(std::llround(double(steps) * decay_ratio));
    int64_t decay_start = steps - decay_steps;
    if (decay_steps == 0 || step <= decay_start) return peak_now;
    double progress = std::min(1.0, double(step - decay_start) / double(decay_steps));
    double factor = 1 - progress;
    if (decay_type == "sqrt") factor = 1 - std::sqrt(progress);
    if (decay_type == "cosine") factor = 0.5 * (1 + std::cos(std::numbers::pi * progress));
    return peak_now * (min_lr_factor + (1 - min_lr_factor) * factor);
}

}  // namespace vkqat
