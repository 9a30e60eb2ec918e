#include "trainer/data.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "runtime/support/error.h"
#include "trainer/random.h"
#include "trainer/sft_examples.h"

namespace vkqat {

namespace {

struct PositionKey {
    const char* name;
    uint64_t StreamPosition::*field;
};
constexpr PositionKey position_keys[] = {
    {"seed", &StreamPosition::seed},     {"epoch", &StreamPosition::epoch},     {"document", &StreamPosition::document},
    {"offset", &StreamPosition::offset}, {"windows", &StreamPosition::windows}, {"corpus", &StreamPosition::corpus},
};

uint64_t whole_number(const nlohmann::json& json, const char* key) {
    auto value = json.find(key);
    if (value == json.end() || !value->is_number_unsigned())
        fail("data position: expected \"{}\" with a whole number from 0, found {}", key,
             value == json.end() ? "nothing" : value->dump().substr(0, 40));
    return value->get<uint64_t>();
}

StreamPosition stream_from_json(const nlohmann::json& json) {
    if (!json.is_object()) fail("data position: expected a JSON object for a dataset");
    StreamPosition position;
    for (const PositionKey& key : position_keys) position.*key.field = whole_number(json, key.name);
    return position;
}

}  // namespace

Batch::Batch(int64_t batch_size, int64_t length)
    : batch(batch_size),
      seq_len(length),
      ids(size_t(batch_size * length)),
      labels(ids.size(), no_label),
      document_start(ids.size()),
      document_end(ids.size()) {}

uint64_t DataPosition::epoch() const {
    uint64_t least = UINT64_MAX;
    for (const StreamPosition& stream : streams) least = std::min(least, stream.epoch);
    return streams.empty() ? 0 : least;
}

std::string data_position_to_json(const DataPosition& position) {
    nlohmann::json json = {{"windows", position.windows}, {"datasets", nlohmann::json::array()}};
    for (const StreamPosition& stream : position.streams) {
        nlohmann::json& entry = json["datasets"].emplace_back();
        for (const PositionKey& key : position_keys) entry[key.name] = stream.*key.field;
    }
    return json.dump();
}

DataPosition data_position_from_json(std::string_view text) {
    auto json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_object()) fail("data position: expected a JSON object");
    auto datasets = json.find("datasets");
    if (datasets == json.end()) {  // as it was written when there was one dataset only
        DataPosition position{.streams = {stream_from_json(json)}};
        position.windows = position.streams[0].windows;
        return position;
    }
    if (!datasets->is_array()) fail("data position: expected an array \"datasets\"");
    DataPosition position{.windows = whole_number(json, "windows")};
    for (const auto& entry : *datasets) position.streams.push_back(stream_from_json(entry));
    return position;
}

WindowStream::WindowStream(std::shared_ptr<const TokenCache> tokens, const BatchOptions& options)
    : tokens_(std::move(tokens)), options_(options) {
    restore({.seed = options.seed});
}

void WindowStream::restore(const StreamPosition& position) {
    if (position.corpus != 0 && position.corpus != tokens_->checksum())
        fail("the training data or its tokenizer changed since the data position was saved (checksum {:016x}, now {:016x})",
             position.corpus, tokens_->checksum());
    if (position.seed != options_.seed)
        fail("the data position was saved with seed {}, the configuration says {}", position.seed, options_.seed);
    if (position.document >= tokens_->documents())
        fail("the data position is at document {}, but the corpus has {}", position.document, tokens_->documents());
    if (options_.examples) {
        WindowStream there = *this;
        there.position_ = position;
        there.position_.corpus = tokens_->checksum();
        there.plan_block();
        if (position.offset >= there.block_.size())
            fail("the data position is at window {} of a block that has {}", position.offset, there.block_.size());
        *this = std::move(there);
        return;
    }
    uint64_t current = Permutation(tokens_->documents(), mix64(position.seed) ^ position.epoch)(position.document);
    if (position.offset >= length(current))
        fail("the data position is at token {} of a document that has {}", position.offset, length(current));
    position_ = position;
    position_.corpus = tokens_->checksum();
    current_ = current;
}

uint64_t WindowStream::length(uint64_t document) const {
    return tokens_->document(document).size() + (options_.bos_id >= 0) + (options_.eos_id >= 0);
}

int32_t WindowStream::token(uint64_t document, uint64_t offset) const {
    if (options_.bos_id >= 0 && offset-- == 0) return options_.bos_id;
    TokenSpan ids = tokens_->document(document);
    return offset < ids.size() ? ids[offset] : options_.eos_id;
}

void WindowStream::next_document() {
    position_.offset = 0;
    if (++position_.document == tokens_->documents()) {
        position_.document = 0;
        ++position_.epoch;
    }
    current_ = Permutation(tokens_->documents(), mix64(position_.seed) ^ position_.epoch)(position_.document);
}

void WindowStream::plan_block() {
    constexpr uint64_t most = 1024;
    const Permutation shuffled(tokens_->documents(), mix64(position_.seed) ^ position_.epoch);
    block_examples_ = std::min(most, tokens_->documents() - position_.document);
    struct Example {
        uint64_t inputs, index;
    };
    std::vector<Example> examples;
    for (uint64_t i = 0; i < block_examples_; i++) {
        const uint64_t index = shuffled(position_.document + i);
        examples.push_back({std::min(tokens_->document(index).size() - 1, uint64_t(options_.seq_len)), index});
    }
    std::stable_sort(examples.begin(), examples.end(), [](const Example& a, const Example& b) { return a.inputs > b.inputs; });
    block_.clear();
    std::multimap<uint64_t, size_t> room;  // of each window
    for (const Example& example : examples) {
        auto best = room.lower_bound(example.inputs);
        if (best == room.end()) {
            best = room.emplace(uint64_t(options_.seq_len), block_.size());
            block_.emplace_back();
        }
        block_[best->second].push_back(example.index);
        room.emplace(best->first - example.inputs, best->second);
        room.erase(best);
    }
    std::mt19937_64 random(mix64(mix64(position_.seed) ^ position_.epoch) ^ position_.document);
    for (size_t i = block_.size(); i > 1; i--) std::swap(block_[i - 1], block_[uniform_below(random, i)]);
}

void WindowStream::next_packed_window() {
    ++position_.windows;
    if (++position_.offset < block_.size()) return;
    position_.offset = 0;
    position_.document += block_examples_;
    if (position_.document == tokens_->documents()) {
        position_.document = 0;
        ++position_.epoch;
    }
    plan_block();
}

// An example that was longer than a window has one token too many.
void WindowStream::read_packed(Batch& batch, size_t base) {
    const auto seq_len = int32_t(options_.seq_len);
    int32_t used = 0;
    for (uint64_t index : block_[position_.offset]) {
        const TokenSpan example = tokens_->document(index);
        const auto inputs = int32_t(std::min<uint64_t>(example.size() - 1, uint64_t(seq_len)));
        for (int32_t i = 0; i < inputs; i++) {
            const size_t at = base + size_t(used + i);
            const SftToken next = unpack_sft_token(example[uint64_t(i) + 1]);
            batch.ids[at] = unpack_sft_token(example[uint64_t(i)]).id;
            if (next.trained) batch.labels[at] = next.id;
            batch.document_start[at] = used;
            batch.document_end[at] = used + inputs;
        }
        used += inputs;
    }
    for (int32_t i = used; i < seq_len; i++) {
        batch.document_start[base + size_t(i)] = i;
        batch.document_end[base + size_t(i)] = i + 1;
    }
    next_packed_window();
}

uint64_t WindowStream::windows_per_epoch() const {
    if (!options_.examples) {
        const uint64_t around = uint64_t(options_.bos_id >= 0) + uint64_t(options_.eos_id >= 0);
        return (tokens_->tokens() + tokens_->documents() * around) / uint64_t(options_.seq_len + 1);
    }
    WindowStream stream(tokens_, options_);
    while (stream.position().epoch == 0) stream.skip();
    return stream.position().windows;
}

void WindowStream::skip() {
    if (options_.examples) return next_packed_window();
    uint64_t left = uint64_t(options_.seq_len) + 1;
    while (left > 0) {
        uint64_t n = std::min(left, length(current_) - position_.offset);
        left -= n;
        position_.offset += n;
        if (position_.offset == length(current_)) next_document();
    }
    ++position_.windows;
}

void WindowStream::read(Batch& batch, int64_t row) {
    int32_t seq_len = int32_t(options_.seq_len), i = 0;  // of the seq_len + 1 tokens of the window
    size_t base = size_t(row) * size_t(seq_len);
    if (options_.examples) return read_packed(batch, base);
    while (i <= seq_len) {
        int32_t start = i, rest = seq_len + 1 - i;
        int32_t end = start + int32_t(std::min<uint64_t>(uint64_t(rest), length(current_) - position_.offset));
        for (; i < end; ++i) {
            int32_t id = token(current_, position_.offset++);
            if (i > 0) batch.labels[base + size_t(i) - 1] = id;
            if (i == seq_len) break;  // only a label
            batch.ids[base + size_t(i)] = id;
            batch.document_start[base + size_t(i)] = start;
            batch.document_end[base + size_t(i)] = std::min(end, seq_len);
        }
        i = end;
        if (position_.offset == length(current_)) next_document();
    }
    ++position_.windows;
}

BatchSource::BatchSource(const std::vector<WeightedTokens>& datasets, const BatchOptions& options) : options_(options) {
    constexpr int64_t most = int64_t(1) << 31;
    if (options.batch_size < 1 || options.seq_len < 1 || options.batch_size >= most || options.seq_len >= most ||
        options.batch_size * options.seq_len >= most)
        fail("batches of {} x {} tokens: expected both to be at least 1, and fewer than 2^31 tokens in all", options.batch_size,
             options.seq_len);
    if (options.world_size < 1 || options.rank < 0 || options.rank >= options.world_size)
        fail("rank {} of {}: expected a rank from 0 to world_size - 1", options.rank, options.world_size);
    if (datasets.empty()) fail("batches of no dataset: expected at least one");
    double sum = 0;
    for (const WeightedTokens& dataset : datasets) {
        if (!(dataset.weight > 0)) fail("a dataset's weight is {}: expected more than 0", dataset.weight);
        sum += dataset.weight;
    }
    for (const WeightedTokens& dataset : datasets) {
        streams_.emplace_back(dataset.tokens, options);
        shares_.push_back(dataset.weight / sum);
    }
}

BatchSource::BatchSource(std::shared_ptr<const TokenCache> tokens, const BatchOptions& options)
    : BatchSource(std::vector<WeightedTokens>{{std::move(tokens)}}, options) {}

DataPosition BatchSource::position() const {
    DataPosition position{.windows = windows_};
    for (const WindowStream& stream : streams_) position.streams.push_back(stream.position());
    return position;
}

void BatchSource::restore(const DataPosition& position) {
    if (position.streams.size() != streams_.size())
        fail("the data position was saved with {} datasets, the configuration has {}", position.streams.size(), streams_.size());
    std::vector<WindowStream> streams = streams_;  // an Error leaves the source as it was
    for (size_t i = 0; i < streams.size(); ++i) streams[i].restore(position.streams[i]);
    streams_ = std::move(streams);
    windows_ = position.windows;
}

// Of the next window.
size_t BatchSource::next_stream() const {
    size_t chosen = 0;
    double furthest = -1;
    for (size_t i = 0; i < streams_.size(); ++i) {
        const double missing = shares_[i] * double(windows_ + 1) - double(streams_[i].position().windows);
        if (i == 0 || missing > furthest) {
            chosen = i;
            furthest = missing;
        }
    }
    return chosen;
}

Batch BatchSource::next() {
    Batch batch(options_.batch_size, options_.seq_len);
    for (int64_t row = 0; row < options_.batch_size; ++row)
        for (int64_t rank = 0; rank < options_.world_size; ++rank) {
            WindowStream& stream = streams_[next_stream()];
            if (rank == options_.rank) {
                batch.windows.push_back(windows_);
                stream.read(batch, row);
            } else {
                stream.skip();
            }
            ++windows_;
        }
    return batch;
}

EvaluationText evaluation_text(const std::filesystem::path& file, const TextEncoder& encoder, const EvaluationOptions& options) {
    if (options.context < 2) fail("an evaluation context of {} tokens: expected at least 2", options.context);
    if (options.stride < 0 || options.stride > options.context)
        fail("a stride of {} tokens: expected 1 to the context, {}", options.stride, options.context);
    if (options.stride > 0 && options.per_document) fail("a stride is for joined text, not for documents on their own");
    const size_t context = size_t(options.context), stride = options.stride ? size_t(options.stride) : context;
    auto checked = [&](std::string_view text) {
        std::vector<int32_t> ids = encoder.encode(text);
        for (int32_t id : ids)
            if (id < 0 || id >= encoder.vocab_size)
                fail("{}: the tokenizer gave the id {}, but its vocabulary has {}", file.string(), id, encoder.vocab_size);
        if (encoder.bos_id >= 0) ids.insert(ids.begin(), encoder.bos_id);
        return ids;
    };

    EvaluationText text;
    std::vector<std::vector<int32_t>>& windows = text.windows;
    const size_t start = encoder.bos_id >= 0;
    bool cut = false;
    std::string joined;
    bool chosen = options.first > 0 || options.last != UINT64_MAX;
    if (!options.per_document && !chosen && options.separator.empty() && !holds_json_lines(file)) {
        joined = read_corpus_text(file, options.max_bytes);
    } else {
        DocumentReader reader({file}, {options.separator, options.max_bytes});
        Document document;
        size_t bytes = 0;
        while (reader.next(document)) {
            if (document.number <= options.first) continue;
            if (document.number > options.last) break;
            bytes += document.text.size() + options.joiner.size();
            if (bytes > options.max_bytes) fail("{}: the text is longer than {} bytes", file.string(), options.max_bytes);
            if (options.per_document) {
                std::vector<int32_t> ids = checked(document.text);
                cut |= ids.size() > context;
                if (ids.size() > context) ids.resize(context);
                if (ids.size() < 2) continue;
                text.bytes += document.text.size();
                text.tokens += ids.size() - start;
                windows.push_back(std::move(ids));
                text.known.push_back(1);
                continue;
            }
            if (!joined.empty()) joined += options.joiner;
            joined += document.text;
        }
    }
    if (!options.per_document) {
        std::vector<int32_t> ids = checked(joined);
        for (size_t at = 0; at < ids.size(); at += stride) {
            const size_t n = std::min(context, ids.size() - at), overlap = at == 0 ? 0 : context - stride;
            const bool last = at + n == ids.size();
            if (n < 2 || n <= overlap || (n < context && !options.keep_remainder)) break;
            windows.emplace_back(ids.begin() + ptrdiff_t(at), ids.begin() + ptrdiff_t(at + n));
            text.known.push_back(std::max<size_t>(1, overlap));
            if (last) break;
        }
        text.bytes = joined.size();
        text.tokens = ids.size() - std::min(start, ids.size());
    }
    if (cut) text.bytes = 0;
    if (windows.empty()) fail("{}: there is nothing to predict: expected text of at least 2 tokens", file.string());
    return text;
}

std::vector<std::vector<int32_t>> evaluation_windows(const std::filesystem::path& file, const TextEncoder& encoder,
                                                     const EvaluationOptions& options) {
    return evaluation_text(file, encoder, options).windows;
}

Batch batch_of_windows(std::span<const std::vector<int32_t>> windows, int64_t batch_size, int64_t seq_len) {
    if (int64_t(windows.size()) > batch_size) fail("{} windows do not fit a batch of {}", windows.size(), batch_size);
    Batch batch(batch_size, seq_len);
    for (int64_t row = 0; row < batch_size; ++row) {
        int64_t n = row < int64_t(windows.size()) ? int64_t(windows[size_t(row)].size()) : 0;
        if (n > seq_len) fail("a window of {} tokens does not fit a sequence of {}", n, seq_len);
        for (int64_t i = 0; i < seq_len; ++i) {
            size_t at = size_t(row * seq_len + i);
            if (i < n) batch.ids[at] = windows[size_t(row)][size_t(i)];
            if (i + 1 < n) batch.labels[at] = windows[size_t(row)][size_t(i) + 1];
            batch.document_start[at] = i < n ? 0 : int32_t(i);
            batch.document_end[at] = i < n ? int32_t(n) : int32_t(i) + 1;
        }
    }
    return batch;
}

}  // namespace vkqat
