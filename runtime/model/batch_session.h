// Many texts at once: a fixed number of slots decode together, each with a prompt, a sampler, an end and a length of its own; a
// slot that is done takes the next prompt (continuous batching).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "runtime/model/sequences.h"

namespace vkqat {

struct GenerationRequest {
    std::vector<int32_t> prompt;
    SamplerParameters sampler = greedy_parameters();
    std::vector<int32_t> ends;  // tokens that end the text; they are not part of it
    int64_t max_tokens = 256;
    // Gets each token as it becomes known, if set; false ends the text behind it.
    std::function<bool(int32_t)> on_token = {};
};

enum class Stop { end, max_tokens, context, caller };

struct GenerationResult {
    int64_t id = 0;  // as add() returned it
    std::vector<int32_t> tokens;
    Stop stop = Stop::end;
};

struct BatchOptions {
    int64_t slots = 8;
    int64_t context = 0;        // of each slot: prompt and text; 0: what the model allows, at most 4096
    int64_t prefill_rows = 64;  // tokens of a prompt per graph, at most
    DType cache = DType::f32;
    int64_t at_once = 4;  // tokens of each slot in one submission; two submissions are in flight
    // A prompt goes into the free slot whose last text begins most like it, and what they share stays in the cache. Saves time
    // where prompts begin alike; but what is cached was computed by other kernels, so on GPUs a text may then depend on those
    // before it.
    bool keep_prefix = false;
};

class BatchSession {
public:
    // `weights` must outlive it. Error if the caches do not fit into memory.
    BatchSession(const LlamaWeights& weights, const BatchOptions& options);

    // Puts a request in line; -> its id, counted from 0. Error if the prompt or the sampler is not valid.
    int64_t add(GenerationRequest request);
    // Requests that are in line or at work.
    int64_t unfinished() const { return int64_t(line_.size()) + active_; }
    int64_t waiting() const { return int64_t(line_.size()); }
    // Fills free slots from the line, goes on by one submission, and returns what has ended; nothing to do: nothing.
    std::vector<GenerationResult> step();

    int64_t slots() const { return sequences_.count(); }
    int64_t context() const { return sequences_.context(); }
    int64_t made() const { return made_; }      // tokens of all results so far, those of unfinished ones included
    int64_t reused() const { return reused_; }  // tokens of prompts that were in the cache already
    uint64_t cache_bytes() const { return sequences_.cache_bytes(); }

private:
    struct Waiting {
        int64_t id;
        GenerationRequest request;
    };
    struct Slot {
        GenerationRequest request;
        GenerationResult result;
        int64_t position = 0;       // where the last known token stands
        std::vector<int32_t> held;  // not active: whose keys and values are in the cache
        bool active = false;
    };
    struct Submission {
        uint64_t value;
        int64_t steps;
        std::vector<int64_t> ids;  // whose tokens it makes, by slot; -1: nobody's
    };
    void fill_slots(std::vector<GenerationResult>& done);
    size_t choose_slot(const std::vector<int32_t>& prompt) const;
    void submit();
    void take(Submission submission, std::vector<GenerationResult>& done);
    void take_token(size_t at, int32_t token, std::vector<GenerationResult>& done);

    Device& device_;
    Sequences sequences_;
    bool keep_prefix_;
    int64_t at_once_, next_id_ = 0, active_ = 0, made_ = 0, reused_ = 0;
    std::deque<Waiting> line_;
    std::vector<Slot> slots_;
    std::deque<Submission> submissions_;
};

}  // namespace vkqat
