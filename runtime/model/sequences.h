// Sequences of a model on a device: each has a KV cache, a sampler and a place where it stands. One recorded graph decodes a
// token of all of them; others bring a piece of a prompt into one. Session (one sequence) and BatchSession (many) are made of it.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/graph/executable.h"
#include "runtime/model/weights.h"
#include "runtime/ops/sample.h"

namespace vkqat {

struct SequencesOptions {
    int64_t count = 1;
    int64_t context = 0;        // positions in the cache of each; 0: what the model allows, at most 4096
    int64_t prefill_rows = 64;  // tokens of a prompt per graph, at most
    DType cache = DType::f32;   // f32, f16, bf16, or i8 with a scale for each head's vector (runtime/ops/kv_cache_i8.h)
    bool one_dispatch = true;   // of a single sequence, for all layers of a token where that can be (runtime/ops/packed_layers.h)
    int64_t one_dispatch_keys = 0;  // up to so many cached positions; 0: as long as it is faster
};

class Sequences {
public:
    // `weights` must outlive it. Error if the caches do not fit into memory, or the context exceeds what the model allows. With
    // planned weights nothing is allocated and nothing can run: only the sizes below are known.
    Sequences(const LlamaWeights& weights, const SequencesOptions& options);
    ~Sequences();
    Sequences(const Sequences&) = delete;
    Sequences& operator=(const Sequences&) = delete;

    const LlamaWeights& weights() const { return weights_; }
    int64_t count() const { return count_; }
    int64_t context() const { return context_; }
    uint64_t cache_bytes() const { return cache_bytes_; }
    uint64_t workspace_bytes() const { return workspace_; }
    uint64_t device_bytes() const { return device_bytes_; }  // all of it, without the weights

    // Error naming what is wrong with a prompt: empty, longer than the context, an id outside of the vocabulary.
    void check_prompt(std::span<const int32_t> prompt) const;

    // All of these wait for what the device does. `at` is the number of a sequence.
    // How it samples from now on; greedy at first.
    void set_sampler(int64_t at, const SamplerParameters& parameters);
    // Runs prompt[cached ..] behind the `cached` tokens whose keys and values are there already; returns the token that follows.
    int32_t prefill(int64_t at, std::span<const int32_t> prompt, int64_t cached);
    // Nats of each token behind the first, [tokens - 1], each predicted through the cache as a prompt's tokens are: what a cache
    // of few bits costs. As long as a prompt at most.
    std::vector<float> score(int64_t at, std::span<const int32_t> tokens);
    // As if `tokens` had been made so far: all but the last are in the cache, the last is fed next. None: not active.
    void resume(int64_t at, std::span<const int32_t> tokens);
    std::vector<float> logits(int64_t at) const;  // that the last token was sampled from, [vocab_size]; Error as generated()'s

    // Position at which it stops being active by itself; may be set while the device is at work, which sees it a step earlier or
    // later. The context at first.
    void set_limit(int64_t at, int64_t position);
    // Submits `steps` tokens of all active sequences; returns the timeline value that marks their end.
    uint64_t decode(int64_t steps = 1);
    // The token that was sampled at a position, once the device has got there: the one behind it.
    // Error if workgroups waited for one another in vain (runtime/ops/packed_layers.h).
    int32_t generated(int64_t at, int64_t position) const {
        check_waits();
        return generated_.mapped_as<int32_t>()[size_t(at * context_ + position)];
    }

    // Time of each node of a prompt's last piece of prefill_rows tokens, in the first sequence, and of a decoded token of all.
    // What the sequences hold is overwritten.
    std::vector<ProfileRow> profile_prefill();
    std::vector<ProfileRow> profile_decode() { return decoding_at(position_).profile(); }
    double decode_bytes() const { return decode_.executable->total_bytes(); }  // by the nodes' count

private:
    struct Recording {
        std::unique_ptr<Graph> graph;
        std::unique_ptr<Executable> executable;
    };
    enum class Piece { inner, last, scored };  // of a prompt; the last one's last token goes through the head and is sampled from
    struct Prefill {
        int64_t at, rows;
        Piece piece;
        Recording recording;
    };
    Buffer allocate(uint64_t bytes, const std::string& what);
    Buffer allocate_filled(const std::vector<uint32_t>& words, const std::string& what);
    Buffer allocate_host(uint64_t bytes, const std::string& what);
    Tensor external(Graph& g, const Buffer& b, int64_t at, int64_t elements, DType type, const char* name) const;
    SamplerTensors sampler(Graph& g, int64_t at, Tensor position, Tensor count) const;
    std::unique_ptr<Graph> decode_graph(bool one_dispatch) const;
    Executable& decoding_at(int64_t position) const;
    std::unique_ptr<Graph> prefill_graph(int64_t at, int64_t rows, Piece piece) const;  // `rows` tokens for one sequence
    Executable& prefill_piece(int64_t at, int64_t rows, Piece piece);
    void write_piece(std::span<const int32_t> tokens);
    void check_waits() const;
    void set_position(int64_t at, uint32_t position);
    void set_seen(int64_t at, std::span<const int32_t> tokens);

    const LlamaWeights& weights_;
    Device& device_;
    int64_t count_, context_;
    std::vector<int64_t> pieces_;  // tokens of the prefill graphs, falling
    DType cache_type_;
    uint64_t cache_bytes_ = 0, workspace_ = 0, device_bytes_ = 0;
    std::vector<Buffer> keys_, values_;              // by layer
    std::vector<Buffer> key_scales_, value_scales_;  // by layer, of 8-bit caches
    Buffer rope_, parameters_, limits_, ids_, valid_, last_row_, tokens_, positions_, generated_, seen_, logits_, counters_;
    Buffer handed_on_, turn_, in_vain_;    // of packed_layers()
    Buffer labels_, scores_, loss_scale_;  // for score(), made when they are first needed
    std::shared_ptr<Arena> arena_;
    // Long: for contexts of more than one_dispatch_keys_, at which one dispatch for all layers is slower; absent where there is
    // none.
    Recording decode_, decode_long_;
    int64_t one_dispatch_keys_ = 0;
    int64_t position_ = 0;           // of a single sequence, at most
    std::vector<Prefill> prefills_;  // made when they are first needed
};

}  // namespace vkqat
