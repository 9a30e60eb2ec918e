#include "runtime/model/sequences.h"

#include <algorithm>
#include <cstring>

#include "runtime/ops/decode_attention.h"
#include "runtime/ops/dense_matvec.h"
#include "runtime/ops/embedding.h"
#include "runtime/ops/kv_cache.h"
#include "runtime/ops/rope.h"

namespace vkqat {
namespace {

constexpr int64_t sampler_words = sizeof(SamplerParameters) / 4;

HeadShape head_shape(const LlamaConfig& c) { return {uint32_t(c.heads), uint32_t(c.kv_heads), uint32_t(c.head_dim)}; }

// A short prompt need not pay for a long one's graph.
std::vector<int64_t> piece_sizes(int64_t largest) {
    std::vector<int64_t> sizes{largest};
    for (int64_t size = largest / 4; size >= 16; size /= 4) sizes.push_back(size);
    return sizes;
}

}  // namespace

Sequences::Sequences(const LlamaWeights& weights, const SequencesOptions& options)
    : weights_(weights), device_(weights.device()), count_(options.count), cache_type_(options.cache) {
    const LlamaConfig& c = weights.config();
    context_ = options.context ? options.context : std::min<int64_t>(c.max_position_embeddings, 4096);
    if (context_ < 1 || context_ > c.max_position_embeddings)
        fail("a context of {} tokens was asked for; the model allows 1 to {}", context_, c.max_position_embeddings);
    if (count_ < 1 || count_ > 1024) fail("{} sequences at once were asked for; expected 1 to 1024", count_);
    pieces_ = piece_sizes(std::clamp<int64_t>(options.prefill_rows, 1, context_));
    const uint64_t bytes = uint64_t(count_ * context_ * c.kv_dim()) * vkqat::bytes(cache_type_);
    cache_bytes_ = 2 * bytes * uint64_t(c.layers);
    for (int64_t i = 0; i < c.layers; i++) {
        keys_.push_back(device_.allocate(bytes, fmt::format("keys of {} x {} positions", count_, context_)));
        values_.push_back(device_.allocate(bytes, fmt::format("values of {} x {} positions", count_, context_)));
    }
    auto fill = [&](Buffer& buffer, const std::vector<uint32_t>& words, const char* what) {
        buffer = device_.allocate(words.size() * 4, what);
        device_.upload(buffer, 0, std::as_bytes(std::span(words)));
    };
    const auto n = uint64_t(count_);
    std::vector<float> table = llama_rope_table(c, context_);
    rope_ = device_.allocate(table.size() * 4, "RoPE table");
    device_.upload(rope_, 0, std::as_bytes(std::span(table)));
    parameters_ = device_.allocate_host(n * sizeof(SamplerParameters), "samplers");
    std::fill_n(parameters_.mapped_as<SamplerParameters>().begin(), n, greedy_parameters());
    limits_ = device_.allocate_host(n * 4, "limits");
    std::fill_n(limits_.mapped_as<uint32_t>().begin(), n, uint32_t(context_));
    ids_ = device_.allocate_host(uint64_t(pieces_[0]) * 4, "prompt");
    valid_ = device_.allocate_host(4, "prompt");
    last_row_ = device_.allocate_host(4, "prompt");
    generated_ = device_.allocate_host(n * uint64_t(context_) * 4, "generated tokens");
    fill(tokens_, std::vector<uint32_t>(n, 0), "tokens");
    fill(positions_, std::vector<uint32_t>(n, UINT32_MAX), "positions");
    fill(counters_, std::vector<uint32_t>(size_t(decode_attention_counters(count_, head_shape(c))), 0), "attention counters");
    fill(seen_, std::vector<uint32_t>(n * uint64_t(c.vocab_size), 0), "tokens seen");
    logits_ = device_.allocate(n * uint64_t(c.vocab_size) * 4, "logits");

    decode_.graph = decode_graph();
    uint64_t block = Arena::block_bytes(device_), workspace = plan(*decode_.graph, block).arena_bytes;
    for (bool last : {false, true}) {
        prefills_.push_back({0, pieces_[0], last, {prefill_graph(0, pieces_[0], last), nullptr}});
        workspace = std::max(workspace, plan(*prefills_.back().recording.graph, block).arena_bytes);
    }
    arena_ = std::make_shared<Arena>(device_, workspace, "activations");
    for (Prefill& p : prefills_)
        p.recording.executable =
            std::make_unique<Executable>(*p.recording.graph, p.last ? "prefill, last piece" : "prefill", arena_);
    decode_.executable = std::make_unique<Executable>(*decode_.graph, "decode", arena_);
}

Sequences::~Sequences() {
    try {
        device_.wait_idle();
    } catch (const Error&) {
        // The device is lost: nothing uses the buffers any more.
    }
}

// What sequence `at` has of a buffer that holds `elements` for each; all of it for at = -1.
Tensor Sequences::external(Graph& g, const Buffer& b, int64_t at, int64_t elements, DType type, const char* name) const {
    if (at < 0) return g.external(b, 0, {count_ * elements}, type, name);
    return g.external(b, uint64_t(at * elements) * vkqat::bytes(type), {elements}, type, name);
}

SamplerTensors Sequences::sampler(Graph& g, int64_t at, Tensor position, Tensor count) const {
    SamplerTensors t;
    t.parameters = external(g, parameters_, at, sampler_words, DType::u32, "samplers");
    t.token = external(g, tokens_, at, 1, DType::i32, "tokens");
    t.position = position;
    t.generated = external(g, generated_, at, context_, DType::i32, "generated");
    t.seen = external(g, seen_, at, weights_.config().vocab_size, DType::u32, "seen");
    t.count = count;
    if (!count) t.limits = external(g, limits_, at, 1, DType::u32, "limits");
    return t;
}

std::unique_ptr<Graph> Sequences::decode_graph() const {
    auto graph = std::make_unique<Graph>(device_);
    Graph& g = *graph;
    const LlamaConfig& c = weights_.config();
    const HeadShape shape = head_shape(c);
    LlamaTensors model = weights_.tensors(g);
    if (count_ > 1) g.set_precision(inference_precision(device_.capabilities(), model));
    Tensor position = external(g, positions_, -1, 1, DType::u32, "positions");
    Tensor table = g.external(rope_, 0, {context_, c.head_dim}, DType::f32, "rope");
    Tensor counters = g.external(counters_, 0, {decode_attention_counters(count_, shape)}, DType::u32, "attention counters");
    const Shape cache{count_ * context_, c.kv_dim()};
    Tensor logits = g.external(logits_, 0, {count_, c.vocab_size}, DType::f32, "logits");
    Tensor last = external(g, tokens_, -1, 1, DType::i32, "last tokens");
    llama_decode(
        g, c, model, embedding(g, last, model.embedding),
        [&](Graph& to, int64_t layer, Tensor qkv) {
            Tensor k = to.external(keys_[size_t(layer)], 0, cache, cache_type_, "keys");
            Tensor v = to.external(values_[size_t(layer)], 0, cache, cache_type_, "values");
            return decode_attention(to, qkv, table, k, v, position, shape, context_, {.counters = counters});
        },
        logits);
    sample(g, logits, sampler(g, -1, position, {}));
    return graph;
}

std::unique_ptr<Graph> Sequences::prefill_graph(int64_t at, int64_t rows, bool last) const {
    auto graph = std::make_unique<Graph>(device_);
    Graph& g = *graph;
    const LlamaConfig& c = weights_.config();
    const HeadShape shape = head_shape(c);
    LlamaTensors model = weights_.tensors(g);
    if (rows > 1) g.set_precision(inference_precision(device_.capabilities(), model));
    Tensor ids = g.external(ids_, 0, {rows}, DType::i32, "prompt");
    Tensor count = g.external(valid_, 0, {1}, DType::u32, "count");
    Tensor position = external(g, positions_, at, 1, DType::u32, "position");
    Tensor table = g.external(rope_, 0, {context_, c.head_dim}, DType::f32, "rope");
    const Shape cache{context_, c.kv_dim()};
    const uint64_t cache_offset = uint64_t(at * cache.elements()) * vkqat::bytes(cache_type_);
    Tensor hidden = llama_hidden(
        g, c, model, embedding(g, ids, model.embedding),
        [&](Graph& to, Tensor qkv) { return rope(to, qkv, table, c.heads + c.kv_heads, {.seq_len = rows, .start = position}); },
        [&](Graph& to, int64_t layer, Tensor qkv) {
            Tensor k = to.external(keys_[size_t(layer)], cache_offset, cache, cache_type_, "keys");
            Tensor v = to.external(values_[size_t(layer)], cache_offset, cache, cache_type_, "values");
            store_kv(to, qkv, k, v, position, shape, count);
            return cached_attention(to, qkv, k, v, position, shape, count);
        });
    mark_seen(g, ids, external(g, seen_, at, c.vocab_size, DType::u32, "seen"), count);
    if (!last) {
        advance_position(g, position, count);
        return graph;
    }
    // The row of the last valid token, picked as if it were an embedding.
    Tensor row = embedding(g, g.external(last_row_, 0, {1}, DType::i32, "last row"), hidden);
    Tensor logits = g.external(logits_, uint64_t(at * c.vocab_size) * 4, {1, c.vocab_size}, DType::f32, "logits");
    dense_linear(g, row, model.head, "head", {}, {}, logits);
    sample(g, logits, sampler(g, at, position, count));
    return graph;
}

Executable& Sequences::prefill_piece(int64_t at, int64_t rows, bool last) {
    for (Prefill& p : prefills_)
        if (p.at == at && p.rows == rows && p.last == last) return *p.recording.executable;
    Recording made{prefill_graph(at, rows, last), nullptr};
    const bool fits = plan(*made.graph, Arena::block_bytes(device_)).arena_bytes <= arena_->bytes();
    made.executable =
        std::make_unique<Executable>(*made.graph, last ? "prefill, last piece" : "prefill", fits ? arena_ : nullptr);
    prefills_.push_back({at, rows, last, std::move(made)});
    return *prefills_.back().recording.executable;
}

std::vector<ProfileRow> Sequences::profile_prefill() {
    device_.wait_idle();
    valid_.mapped_as<uint32_t>()[0] = uint32_t(pieces_[0]);
    last_row_.mapped_as<int32_t>()[0] = int32_t(pieces_[0] - 1);
    return prefill_piece(0, pieces_[0], true).profile();
}

void Sequences::check_prompt(std::span<const int32_t> prompt) const {
    const int64_t vocab = weights_.config().vocab_size;
    if (prompt.empty()) fail("the prompt has no tokens");
    if (int64_t(prompt.size()) > context_)
        fail("the prompt has {} tokens, the context only {}; shorten it or choose a larger context", prompt.size(), context_);
    for (int32_t id : prompt)
        if (id < 0 || id >= vocab) fail("token id {} is outside of the vocabulary of {}", id, vocab);
}

void Sequences::set_sampler(int64_t at, const SamplerParameters& parameters) {
    check_sampler(parameters);
    device_.wait_idle();
    parameters_.mapped_as<SamplerParameters>()[size_t(at)] = parameters;
}

void Sequences::set_position(int64_t at, uint32_t position) {
    device_.upload(positions_, uint64_t(at) * 4, std::as_bytes(std::span(&position, 1)));
}

void Sequences::set_seen(int64_t at, std::span<const int32_t> tokens) {
    std::vector<uint32_t> seen(size_t(weights_.config().vocab_size), 0);
    for (int32_t id : tokens) seen[size_t(id)] = 1;
    device_.upload(seen_, uint64_t(at) * seen.size() * 4, std::as_bytes(std::span(seen)));
}

void Sequences::set_limit(int64_t at, int64_t position) {
    limits_.mapped_as<uint32_t>()[size_t(at)] = uint32_t(std::clamp<int64_t>(position, 0, context_));
}

int32_t Sequences::prefill(int64_t at, std::span<const int32_t> prompt, int64_t cached) {
    check_prompt(prompt);
    if (cached < 0 || cached >= int64_t(prompt.size())) fail("prefill: {} of {} tokens cannot be cached", cached, prompt.size());
    set_position(at, uint32_t(cached));
    set_seen(at, prompt.first(size_t(cached)));
    for (auto begin = size_t(cached); begin < prompt.size();) {
        const size_t left = prompt.size() - begin;
        int64_t rows = pieces_[0];
        for (int64_t size : pieces_)
            if (size_t(size) >= left) rows = size;
        const size_t n = std::min<size_t>(size_t(rows), left);
        Executable& piece = prefill_piece(at, rows, n == left);
        device_.wait_idle();
        std::memset(ids_.mapped(), 0, ids_.bytes());
        std::memcpy(ids_.mapped(), prompt.data() + begin, n * 4);
        valid_.mapped_as<uint32_t>()[0] = uint32_t(n);
        last_row_.mapped_as<int32_t>()[0] = int32_t(n - 1);
        piece.replay();
        begin += n;
    }
    device_.wait_idle();
    return generated(at, int64_t(prompt.size()) - 1);
}

void Sequences::resume(int64_t at, std::span<const int32_t> tokens) {
    set_seen(at, tokens);
    set_position(at, tokens.empty() ? UINT32_MAX : uint32_t(tokens.size() - 1));
    if (!tokens.empty()) device_.upload(tokens_, uint64_t(at) * 4, std::as_bytes(tokens.last(1)));
}

std::vector<float> Sequences::logits(int64_t at) const {
    std::vector<float> values(size_t(weights_.config().vocab_size));
    device_.download(logits_, uint64_t(at) * values.size() * 4, std::as_writable_bytes(std::span(values)));
    return values;
}

uint64_t Sequences::decode(int64_t steps) { return decode_.executable->replay(uint32_t(steps)); }

}  // namespace vkqat
