#include "trainer/teacher_cache.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "runtime/formats/safetensors.h"
#include "runtime/support/error.h"
#include "runtime/support/hash.h"

namespace vkqat {
namespace fs = std::filesystem;
namespace {

constexpr const char* format_key = "vkqat_teacher_logits";
constexpr size_t most_open = 64;

template <class T>
uint32_t crc(std::span<const T> values, uint32_t before = 0) {
    return checksum(std::as_bytes(values), before);
}

int64_t id_bytes(const TeacherCacheKey& key) { return key.vocabulary <= 65536 ? 2 : 4; }

// Of what is stored for window `w` of these rows.
uint32_t content_checksum(const TeacherRows& rows, int64_t w, const TeacherCacheKey& key) {
    const auto tokens = size_t(key.seq_len), first = size_t(w) * tokens, k = size_t(key.top_k);
    uint32_t sum = crc(std::span(rows.ids).subspan(first * k, tokens * k));
    sum = crc(std::span(rows.values).subspan(first * k, tokens * k), sum);
    for (const std::vector<float>* values : {&rows.norm, &rows.loss, &rows.confidence})
        sum = crc(std::span(*values).subspan(first, tokens), sum);
    return sum;
}

std::map<std::string, std::string> metadata_of(const TeacherCacheKey& key) {
    return {{format_key, "1"},
            {"teacher", key.teacher},
            {"vocabulary", std::to_string(key.vocabulary)},
            {"seq_len", std::to_string(key.seq_len)},
            {"top_k", std::to_string(key.top_k)}};
}

void check_metadata(const SafetensorsFile& file, const TeacherCacheKey& key) {
    for (const auto& [name, wanted] : metadata_of(key)) {
        const auto found = file.metadata().find(name);
        if (found == file.metadata().end())
            fail("{}: no file of a teacher's logits: its metadata lacks {}", file.path().string(), name);
        if (found->second != wanted)
            fail(
                "{}: holds the logits of another kind: {} is {}, expected {}; name another folder (distillation.cache), or "
                "remove this one",
                file.path().string(), name, found->second, wanted);
    }
}

template <class T>
std::vector<T> read_words(const TensorView& tensor, size_t count) {
    if (tensor.bytes.size() != count * sizeof(T))
        fail("{}: {} bytes, expected {}", tensor.name, tensor.bytes.size(), count * sizeof(T));
    std::vector<T> values(count);
    std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
    return values;
}

}  // namespace

struct TeacherCache::File {
    explicit File(const fs::path& path) : file(path) {}
    SafetensorsFile file;
    std::vector<int32_t> data, checksums;
};

void TeacherRows::append(const TeacherRows& other) {
    ids.insert(ids.end(), other.ids.begin(), other.ids.end());
    values.insert(values.end(), other.values.begin(), other.values.end());
    norm.insert(norm.end(), other.norm.begin(), other.norm.end());
    loss.insert(loss.end(), other.loss.begin(), other.loss.end());
    confidence.insert(confidence.end(), other.confidence.begin(), other.confidence.end());
}

uint32_t window_checksum(const Batch& batch, int64_t row) {
    const auto first = size_t(row * batch.seq_len), count = size_t(batch.seq_len);
    uint32_t sum = 0;
    for (const std::vector<int32_t>* values : {&batch.ids, &batch.labels, &batch.document_start, &batch.document_end})
        sum = crc(std::span(*values).subspan(first, count), sum);
    return sum;
}

TeacherCache::TeacherCache(fs::path folder, const TeacherCacheKey& key) : folder_(std::move(folder)), key_(key) {
    if (key.top_k < 1 || key.top_k > key.vocabulary)
        fail("distillation.cache_top_k: {} of {} tokens cannot be kept", key.top_k, key.vocabulary);
    std::error_code error;
    fs::create_directories(folder_, error);
    if (error) fail("{}: cannot create the folder: {}", folder_.string(), error.message());
    for (const fs::directory_entry& entry : fs::directory_iterator(folder_))
        if (const std::string name = entry.path().filename().string();
            name.starts_with("teacher-") && name.ends_with(".safetensors")) {
            check_metadata(SafetensorsFile(entry.path()), key_);
            break;  // the others are looked at when they are read
        }
}

fs::path TeacherCache::path(uint64_t file) const { return folder_ / fmt::format("teacher-{:08}.safetensors", file); }

bool TeacherCache::has(uint64_t file) const {
    std::error_code error;
    return fs::is_regular_file(path(file), error);
}

void TeacherCache::write(uint64_t file, const TeacherRows& rows, const std::vector<uint32_t>& data) const {
    const auto windows = int64_t(data.size()), count = windows * key_.seq_len;
    if (int64_t(rows.ids.size()) != count * key_.top_k || rows.values.size() != rows.ids.size() ||
        int64_t(rows.norm.size()) != count || int64_t(rows.loss.size()) != count || int64_t(rows.confidence.size()) != count)
        fail("{}: what is to be written does not fit {} windows", path(file).string(), windows);
    std::vector<uint32_t> checksums;
    for (int64_t w = 0; w < windows; w++) checksums.push_back(content_checksum(rows, w, key_));
    SafetensorsWriter writer(path(file),
                             {{"logits", DType::f32, {count, key_.top_k}},
                              {"norm", DType::f32, {count}},
                              {"loss", DType::f32, {count}},
                              {"confidence", DType::f32, {count}},
                              {"data", DType::i32, {windows}},
                              {"checksum", DType::i32, {windows}},
                              {"ids", DType::u8, {count, key_.top_k * id_bytes(key_)}}},
                             metadata_of(key_));
    writer.write("logits", std::as_bytes(std::span(rows.values)));
    writer.write("norm", std::as_bytes(std::span(rows.norm)));
    writer.write("loss", std::as_bytes(std::span(rows.loss)));
    writer.write("confidence", std::as_bytes(std::span(rows.confidence)));
    writer.write("data", std::as_bytes(std::span(data)));
    writer.write("checksum", std::as_bytes(std::span(checksums)));
    if (id_bytes(key_) == 2)
        writer.write("ids", std::as_bytes(std::span<const uint16_t>(std::vector<uint16_t>(rows.ids.begin(), rows.ids.end()))));
    else
        writer.write("ids", std::as_bytes(std::span(rows.ids)));
    writer.finish();
}

std::shared_ptr<const TeacherCache::File> TeacherCache::open(uint64_t file) {
    for (const auto& [number, opened] : recent_)
        if (number == file) return opened;
    if (!has(file)) fail("{}: is not there: the teacher has not said yet what is asked for", path(file).string());
    auto opened = std::make_shared<File>(path(file));
    check_metadata(opened->file, key_);
    opened->data = read_words<int32_t>(opened->file.get("data"), file_windows);
    opened->checksums = read_words<int32_t>(opened->file.get("checksum"), file_windows);
    if (recent_.size() >= most_open) recent_.erase(recent_.begin());
    recent_.emplace_back(file, opened);
    return opened;
}

TeacherRows TeacherCache::read(const Batch& batch) {
    if (int64_t(batch.windows.size()) != batch.batch) fail("a batch without the numbers of its windows has no teacher's logits");
    if (batch.seq_len != key_.seq_len)
        fail("windows of {} tokens were given, the teacher's logits are for {}", batch.seq_len, key_.seq_len);
    const auto tokens = uint64_t(key_.seq_len), k = uint64_t(key_.top_k);
    TeacherRows all;
    for (int64_t row = 0; row < batch.batch; row++) {
        const uint64_t window = batch.windows[size_t(row)], file = window / file_windows, place = window % file_windows;
        const std::shared_ptr<const File> opened = open(file);
        const std::string where = path(file).string();
        if (uint32_t(opened->data[place]) != window_checksum(batch, row))
            fail(
                "{}: window {} was another text: a cache belongs to one set of data, seed and tokenizer; name another folder "
                "(distillation.cache)",
                where, window);
        // A window's part of a tensor.
        auto part = [&](const char* name, uint64_t bytes_of_row) {
            const std::span<const std::byte> bytes = opened->file.get(name).bytes;
            if (bytes.size() != file_windows * tokens * bytes_of_row)
                fail("{}: {}: {} bytes, expected {}", where, name, bytes.size(), file_windows * tokens * bytes_of_row);
            return bytes.subspan(place * tokens * bytes_of_row, tokens * bytes_of_row);
        };
        auto floats = [&](const char* name, uint64_t count) {
            std::vector<float> values(tokens * count);
            std::memcpy(values.data(), part(name, count * 4).data(), values.size() * 4);
            return values;
        };
        TeacherRows one{{}, floats("logits", k), floats("norm", 1), floats("loss", 1), floats("confidence", 1)};
        const std::span<const std::byte> ids = part("ids", k * uint64_t(id_bytes(key_)));
        if (id_bytes(key_) == 2) {
            std::vector<uint16_t> narrow(tokens * k);
            std::memcpy(narrow.data(), ids.data(), ids.size());
            one.ids.assign(narrow.begin(), narrow.end());
        } else {
            one.ids.resize(tokens * k);
            std::memcpy(one.ids.data(), ids.data(), ids.size());
        }
        if (uint32_t(opened->checksums[place]) != content_checksum(one, 0, key_))
            fail("{}: window {} is damaged: its checksum is another; remove the file, and it is made again", where, window);
        if (std::any_of(one.ids.begin(), one.ids.end(), [&](int32_t id) { return id < 0 || id >= key_.vocabulary; }))
            fail("{}: window {} has ids outside of the vocabulary of {}", where, window, key_.vocabulary);
        all.append(one);
    }
    return all;
}

}  // namespace vkqat
