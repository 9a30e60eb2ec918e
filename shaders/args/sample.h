#include "args.h"
#ifndef VKQAT_ARGS_SAMPLE_H
#define VKQAT_ARGS_SAMPLE_H
ARGS_BEGIN

// What a user may change between tokens: 8 words in a host-visible buffer that the sampler reads at each step.
struct SamplerParameters {
    float temperature;         // 0: greedy
    float top_p;               // 1 (or more): off
    float min_p;               // 0: off
    float repetition_penalty;  // 1: off
    ARG_UINT top_k;            // 0: off
    ARG_UINT greedy;           // not 0: the largest logit after the penalty, whatever the temperature
    ARG_UINT seed_low, seed_high;
};

struct SampleScoresArgs {
    ADDRESSES(5)
    ADDRESS logits;      // f32 [rows, vocab]
    ADDRESS parameters;  // SamplerParameters [rows]
    ADDRESS seen;        // u32 [rows, vocab], not 0: the token is part of the context; or 0
    ADDRESS scores;      // f32 [rows, vocab]: finite
    ADDRESS best;        // u32 [rows, groups, 2]: key and id of the largest score of each workgroup
    ARG_UINT vocab;
};

struct SampleTokenArgs {
    ADDRESSES(9)
    ADDRESS scores, best, parameters;
    ADDRESS seen;       // or 0
    ADDRESS token;      // i32 [rows]
    ADDRESS generated;  // i32 [rows, capacity], or 0
    ADDRESS count;      // u32 [1], or 0
    ADDRESS limits;     // u32 [rows], or 0
    ADDRESS position;   // u32 [rows]
    ARG_UINT vocab, groups, capacity;
};

struct MarkSeenArgs {
    ADDRESSES(3)
    ADDRESS tokens;  // i32 [n]
    ADDRESS count;   // u32 [1], or 0
    ADDRESS seen;
    ARG_UINT tokens_count, vocab;
};

ARGS_END
#endif
