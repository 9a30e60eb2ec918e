#ifndef VKQAT_ARGS_DISTILLATION_H
#define VKQAT_ARGS_DISTILLATION_H
#include "args.h"
ARGS_BEGIN

// Distance of a student's distribution p from a teacher's q in each row, and the cross-entropy of its label; with `gradient`, the
// student's logits are replaced by d(factors[0] * distances + factors[1] * entropies) / dlogits. Rows whose label is negative
// count for neither, except where `weights` (soft cross-entropy) says what they count.
struct DistillationArgs {
    ADDRESSES(8)
    ADDRESS student;     // f32 [rows, vocab], replaced
    ADDRESS teacher;     // f32 [rows, vocab]
    ADDRESS labels;      // i32 [rows]
    ADDRESS factors;     // f32 [3]: scale of the distances, scale of the cross-entropies, gamma or beta
    ADDRESS weights;     // f32 [rows], or absent
    ADDRESS distance;    // f32 [rows]
    ADDRESS entropy;     // f32 [rows]
    ADDRESS confidence;  // f32 [rows]: the teacher's largest probability, 0 where the label is negative; may be absent
    ARG_UINT rows, vocab, gradient;
};

// The k largest logits of each row, by id; of equal ones the first. And of the row: the logarithm of the sum of all exponentials,
// the loss of its label (0 without one), the largest probability (likewise).
struct TopLogitsArgs {
    ADDRESSES(7)
    ADDRESS logits;      // f32 [rows, vocab]
    ADDRESS labels;      // i32 [rows]
    ADDRESS ids;         // i32 [rows, k]
    ADDRESS values;      // f32 [rows, k]
    ADDRESS norm;        // f32 [rows]
    ADDRESS loss;        // f32 [rows]
    ADDRESS confidence;  // f32 [rows]
    ARG_UINT rows, vocab, k;
};

// A row of logits from its k largest: what the others have together has the shape of another row, the student's.
struct SpreadLogitsArgs {
    ADDRESSES(5)
    ADDRESS student;  // f32 [rows, vocab]
    ADDRESS ids;      // i32 [rows, k]
    ADDRESS values;   // f32 [rows, k]
    ADDRESS norm;     // f32 [rows]
    ADDRESS teacher;  // f32 [rows, vocab]
    ARG_UINT rows, vocab, k;
};

// weights = softmax(losses / temperature) over each sequence.
struct TokenScalesArgs {
    ADDRESSES(2)
    ADDRESS losses;   // f32 [sequences, seq_len]
    ADDRESS weights;  // f32 [sequences, seq_len]
    ARG_UINT sequences, seq_len;
    ARG_FLOAT temperature;
};

// loss = |t/|t| - s/|s||^2 of each row; ds = base + scale[0] * dloss/ds.
struct HiddenDistanceArgs {
    ADDRESSES(6)
    ADDRESS student, teacher;  // f32 [rows, dim]
    ADDRESS scale;             // f32 [1]
    ADDRESS loss;              // f32 [rows]
    ADDRESS base, gradient;    // f32 [rows, dim]; may both be absent
    ARG_UINT rows, dim;
};

ARGS_END

#endif
