#include "tools/model.h"

#include <algorithm>
#include <charconv>

#include "runtime/formats/json_text.h"
#include "runtime/model/memory.h"
#include "runtime/text/utf8.h"
#include "tools/console.h"

namespace vkqat {
namespace fs = std::filesystem;

std::string quoted_piece(const Tokenizer& tokenizer, int32_t id) {
    std::string piece = piece_text(tokenizer, id, true);
    bool plain = utf8_valid(piece) && piece.size() <= 100 &&
                 std::none_of(piece.begin(), piece.end(), [](char c) { return uint8_t(c) < 0x20 || c == 0x7f; });
    return "\"" + (plain ? piece : printable(piece, 100)) + "\"";
}

void announce_cpu(const Gpu& gpu) {
    if (gpu.device.capabilities().kind == DeviceKind::cpu) std::fprintf(stderr, "device: %s\n", device_line(gpu.device).c_str());
}

LlamaWeights load_weights(Gpu& gpu, const fs::path& directory) {
    ProgressLine progress;
    std::string what = "loading " + model_name(directory);
    return LlamaWeights(gpu.device, directory,
                        [&](uint64_t done, uint64_t total) { progress.show(what, double(done), double(total)); });
}

LlamaWeights load_weights(Gpu& gpu, const fs::path& directory, SequencesOptions sequences) {
    const LlamaWeights planned(gpu.device, directory, LlamaWeights::Planned{});
    if (sequences.context == 0) sequences.context = std::min<int64_t>(planned.config().max_position_embeddings, 4096);
    require_memory(planned, sequences, model_name(directory));
    return load_weights(gpu, directory);
}

std::vector<int32_t> parse_ids(const std::string& text) {
    std::vector<int32_t> ids;
    for (size_t at = 0; at < text.size();) {
        size_t end = std::min(text.find_first_of(", \t\r\n", at), text.size());
        if (end > at) {
            int32_t id = 0;
            auto [stop, error] = std::from_chars(text.data() + at, text.data() + end, id);
            if (error != std::errc() || stop != text.data() + end || id < 0)
                throw UsageError(
                    fmt::format("'{}' is no token id; expected ids such as 1,2,3", printable(text.substr(at, end - at), 40)));
            ids.push_back(id);
        }
        at = end + 1;
    }
    if (ids.empty()) throw UsageError("the list of ids is empty; expected ids such as 1,2,3");
    return ids;
}

void check_ids(const std::vector<int32_t>& ids, int64_t vocab_size) {
    for (int32_t id : ids)
        if (id < 0 || id >= vocab_size) fail("the id {} is outside of the model's vocabulary of {}", id, vocab_size);
}

void PromptOptions::add(CLI::App& command) {
    command.add_option("--prompt", text, "text to begin with")->type_name("TEXT");
    command.add_option("--ids", ids, "token ids to begin with, such as 1,2,3")->type_name("LIST");
}

std::vector<int32_t> PromptOptions::read(const std::optional<Tokenizer>& tokenizer, const fs::path& directory,
                                         const LlamaConfig& config) const {
    std::vector<int32_t> result;
    if (text && !ids.empty()) throw UsageError("--prompt and --ids exclude each other");
    if (!text) {
        if (ids.empty()) throw UsageError("one of --prompt and --ids is needed");
        result = parse_ids(ids);
    } else {
        if (!tokenizer) fail("{}: has no tokenizer, which --prompt needs; --ids works without", directory.string());
        result = tokenizer->encode(*text);
        if (result.empty()) throw UsageError("the prompt is empty, and the tokenizer has no start token to begin with");
    }
    check_ids(result, config.vocab_size);
    return result;
}

void SamplingOptions::add(CLI::App& command) {
    const char* group = "Sampling (defaults: the model's generation_config.json, else temperature 0.7 and top-p 0.95)";
    command.add_flag("--greedy", greedy, "always the most likely token")->group(group);
    command.add_option("--temperature", temperature, "0: greedy; 1: as the model has it")->type_name("T")->group(group);
    command.add_option("--top-k", top_k, "only the K most likely tokens; 0: all")->type_name("K")->group(group);
    command.add_option("--top-p", top_p, "only the likeliest tokens that make up P together; 1: all")
        ->type_name("P")
        ->group(group);
    command.add_option("--min-p", min_p, "only tokens with at least P times the best one's probability; 0: all")
        ->type_name("P")
        ->group(group);
    command.add_option("--repetition-penalty", repetition_penalty, "above 1: tokens of the context become less likely")
        ->type_name("R")
        ->group(group);
    command.add_option("--seed", seed, "same seed, same text; without it a random one is drawn")->type_name("N")->group(group);
}

Sampling SamplingOptions::resolve(const GenerationConfig& generation) const {
    if (top_k && (*top_k < 0 || *top_k > INT32_MAX)) throw UsageError(fmt::format("--top-k {}: expected 0 or more", *top_k));
    try {
        return resolve_sampling(*this, generation);
    } catch (const Error& e) {
        throw UsageError(e.what());
    }
}

void CacheOption::add(CLI::App& command, const std::string& help) {
    command.add_option("--cache", type, help)->check(CLI::IsMember({"f32", "f16", "bf16", "i8"}))->type_name("TYPE");
}

SessionOptions CacheOption::session(const Device& device, int64_t context) const {
    SessionOptions options = session_options(device, context);
    for (DType each : {DType::f32, DType::f16, DType::bf16, DType::i8})
        if (type == name(each)) options.cache = each;
    return options;
}

}  // namespace vkqat
