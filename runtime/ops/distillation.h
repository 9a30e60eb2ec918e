// Losses of a student against a teacher: of their distributions over the vocabulary, in chunks of rows as in cross_entropy.h, so
// that neither's [tokens, vocab] logits exist in full; and of hidden states.
#pragma once

#include <string_view>

#include "runtime/graph/graph.h"

namespace vkqat {

// With p the student's, q the teacher's distribution of a token (BitDistiller, arXiv 2402.10631; its published code's names):
enum class DistillationLoss : uint8_t {
    forward,  // KL(q || p)
    reverse,  // KL(p || q)
    jsd,      // beta KL(q || m) + (1 - beta) KL(p || m), m = beta q + (1 - beta) p
    tlsd,     // sum -q log p, times softmax(L / 10) over the sequence of L, the teacher's loss of each label (0 without one): a
              // token's weight, so that tokens without a label count too
    cakld,    // gamma KL(p || q) + (1 - gamma) KL(q || p), gamma the teacher's confidence
};
std::string_view name(DistillationLoss loss);
DistillationLoss parse_distillation_loss(std::string_view name);  // Error naming the possible ones

// What a loss's coefficient (factors[2] below) must be: gamma of cakld and beta of jsd are given, the others' are fixed.
float distillation_coefficient(DistillationLoss loss, float given);

// Each row of `student` and `teacher`, f32 [rows, vocab]: distance and cross-entropy, f32 [rows], of rows whose label is not
// negative, else 0. factors f32 [3]: scale of the distances and of the cross-entropies in the gradient, coefficient. weights f32
// [rows]: only for tlsd. confidence f32 [rows], may be absent: the teacher's largest probability, 0 without a label. `gradient`:
// student's logits are replaced by d(factors[0] sum(distance) + factors[1] sum(entropy)) / dlogits.
struct DistillationRows {
    Tensor labels, factors, weights, distance, entropy, confidence;
    bool gradient = false;
};
void distillation_rows(Graph& g, DistillationLoss loss, Tensor student, Tensor teacher, const DistillationRows& rows);

// weights [sequences, seq_len] = softmax(losses / temperature) over each sequence, f32.
void token_scales(Graph& g, Tensor losses, Tensor weights, float temperature = 10);

// Of each row of logits, f32 [rows, vocab], the k largest (of equal ones the first ones), in the order of their ids.
struct TopLogits {
    Tensor ids;         // i32 [rows, k]
    Tensor values;      // f32 [rows, k]
    Tensor norm;        // f32 [rows]: log(sum(exp(logit))) over all
    Tensor loss;        // f32 [rows]: negative log-likelihood of the label, 0 without one
    Tensor confidence;  // f32 [rows]: the largest probability, 0 without a label
};
void top_logits(Graph& g, Tensor logits, Tensor labels, const TopLogits& top);
// Logits again, f32 [rows, vocab]: those that were kept, and for all others the student's, f32 [rows, vocab], moved by one number
// for each row, so that they have what is left of probability 1. Any distance of distillation_rows() is then that of the
// distributions over the k tokens and one class for the rest, and so is its gradient: how the rest is shared out is nobody's
// loss. (soft cross-entropy: the same gradient; its value counts the student's shares.) With k = vocab the logits are the same.
void spread_logits(Graph& g, Tensor student, const TopLogits& top, Tensor teacher);

// The student's and the teacher's heads with their loss. hidden [tokens, dim] f32, head [vocab, dim] f32|f16|bf16, likewise the
// teacher's (of another dim, if need be), labels i32 [tokens], factors as above. In training gradients of hidden and head follow
// at once, as in head_loss().
struct DistillationHead {
    Tensor hidden, head, teacher_hidden, teacher_head, labels, factors;
    TopLogits teacher_top = {};  // instead of the teacher's hidden states and head
    int64_t seq_len = 0;         // tlsd: tokens of a sequence
    int64_t chunk_rows = 1024;
    Tensor base = {};        // f32 [1]: losses of earlier micro-steps
    Tensor sum = {};         // f32 [1], where to write the sum; absent: a planned tensor
    Tensor distance = {};    // f32 [tokens], likewise
    Tensor entropy = {};     // f32 [tokens], likewise: negative log-likelihood of each label
    Tensor confidence = {};  // f32 [tokens]; absent: not written
};
struct DistillationSums {
    Tensor sum;  // f32 [1]: base + factors[0] sum(distance) + factors[1] sum(entropy)
    Tensor distance, entropy;
};
DistillationSums distillation_head(Graph& g, DistillationLoss loss, const DistillationHead& head);

// rows[i] = |t/|t| - s/|s||^2 of hidden states f32 [tokens, dim] (OneBit, arXiv 2402.11295). scale f32 [1]: what a row's loss
// counts; sum = base + scale * sum(rows), into `sum`, f32 [1]. In training the student's gradient follows at once.
void hidden_distance(Graph& g, Tensor student, Tensor teacher, Tensor scale, Tensor base, Tensor sum);

}  // namespace vkqat
