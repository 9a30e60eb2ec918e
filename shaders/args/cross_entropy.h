#ifndef VKQAT_ARGS_CROSS_ENTROPY_H
#define VKQAT_ARGS_CROSS_ENTROPY_H
#include "args.h"
ARGS_BEGIN

// loss[row] = logsumexp(logits[row]) - logits[row][label]; 0 where label < 0. With `gradient`, the logits are replaced by
// dL/dlogits = (softmax(logits) - onehot(label)) * scale[0].
struct CrossEntropyArgs {
    ADDRESSES(4)
    ADDRESS logits;  // f32 [rows, vocab], replaced
    ADDRESS labels;  // i32 [rows]
    ADDRESS loss;    // f32 [rows]
    ADDRESS scale;   // f32 [1]
    ARG_UINT rows, vocab, gradient;
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
