// Documents of a text corpus, streamed from files. The files are untrusted: memory stays bounded whatever they hold.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vkqat {

// What a corpus is made of: documents of text, or examples for fine-tuning, each of which is a JSON value (sft_examples.h).
enum class CorpusKind { text, examples };

// The files that `pattern` names: a file, the corpus files directly in a directory (names that end in .txt, or .json where
// examples are wanted, .jsonl or .ndjson, then perhaps .gz or .zst), or a glob (`*`, `?`, `[...]`). Sorted by name. Error if
// there is none.
std::vector<std::filesystem::path> corpus_files(const std::string& pattern, CorpusKind kind = CorpusKind::text);
std::vector<std::filesystem::path> corpus_files(const std::vector<std::string>& patterns,  // one after the other
                                                CorpusKind kind = CorpusKind::text);

struct CorpusOptions {
    std::string separator;                          // of documents in plain text; empty: a blank line
    size_t max_document_bytes = size_t(256) << 20;  // a larger line or document is an error, also when it is decompressed
    // A line of a JSON lines file that is no object with a text is left out and counted instead of being an error.
    bool skip_bad_lines = false;
    CorpusKind kind = CorpusKind::text;
};

struct Document {
    std::string text;      // any bytes; in plain text without the white space at both ends
    size_t file = 0;       // index into the reader's files
    uint64_t number = 0;   // from 1: the line in JSON lines; the document in plain text, empty ones included; the element of an
                           // array
    bool element = false;  // of an array
};

// The documents of `files` in order, one at a time, empty ones left out. A file whose name ends in .jsonl or .ndjson holds one
// JSON object with a string "text" per line; any other is plain text, whose bytes pass through unchecked (NUL and invalid UTF-8
// too). .gz and .zst are decompressed as they are read.
//
// Of examples a document is the JSON text of one, which is not looked into: a line of a .jsonl or .ndjson file; in a .json file
// an element of the array that it holds, or, where an array begins with a text or it begins with an object, a line.
class DocumentReader {
public:
    DocumentReader(std::vector<std::filesystem::path> files, CorpusOptions options);
    ~DocumentReader();
    DocumentReader(DocumentReader&&) noexcept;

    // False at the end. Error naming file and line: no JSON, no "text", damaged compression, too large a document.
    bool next(Document& document);
    uint64_t bytes_read() const;  // of the files as they lie on the disk, so far
    // Lines left out so far, and what was wrong with the first of them: "stories.jsonl:12: expected ..."
    uint64_t skipped() const;
    const std::vector<std::string>& first_skipped() const;  // at most 5
    // "stories.jsonl:12" or "stories.txt: document 12", for messages
    std::string where(const Document& document) const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

// The whole decompressed file, for a text that is tokenized in one piece. Error above `max_bytes`.
std::string read_corpus_text(const std::filesystem::path& file, size_t max_bytes = size_t(1) << 30);
bool holds_json_lines(const std::filesystem::path& file);  // by its name

}  // namespace vkqat
