#ifndef VKQAT_ARGS_CROSS_ENTROPY_H
#define VKQAT_ARGS_CROSS_ENTROPY_H
#include "args.h"
ARGS_BEGIN

// loss[row] = logsumexp(logits[row]) - logits[row][label]; 0 where label < 0.
// gradient = dL/dlogits = (softmax(logits) - onehot(label)) * scale[0].
struct CrossEntropyArgs {
    ADDRESSES(5)
    ADDRESS logits;    // f32 [rows, vocab]
    ADDRESS labels;    // i32 [rows]
    ADDRESS loss;      // f32 [rows]
    ADDRESS scale;     // f32 [1]
    ADDRESS gradient;  // [rows, vocab], or absent; where it is f32 it may be the logits
    ARG_UINT rows, vocab;
};

// sum[0] = (base ? base[0] : 0) + scale[0] * sum(values).
struct ScaledSumArgs {
    ADDRESSES(4)
    ADDRESS values;  // f32 [count]
    ADDRESS scale;   // f32 [1]
    ADDRESS base;    // f32 [1], may be absent
    ADDRESS sum;     // f32 [1]
    ARG_UINT count;
};

ARGS_END

#endif
