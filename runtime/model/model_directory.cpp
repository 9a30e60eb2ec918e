#include "runtime/model/model_directory.h"

#include "runtime/formats/gguf.h"
#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"

namespace vkqat {
namespace fs = std::filesystem;

void check_model_directory(const fs::path& path) {
    if (!has_file(path)) fail("{}: there is no such model directory", path.string());
    std::error_code error;
    if (is_gguf(path)) return;
    if (!fs::is_directory(path, error)) fail("{}: is a file; expected the directory of a model, or a .gguf file", path.string());
    bool run = false;
    for (const char* name : {"manifest.json", "metrics.jsonl", "checkpoint"}) run |= has_file(path / name);
    if (run && !has_file(path / "model.safetensors") && !has_file(path / "model.safetensors.index.json"))
        fail("{}: belongs to a training run and is no model directory; `vkqat export` makes one of a run's checkpoint",
             path.string());
    if (has_file(path / "config.json")) return;
    fail("{}: is no model directory: it has no config.json", path.string());
}

std::string model_name(const fs::path& path) {
    fs::path full = fs::absolute(path).lexically_normal();
    return (full.has_filename() ? full : full.parent_path()).filename().string();
}

std::optional<Tokenizer> find_tokenizer(const fs::path& directory, const LlamaConfig& config) {
    bool found = is_gguf(directory) ? GgufFile(directory).has("tokenizer.ggml.model") : has_file(directory / "tokenizer.json");
    std::error_code error;
    if (!is_gguf(directory))
        for (fs::directory_iterator at(directory, error), end; !error && at != end && !found; at.increment(error))
            found = at->path().extension() == ".model";
    if (!found) return std::nullopt;
    Tokenizer tokenizer = load_tokenizer(directory);
    if (int64_t(tokenizer.vocab_size()) > config.vocab_size)
        fail("{}: tokenizer and model do not belong together: the tokenizer has {} tokens, the model's vocabulary {}",
             directory.string(), tokenizer.vocab_size(), config.vocab_size);
    return tokenizer;
}

Tokenizer need_tokenizer(const fs::path& directory, const LlamaConfig& config) {
    std::optional<Tokenizer> tokenizer = find_tokenizer(directory, config);
    if (!tokenizer)
        fail(
            "{}: has no tokenizer, which text needs: expected tokenizer.json or tokenizer.model (in a .gguf file, "
            "tokenizer.ggml.model)",
            directory.string());
    return *tokenizer;
}

std::string piece_text(const Tokenizer& tokenizer, int32_t id, bool special) {
    if (id < 0 || size_t(id) >= tokenizer.vocab_size()) return fmt::format("[id {}]", id);
    return tokenizer.decode_piece(id, special);
}

std::vector<int32_t> end_ids(const GenerationConfig& generation, const std::optional<Tokenizer>& tokenizer) {
    std::vector<int32_t> ids = generation.eos_token_ids;
    if (ids.empty() && tokenizer && tokenizer->eos()) ids.push_back(*tokenizer->eos());
    return ids;
}

}  // namespace vkqat
