#include "runtime/model/sequences.h"

#include <algorithm>
#include <cstring>

#include "runtime/ops/cross_entropy.h"
#include "runtime/ops/decode_attention.h"
#include "runtime/ops/dense_matvec.h"
#include "runtime/ops/embedding.h"
#include "runtime/ops/kv_cache_i8.h"
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
    const uint64_t scale_bytes = cache_type_ == DType::i8 ? uint64_t(count_ * context_ * c.kv_heads) * 4 : 0;
    cache_bytes_ = 2 * (bytes + scale_bytes) * uint64_t(c.layers);
    for (int64_t i = 0; i < c.layers; i++) {
        keys_.push_back(allocate(bytes, fmt::format("keys of {} x {} positions", count_, context_)));
        values_.push_back(allocate(bytes, fmt::format("values of {} x {} positions", count_, context_)));
        key_scales_.push_back(scale_bytes ? allocate(scale_bytes, "scales of keys") : Buffer());
        value_scales_.push_back(scale_bytes ? allocate(scale_bytes, "scales of values") : Buffer());
    }
    const auto n = uint64_t(count_);
    rope_ = allocate(uint64_t(context_ * c.head_dim) * 4, "RoPE table");
    parameters_ = allocate_host(n * sizeof(SamplerParameters), "samplers");
    limits_ = allocate_host(n * 4, "limits");
    ids_ = allocate_host(uint64_t(pieces_[0]) * 4, "prompt");
    valid_ = allocate_host(4, "prompt");
    last_row_ = allocate_host(4, "prompt");
    generated_ = allocate_host(n * uint64_t(context_) * 4, "generated tokens");
    tokens_ = allocate_filled(std::vector<uint32_t>(n, 0), "tokens");
    positions_ = allocate_filled(std::vector<uint32_t>(n, UINT32_MAX), "positions");
    counters_ =
        allocate_filled(std::vector<uint32_t>(size_t(decode_attention_counters(count_, head_shape(c))), 0), "attention counters");
    const int64_t handed_words = packed_layers_words(head_shape(c), c.hidden_size, c.intermediate_size);
    handed_on_ = allocate_filled(std::vector<uint32_t>(size_t(handed_words), UINT32_MAX), "what workgroups hand on");
    turn_ = allocate_filled({0}, "what workgroups hand on");
    in_vain_ = allocate_host(4, "what workgroups hand on");
    seen_ = allocate_filled(std::vector<uint32_t>(n * uint64_t(c.vocab_size), 0), "tokens seen");
    logits_ = allocate(n * uint64_t(c.vocab_size) * 4, "logits");

    decode_.graph = decode_graph(options.one_dispatch);
    one_dispatch_keys_ =
        options.one_dispatch_keys ? options.one_dispatch_keys : packed_layers_keys(device_.capabilities(), uint32_t(c.heads));
    if (count_ == 1 && options.one_dispatch && context_ > one_dispatch_keys_) {
        decode_long_.graph = decode_graph(false);
        // As many nodes: this model does not go through one dispatch here.
        if (decode_long_.graph->nodes().size() == decode_.graph->nodes().size()) decode_long_.graph.reset();
    }
    const uint64_t block = Arena::block_bytes(device_);
    workspace_ = plan(*decode_.graph, block).arena_bytes;
    if (decode_long_.graph) workspace_ = std::max(workspace_, plan(*decode_long_.graph, block).arena_bytes);
    for (Piece piece : {Piece::inner, Piece::last}) {
        prefills_.push_back({0, pieces_[0], piece, {prefill_graph(0, pieces_[0], piece), nullptr}});
        workspace_ = std::max(workspace_, plan(*prefills_.back().recording.graph, block).arena_bytes);
    }
    device_bytes_ += workspace_;
    if (weights.planned()) return;
    std::vector<float> table = llama_rope_table(c, context_);
    device_.upload(rope_, 0, std::as_bytes(std::span(table)));
    std::fill_n(parameters_.mapped_as<SamplerParameters>().begin(), n, greedy_parameters());
    in_vain_.mapped_as<uint32_t>()[0] = 0;
    std::fill_n(limits_.mapped_as<uint32_t>().begin(), n, uint32_t(context_));
    arena_ = std::make_shared<Arena>(device_, workspace_, "activations");
    for (Prefill& p : prefills_) p.recording.executable = std::make_unique<Executable>(*p.recording.graph, "prefill", arena_);
    decode_.executable = std::make_unique<Executable>(*decode_.graph, "decode", arena_);
    if (decode_long_.graph) decode_long_.executable = std::make_unique<Executable>(*decode_long_.graph, "decode", arena_);
}

Buffer Sequences::allocate(uint64_t bytes, const std::string& what) {
    device_bytes_ += bytes;
    return weights_.planned() ? Buffer() : device_.allocate(bytes, what);
}

Buffer Sequences::allocate_filled(const std::vector<uint32_t>& words, const std::string& what) {
    Buffer buffer = allocate(words.size() * 4, what);
    if (buffer) device_.upload(buffer, 0, std::as_bytes(std::span(words)));
    return buffer;
}

Buffer Sequences::allocate_host(uint64_t bytes, const std::string& what) {
    return weights_.planned() ? Buffer() : device_.allocate_host(bytes, what);
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

std::unique_ptr<Graph> Sequences::decode_graph(bool one_dispatch) const {
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
    std::vector<Tensor> keys, values;
    for (size_t i = 0; i < keys_.size(); i++) {
        keys.push_back(g.external(keys_[i], 0, cache, cache_type_, "keys"));
        values.push_back(g.external(values_[i], 0, cache, cache_type_, "values"));
    }
    const DecodeState state{
        .cache_k = keys,
        .cache_v = values,
        .rope_table = table,
        .position = position,
        .max_positions = context_,
        .memory = {.handed_on = g.external(handed_on_, 0, {packed_layers_words(shape, c.hidden_size, c.intermediate_size)},
                                           DType::u32, "handed on"),
                   .turn = g.external(turn_, 0, {1}, DType::u32, "turn"),
                   .in_vain = g.external(in_vain_, 0, {1}, DType::u32, "in vain")}};
    const Attend attend = [&](Graph& to, int64_t layer, Tensor qkv) {
        DecodeAttentionOptions options{.counters = counters};
        if (cache_type_ == DType::i8) {
            const Shape scales{count_ * c.kv_heads, context_};
            options.scales_k = to.external(key_scales_[size_t(layer)], 0, scales, DType::f32, "scales of keys");
            options.scales_v = to.external(value_scales_[size_t(layer)], 0, scales, DType::f32, "scales of values");
        }
        return decode_attention(to, qkv, table, keys[size_t(layer)], values[size_t(layer)], position, shape, context_, options);
    };
    llama_decode(g, c, model, embedding(g, last, model.embedding), attend, logits,
                 one_dispatch && count_ == 1 ? &state : nullptr);
    sample(g, logits, sampler(g, -1, position, {}));
    return graph;
}

std::unique_ptr<Graph> Sequences::prefill_graph(int64_t at, int64_t rows, Piece piece) const {
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
            if (cache_type_ == DType::i8) {
                const Shape scales{c.kv_heads, context_};
                const uint64_t offset = uint64_t(at * scales.elements()) * 4;
                const CacheI8 held{k, v, to.external(key_scales_[size_t(layer)], offset, scales, DType::f32, "scales of keys"),
                                   to.external(value_scales_[size_t(layer)], offset, scales, DType::f32, "scales of values")};
                store_kv(to, qkv, held, position, shape, count);
                return cached_attention(to, qkv, held, position, shape, count);
            }
            store_kv(to, qkv, k, v, position, shape, count);
            return cached_attention(to, qkv, k, v, position, shape, count);
        });
    mark_seen(g, ids, external(g, seen_, at, c.vocab_size, DType::u32, "seen"), count);
    if (piece != Piece::last) {
        if (piece == Piece::scored)
            head_loss(g, hidden, model.head, g.external(labels_, 0, {rows}, DType::i32, "labels"),
                      g.external(loss_scale_, 0, {1}, DType::f32, "scale"),
                      {.rows = g.external(scores_, 0, {rows}, DType::f32, "scores")});
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

Executable& Sequences::prefill_piece(int64_t at, int64_t rows, Piece piece) {
    for (Prefill& p : prefills_)
        if (p.at == at && p.rows == rows && p.piece == piece) return *p.recording.executable;
    Recording made{prefill_graph(at, rows, piece), nullptr};
    const bool fits = plan(*made.graph, Arena::block_bytes(device_)).arena_bytes <= arena_->bytes();
    made.executable =
        std::make_unique<Executable>(*made.graph, piece == Piece::scored ? "scoring" : "prefill", fits ? arena_ : nullptr);
    prefills_.push_back({at, rows, piece, std::move(made)});
    return *prefills_.back().recording.executable;
}

std::vector<ProfileRow> Sequences::profile_prefill() {
    device_.wait_idle();
    valid_.mapped_as<uint32_t>()[0] = uint32_t(pieces_[0]);
    last_row_.mapped_as<int32_t>()[0] = int32_t(pieces_[0] - 1);
    return prefill_piece(0, pieces_[0], Piece::last).profile();
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
    position_ = position == UINT32_MAX ? 0 : position;
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
        Executable& piece = prefill_piece(at, rows, n == left ? Piece::last : Piece::inner);
        write_piece(prompt.subspan(begin, n));
        piece.replay();
        begin += n;
    }
    device_.wait_idle();
    position_ = int64_t(prompt.size());
    return generated(at, int64_t(prompt.size()) - 1);
}

// Waits for the piece before it.
void Sequences::write_piece(std::span<const int32_t> tokens) {
    device_.wait_idle();
    std::memset(ids_.mapped(), 0, ids_.bytes());
    std::memcpy(ids_.mapped(), tokens.data(), tokens.size_bytes());
    valid_.mapped_as<uint32_t>()[0] = uint32_t(tokens.size());
    last_row_.mapped_as<int32_t>()[0] = int32_t(tokens.size()) - 1;
}

std::vector<float> Sequences::score(int64_t at, std::span<const int32_t> tokens) {
    check_prompt(tokens);
    const auto rows = size_t(pieces_[0]);
    if (!labels_) {
        labels_ = device_.allocate_host(rows * 4, "labels");
        loss_scale_ = device_.allocate_host(4, "scale of the loss");
        loss_scale_.mapped_as<float>()[0] = 1;
        scores_ = device_.allocate(rows * 4, "scores");
    }
    Executable& piece = prefill_piece(at, pieces_[0], Piece::scored);
    set_position(at, 0);
    std::vector<float> nats, of_piece(rows);
    for (size_t begin = 0; begin + 1 < tokens.size(); begin += rows) {
        const size_t n = std::min(rows, tokens.size() - 1 - begin);
        write_piece(tokens.subspan(begin, n));
        auto labels = labels_.mapped_as<int32_t>();
        std::fill(labels.begin(), labels.end(), -1);
        std::copy_n(tokens.begin() + int64_t(begin) + 1, n, labels.begin());
        piece.run();
        device_.download(scores_, 0, std::as_writable_bytes(std::span(of_piece)));
        nats.insert(nats.end(), of_piece.begin(), of_piece.begin() + int64_t(n));
    }
    resume(at, {});
    return nats;
}

void Sequences::resume(int64_t at, std::span<const int32_t> tokens) {
    set_seen(at, tokens);
    set_position(at, tokens.empty() ? UINT32_MAX : uint32_t(tokens.size() - 1));
    if (!tokens.empty()) device_.upload(tokens_, uint64_t(at) * 4, std::as_bytes(tokens.last(1)));
}

std::vector<float> Sequences::logits(int64_t at) const {
    check_waits();
    std::vector<float> values(size_t(weights_.config().vocab_size));
    device_.download(logits_, uint64_t(at) * values.size() * 4, std::as_writable_bytes(std::span(values)));
    return values;
}

void Sequences::check_waits() const {
    if (in_vain_.mapped_as<uint32_t>()[0] == 0) return;
    fail(
        "decoding: {} does not run the workgroups of one dispatch together, so that tokens are wrong; VKQAT_ONE_DISPATCH=0 in "
        "the environment gives it dispatches that need not",
        device_.capabilities().name);
}

Executable& Sequences::decoding_at(int64_t position) const {
    return *(decode_long_.executable && position > one_dispatch_keys_ ? decode_long_ : decode_).executable;
}

uint64_t Sequences::decode(int64_t steps) {
    uint64_t value = 0;
    while (steps > 0) {
        const int64_t before_long = one_dispatch_keys_ + 1 - position_;
        const int64_t now = decode_long_.executable && before_long > 0 ? std::min(steps, before_long) : steps;
        value = decoding_at(position_).replay(uint32_t(now));
        position_ += now;
        steps -= now;
    }
    return value;
}

}  // namespace vkqat
