// A conversation with a model: the KV cache, prefill in chunks, decoding with the recorded graph replayed, sampling on the GPU.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "runtime/model/sequences.h"

namespace vkqat {

struct SessionOptions {
    int64_t context = 0;        // positions in the cache; 0: what the model allows, at most 4096
    int64_t prefill_rows = 64;  // tokens of a prompt per graph
    DType cache = DType::f32;   // f32, f16, bf16 or i8
};

// What users want of a device: on a GPU a cache in f16 and prompts by 512 tokens, on a CPU fp32 and 64.
inline SessionOptions session_options(const Device& device, int64_t context) {
    if (device.capabilities().kind == DeviceKind::cpu) return {.context = context};
    return {.context = context, .prefill_rows = 512, .cache = DType::f16};
}

// `count` sequences like that one.
inline SequencesOptions sequences_options(const SessionOptions& o, int64_t count = 1) {
    return {.count = count, .context = o.context, .prefill_rows = o.prefill_rows, .cache = o.cache};
}

class Session {
public:
    // `weights` must outlive it. Error if the cache does not fit into memory, or the context exceeds what the model allows.
    Session(const LlamaWeights& weights, const SessionOptions& options = {});

    int64_t context() const { return sequence_.context(); }
    // The tokens whose keys and values are in the cache, and behind them the last one sampled, which is not in it yet.
    const std::vector<int32_t>& tokens() const { return tokens_; }
    // How it samples from now on; greedy at first.
    void set_sampler(const SamplerParameters& parameters) { sequence_.set_sampler(0, parameters); }

    // Makes `prompt` the context and samples the token that follows; what it shares with the context so far is kept in the cache.
    // Error if it is empty, too long, or holds an id outside the vocabulary.
    int32_t prefill(std::span<const int32_t> prompt);
    // Up to `count` further tokens, each handed to `next` as soon as it is known; false from `next` ends it, and the tokens that
    // the GPU has made in advance are forgotten. Ends by itself when the context is full. Returns the number handed over.
    // `at_once` tokens are one submission: 1 for a reader who waits for each, more where only the speed matters.
    int64_t decode(int64_t count, const std::function<bool(int32_t)>& next, int64_t at_once = 1);
    // Logits of the last position, [vocab_size].
    std::vector<float> logits() const { return sequence_.logits(0); }
    // Forgets everything behind the first `length` tokens.
    void rewind(int64_t length);

    // As if `length` tokens were cached, whatever the cache holds: for measurements.
    void pretend(int64_t length);
    std::vector<ProfileRow> profile_prefill();  // time of each node of a whole chunk; the cache is pretended to be empty
    std::vector<ProfileRow> profile_decode();   // time of each node of one token
    uint64_t cache_bytes() const { return sequence_.cache_bytes(); }
    uint64_t workspace_bytes() const { return sequence_.workspace_bytes(); }
    double decode_bytes() const;  // read and written for one token at an empty cache, by the nodes' count

private:
    Device& device_;
    Sequences sequence_;
    std::vector<int32_t> tokens_;
};

}  // namespace vkqat
