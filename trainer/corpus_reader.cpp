#include "trainer/corpus_reader.h"

#include <glob.h>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>

#include "runtime/support/error.h"
#include "trainer/byte_source.h"

namespace vkqat {
namespace fs = std::filesystem;

namespace {

constexpr std::string_view white_space = " \t\r\n\f\v";
constexpr int max_json_depth = 64;

fs::path uncompressed_name(const fs::path& file) {
    return file.extension() == ".gz" || file.extension() == ".zst" ? file.stem() : file.filename();
}

bool has_corpus_name(const fs::path& file, CorpusKind kind) {
    fs::path extension = uncompressed_name(file).extension();
    return extension == (kind == CorpusKind::text ? ".txt" : ".json") || extension == ".jsonl" || extension == ".ndjson";
}

bool is_blank(std::string_view text) { return text.find_first_not_of(white_space) == std::string_view::npos; }

std::string_view stripped(std::string_view text) {
    size_t first = text.find_first_not_of(white_space);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(white_space) - first + 1);
}

// The pieces of a file between occurrences of `separator`.
class PieceReader {
public:
    PieceReader(const fs::path& file, std::string separator, size_t max_bytes)
        : file_(file), source_(open_byte_source(file)), separator_(std::move(separator)), max_bytes_(max_bytes) {}

    // False at the end of the file. A file that ends with the separator has no empty piece behind it. The piece stands until
    // the next call.
    bool next(std::string_view& piece) {
        size_t scanned = start_;
        while (true) {
            size_t found = buffer_.find(separator_, scanned);
            if (found != std::string::npos) return take(piece, found, found + separator_.size());
            if (at_end_) return start_ < buffer_.size() && take(piece, buffer_.size(), buffer_.size());
            // What was searched is not searched again, but for a separator that begins at its end.
            scanned = std::max(start_, buffer_.size() - std::min(buffer_.size(), separator_.size() - 1));
            size_t held = buffer_.size() - start_;
            if (held > max_bytes_) too_large();
            scanned -= start_;
            buffer_.erase(0, start_);
            start_ = 0;
            buffer_.resize(held + chunk_bytes);
            size_t n = source_->read(std::span(buffer_).subspan(held));
            buffer_.resize(held + n);
            at_end_ = n < chunk_bytes;
            if (first_ && buffer_.starts_with("\xef\xbb\xbf")) buffer_.erase(0, 3);
            first_ = false;
        }
    }

    uint64_t consumed() const { return source_->consumed(); }

private:
    static constexpr size_t chunk_bytes = size_t(1) << 18;

    bool take(std::string_view& piece, size_t end, size_t next_start) {
        piece = std::string_view(buffer_).substr(start_, end - start_);
        start_ = next_start;
        ++taken_;
        if (piece.size() > max_bytes_) too_large();
        return true;
    }
    [[noreturn]] void too_large() const {
        if (separator_ == "\n") fail("{}:{}: the line is longer than {} bytes", file_.string(), taken_ + 1, max_bytes_);
        fail("{}: document {} is longer than {} bytes; does the file hold the separator \"{}\"?", file_.string(), taken_ + 1,
             max_bytes_, separator_);
    }

    fs::path file_;
    std::unique_ptr<ByteSource> source_;
    std::string separator_, buffer_;
    size_t max_bytes_, start_ = 0;
    uint64_t taken_ = 0;
    bool at_end_ = false, first_ = true;
};

// The elements of a JSON array, cut at the commas between them; what they hold is for others to check.
class ElementReader {
public:
    explicit ElementReader(std::string text) : text_(std::move(text)), at_(text_.find('[') + 1) {}

    bool next(std::string_view& element) {
        if (at_end_) return false;
        const size_t begin = at_;
        int64_t depth = 0;
        bool quoted = false;
        for (; at_ < text_.size(); ++at_) {
            const char c = text_[at_];
            if (quoted) {
                if (c == '\\') ++at_;
                if (c == '"') quoted = false;
            } else if (c == '"') {
                quoted = true;
            } else if (c == '[' || c == '{') {
                ++depth;
            } else if (c == ']' || c == '}') {
                if (--depth < 0) break;
            } else if (c == ',' && depth == 0) {
                break;
            }
        }
        at_ = std::min(at_, text_.size());
        element = std::string_view(text_).substr(begin, at_ - begin);
        at_end_ = at_ == text_.size() || text_[at_] != ',';
        if (at_ == text_.size()) fail("the array is not closed: the file is cut off");
        if (at_end_ && text_[at_] != ']') fail("found '{}' where the array should go on or end", text_[at_]);
        if (at_end_ && !is_blank(std::string_view(text_).substr(at_ + 1))) fail("found something behind the end of the array");
        ++at_;
        if (is_blank(element) && !(at_end_ && begin == text_.find('[') + 1)) fail("found no value between two commas");
        return !is_blank(element);
    }

private:
    std::string text_;
    size_t at_;
    bool at_end_ = false;
};

// Whether a .json file is an array of examples, rather than a line for each: decided by its first characters but for white space.
// A line that is an array itself is [[prompt, continuation]] or [prompt, continuation].
bool is_array_of_examples(std::string_view text) {
    std::string beginning;
    for (size_t i = 0; i < text.size() && beginning.size() < 3; ++i)
        if (white_space.find(text[i]) == std::string_view::npos) beginning += text[i];
    return beginning.starts_with("[{") || beginning.starts_with("[[[") || beginning.starts_with("[]");
}

// Takes the string "text" out of a JSON object without building the rest, so a hostile line costs no more than its bytes.
struct TextOfJson : nlohmann::json_sax<nlohmann::json> {
    std::string text, problem, keys;
    bool found = false;

    bool value(const char* type) {
        if (depth_ == 0) problem = fmt::format("found {}", type);
        if (depth_ == 1 && is_text_) problem = fmt::format("found {} as \"text\"", type);
        is_text_ = false;
        return problem.empty();
    }
    bool enter(const char* type) {
        if (!value(type)) return false;
        if (++depth_ > max_json_depth) problem = fmt::format("found values nested more than {} deep", max_json_depth);
        return problem.empty();
    }
    bool null() override { return value("null"); }
    bool boolean(bool) override { return value("a boolean"); }
    bool number_integer(number_integer_t) override { return value("a number"); }
    bool number_unsigned(number_unsigned_t) override { return value("a number"); }
    bool number_float(number_float_t, const string_t&) override { return value("a number"); }
    bool binary(binary_t&) override { return value("binary data"); }
    bool string(string_t& s) override {
        if (depth_ != 1 || !is_text_) return value("a string");
        text = std::move(s);
        found = true;
        is_text_ = false;
        return true;
    }
    bool start_object(size_t) override {
        if (depth_ == 0) return ++depth_;
        return enter("an object");
    }
    bool start_array(size_t) override { return enter("an array"); }
    bool key(string_t& name) override {
        is_text_ = depth_ == 1 && name == "text";
        if (depth_ == 1 && keys.size() < 100) keys += fmt::format("{}\"{}\"", keys.empty() ? "" : ", ", name.substr(0, 40));
        return true;
    }
    bool end_object() override { return --depth_, true; }
    bool end_array() override { return --depth_, true; }
    bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
        std::string_view message = error.what();
        size_t last_read = message.find("; last read");
        if (message.starts_with("[")) message = message.substr(0, last_read).substr(message.find("] ") + 2);
        problem = fmt::format("found no valid JSON at byte {}: {}", position, message.substr(0, 200));
        return false;
    }

private:
    int depth_ = 0;
    bool is_text_ = false;
};

std::string text_of_json_line(std::string_view line) {
    TextOfJson reader;
    nlohmann::json::sax_parse(line.begin(), line.end(), &reader);
    if (reader.problem.empty() && !reader.found)
        reader.problem = fmt::format("found the keys {}", reader.keys.empty() ? "(none)" : reader.keys);
    if (!reader.problem.empty()) fail("expected a JSON object with a string \"text\", {}", reader.problem);
    return std::move(reader.text);
}

}  // namespace

struct DocumentReader::State {
    std::vector<fs::path> files;
    CorpusOptions options;
    size_t file = 0;  // index of the open one, or of the one to open next
    std::optional<PieceReader> pieces;
    std::optional<ElementReader> elements;  // instead, of an array of examples
    bool json = false, lines = false;
    uint64_t number = 0;
    std::atomic<uint64_t> bytes_before = 0, bytes_in_file = 0;
    uint64_t skipped = 0;
    std::vector<std::string> first_skipped;

    void open() {
        json = options.kind == CorpusKind::examples || holds_json_lines(files[file]);
        lines = json || options.separator.empty();
        pieces.emplace(files[file], lines ? "\n" : options.separator, options.max_document_bytes);
        number = 0;
        if (options.kind == CorpusKind::text) return;
        const fs::path extension = uncompressed_name(files[file]).extension();
        if (!has_corpus_name(files[file], options.kind))
            fail("{}: examples are expected in .json, .jsonl or .ndjson files, found {}", files[file].string(),
                 extension.empty() ? "no such ending" : extension.string());
        if (extension != ".json") return;
        std::string text = read_corpus_text(files[file], options.max_document_bytes);
        if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
        if (is_array_of_examples(text)) elements.emplace(std::move(text));
    }
    // Of an array of examples.
    bool next_element(std::string& text) {
        std::string_view element;
        if (!in_context(fmt::format("{}: element {}", files[file].string(), number + 1), [&] { return elements->next(element); }))
            return false;
        ++number;
        text = stripped(element);
        return true;
    }
    void read_json_line(std::string_view line, std::string& text) {
        try {
            in_context(fmt::format("{}:{}", files[file].string(), number), [&] { text = text_of_json_line(line); });
        } catch (const Error& e) {
            if (!options.skip_bad_lines) throw;
            ++skipped;
            if (first_skipped.size() < 5) first_skipped.push_back(e.what());
        }
    }
    // The next document of the open file, or false at its end. It may be empty.
    bool next(std::string& text) {
        std::string_view piece;
        if (elements) return next_element(text);
        if (json) {
            if (!pieces->next(piece)) return false;
            ++number;
            text.clear();
            if (options.kind == CorpusKind::examples)
                text = stripped(piece);
            else if (!is_blank(piece))
                read_json_line(piece, text);
            return true;
        }
        if (!lines) {
            if (!pieces->next(piece)) return false;
            ++number;
            text = stripped(piece);
            return true;
        }
        text.clear();
        while (pieces->next(piece)) {
            if (!is_blank(piece)) {
                if (text.size() + piece.size() >= options.max_document_bytes)
                    fail(
                        "{}: document {} is longer than {} bytes; does it hold blank lines between documents, or another "
                        "separator?",
                        files[file].string(), number + 1, options.max_document_bytes);
                text.append(piece).push_back('\n');
            } else if (!text.empty()) {
                break;
            }
        }
        if (text.empty()) return false;
        ++number;
        text = stripped(text);
        return true;
    }
};

DocumentReader::DocumentReader(std::vector<fs::path> files, CorpusOptions options) : state_(std::make_unique<State>()) {
    state_->files = std::move(files);
    state_->options = std::move(options);
}
DocumentReader::~DocumentReader() = default;
DocumentReader::DocumentReader(DocumentReader&&) noexcept = default;

bool DocumentReader::next(Document& document) {
    State& s = *state_;
    while (true) {
        if (!s.pieces) {
            if (s.file == s.files.size()) return false;
            s.open();
        }
        while (s.next(document.text)) {
            s.bytes_in_file = s.pieces->consumed();
            if (is_blank(document.text)) continue;
            document.file = s.file;
            document.number = s.number;
            document.element = s.elements.has_value();
            return true;
        }
        s.bytes_before += s.pieces->consumed();
        s.bytes_in_file = 0;
        s.pieces.reset();
        s.elements.reset();
        ++s.file;
    }
}

uint64_t DocumentReader::bytes_read() const { return state_->bytes_before + state_->bytes_in_file; }
uint64_t DocumentReader::skipped() const { return state_->skipped; }
const std::vector<std::string>& DocumentReader::first_skipped() const { return state_->first_skipped; }

std::string DocumentReader::where(const Document& document) const {
    const fs::path& file = state_->files.at(document.file);
    if (state_->options.kind == CorpusKind::examples && uncompressed_name(file).extension() == ".json")
        return fmt::format("{}: {} {}", file.string(), document.element ? "element" : "line", document.number);
    return fmt::format("{}{}{}", file.string(), holds_json_lines(file) ? ":" : ": document ", document.number);
}

bool holds_json_lines(const fs::path& file) {
    fs::path extension = uncompressed_name(file).extension();
    return extension == ".jsonl" || extension == ".ndjson";
}

std::string read_corpus_text(const fs::path& file, size_t max_bytes) {
    auto source = open_byte_source(file);
    constexpr size_t chunk = size_t(1) << 20;
    std::string text;
    while (true) {
        size_t held = text.size();
        if (held > max_bytes) fail("{}: the text is longer than {} bytes", file.string(), max_bytes);
        text.resize(held + chunk);
        size_t n = source->read(std::span(text).subspan(held));
        text.resize(held + n);
        if (n < chunk) return text;
    }
}

std::vector<fs::path> corpus_files(const std::string& pattern, CorpusKind kind) {
    if (pattern.empty()) fail("a data set's path is empty: expected a file, a directory or a glob");
    std::vector<fs::path> files;
    std::error_code error;
    if (fs::is_regular_file(pattern, error)) return {pattern};
    if (fs::is_directory(pattern, error)) {
        for (const fs::directory_entry& entry : fs::directory_iterator(pattern, error))
            if (entry.is_regular_file() && has_corpus_name(entry.path(), kind)) files.push_back(entry.path());
        if (error) fail("{}: cannot read the directory: {}", pattern, error.message());
        if (files.empty())
            fail(
                "{}: the directory holds no corpus file: expected names that end in {}, .jsonl or .ndjson, then perhaps .gz or "
                ".zst",
                pattern, kind == CorpusKind::text ? ".txt" : ".json");
    } else {
        glob_t found{};
        int result = ::glob(pattern.c_str(), 0, nullptr, &found);
        for (size_t i = 0; result == 0 && i < found.gl_pathc; ++i)
            if (fs::is_regular_file(found.gl_pathv[i], error)) files.emplace_back(found.gl_pathv[i]);
        ::globfree(&found);
        if (files.empty()) fail("{}: there is no such file or directory, and as a glob it matches no file", pattern);
    }
    std::sort(files.begin(), files.end());
    return files;
}

std::vector<fs::path> corpus_files(const std::vector<std::string>& patterns, CorpusKind kind) {
    std::vector<fs::path> all;
    for (const std::string& pattern : patterns)
        for (fs::path& file : corpus_files(pattern, kind)) all.push_back(std::move(file));
    if (all.empty()) fail("no data set is named: expected files, directories or globs");
    return all;
}

}  // namespace vkqat
