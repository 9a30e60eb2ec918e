#include "runtime/formats/checkpoint.h"

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/formats/gguf_model.h"
#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"
#include "runtime/support/files.h"

namespace vkqat {
namespace fs = std::filesystem;
namespace {

constexpr size_t max_shards = 10000;
constexpr std::string_view single_name = "model.safetensors";
constexpr std::string_view index_name = "model.safetensors.index.json";

// A shard is a plain file name, so that no index reaches outside its directory.
bool is_plain_name(std::string_view name) {
    return !name.empty() && name.size() <= 255 && name.find_first_of(std::string_view("/\\\0", 3)) == name.npos &&
           name.ends_with(".safetensors");
}

// Tensor name -> shard name.
std::map<std::string, std::string> read_index(const fs::path& path) {
    nlohmann::json index = read_json_object(path);
    auto map = index.find("weight_map");
    if (map == index.end() || !map->is_object() || map->empty()) {
        fail("{}: expected 'weight_map', an object that names the file of each tensor", path.string());
    }
    std::map<std::string, std::string> result;
    for (const auto& [tensor, file] : map->items()) {
        if (!file.is_string() || !is_plain_name(file.get_ref<const std::string&>())) {
            fail("{}: tensor '{}': expected the name of a .safetensors file in the same directory, found {}", path.string(),
                 printable(tensor), printable(file.dump(-1, ' ', true), 100));
        }
        result.emplace(tensor, file.get<std::string>());
    }
    return result;
}

void write_one_file(const fs::path& path, std::vector<TensorInfo> tensors, const TensorSource& source) {
    sort_by_alignment(tensors);
    SafetensorsWriter writer(path, tensors, {{"format", "pt"}});  // without a format `transformers` refuses the file
    for (const TensorInfo& tensor : tensors) {
        source(tensor, [&](std::span<const std::byte> bytes) { writer.write(tensor.name, bytes); });
    }
    writer.finish();
}

}  // namespace

ModelFiles ModelFiles::open(const fs::path& directory) {
    ModelFiles model;
    model.directory_ = directory;
    auto add = [&](const TensorView* tensor) {
        model.tensors_.push_back(tensor);
        model.index_.emplace(tensor->name, tensor);
    };
    if (is_gguf(directory)) {
        model.gguf_ = std::make_shared<const GgufFile>(directory);
        model.gguf_tensors_ = gguf_llama_tensors(model.gguf_, gguf_llama_config(*model.gguf_));
        for (const TensorView& tensor : model.gguf_tensors_) add(&tensor);
        return model;
    }
    std::error_code error;
    if (!fs::is_directory(directory, error))
        fail("{}: is no directory; expected that of a model, or a .gguf file", directory.string());
    fs::path single = directory / single_name, index = directory / index_name;
    if (has_file(single)) {
        model.files_.emplace_back(single);
        for (const TensorView& tensor : model.files_[0].tensors()) add(&tensor);
    } else if (has_file(index)) {
        std::map<std::string, std::string> shard_of = read_index(index);
        std::map<std::string, size_t> shards;
        for (const auto& [tensor, shard] : shard_of) shards.emplace(shard, 0);
        if (shards.size() > max_shards) {
            fail("{}: names {} shards (at most {})", index.string(), shards.size(), max_shards);
        }
        model.files_.reserve(shards.size());
        for (auto& [shard, number] : shards) {
            number = model.files_.size();
            model.files_.emplace_back(directory / shard);
            for (const TensorView& tensor : model.files_.back().tensors()) {
                auto named = shard_of.find(tensor.name);
                if (named != shard_of.end() && named->second == shard) add(&tensor);
            }
        }
        for (const auto& [tensor, shard] : shard_of) {
            if (!model.find(tensor)) {
                fail("{}: tensor '{}' should be in '{}', but is not", index.string(), printable(tensor), shard);
            }
        }
    } else {
        fail("{}: has neither {} nor {}; expected a model in the safetensors format", directory.string(), single_name,
             index_name);
    }
    model.quantization_ = read_quantization_config(directory);
    return model;
}

const TensorView* ModelFiles::find(std::string_view name) const {
    auto found = index_.find(name);
    return found == index_.end() ? nullptr : found->second;
}

const TensorView& ModelFiles::get(std::string_view name) const {
    const TensorView* tensor = find(name);
    if (!tensor) fail("{}: has no tensor '{}'", directory_.string(), printable(name));
    return *tensor;
}

const TensorView& ModelFiles::get(std::string_view name, std::span<const int64_t> shape) const {
    const TensorView& tensor = get(name);
    if (!std::ranges::equal(tensor.shape, shape)) {
        fail("{}: tensor '{}': expected shape {}, found {}; does it fit config.json?", directory_.string(), printable(name),
             shape_text(shape), shape_text(tensor.shape));
    }
    return tensor;
}

std::vector<std::string> ModelFiles::names() const {
    std::vector<std::string> result;
    for (const TensorView* tensor : tensors_) result.push_back(tensor->name);
    return result;
}

uint64_t ModelFiles::total_bytes() const {
    uint64_t total = 0;
    for (const TensorView* tensor : tensors_) total += uint64_t(byte_size(*tensor));
    return total;
}

uint64_t ModelFiles::stored_bytes() const {
    uint64_t total = 0;
    for (const TensorView* tensor : tensors_) total += vkqat::stored_bytes(*tensor);
    return total;
}

void write_tensors(const fs::path& folder, std::vector<TensorInfo> tensors, const TensorSource& source,
                   uint64_t max_shard_bytes) {
    std::vector<std::vector<TensorInfo>> shards(1);
    uint64_t total = 0, in_shard = 0;
    nlohmann::ordered_json weight_map = nlohmann::ordered_json::object();
    for (TensorInfo& tensor : tensors) {
        uint64_t size = uint64_t(byte_size(tensor));
        if (__builtin_add_overflow(total, size, &total)) fail("{}: the tensors together are too large", folder.string());
        if (!shards.back().empty() && in_shard + size > max_shard_bytes) {
            shards.emplace_back();
            in_shard = 0;
        }
        in_shard += size;
        shards.back().push_back(std::move(tensor));
    }
    if (shards.size() == 1) return write_one_file(folder / single_name, std::move(shards[0]), source);
    if (shards.size() > max_shards) fail("{}: {} shards are too many (at most {})", folder.string(), shards.size(), max_shards);
    for (size_t i = 0; i < shards.size(); ++i) {
        std::string shard = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
        for (const TensorInfo& tensor : shards[i]) {
            if (!weight_map.emplace(tensor.name, shard).second) {
                fail("{}: tensor name '{}' is taken", folder.string(), printable(tensor.name));
            }
        }
        write_one_file(folder / shard, std::move(shards[i]), source);
    }
    nlohmann::ordered_json index = {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(weight_map)}};
    write_text_file(folder / index_name, index.dump(2) + "\n");
}

void write_model_directory(const fs::path& directory, const ModelSettings& settings, std::vector<TensorInfo> tensors,
                           const TensorSource& source, uint64_t max_shard_bytes) {
    write_directory(directory, [&](const fs::path& folder) {
        write_text_file(folder / "config.json", to_json(settings.config));
        if (settings.generation) write_text_file(folder / "generation_config.json", to_json(*settings.generation));
        if (settings.quantization) write_text_file(folder / "quantization_config.json", to_json(*settings.quantization));
        for (const fs::path& file : settings.copies) write_text_file(folder / file.filename(), read_text_file(file));
        write_tensors(folder, std::move(tensors), source, max_shard_bytes);
    });
}

}  // namespace vkqat
