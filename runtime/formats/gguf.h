// The GGUF container of llama.cpp, versions 2 and 3, little-endian: "GGUF", version, numbers of tensors and keys; the keys with
// their values; name, shape, type and offset of each tensor; then, aligned, the tensors' bytes. The file is mapped.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runtime/formats/gguf_blocks.h"
#include "runtime/support/files.h"

namespace vkqat {

// Numbers as in the file.
enum class GgufType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };
std::string_view name(GgufType type);

struct GgufArray {
    GgufType type = GgufType::u8;  // of the elements
    uint64_t count = 0;
    std::span<const std::byte> bytes;       // the elements as the file has them
    std::vector<std::string_view> strings;  // those of an array of strings
};

struct GgufValue {
    GgufType type = GgufType::u8;
    std::variant<uint64_t, int64_t, double, bool, std::string_view, GgufArray> value;
};

// A tensor in the file; its bytes live as long as the GgufFile.
struct GgufTensor {
    std::string name;
    std::vector<int64_t> shape;  // row-major, the last dimension contiguous: the reverse of the file's order
    const GgufBlockType* type = nullptr;
    std::span<const std::byte> bytes;
};

class GgufFile {
public:
    // Error naming file and key or tensor for whatever is malformed: a count, length, type, alignment or offset that cannot be,
    // arrays nested deeper than 4 levels, two keys or tensors of one name, tensors that overlap, a block type that is not known.
    // Strings may be any bytes (see utf8_valid()); keys and names of tensors are printable ASCII.
    explicit GgufFile(const std::filesystem::path& path);

    // Values by key; nothing where there is no such key, Error naming it where its type is another. Integers of any width count
    // as one type; number() also takes integers.
    bool has(std::string_view key) const;
    std::optional<uint64_t> count(std::string_view key) const;  // an integer of 0 .. 2^63 - 1
    std::optional<double> number(std::string_view key) const;
    std::optional<bool> boolean(std::string_view key) const;
    std::optional<std::string_view> string(std::string_view key) const;
    const std::vector<std::string_view>* strings(std::string_view key) const;  // null where there is no such key
    std::optional<std::vector<int64_t>> integers(std::string_view key) const;
    std::optional<std::vector<double>> numbers(std::string_view key) const;
    const std::map<std::string, GgufValue, std::less<>>& values() const { return values_; }

    std::span<const GgufTensor> tensors() const { return tensors_; }  // in the order of their bytes
    const GgufTensor* find(std::string_view name) const;              // null if there is none
    std::span<const std::byte> header() const { return header_; }     // all that stands in front of the tensors' bytes
    const std::filesystem::path& path() const { return file_.path(); }

private:
    [[noreturn]] void wrong_type(std::string_view key, std::string_view expected) const;
    const GgufValue* value(std::string_view key) const;
    const GgufArray* array(std::string_view key) const;

    MappedFile file_;
    std::map<std::string, GgufValue, std::less<>> values_;
    std::vector<GgufTensor> tensors_;
    std::map<std::string_view, size_t> index_;  // names in tensors_
    std::span<const std::byte> header_;
};

// Whether a path is to be read as a GGUF file: it ends in .gguf and is no directory.
bool is_gguf(const std::filesystem::path& path);

}  // namespace vkqat
