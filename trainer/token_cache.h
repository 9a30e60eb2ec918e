// A corpus tokenized once into a file of token ids, which is mapped for reading: a corpus may be larger than memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/support/files.h"
#include "trainer/corpus_reader.h"

namespace vkqat {

// What data needs of a tokenizer.
struct TextEncoder {
    // The ids of a text, without BOS and EOS. It is called from several threads at once.
    std::function<std::vector<int32_t>(std::string_view)> encode;
    // Instead of it where texts are examples (sft_examples.h), and many at a time are cheaper: the ids of each, or what is wrong
    // with it. `leave_out`: it is no mistake, but there is nothing in it to learn.
    struct Encoded {
        std::vector<int32_t> ids;
        std::string problem;
        bool leave_out = false;
    };
    std::function<std::vector<Encoded>(std::span<const std::string_view>)> encode_examples;
    int32_t bos_id = -1;  // -1: the tokenizer has none
    int32_t eos_id = -1;
    int32_t vocab_size = 0;
    std::string digest;  // of the tokenizer's files: a cache made with another tokenizer is not used
};

// The ids of one document, without BOS and EOS. They lie in the mapped file as 16 or 32 bits.
class TokenSpan {
public:
    TokenSpan(const void* ids, uint64_t size, bool wide) : ids_(ids), size_(size), wide_(wide) {}
    uint64_t size() const { return size_; }
    int32_t operator[](uint64_t i) const {
        return wide_ ? int32_t(static_cast<const uint32_t*>(ids_)[i]) : int32_t(static_cast<const uint16_t*>(ids_)[i]);
    }

private:
    const void* ids_;
    uint64_t size_;
    bool wide_;
};

class TokenCache {
public:
    // Maps a file that tokenize_corpus wrote. Error when it is damaged, cut off, holds ids of vocab_size or more, or (if `key` is
    // not 0) was made from other files or another tokenizer.
    TokenCache(const std::filesystem::path& file, int32_t vocab_size, uint64_t key = 0);

    uint64_t documents() const { return documents_; }
    uint64_t tokens() const { return tokens_; }  // of all documents, without BOS and EOS
    TokenSpan document(uint64_t index) const {   // index < documents()
        return {ids_ + offsets_[index] * (wide_ ? 4 : 2), offsets_[index + 1] - offsets_[index], wide_};
    }
    uint64_t skipped() const { return skipped_; }    // bad lines of the files that were left out, and examples without an answer
    uint64_t checksum() const { return checksum_; }  // of the content: equal for the same documents and ids, whatever the key

private:
    MappedFile file_;
    const std::byte* ids_ = nullptr;
    const uint64_t* offsets_ = nullptr;  // [documents + 1], in ids
    uint64_t documents_ = 0, tokens_ = 0, skipped_ = 0, checksum_ = 0;
    bool wide_ = false;
};

// The cache of `files` in `folder` (created where it is missing): the one made earlier if the files' names, sizes and times and
// the tokenizer are the same, else a new one, made by `threads` threads (0: all cores) and written atomically. A damaged cache is
// made anew. `say` gets a line on what is done, `progress` one about every second: the share that is done and the time left;
// without it `say` gets one every half minute. Error: a file that cannot be read, ids outside of the vocabulary, no document at
// all, a full disk.
TokenCache tokenize_corpus(const std::vector<std::filesystem::path>& files, const CorpusOptions& options,
                           const TextEncoder& encoder, const std::filesystem::path& folder, unsigned threads = 0,
                           const std::function<void(const std::string&)>& say = {},
                           const std::function<void(const std::string&)>& progress = {});

}  // namespace vkqat
