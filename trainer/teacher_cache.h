// A teacher's largest logits on disk: written once, read by every training that draws the same windows, without the teacher.
//
// A folder of files teacher-NNNNNNNN.safetensors, each with 32 windows that follow each other in the stream of training data
// (window 32 N is the first). Metadata: vkqat_teacher_logits "1", teacher (its digest, model_digest.h), vocabulary, seq_len,
// top_k. Tensors, with rows of all windows below one another: ids u8 (16 bits, or 32 where the vocabulary is larger than 65,536;
// little endian) and logits f32 [rows, top_k], ids in rising order; norm, loss, confidence f32 [rows] (distillation.h:
// TopLogits); data and checksum i32 [windows]: CRC-32 of a window's ids, labels and documents, and of what is stored for it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "trainer/data.h"

namespace vkqat {

struct TeacherCacheKey {
    std::string teacher;  // model_digest()
    int64_t vocabulary = 0, seq_len = 0, top_k = 0;
};

// What a teacher says about some windows, one behind the other.
struct TeacherRows {
    std::vector<int32_t> ids;                   // [windows * seq_len, top_k]
    std::vector<float> values;                  // [windows * seq_len, top_k]
    std::vector<float> norm, loss, confidence;  // [windows * seq_len]
    void append(const TeacherRows& other);
};

// CRC-32 of a row of a batch.
uint32_t window_checksum(const Batch& batch, int64_t row);

class TeacherCache {
public:
    static constexpr uint64_t file_windows = 32;

    // Makes the folder where it is missing. A cache of another teacher, vocabulary, seq_len or top_k is an Error that names what
    // differs.
    TeacherCache(std::filesystem::path folder, const TeacherCacheKey& key);

    const TeacherCacheKey& key() const { return key_; }
    std::filesystem::path path(uint64_t file) const;
    bool has(uint64_t file) const;
    // Atomic. data: window_checksum() of each of file_windows windows.
    void write(uint64_t file, const TeacherRows& rows, const std::vector<uint32_t>& data) const;
    // The rows of a batch, whose windows' numbers (Batch::windows) say where they are. Error: a window that is not there; that
    // was written for other text; that is damaged.
    TeacherRows read(const Batch& batch);

private:
    struct File;
    std::filesystem::path folder_;
    TeacherCacheKey key_;
    std::shared_ptr<const File> open(uint64_t file);
    std::vector<std::pair<uint64_t, std::shared_ptr<const File>>> recent_;  // a batch's windows lie in few files
};

}  // namespace vkqat
