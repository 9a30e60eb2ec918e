#ifndef VKQAT_ARGS_TOKEN_SCORES_H
#define VKQAT_ARGS_TOKEN_SCORES_H
#include "args.h"
ARGS_BEGIN

// nll[row] = logsumexp(logits[row]) - logits[row][label], best[row] = the first id with the largest logit; 0 and -1 where
// label < 0.
struct TokenScoresArgs {
    ADDRESSES(4)
    ADDRESS logits;  // f32 [rows, vocab]
    ADDRESS labels;  // i32 [rows]
    ADDRESS nll;     // f32 [rows]
    ADDRESS best;    // i32 [rows]
    ARG_UINT rows, vocab;
};

ARGS_END

#endif
