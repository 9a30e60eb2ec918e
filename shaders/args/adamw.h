#ifndef VKQAT_ARGS_ADAMW_H
#define VKQAT_ARGS_ADAMW_H
#include "args.h"
ARGS_BEGIN

// What changes from step to step, in host-visible memory.
struct AdamwSettings {
    float learning_rate, beta1, beta2, eps, weight_decay, max_norm;
};

// The optimiser's own counters, on the device; part of a checkpoint.
struct AdamwState {
    ARG_UINT step;                   // updates done
    ARG_UINT skipped;                // steps left out because loss or gradient was not finite
    ARG_UINT consecutive_skipped;    // of these, how many just now
    ARG_UINT skip;                   // whether this step is left out
    float beta1_power, beta2_power;  // beta^step
    float gradient_norm;             // before clipping
    float clip;                      // factor on the gradient
    float loss;                      // of the last step
    float loss_scale;                // fp16: factor on the loss's gradient, a power of two; 0: none
    ARG_UINT steps_at_scale;         // finite ones since the factor changed
};

// gradient_scale = scale * the state's loss_scale.
struct LossScaleArgs {
    ADDRESSES(3)
    ADDRESS scale;           // f32 [1]
    ADDRESS state;           // AdamwState
    ADDRESS gradient_scale;  // f32 [1]
};

// partial[p] = sum of squares of one chunk of x.
struct SumSquaresArgs {
    ADDRESSES(2)
    ADDRESS x;        // f32 [count]
    ADDRESS partial;  // f32 [ceil(count / chunk)]
    ARG_UINT count, chunk;
};

// Norm, clipping factor, whether to skip; advances the state.
struct AdamwPrepareArgs {
    ADDRESSES(4)
    ADDRESS partial;   // f32 [count]
    ADDRESS loss;      // f32 [1]
    ADDRESS settings;  // AdamwSettings
    ADDRESS state;     // AdamwState
    ARG_UINT count;
};

// One pass over weights, gradient and both moments.
struct AdamwArgs {
    ADDRESSES(6)
    ADDRESS weight, gradient;  // f32 [count]
    ADDRESS m, v;              // f32 or bf16 [count]
    ADDRESS settings, state;
    ARG_UINT count, first;  // first: number of the first element among all parameters, which chance depends on
};

ARGS_END

#endif
