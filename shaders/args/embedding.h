#ifndef VKQAT_ARGS_EMBEDDING_H
#define VKQAT_ARGS_EMBEDDING_H
#include "args.h"
ARGS_BEGIN

struct EmbeddingArgs {
    ADDRESSES(3)
    ADDRESS ids;     // i32 [tokens]
    ADDRESS weight;  // [vocab, dim]
    ADDRESS y;       // f32 [tokens, dim]
    ARG_UINT tokens, vocab, dim;
};

// Adds to rows of d_weight what the tokens with that id bring.
struct EmbeddingBackwardArgs {
    ADDRESSES(4)
    ADDRESS ids;       // i32 [tokens]
    ADDRESS order;     // i32 [tokens]: the tokens by id
    ADDRESS dy;        // f32 [tokens, dim]
    ADDRESS d_weight;  // f32 [vocab, dim]
    ARG_UINT tokens, vocab, dim;
};

ARGS_END

#endif
