#include "runtime/model/session.h"

#include <algorithm>
#include <cstring>

#include "runtime/ops/decode_attention.h"
#include "runtime/ops/dense_matvec.h"
#include "runtime/ops/embedding.h"
#include "runtime/ops/kv_cache.h"
#include "runtime/ops/rope.h"

namespace vkqat {
namespace {

// Decoded tokens that may be in flight: the GPU starts the next one while the host looks at the last.
constexpr int64_t tokens_in_flight = 4;

}  // namespace

struct Session::Graphs {
    explicit Graphs(Session& s);
    // rows tokens from `ids`; with `head` the last valid one goes through the head and a token is sampled.
    void build(Session& s, Graph& g, Tensor ids, int64_t rows, Tensor count, bool head);

    std::unique_ptr<Graph> body_graph, prompt_graph, token_graph;
    std::unique_ptr<Executable> body, prompt, token;
    uint64_t workspace = 0;
};

void Session::Graphs::build(Session& s, Graph& g, Tensor ids, int64_t rows, Tensor count, bool head) {
    const LlamaConfig& c = s.weights_.config();
    LlamaTensors model = s.weights_.tensors(g);
    auto external = [&](const Buffer& b, const Shape& shape, DType type, const char* name) {
        return g.external(b, 0, shape, type, name);
    };
    Tensor position = external(s.position_, {1}, DType::u32, "position");
    Tensor seen = external(s.seen_, {c.vocab_size}, DType::u32, "seen");
    Tensor table = external(s.rope_, {s.context_, c.head_dim}, DType::f32, "rope");
    HeadShape shape{uint32_t(c.heads), uint32_t(c.kv_heads), uint32_t(c.head_dim)};
    Shape cache{s.context_, c.kv_dim()};
    Tensor logits = external(s.logits_, {1, c.vocab_size}, DType::f32, "logits");
    auto sampler = [&] {
        SamplerTensors t;
        t.parameters = external(s.parameters_, {sizeof(SamplerParameters) / 4}, DType::u32, "sampler");
        t.token = external(s.token_, {1}, DType::i32, "token");
        t.position = position;
        t.generated = external(s.generated_, {s.context_}, DType::i32, "generated");
        t.seen = seen;
        t.count = count;
        return t;
    };
    if (rows > 1) g.set_precision(inference_precision(s.device_.capabilities(), model));
    if (!count) {  // a decoding step
        Tensor counters = external(s.counters_, {decode_attention_counters(1, shape)}, DType::u32, "attention counters");
        llama_decode(
            g, c, model, embedding(g, ids, model.embedding),
            [&](Graph& to, int64_t layer, Tensor qkv) {
                Tensor k = to.external(s.keys_[size_t(layer)], 0, cache, s.cache_type_, "keys");
                Tensor v = to.external(s.values_[size_t(layer)], 0, cache, s.cache_type_, "values");
                return decode_attention(to, qkv, table, k, v, position, shape, s.context_, {.counters = counters});
            },
            logits);
        sample(g, logits, sampler());
        return;
    }
    Tensor hidden = llama_hidden(
        g, c, model, embedding(g, ids, model.embedding),
        [&](Graph& to, Tensor qkv) {
            return rope(to, qkv, table, c.heads + c.kv_heads, {.seq_len = rows, .start = position});
        },
        [&](Graph& to, int64_t layer, Tensor qkv) {
            Tensor k = to.external(s.keys_[size_t(layer)], 0, cache, s.cache_type_, "keys");
            Tensor v = to.external(s.values_[size_t(layer)], 0, cache, s.cache_type_, "values");
            store_kv(to, qkv, k, v, position, shape, count);
            return cached_attention(to, qkv, k, v, position, shape, count);
        });
    mark_seen(g, ids, seen, count);
    if (!head) {
        advance_position(g, position, count);
        return;
    }
    // The row of the last valid token, picked as if it were an embedding.
    Tensor last = embedding(g, external(s.last_row_, {1}, DType::i32, "last row"), hidden);
    dense_linear(g, last, model.head, "head", {}, {}, logits);
    sample(g, logits, sampler());
}

Session::Graphs::Graphs(Session& s) {
    for (auto* graph : {&body_graph, &prompt_graph, &token_graph}) *graph = std::make_unique<Graph>(s.device_);
    for (Graph* g : {body_graph.get(), prompt_graph.get()}) {
        Tensor ids = g->external(s.ids_, 0, {s.rows_}, DType::i32, "prompt");
        Tensor count = g->external(s.count_, 0, {1}, DType::u32, "count");
        build(s, *g, ids, s.rows_, count, g == prompt_graph.get());
    }
    build(s, *token_graph, token_graph->external(s.token_, 0, {1}, DType::i32, "last token"), 1, {}, true);
    uint64_t block = Arena::block_bytes(s.device_);
    for (const Graph* g : {body_graph.get(), prompt_graph.get(), token_graph.get()})
        workspace = std::max(workspace, plan(*g, block).arena_bytes);
    auto arena = std::make_shared<Arena>(s.device_, workspace, "activations");
    body = std::make_unique<Executable>(*body_graph, "prefill", arena);
    prompt = std::make_unique<Executable>(*prompt_graph, "prefill, last chunk", arena);
    token = std::make_unique<Executable>(*token_graph, "decode", arena);
}

Session::Session(const LlamaWeights& weights, const SessionOptions& options)
    : weights_(weights), device_(weights.device()), rows_(options.prefill_rows), cache_type_(options.cache) {
    const LlamaConfig& c = weights.config();
    context_ = options.context ? options.context : std::min<int64_t>(c.max_position_embeddings, 4096);
    if (context_ < 1 || context_ > c.max_position_embeddings)
        fail("a context of {} tokens was asked for; the model allows 1 to {}", context_, c.max_position_embeddings);
    rows_ = std::clamp<int64_t>(rows_, 1, context_);
    uint64_t bytes = uint64_t(context_ * c.kv_dim()) * vkqat::bytes(cache_type_);
    cache_bytes_ = 2 * bytes * uint64_t(c.layers);
    for (int64_t i = 0; i < c.layers; i++) {
        keys_.push_back(device_.allocate(bytes, fmt::format("keys of {} positions", context_)));
        values_.push_back(device_.allocate(bytes, fmt::format("values of {} positions", context_)));
    }
    std::vector<float> table = llama_rope_table(c, context_);
    rope_ = device_.allocate(table.size() * 4, "RoPE table");
    device_.upload(rope_, 0, std::as_bytes(std::span(table)));
    parameters_ = device_.allocate_host(sizeof(SamplerParameters), "sampler");
    ids_ = device_.allocate_host(uint64_t(rows_) * 4, "prompt");
    count_ = device_.allocate_host(4, "prompt");
    last_row_ = device_.allocate_host(4, "prompt");
    generated_ = device_.allocate_host(uint64_t(context_) * 4, "generated tokens");
    token_ = device_.allocate(4, "token");
    position_ = device_.allocate(4, "position");
    counters_ = device_.allocate(uint64_t(c.heads) * 4, "attention counters");
    std::vector<uint32_t> zeros(size_t(c.heads), 0);
    device_.upload(counters_, 0, std::as_bytes(std::span(zeros)));
    seen_ = device_.allocate(uint64_t(c.vocab_size) * 4, "tokens seen");
    logits_ = device_.allocate(uint64_t(c.vocab_size) * 4, "logits");
    set_sampler(greedy_parameters());
    graphs_ = std::make_unique<Graphs>(*this);
    rewind(0);
}

Session::~Session() {
    try {
        device_.wait_idle();
    } catch (const Error&) {
        // The device is lost: nothing uses the buffers any more.
    }
}

void Session::set_sampler(const SamplerParameters& parameters) {
    check_sampler(parameters);
    device_.wait_idle();
    std::memcpy(parameters_.mapped(), &parameters, sizeof parameters);
}

void Session::write_position(int64_t position) {
    auto value = uint32_t(position);
    device_.upload(position_, 0, std::as_bytes(std::span(&value, 1)));
}

void Session::rebuild_seen() {
    std::vector<uint32_t> seen(size_t(weights_.config().vocab_size), 0);
    for (int32_t id : tokens_) seen[size_t(id)] = 1;
    device_.upload(seen_, 0, std::as_bytes(std::span(seen)));
}

void Session::rewind(int64_t length) {
    if (length < 0 || length > int64_t(tokens_.size())) fail("rewind to {} of {} tokens", length, tokens_.size());
    tokens_.resize(size_t(length));
    write_position(length);
    rebuild_seen();
}

int32_t Session::prefill(std::span<const int32_t> prompt) {
    const int64_t vocab = weights_.config().vocab_size;
    if (prompt.empty()) fail("the prompt has no tokens");
    if (int64_t(prompt.size()) > context_)
        fail("the prompt has {} tokens, the context only {}; shorten it or choose a larger context", prompt.size(), context_);
    for (int32_t id : prompt)
        if (id < 0 || id >= vocab) fail("token id {} is outside of the vocabulary of {}", id, vocab);
    // The last sampled token is in tokens_ but not in the cache; and the last token of the prompt must run for its logits.
    size_t cached = tokens_.empty() ? 0 : tokens_.size() - 1, kept = 0;
    while (kept < cached && kept + 1 < prompt.size() && tokens_[kept] == prompt[kept]) kept++;
    rewind(int64_t(kept));
    for (size_t begin = kept; begin < prompt.size();) {
        size_t n = std::min<size_t>(size_t(rows_), prompt.size() - begin);
        bool last = begin + n == prompt.size();
        device_.wait_idle();
        std::memset(ids_.mapped(), 0, ids_.bytes());
        std::memcpy(ids_.mapped(), prompt.data() + begin, n * 4);
        *static_cast<uint32_t*>(count_.mapped()) = uint32_t(n);
        *static_cast<int32_t*>(last_row_.mapped()) = int32_t(n - 1);
        (last ? graphs_->prompt : graphs_->body)->replay();
        begin += n;
    }
    device_.wait_idle();
    tokens_.assign(prompt.begin(), prompt.end());
    int32_t token = generated_.mapped_as<int32_t>()[prompt.size() - 1];
    tokens_.push_back(token);
    return token;
}

int64_t Session::decode(int64_t count, const std::function<bool(int32_t)>& next) {
    if (tokens_.empty()) fail("decode: there is no prompt yet");
    const auto first = int64_t(tokens_.size()) - 1;  // position of the next token to run
    count = std::min(count, context_ - first);
    std::vector<uint64_t> values;
    int64_t handed = 0;
    bool go_on = true;
    while (handed < count && go_on) {
        while (int64_t(values.size()) < std::min(count, handed + tokens_in_flight)) values.push_back(graphs_->token->replay());
        device_.wait(values[size_t(handed)]);
        int32_t token = generated_.mapped_as<int32_t>()[size_t(first + handed)];
        tokens_.push_back(token);
        handed++;
        go_on = next(token);
    }
    if (int64_t(values.size()) > handed) {  // tokens made in advance are forgotten; the last one handed over is fed next
        device_.wait_idle();
        write_position(int64_t(tokens_.size()) - 1);
        rebuild_seen();
        device_.upload(token_, 0, std::as_bytes(std::span(&tokens_.back(), 1)));
    }
    return handed;
}

std::vector<float> Session::logits() const {
    std::vector<float> values(size_t(weights_.config().vocab_size));
    device_.download(logits_, 0, std::as_writable_bytes(std::span(values)));
    return values;
}

void Session::pretend(int64_t length) {
    if (length < 0 || length >= context_) fail("pretend: {} positions of a context of {}", length, context_);
    device_.wait_idle();
    tokens_.assign(size_t(length) + 1, 0);
    write_position(length);
    device_.upload(token_, 0, std::as_bytes(std::span(&tokens_.back(), 1)));
}

std::vector<ProfileRow> Session::profile_prefill() {
    pretend(0);
    *static_cast<uint32_t*>(count_.mapped()) = uint32_t(rows_);
    *static_cast<int32_t*>(last_row_.mapped()) = int32_t(rows_ - 1);
    auto rows = graphs_->prompt->profile();
    pretend(0);
    return rows;
}

std::vector<ProfileRow> Session::profile_decode() {
    if (tokens_.empty()) fail("profile: there is no prompt yet");
    auto rows = graphs_->token->profile();
    write_position(int64_t(tokens_.size()) - 1);
    device_.upload(token_, 0, std::as_bytes(std::span(&tokens_.back(), 1)));
    rebuild_seen();
    return rows;
}

uint64_t Session::workspace_bytes() const { return graphs_->workspace; }
double Session::decode_bytes() const { return graphs_->token->total_bytes(); }

}  // namespace vkqat
