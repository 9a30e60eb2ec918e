#include "trainer/token_cache.h"

#include <sys/stat.h>
#include <zlib.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <exception>
#include <future>
#include <thread>

#include "runtime/support/error.h"
#include "trainer/random.h"
#include "trainer/readable.h"

// The file: Head; the ids of all documents, one after the other, uint16 (vocabulary of at most 65536) or uint32, filled up with
// zeros to a multiple of 8 bytes; uint64 offsets [documents + 1]; Foot. All little-endian. The foot is last because the counts
// are known last and an AtomicFile is written from front to back.
namespace vkqat {
namespace fs = std::filesystem;

namespace {

constexpr uint64_t head_magic = 0x324b4f5454415156;  // "VQATTOK2"
constexpr uint64_t foot_magic = 0x31444e4554415156;  // "VQATEND1"
constexpr size_t batch_bytes = size_t(8) << 20;      // of text that is read ahead while the threads work on as much

struct Head {
    uint64_t magic, key, id_bytes;
};
struct Foot {
    uint64_t documents, tokens, skipped, checksum, magic;
};

std::span<const std::byte> bytes_of(const auto& value) { return std::as_bytes(std::span(&value, 1)); }

uint32_t crc(uint32_t seed, std::span<const std::byte> bytes) {
    return uint32_t(crc32_z(seed, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

// Where lines were left out, their number counts, too.
uint32_t offsets_crc(std::span<const std::byte> offsets, uint64_t skipped) {
    return skipped == 0 ? crc(0, offsets) : crc(crc(0, offsets), bytes_of(skipped));
}

uint64_t hash_of(uint64_t seed, std::string_view text) {
    for (char c : text) seed = mix64(seed ^ uint8_t(c));
    return mix64(seed ^ text.size());
}

uint64_t cache_key(const std::vector<fs::path>& files, const CorpusOptions& options, const TextEncoder& encoder) {
    uint64_t key = hash_of(head_magic, encoder.digest);
    key = hash_of(key, fmt::format("{} {} {} {}", encoder.vocab_size, options.skip_bad_lines, options.separator,
                                   options.kind == CorpusKind::examples ? "examples" : ""));
    for (const fs::path& file : files) {
        struct stat info {};
        if (::stat(file.c_str(), &info) != 0) fail("{}: there is no such file", file.string());
        key = hash_of(key, fmt::format("{} {} {} {}", fs::absolute(file).lexically_normal().string(), info.st_size,
                                       info.st_mtim.tv_sec, info.st_mtim.tv_nsec));
    }
    return key == 0 ? 1 : key;
}

struct TextBatch {
    std::vector<Document> documents;
    bool at_end = false;
};

TextBatch read_batch(DocumentReader& reader) {
    TextBatch batch;
    for (size_t bytes = 0; bytes < batch_bytes; bytes += batch.documents.back().text.size()) {
        if (!reader.next(batch.documents.emplace_back())) {
            batch.documents.pop_back();
            batch.at_end = true;
            break;
        }
    }
    return batch;
}

// Examples that were left out.
struct LeftOut {
    uint64_t count = 0;
    std::vector<std::string> first;  // at most 5, with the reason
};

// The ids of each document of the batch; the first error in the documents' order is thrown. What is left out has none.
std::vector<std::vector<int32_t>> encode_batch(const TextBatch& batch, const DocumentReader& reader, const CorpusOptions& options,
                                               const TextEncoder& encoder, unsigned threads, LeftOut& left_out) {
    const size_t count = batch.documents.size(), at_once = encoder.encode_examples ? 64 : 1;
    std::vector<std::vector<int32_t>> ids(count);
    std::vector<std::exception_ptr> errors(count);
    std::vector<std::string> reasons(count);
    std::atomic<size_t> next = 0;
    auto encode = [&](size_t first, size_t last) {
        if (!encoder.encode_examples) {
            ids[first] = encoder.encode(batch.documents[first].text);
            return;
        }
        std::vector<std::string_view> texts;
        for (size_t i = first; i < last; i++) texts.push_back(batch.documents[i].text);
        std::vector<TextEncoder::Encoded> encoded = encoder.encode_examples(texts);
        for (size_t i = first; i < last; i++) {
            TextEncoder::Encoded& e = encoded[i - first];
            if (e.problem.empty()) {
                ids[i] = std::move(e.ids);
                continue;
            }
            reasons[i] = fmt::format("{}: {}", reader.where(batch.documents[i]), e.problem);
            if (!e.leave_out && !options.skip_bad_lines) errors[i] = std::make_exception_ptr(Error(reasons[i]));
        }
    };
    auto work = [&] {
        for (size_t first; (first = next.fetch_add(at_once)) < count;) {
            const size_t last = std::min(first + at_once, count);
            try {
                encode(first, last);
                for (size_t i = first; i < last; i++)
                    for (int32_t id : ids[i])
                        if (id < 0 || id >= encoder.vocab_size)
                            fail("the tokenizer gave the id {}, but its vocabulary has {}", id, encoder.vocab_size);
            } catch (const Error& e) {
                errors[first] =
                    std::make_exception_ptr(Error(fmt::format("{}: {}", reader.where(batch.documents[first]), e.what())));
            } catch (...) {
                errors[first] = std::current_exception();
            }
        }
    };
    {
        std::vector<std::jthread> helpers;
        for (unsigned t = 1; t < threads; ++t) helpers.emplace_back(work);
        work();
    }
    for (const std::exception_ptr& error : errors)
        if (error) std::rethrow_exception(error);
    for (std::string& reason : reasons) {
        if (reason.empty()) continue;
        left_out.count++;
        if (left_out.first.size() < 5) left_out.first.push_back(std::move(reason));
    }
    return ids;
}

// How far the reading is, said from time to time.
class Progress {
public:
    Progress(const std::vector<fs::path>& files, std::function<void(const std::string&)> say, double interval)
        : say_(std::move(say)), interval_(interval) {
        std::error_code error;
        for (const fs::path& file : files) total_ += fs::file_size(file, error);
    }
    void at(uint64_t bytes, uint64_t tokens) {
        const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
        if (!say_ || seconds < said_ + interval_ || bytes == 0) return;
        said_ = seconds;
        const double rate = double(bytes) / seconds, left = double(total_ - std::min(total_, bytes)) / rate;
        say_(fmt::format("tokenizing  {:.1f} % of {}B, {} tokens, {}B/s, {} left",
                         100 * double(bytes) / double(std::max(total_, bytes)), metric(double(total_)), metric(double(tokens)),
                         metric(rate), duration_text(left)));
    }

private:
    using Clock = std::chrono::steady_clock;
    std::function<void(const std::string&)> say_;
    double interval_, said_ = 0;
    uint64_t total_ = 0;
    Clock::time_point start_ = Clock::now();
};

// Returns what of the examples was left out.
LeftOut write_cache(const fs::path& file, uint64_t key, const std::string& name, DocumentReader& reader,
                    const CorpusOptions& options, const TextEncoder& encoder, unsigned threads, Progress& progress) {
    AtomicFile out(file);
    bool wide = encoder.vocab_size > 65536;
    uint32_t ids_crc = 0;
    uint64_t written = 0;
    auto append = [&](std::span<const std::byte> bytes) {
        out.write(bytes);
        ids_crc = crc(ids_crc, bytes);
        written += bytes.size();
    };
    out.write(bytes_of(Head{head_magic, key, wide ? 4u : 2u}));
    std::vector<uint64_t> offsets{0};
    LeftOut left_out;
    TextBatch batch = read_batch(reader);
    while (!batch.documents.empty()) {
        std::future<TextBatch> ahead;
        if (!batch.at_end) ahead = std::async(std::launch::async, [&] { return read_batch(reader); });
        std::vector<uint16_t> narrow;
        for (const std::vector<int32_t>& ids : encode_batch(batch, reader, options, encoder, threads, left_out)) {
            if (ids.empty()) continue;
            offsets.push_back(offsets.back() + ids.size());
            if (wide) {
                append(std::as_bytes(std::span(ids)));
            } else {
                narrow.assign(ids.begin(), ids.end());
                append(std::as_bytes(std::span(narrow)));
            }
        }
        batch = ahead.valid() ? ahead.get() : TextBatch{};
        progress.at(reader.bytes_read(), offsets.back());
    }
    if (offsets.back() == 0 && left_out.count > 0)
        fail("{}: all {} examples had to be left out; the first: {}", name, left_out.count, left_out.first[0]);
    if (offsets.back() == 0) fail("{}: the corpus is empty: expected at least one document with text", name);
    uint64_t zero = 0;
    append(bytes_of(zero).first((8 - written % 8) % 8));
    auto offset_bytes = std::as_bytes(std::span(offsets));
    out.write(offset_bytes);
    const uint64_t skipped = reader.skipped() + left_out.count;
    uint64_t checksum = uint64_t(offsets_crc(offset_bytes, skipped)) << 32 | ids_crc;
    out.write(bytes_of(Foot{offsets.size() - 1, offsets.back(), skipped, checksum, foot_magic}));
    out.commit();
    return left_out;
}

// What reading all ids once finds out.
struct Scan {
    uint32_t crc = 0;
    int64_t largest = 0;
};

template <class Id>
Scan scan_part(std::span<const std::byte> bytes, uint64_t count) {
    const Id* first = reinterpret_cast<const Id*>(bytes.data());
    return {crc(0, bytes), count == 0 ? 0 : int64_t(*std::max_element(first, first + count))};
}

// `bytes`: of `count` ids, with zeros behind them. In parts of some MB, one after the other for each thread: a large corpus is
// read at the speed of the disk.
Scan scan(std::span<const std::byte> bytes, uint64_t count, bool wide) {
    constexpr uint64_t part_bytes = uint64_t(64) << 20;
    const uint64_t parts = (bytes.size() + part_bytes - 1) / part_bytes, id_bytes = wide ? 4 : 2;
    std::vector<Scan> scans(parts);
    std::atomic<uint64_t> next = 0;
    auto work = [&] {
        for (uint64_t i; (i = next++) < parts;) {
            const uint64_t begin = i * part_bytes, size = std::min(part_bytes, bytes.size() - begin);
            const uint64_t ids = std::min(size / id_bytes, count - std::min(count, begin / id_bytes));
            const auto part = bytes.subspan(begin, size);
            scans[i] = wide ? scan_part<uint32_t>(part, ids) : scan_part<uint16_t>(part, ids);
        }
    };
    {
        std::vector<std::jthread> helpers;
        for (uint64_t t = 1; t < std::min<uint64_t>(parts, std::thread::hardware_concurrency()); t++) helpers.emplace_back(work);
        work();
    }
    Scan all;
    for (uint64_t i = 0; i < parts; i++) {
        const uint64_t size = std::min(part_bytes, bytes.size() - i * part_bytes);
        all.crc = uint32_t(crc32_combine(all.crc, scans[i].crc, z_off_t(size)));
        all.largest = std::max(all.largest, scans[i].largest);
    }
    return all;
}

}  // namespace

TokenCache::TokenCache(const fs::path& path, int32_t vocab_size, uint64_t key) : file_(path) {
    auto damaged = [&](std::string_view what) { fail("{}: the token cache is damaged ({}); remove it", path.string(), what); };
    auto bytes = file_.bytes();
    Head head{};
    Foot foot{};
    if (bytes.size() < sizeof head + sizeof foot) damaged("too short");
    std::memcpy(&head, bytes.data(), sizeof head);
    std::memcpy(&foot, bytes.data() + bytes.size() - sizeof foot, sizeof foot);
    if (head.magic != head_magic || foot.magic != foot_magic) damaged("not its beginning or end");
    if (head.id_bytes != 2 && head.id_bytes != 4) damaged("neither 2 nor 4 bytes per id");
    uint64_t body = bytes.size() - sizeof head - sizeof foot;
    if (foot.documents == 0 || foot.documents >= body / 8 || foot.tokens == 0 || foot.tokens > body / head.id_bytes)
        damaged("impossible counts");
    uint64_t id_bytes = (foot.tokens * head.id_bytes + 7) / 8 * 8;
    if (id_bytes + (foot.documents + 1) * 8 != body) damaged("counts that do not fit its size");

    wide_ = head.id_bytes == 4;
    documents_ = foot.documents;
    tokens_ = foot.tokens;
    skipped_ = foot.skipped;
    checksum_ = foot.checksum;
    ids_ = bytes.data() + sizeof head;
    offsets_ = reinterpret_cast<const uint64_t*>(ids_ + id_bytes);  // aligned: all before it is a multiple of 8 bytes
    auto ids = bytes.subspan(sizeof head, id_bytes), offsets = bytes.subspan(sizeof head + id_bytes, (documents_ + 1) * 8);
    const Scan found = scan(ids, tokens_, wide_);
    if ((uint64_t(offsets_crc(offsets, skipped_)) << 32 | found.crc) != checksum_) damaged("wrong checksum");
    if (offsets_[0] != 0 || offsets_[documents_] != tokens_) damaged("wrong offsets");
    for (uint64_t i = 0; i < documents_; ++i)
        if (offsets_[i] >= offsets_[i + 1]) damaged("wrong offsets");
    if (found.largest >= vocab_size) damaged(fmt::format("the id {} in a vocabulary of {}", found.largest, vocab_size));
    if (key != 0 && head.key != key) damaged("made from other files or with another tokenizer");
}

TokenCache tokenize_corpus(const std::vector<fs::path>& files, const CorpusOptions& options, const TextEncoder& encoder,
                           const fs::path& folder, unsigned threads, const std::function<void(const std::string&)>& say,
                           const std::function<void(const std::string&)>& progress) {
    std::string name = files.empty() ? "corpus" : files.front().string() + (files.size() > 1 ? ", ..." : "");
    uint64_t key = cache_key(files, options, encoder);
    fs::path file = folder / fmt::format("tokens-{:016x}.bin", key);
    auto report = [&](const std::string& text) {
        if (say) say(text);
    };
    auto with_skipped = [&](TokenCache cache) {
        if (cache.skipped() > 0)
            report(fmt::format("{}: {} {} left out", name, cache.skipped(),
                               options.kind == CorpusKind::text ? "bad lines are" : "examples are"));
        return cache;
    };
    if (fs::exists(file)) {
        try {
            return with_skipped(TokenCache(file, encoder.vocab_size, key));
        } catch (const Error& e) {
            report(fmt::format("{}; tokenizing again", e.what()));
        }
    }
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) fail("{}: cannot create the folder for token caches: {}", folder.string(), error.message());
    if (threads == 0) threads = std::max(1u, std::thread::hardware_concurrency());
    auto start = std::chrono::steady_clock::now();
    DocumentReader reader(files, options);
    Progress shown(files, progress ? progress : say, progress ? 1 : 30);
    const LeftOut left_out = write_cache(file, key, name, reader, options, encoder, threads, shown);
    for (const std::string& line : reader.first_skipped()) report(fmt::format("left out: {}", line));
    for (const std::string& line : left_out.first) report(fmt::format("left out: {}", line));
    TokenCache cache(file, encoder.vocab_size, key);
    std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    report(fmt::format("{}: {} documents, {} tokens ({:.1f} s)", name, cache.documents(), cache.tokens(), took.count()));
    return with_skipped(std::move(cache));
}

}  // namespace vkqat
