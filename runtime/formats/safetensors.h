// The safetensors format: 8 bytes of header length (little-endian), a JSON header {name: {dtype, shape, data_offsets}},
// then the tensors' bytes. Reading maps the file; writing streams, so that a model never has to be in memory.
// https://github.com/huggingface/safetensors#format
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/support/dtype.h"
#include "runtime/support/files.h"

namespace vkqat {

// What a file says of a tensor. Row-major, the last dimension contiguous.
struct TensorInfo {
    std::string name;
    DType dtype = DType::f32;
    std::vector<int64_t> shape;  // empty: a scalar
};

// How a file holds a tensor in another form than its type and shape say: a GGUF's quantized blocks, rows in another order.
struct StoredForm {
    std::string_view type;                              // "q8_0"
    uint64_t bytes = 0;                                 // in the file
    std::function<void(std::span<std::byte>)> convert;  // writes the elements, byte_size() of them; Error if that cannot be
};

// A tensor in a mapped file; lives as long as the file. `bytes` need not be aligned. Where the file holds it in another form,
// `stored` is set and `bytes` are empty: contents() makes them.
struct TensorView : TensorInfo {
    std::span<const std::byte> bytes;
    std::shared_ptr<const StoredForm> stored;
};

// Memory that nobody fills with zeros first: gigabytes of it are written by several threads.
using RawBytes = std::unique_ptr<std::byte[]>;

// The elements: `bytes`, or made anew in `storage`, which must outlive them. Error naming the tensor if that cannot be.
std::span<const std::byte> contents(const TensorView& tensor, RawBytes& storage);
// Of the tensor in its file: its size there, and its type's name there.
uint64_t stored_bytes(const TensorView& tensor);
std::string_view stored_type(const TensorView& tensor);

// Number of elements, and their size. Error naming the tensor if a dimension is negative or the product exceeds 2^63 - 1.
int64_t element_count(const TensorInfo& tensor);
int64_t byte_size(const TensorInfo& tensor);

// "[2, 3]"
std::string shape_text(std::span<const int64_t> shape);

// The elements of a tensor of type f32, f16 or bf16 as floats. Error naming the tensor if it is of another type.
std::vector<float> read_floats(const TensorView& tensor);

// Values rounded to `dtype` (f32, f16 or bf16; nearest, ties to even), as bytes ready to be written.
std::vector<std::byte> to_bytes(std::span<const float> values, DType dtype);

class SafetensorsFile {
public:
    // Error if the header is malformed or a tensor's bytes are not where they can be: the tensors must fill the rest of
    // the file without gap or overlap, as the format demands.
    explicit SafetensorsFile(const std::filesystem::path& path);

    const TensorView* find(std::string_view name) const;              // null if the file has none of that name
    const TensorView& get(std::string_view name) const;               // Error if the file has none of that name
    std::span<const TensorView> tensors() const { return tensors_; }  // in the order of their bytes
    const std::map<std::string, std::string>& metadata() const { return metadata_; }
    const std::filesystem::path& path() const { return file_.path(); }

private:
    MappedFile file_;
    std::vector<TensorView> tensors_;
    std::unordered_map<std::string_view, size_t> index_;  // keys are the names in tensors_
    std::map<std::string, std::string> metadata_;
};

// Writes a file whose tensors are known beforehand; their bytes then come in the same order, in pieces of any size. The
// file appears under its name with finish(); without it nothing stays.
class SafetensorsWriter {
public:
    // Error if two tensors have one name, or a name is not UTF-8.
    SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorInfo> tensors,
                      const std::map<std::string, std::string>& metadata = {});

    // The next piece of tensor `name`. Error if another tensor's bytes are due, or it gets more than its size.
    void write(std::string_view name, std::span<const std::byte> bytes);

    // Error if bytes are missing.
    void finish();

private:
    void skip_complete();

    std::filesystem::path path_;
    std::vector<TensorInfo> tensors_;
    AtomicFile file_;
    size_t current_ = 0;    // tensor whose bytes are due
    uint64_t written_ = 0;  // of the current tensor
};

// The order in which the reference library lays tensors out: by falling alignment, then by name. A file so ordered has
// every tensor aligned to its element.
void sort_by_alignment(std::vector<TensorInfo>& tensors);

}  // namespace vkqat
