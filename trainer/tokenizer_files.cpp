#include "trainer/tokenizer_files.h"

#include "runtime/formats/gguf.h"
#include "runtime/support/error.h"
#include "runtime/support/files.h"
#include "runtime/support/hash.h"

namespace vkqat {
namespace fs = std::filesystem;

namespace {

bool is_file(const fs::path& path) {
    std::error_code error;
    return fs::is_regular_file(path, error);
}

fs::path vocabulary_file(const fs::path& path) {
    std::error_code error;
    if (!fs::exists(path, error)) fail("{}: there is no such tokenizer", path.string());
    if (is_gguf(path)) {
        fail(
            "{}: the tokenizer inside a GGUF file cannot go into checkpoints and exported models; name its tokenizer.json or "
            "tokenizer.model",
            path.string());
    }
    if (!fs::is_directory(path, error)) return path;
    for (const char* name : {"tokenizer.json", "tokenizer.model"})
        if (is_file(path / name)) return path / name;
    std::vector<fs::path> models;
    for (auto entry = fs::directory_iterator(path, error); !error && entry != fs::directory_iterator(); entry.increment(error))
        if (entry->path().extension() == ".model") models.push_back(entry->path());
    if (models.size() != 1)
        fail("{}: no tokenizer: expected tokenizer.json, tokenizer.model or one *.model, found {} of the last", path.string(),
             models.size());
    return models[0];
}

}  // namespace

std::vector<TokenizerFile> tokenizer_files(const fs::path& path) {
    const fs::path file = vocabulary_file(path);
    const std::string kind = file.extension() == ".json" ? "tokenizer.json" : "tokenizer.model", name = file.filename().string();
    std::vector<TokenizerFile> files{{file, kind}};
    // X.tokenizer.json goes with X.tokenizer_config.json.
    const std::string prefix = name.ends_with(kind) ? name.substr(0, name.size() - kind.size()) : "";
    for (const char* beside : {"tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"})
        if (is_file(file.parent_path() / (prefix + beside))) files.push_back({file.parent_path() / (prefix + beside), beside});
    return files;
}

TextEncoder text_encoder(const Tokenizer& tokenizer, const fs::path& path) {
    TextEncoder encoder;
    encoder.encode = [tokenizer](std::string_view text) { return tokenizer.encode(text, {.add_bos = false}); };
    encoder.bos_id = tokenizer.bos().value_or(-1);
    encoder.eos_id = tokenizer.eos().value_or(-1);
    encoder.vocab_size = int32_t(tokenizer.vocab_size());
    if (is_gguf(path)) {
        const GgufFile file(path);
        encoder.digest = fmt::format("gguf {} {:08x}\n", file.header().size(), checksum(file.header()));
        return encoder;
    }
    for (const TokenizerFile& file : tokenizer_files(path)) {
        MappedFile content(file.path);
        encoder.digest += fmt::format("{} {} {:08x}\n", file.name, content.bytes().size(), checksum(content.bytes()));
    }
    return encoder;
}

}  // namespace vkqat
