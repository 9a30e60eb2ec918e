// AdamW with gradient clipping, entirely on the device, and the learning-rate schedule.
#pragma once

#include <string>
#include <vector>

#include "runtime/graph/graph.h"
#include "shaders/args/adamw.h"

namespace vkqat {

// A run of parameters that are updated together: flat arrays of equal length, f32; m and v f32 or bf16. In bf16 they are rounded
// by chance (stochastic rounding), the same for the same element and step.
struct OptimizerBlock {
    Tensor weight, gradient, m, v;
    int64_t first_square = 0;  // where its partial sums begin among those of the gradient's norm
};

// Elements of a block whose squares make one partial sum.
constexpr int64_t squares_chunk = 8192;

// The two halves of adamw(), for ranks that have a part of the parameters each: the partial sums of this rank's blocks, f32, at
// their places, and the rest, which needs all of them.
void gradient_squares(Graph& g, const std::vector<OptimizerBlock>& blocks, Tensor partial);
void adamw_update(Graph& g, const std::vector<OptimizerBlock>& blocks, Tensor partial, Tensor loss, Tensor settings,
                  Tensor state);

// Adds the nodes of one update: the gradient's norm over all blocks, the clipping factor, the update. A step whose loss or
// gradient is not finite changes nothing but the counters. The partial sums are those of these blocks, in order. settings:
// AdamwSettings, state: AdamwState, as u32 tensors.
void adamw(Graph& g, std::vector<OptimizerBlock> blocks, Tensor loss, Tensor settings, Tensor state);

// Learning rate over the steps: linear warm-up, constant, then decay over the last `decay_ratio` of the steps to
// `min_lr_factor` of the peak. Steps count from 1.
struct LearningRateSchedule {
    double peak = 3e-4;
    int64_t steps = 1000, warmup_steps = 100;
    double decay_ratio = 0.2;           // of all steps; 0: no decay
    std::string decay_type = "linear";  // linear | sqrt | cosine
    double min_lr_factor = 0;
    // Two stages (BitNet b1.58's training tips): behind this share of the steps the rate is multiplied by the factor. 0: one
    // stage.
    double second_stage = 0, second_stage_lr_factor = 1;
    bool in_second_stage(int64_t step) const { return second_stage > 0 && double(step) > second_stage * double(steps); }
    double at(int64_t step) const;
};

}  // namespace vkqat
