#include "runtime/model/scorer.h"

#include <cstring>
#include <numeric>

#include "runtime/ops/attention.h"
#include "runtime/ops/cross_entropy.h"
#include "runtime/ops/embedding.h"
#include "runtime/ops/matmul.h"
#include "runtime/ops/rope.h"

namespace vkqat {
namespace {

// Hidden states behind the last norm, [batch * seq_len, hidden_size].
Tensor hidden_states(Graph& g, const LlamaConfig& c, const LlamaTensors& model, Tensor ids, int64_t batch, int64_t seq_len,
                     const Buffer& rope_buffer, Tensor start, Tensor end) {
    Tensor table = g.external(rope_buffer, 0, {seq_len, c.head_dim}, DType::f32, "rope");
    AttentionShape shape{uint32_t(batch), uint32_t(seq_len), uint32_t(c.heads), uint32_t(c.kv_heads), uint32_t(c.head_dim)};
    return llama_hidden(
        g, c, model, embedding(g, ids, model.embedding),
        [&](Graph& to, Tensor qkv) { return rope(to, qkv, table, c.heads + c.kv_heads, {.seq_len = seq_len}); },
        [&](Graph& to, int64_t, Tensor qkv) { return attention(to, qkv, shape, start, end); });
}

void check_ids(std::span<const int32_t> ids, int64_t vocab, bool negative_allowed, const char* what) {
    for (size_t i = 0; i < ids.size(); i++)
        if (ids[i] >= vocab || (ids[i] < 0 && !negative_allowed))
            fail("{} {} is {}, but the vocabulary has {} tokens", what, i, ids[i], vocab);
}

}  // namespace

Scorer::Scorer(const LlamaWeights& weights, int64_t batch, int64_t seq_len)
    : weights_(weights), batch_(batch), seq_len_(seq_len) {
    if (batch < 1 || seq_len < 1) fail("scoring needs at least one sequence of one token");
    Device& device = weights.device();
    const int64_t tokens = batch * seq_len;
    const bool planned = weights.planned();
    if (!planned) {
        for (Buffer* b : {&ids_, &labels_, &document_start_, &document_end_})
            *b = device.allocate_host(uint64_t(tokens) * 4, "tokens to score");
        scale_ = device.allocate_host(4, "scale of the loss");
        *static_cast<float*>(scale_.mapped()) = 1;
        rows_ = device.allocate(uint64_t(tokens) * 4, "scores");
        rope_ = upload_rope_table(device, weights.config(), seq_len);
    }
    graph_ = std::make_unique<Graph>(device);
    Graph& g = *graph_;
    auto input = [&](const Buffer& b, const Shape& shape, const char* name) { return g.external(b, 0, shape, DType::i32, name); };
    LlamaTensors model = weights.tensors(g);
    g.set_precision(inference_precision(device.capabilities(), model));
    Tensor hidden = hidden_states(g, weights.config(), model, input(ids_, {tokens}, "ids"), batch, seq_len, rope_,
                                  input(document_start_, {batch, seq_len}, "document_start"),
                                  input(document_end_, {batch, seq_len}, "document_end"));
    head_loss(g, hidden, model.head, input(labels_, {tokens}, "labels"), g.external(scale_, 0, {1}, DType::f32, "scale"),
              {.rows = g.external(rows_, 0, {tokens}, DType::f32, "scores")});
    device_bytes_ = plan(g, Arena::block_bytes(device)).arena_bytes + uint64_t(tokens + seq_len * weights.config().head_dim) * 4;
    if (!planned) executable_ = std::make_unique<Executable>(g, "scoring");
}

Scorer::~Scorer() = default;

std::vector<float> Scorer::score(std::span<const int32_t> ids, std::span<const int32_t> labels,
                                 std::span<const int32_t> document_start, std::span<const int32_t> document_end) {
    size_t tokens = size_t(batch_ * seq_len_);
    if (!executable_) fail("scoring: the weights are only planned");
    if (ids.size() != tokens || labels.size() != tokens || document_start.size() != tokens || document_end.size() != tokens)
        fail("scoring: expected {} tokens, found {}", tokens, ids.size());
    check_ids(ids, weights_.config().vocab_size, false, "token id");
    check_ids(labels, weights_.config().vocab_size, true, "label");
    auto copy = [](const Buffer& to, std::span<const int32_t> from) { std::memcpy(to.mapped(), from.data(), from.size_bytes()); };
    copy(ids_, ids);
    copy(labels_, labels);
    copy(document_start_, document_start);
    copy(document_end_, document_end);
    executable_->run();
    std::vector<float> rows(tokens);
    weights_.device().download(rows_, 0, std::as_writable_bytes(std::span(rows)));
    return rows;
}

std::vector<float> all_logits(const LlamaWeights& weights, std::span<const int32_t> ids) {
    Device& device = weights.device();
    const LlamaConfig& c = weights.config();
    if (ids.empty()) fail("logits: no tokens");
    check_ids(ids, c.vocab_size, false, "token id");
    auto tokens = int64_t(ids.size());
    Buffer ids_buffer = device.allocate(ids.size_bytes(), "tokens"), table = upload_rope_table(device, c, tokens);
    device.upload(ids_buffer, 0, std::as_bytes(ids));
    Buffer result = device.allocate(uint64_t(tokens * c.vocab_size) * 4, "logits");
    Graph g(device);
    LlamaTensors model = weights.tensors(g);
    g.set_precision(inference_precision(device.capabilities(), model));
    Tensor hidden = hidden_states(g, c, model, g.external(ids_buffer, 0, {tokens}, DType::i32, "ids"), 1, tokens, table, {}, {});
    matmul(g, Product::nt, hidden, model.head, {}, g.external(result, 0, {tokens, c.vocab_size}, DType::f32, "logits"), "head");
    Executable(g, "logits").run();
    std::vector<float> logits(size_t(tokens * c.vocab_size));
    device.download(result, 0, std::as_writable_bytes(std::span(logits)));
    return logits;
}

}  // namespace vkqat
