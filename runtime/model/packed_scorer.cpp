#include "runtime/model/packed_scorer.h"

#include <algorithm>

#include "runtime/ops/embedding.h"
#include "runtime/ops/matmul.h"
#include "runtime/ops/prefix_attention.h"
#include "runtime/ops/rope.h"
#include "runtime/ops/token_scores.h"

namespace vkqat {
namespace {

constexpr int64_t rows_at_once = 512;  // of the head, so that the logits stay small

}  // namespace

int64_t SharedSequences::tokens() const {
    int64_t count = int64_t(prefix.size());
    for (const auto& tail : rest) count += int64_t(tail.size());
    return count;
}

PackedScorer::PackedScorer(const LlamaWeights& weights, int64_t tokens, int64_t rows)
    : weights_(weights), tokens_(tokens), rows_(rows), positions_(std::min(tokens, weights.config().max_position_embeddings)) {
    if (tokens < 1 || rows < 1) fail("scoring needs at least one token and one place");
    Device& device = weights.device();
    const LlamaConfig& c = weights.config();
    for (Buffer* b : {&ids_, &position_, &first_, &skip_from_, &skip_to_})
        *b = device.allocate_host(uint64_t(tokens) * 4, "tokens to score");
    for (Buffer* b : {&places_, &labels_}) *b = device.allocate_host(uint64_t(rows) * 4, "places to score");
    nll_ = device.allocate(uint64_t(rows) * 4, "scores");
    best_ = device.allocate(uint64_t(rows) * 4, "best tokens");
    rope_ = upload_rope_table(device, c, positions_);

    graph_ = std::make_unique<Graph>(device);
    Graph& g = *graph_;
    auto input = [&](const Buffer& b, int64_t count, const char* name) { return g.external(b, 0, {count}, DType::i32, name); };
    LlamaTensors model = weights.tensors(g);
    g.set_precision(inference_precision(device.capabilities(), model));
    AttentionShape shape{1, uint32_t(tokens), uint32_t(c.heads), uint32_t(c.kv_heads), uint32_t(c.head_dim)};
    Tensor first = input(first_, tokens, "first"), skip_from = input(skip_from_, tokens, "skip_from"),
           skip_to = input(skip_to_, tokens, "skip_to");
    // Each token's row of the table, so that a position may occur several times.
    Tensor angles =
        embedding(g, input(position_, tokens, "position"), g.external(rope_, 0, {positions_, c.head_dim}, DType::f32, "rope"));
    Tensor hidden = llama_hidden(
        g, c, model, embedding(g, input(ids_, tokens, "ids"), model.embedding),
        [&](Graph& to, Tensor qkv) { return rope(to, qkv, angles, c.heads + c.kv_heads); },
        [&](Graph& to, int64_t, Tensor qkv) { return prefix_attention(to, qkv, shape, first, skip_from, skip_to); });
    for (int64_t at = 0; at < rows; at += rows_at_once) {
        const int64_t count = std::min(rows_at_once, rows - at);
        auto part = [&](const Buffer& b, DType type, const char* name) {
            return g.external(b, uint64_t(at) * 4, {count}, type, name);
        };
        Tensor chosen = embedding(g, part(places_, DType::i32, "places"), hidden);
        Tensor logits = g.tensor({count, c.vocab_size}, DType::f32, "logits");
        matmul(g, Product::nt, chosen, model.head, {}, logits, "head");
        token_scores(g, logits, part(labels_, DType::i32, "labels"), part(nll_, DType::f32, "nll"),
                     part(best_, DType::i32, "best"));
    }
    executable_ = std::make_unique<Executable>(g, "scoring");
}

PackedScorer::~PackedScorer() = default;

std::vector<TokenScore> PackedScorer::score(std::span<const SharedSequences> groups, std::span<const ScoredToken> wanted) {
    const LlamaConfig& c = weights_.config();
    auto write = [](const Buffer& b) { return static_cast<int32_t*>(b.mapped()); };
    int32_t *ids = write(ids_), *position = write(position_), *first = write(first_), *from = write(skip_from_),
            *to = write(skip_to_);
    std::vector<int32_t> group_starts;
    std::vector<std::vector<int32_t>> starts(groups.size());  // where each sequence's own part stands
    int64_t at = 0;
    auto add = [&](int32_t id, int64_t place, int64_t begin, int64_t skipped_from, int64_t skipped_to) {
        if (id < 0 || id >= c.vocab_size) fail("token id {} is {}, but the vocabulary has {} tokens", place, id, c.vocab_size);
        ids[at] = id;
        position[at] = int32_t(place);
        first[at] = int32_t(begin);
        from[at] = int32_t(skipped_from);
        to[at] = int32_t(skipped_to);
        at++;
    };
    for (size_t n = 0; n < groups.size(); n++) {
        const SharedSequences& group = groups[n];
        const int64_t begin = at, shared = int64_t(group.prefix.size());
        if (shared < 1) fail("scoring: a group of sequences shares no token");
        if (at + group.tokens() > tokens_) fail("scoring: more than {} tokens", tokens_);
        group_starts.push_back(int32_t(begin));
        for (int64_t i = 0; i < shared; i++) add(group.prefix[size_t(i)], i, begin, 0, 0);
        for (const auto& tail : group.rest) {
            if (shared + int64_t(tail.size()) > positions_)
                fail("scoring: a sequence of {} tokens; expected at most {}", shared + int64_t(tail.size()), positions_);
            const int64_t own = at;
            starts[n].push_back(int32_t(own));
            for (size_t i = 0; i < tail.size(); i++) add(tail[i], shared + int64_t(i), begin, begin + shared, own);
        }
        if (shared > positions_) fail("scoring: a sequence of {} tokens; expected at most {}", shared, positions_);
    }
    while (at < tokens_) add(0, 0, at, 0, 0);

    if (int64_t(wanted.size()) > rows_) fail("scoring: {} places, but the graph has {}", wanted.size(), rows_);
    int32_t *places = write(places_), *labels = write(labels_);
    std::fill_n(places, rows_, 0);
    std::fill_n(labels, rows_, -1);
    for (size_t i = 0; i < wanted.size(); i++) {
        const ScoredToken& w = wanted[i];
        if (w.group < 0 || size_t(w.group) >= groups.size()) fail("scoring: place {} is in no group", i);
        const SharedSequences& group = groups[size_t(w.group)];
        const auto shared = int32_t(group.prefix.size());
        if (w.sequence < 0 || size_t(w.sequence) >= group.rest.size() || w.at < 0 ||
            w.at >= shared + int32_t(group.rest[size_t(w.sequence)].size()))
            fail("scoring: place {} is outside of its sequence", i);
        if (w.label < 0 || w.label >= c.vocab_size)
            fail("label {} is {}, but the vocabulary has {} tokens", i, w.label, c.vocab_size);
        places[i] =
            w.at < shared ? group_starts[size_t(w.group)] + w.at : starts[size_t(w.group)][size_t(w.sequence)] + w.at - shared;
        labels[i] = w.label;
    }
    executable_->run();
    std::vector<float> nll(size_t(rows_), 0);
    std::vector<int32_t> best(size_t(rows_), 0);
    weights_.device().download(nll_, 0, std::as_writable_bytes(std::span(nll)));
    weights_.device().download(best_, 0, std::as_writable_bytes(std::span(best)));
    std::vector<TokenScore> scores(wanted.size());
    for (size_t i = 0; i < wanted.size(); i++) scores[i] = {nll[i], best[i]};
    return scores;
}

}  // namespace vkqat
