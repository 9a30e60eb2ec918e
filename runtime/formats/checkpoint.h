// The tensors of a model: a Hugging Face directory with one safetensors file or shards and an index, or a GGUF file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/formats/llama_config.h"
#include "runtime/formats/safetensors.h"

namespace vkqat {

class GgufFile;

// A model opened for reading: a directory's model.safetensors, or else the shards of model.safetensors.index.json; or a file
// whose name ends in .gguf, with its tensors under Hugging Face's names (runtime/formats/gguf_model.h).
class ModelFiles {
public:
    // Error if there are no safetensors, a file is malformed, the index names a file outside the directory, or a tensor is
    // not in the shard that the index names. Tensors that an index does not name are no part of the model.
    static ModelFiles open(const std::filesystem::path& model);

    const TensorView* find(std::string_view name) const;                                 // null if there is none
    const TensorView& get(std::string_view name) const;                                  // Error if there is none
    const TensorView& get(std::string_view name, std::span<const int64_t> shape) const;  // Error also if its shape is another
    std::vector<std::string> names() const;  // shard by shard, in the order of their bytes
    uint64_t total_bytes() const;            // of all tensors, as contents() gives them
    uint64_t stored_bytes() const;           // of all tensors, in the files
    size_t file_count() const { return gguf_ ? 1 : files_.size(); }

    const std::filesystem::path& directory() const { return directory_; }                    // or the GGUF file
    const std::vector<SafetensorsFile>& files() const { return files_; }                     // none of a GGUF file
    const std::optional<QuantizationConfig>& quantization() const { return quantization_; }  // none: full precision

private:
    std::filesystem::path directory_;
    std::vector<SafetensorsFile> files_;
    std::shared_ptr<const GgufFile> gguf_;
    std::vector<TensorView> gguf_tensors_;
    std::vector<const TensorView*> tensors_;
    std::unordered_map<std::string_view, const TensorView*> index_;
    std::optional<QuantizationConfig> quantization_;
};

constexpr uint64_t default_shard_bytes = 5'000'000'000;

// Hands on the bytes of one tensor, in pieces of any size.
using TensorSink = std::function<void(std::span<const std::byte>)>;
// Called once for each tensor, in the order of the files; gives its bytes to the sink.
using TensorSource = std::function<void(const TensorInfo& tensor, const TensorSink& sink)>;

// Writes `tensors` into an existing folder: model.safetensors if they take at most `max_shard_bytes`, else shards of at most
// that size (a larger tensor has a shard of its own) with their index. No more than one piece is in memory at a time.
void write_tensors(const std::filesystem::path& folder, std::vector<TensorInfo> tensors, const TensorSource& source,
                   uint64_t max_shard_bytes = default_shard_bytes);

// What a model directory holds beside its tensors.
struct ModelSettings {
    LlamaConfig config;
    std::optional<GenerationConfig> generation;
    std::optional<QuantizationConfig> quantization;
    std::vector<std::filesystem::path> copies;  // files to copy under their own names: tokenizer.json and the like
};

// A new model directory, which appears complete or not at all. Error if it exists.
void write_model_directory(const std::filesystem::path& directory, const ModelSettings& settings, std::vector<TensorInfo> tensors,
                           const TensorSource& source, uint64_t max_shard_bytes = default_shard_bytes);

}  // namespace vkqat
