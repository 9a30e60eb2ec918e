// Batches of training data: shuffled documents, joined and cut into windows (1-Bit Wonder, METHODS 1).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/token_cache.h"

namespace vkqat {

// The label of a position that has no loss.
constexpr int32_t no_label = -1;

struct TeacherRows;

// What one step of one device gets. All [batch, seq_len].
struct Batch {
    int64_t batch = 0, seq_len = 0;
    std::vector<int32_t> ids;
    std::vector<int32_t> labels;          // the id that follows, or no_label
    std::vector<int32_t> document_start;  // per position: the index in its sequence at which its document begins
    std::vector<int32_t> document_end;    // and ends (exclusive); both for block-causal attention and its backward pass
    std::vector<uint64_t> windows;        // of training data: each row's number in the stream of all ranks, from 0; else empty
    std::shared_ptr<const TeacherRows> teacher;  // what has been read from a teacher's cache (teacher_cache.h); else absent

    Batch(int64_t batch_size, int64_t length);
};

// A place in the endless stream of one dataset's tokens.
struct StreamPosition {
    uint64_t seed = 0;      // of the shuffling: with the epoch it is the whole random state
    uint64_t epoch = 0;     // how often all documents have been read
    uint64_t document = 0;  // how many documents of the epoch are behind, in shuffled order
    uint64_t offset = 0;    // tokens of the current document that are behind, BOS and EOS counted; examples: windows of the block
    uint64_t windows = 0;   // windows of this dataset that are behind, all ranks together
    uint64_t corpus = 0;    // checksum of the tokenized corpus that the place is in; 0: not known
    bool operator==(const StreamPosition&) const = default;
};

// A place in the training data: all there is to save. Plain data; equal places give equal batches, whatever the number of ranks
// was.
struct DataPosition {
    uint64_t windows = 0;  // behind, of all datasets and ranks together
    std::vector<StreamPosition> streams;
    uint64_t epoch() const;  // how often the least read dataset has been read
    bool operator==(const DataPosition&) const = default;
};

std::string data_position_to_json(const DataPosition& position);
DataPosition data_position_from_json(std::string_view json);  // Error naming the key

struct BatchOptions {
    int64_t batch_size = 1;  // windows per call of next(), of this rank
    int64_t seq_len = 0;
    int32_t bos_id = -1, eos_id = -1;  // -1: none
    uint64_t seed = 0;
    // This rank gets windows rank, rank + world_size, ... of the one stream, so a global batch holds the same windows for every
    // world_size.
    int64_t rank = 0, world_size = 1;
    // The documents are examples (sft_examples.h), which have their BOS and EOS.
    bool examples = false;
};

// The windows of one dataset. Documents are shuffled anew in each epoch, joined with BOS in front and EOS behind each, and cut
// into windows of seq_len + 1 tokens that follow each other without overlap: ids are a window's first seq_len tokens, labels its
// last seq_len. A window may cross documents and epochs. The label of EOS is the BOS of the next document: the published code
// trains on it, and so does this.
//
// Examples are not cut into windows but packed, each of them whole and as a document of its own: of a block of 1024 shuffled ones
// each, the longest first, goes where it leaves the least room (best fit), and the block's windows come in random order. Behind
// its examples a window has positions without a label. An example's last token is only a label. One that is longer than a window
// is cut at its end. A window does not cross epochs.
class WindowStream {
public:
    WindowStream(std::shared_ptr<const TokenCache> tokens, const BatchOptions& options);
    void read(Batch& batch, int64_t row);
    void skip();
    const StreamPosition& position() const { return position_; }
    // Of all documents once. Examples: all windows are looked at.
    uint64_t windows_per_epoch() const;
    // Continues there. Error if the place is not in this corpus or was saved with another seed.
    void restore(const StreamPosition& position);

private:
    uint64_t length(uint64_t document) const;  // of a shuffled document with its BOS and EOS
    int32_t token(uint64_t document, uint64_t offset) const;
    void next_document();
    void plan_block();
    void next_packed_window();
    void read_packed(Batch& batch, size_t base);

    std::shared_ptr<const TokenCache> tokens_;
    BatchOptions options_;
    StreamPosition position_;
    uint64_t current_ = 0;                      // the cache's index of the current document
    std::vector<std::vector<uint64_t>> block_;  // the cache's indices of the examples in each window of the current block
    uint64_t block_examples_ = 0;
};

struct WeightedTokens {
    std::shared_ptr<const TokenCache> tokens;
    double weight = 1;  // above 0
};

// Batches of one dataset, or of several: then each window is of the dataset whose share of all windows so far is the furthest
// below its weight, so the mixture is the same on every machine and never more than a window per dataset away from the weights.
// A dataset that has been read to its end begins again in another order.
class BatchSource {
public:
    BatchSource(const std::vector<WeightedTokens>& datasets, const BatchOptions& options);
    BatchSource(std::shared_ptr<const TokenCache> tokens, const BatchOptions& options);

    Batch next();

    // The place behind the last batch of all ranks: equal on every rank.
    DataPosition position() const;
    // Continues there. Error if the place is not in these datasets or was saved with another seed.
    void restore(const DataPosition& position);

private:
    size_t next_stream() const;

    BatchOptions options_;
    std::vector<WindowStream> streams_;
    std::vector<double> shares_;  // of the windows; 1 in all
    uint64_t windows_ = 0;
};

// How a text is cut up for perplexity (METHODS 5).
struct EvaluationOptions {
    int64_t context = 0;          // a window's tokens, at most; BOS counted
    bool per_document = false;    // each document on its own: BOS, then its ids, cut off after `context`; else all text joined
    std::string separator;        // of documents in plain text; empty: a blank line
    std::string joiner = "\n\n";  // between documents in joined mode, where the text is not taken as it stands in the file
    uint64_t first = 0, last = UINT64_MAX;  // documents first..last - 1, counted from 0 (empty ones too, with a named separator)
    int64_t stride = 0;                     // joined mode: a window begins so many tokens behind the last one; 0: context
    bool keep_remainder = true;             // joined mode: the last window may be shorter. The published protocol drops it
    size_t max_bytes = size_t(1) << 30;
};

// The windows of a file, each of 2 to `context` ids; ids 1.. are to be predicted from those in front of them. Joined: the text is
// tokenized in one piece with one BOS in front of all, and cut without overlap; a plain text file without a named separator and
// without a choice of documents is taken as it stands. Error: an unreadable or empty file, nothing to predict.
// With a stride below `context` windows overlap, and of all but the first only what is behind the overlap is to be predicted.
struct EvaluationText {
    std::vector<std::vector<int32_t>> windows;
    std::vector<size_t> known;  // of each window: ids in front that are not predicted (at least 1)
    uint64_t bytes = 0;         // of all text that the windows hold; 0: not known, as documents were cut off
    uint64_t tokens = 0;        // of that text, start tokens left out
};
EvaluationText evaluation_text(const std::filesystem::path& file, const TextEncoder& encoder, const EvaluationOptions& options);
std::vector<std::vector<int32_t>> evaluation_windows(const std::filesystem::path& file, const TextEncoder& encoder,
                                                     const EvaluationOptions& options);

// Up to `batch_size` windows of at most seq_len ids as one batch: a row's positions behind its window, and rows without one, hold
// id 0, no label, and are documents of one token. The last id of a window has no label.
Batch batch_of_windows(std::span<const std::vector<int32_t>> windows, int64_t batch_size, int64_t seq_len);

}  // namespace vkqat
