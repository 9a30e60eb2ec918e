// The next token from logits, on the GPU: repetition penalty, temperature, top-k, top-p, min-p, draw, in the order of Hugging
// Face's generate().
#pragma once

#include "runtime/graph/graph.h"
#include "shaders/args/sample.h"

namespace vkqat {

// Memory that the steps share, for `sequences` sequences that each have a row of logits. `parameters` and `limits` lie in
// host-visible buffers, so that they change without a new graph; what is absent is not used.
struct SamplerTensors {
    Tensor parameters;  // [sequences * sizeof(SamplerParameters) / 4] u32: SamplerParameters
    Tensor token;       // [sequences] i32: the result, input of the next step
    Tensor position;    // [sequences] u32: of the first row of this step; grows by the rows of the step
    Tensor generated;   // optional, [sequences * capacity] i32: the token goes to index (position of the step's last valid row) %
                        // capacity of its sequence
    Tensor
        seen;  // optional, [sequences * vocab] u32: not 0 for tokens of the context; gets the new token. Needed for the penalty
    Tensor count;   // optional, [1] u32: valid rows of the step (prefill, one sequence); absent: one
    Tensor limits;  // optional, [sequences] u32: from this position on nothing is sampled, and the position becomes UINT32_MAX,
                    // which decode_attention() takes as a sequence that is not active
};

// Sensible values: greedy, nothing else on.
SamplerParameters greedy_parameters();
// Error naming the value that is out of range: temperature >= 0, top_p 0 .. 1, min_p 0 .. 1, repetition_penalty > 0, all finite.
void check_sampler(const SamplerParameters& parameters);

// Adds the nodes that choose a token of each sequence from logits [sequences, vocab] f32 and advance the positions; add them
// after every reader of this step's position and token. temperature 0 or greedy: the largest penalised logit, ties to the lowest
// id. Otherwise: top-k keeps exactly the k largest, top-p the smallest set of largest whose probability (within top-k) is at
// least p, both preferring lower ids among equal logits, min-p those with at least min_p times the largest probability; one of
// these is drawn with a random number that depends on the seed and the position only (Philox4x32-10, key = seed, counter =
// position). Probabilities are rounded to multiples of 2^-31. NaN counts as the lowest logit. No result depends on an order of
// summation beyond the normaliser's, which is fixed. `subgroups`: width of the drawing workgroup, a power of two, for
// measurements; 0: the device's own.
void sample(Graph& g, Tensor logits, const SamplerTensors& t, uint32_t subgroups = 0);

// Marks tokens [n] i32 (the first `count` [1] u32 of them, if given) in seen [vocab] u32; ids outside of the vocabulary are
// ignored.
void mark_seen(Graph& g, Tensor tokens, Tensor seen, Tensor count = {});

}  // namespace vkqat
