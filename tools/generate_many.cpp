#include "tools/generate_many.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/formats/json_text.h"
#include "runtime/model/batch_session.h"
#include "runtime/support/files.h"
#include "runtime/text/utf8.h"
#include "tools/console.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;

std::string_view stop_name(Stop stop) {
    switch (stop) {
        case Stop::end: return "end";
        case Stop::max_tokens: return "max_tokens";
        case Stop::context: return "context";
        case Stop::caller: return "caller";
    }
    return "";
}

// A line of a .jsonl file.
Prompt parse_prompt(std::string_view line, const std::string& where) {
    Prompt p;
    const nlohmann::json object = parse_json(line, where);
    if (!object.is_object()) fail("{}: expected an object with \"prompt\" or \"ids\"", where);
    const bool text = object.contains("prompt") && object["prompt"].is_string();
    const bool ids = object.contains("ids") && object["ids"].is_array();
    if (text == ids) fail("{}: expected either \"prompt\" (a string) or \"ids\" (a list of token ids)", where);
    if (text) p.text = object["prompt"].get<std::string>();
    if (ids)
        for (const auto& id : object["ids"]) {
            if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX)
                fail("{}: \"ids\" must hold token ids, found {}", where, printable(id.dump(), 40));
            p.ids.push_back(id.get<int32_t>());
        }
    auto number = [&](const char* key, int64_t lowest) -> std::optional<int64_t> {
        if (!object.contains(key)) return std::nullopt;
        const auto& value = object[key];
        if (!value.is_number_integer() || value.get<int64_t>() < lowest)
            fail("{}: \"{}\" must be a whole number from {} on, found {}", where, key, lowest, printable(value.dump(), 40));
        return value.get<int64_t>();
    };
    p.max_tokens = number("max_tokens", 1);
    if (auto seed = number("seed", 0)) p.seed = uint64_t(*seed);
    return p;
}

// Calls `each` with the lines of a text, without their ends, counted from 1.
void for_each_line(std::string_view text, const std::function<void(int64_t number, std::string_view line)>& each) {
    for (int64_t number = 1; !text.empty(); number++) {
        const size_t end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        if (line.ends_with('\r')) line.remove_suffix(1);
        each(number, line);
        text.remove_prefix(std::min(end + 1, text.size()));
    }
}

}  // namespace

std::vector<Prompt> read_prompts(const fs::path& file, const std::optional<Tokenizer>& tokenizer, const LlamaConfig& config) {
    if (!has_file(file)) fail("{}: there is no such file of prompts", file.string());
    const bool json = file.extension() == ".jsonl";
    const std::string text = read_text_file(file);
    std::vector<Prompt> prompts;
    for_each_line(text, [&](int64_t number, std::string_view line) {
        if (line.find_first_not_of(" \t") == line.npos) return;
        const std::string where = fmt::format("{}, line {}", file.string(), number);
        if (!utf8_valid(line)) fail("{}: is not UTF-8", where);
        Prompt p = json ? parse_prompt(line, where) : Prompt{.text = std::string(line)};
        p.line = number;
        if (p.ids.empty()) {
            if (!tokenizer) fail("{}: the model has no tokenizer, which text needs; \"ids\" work without", where);
            p.ids = tokenizer->encode(p.text);
        }
        if (p.ids.empty()) fail("{}: the prompt is empty", where);
        for (int32_t id : p.ids)
            if (id >= config.vocab_size)
                fail("{}: id {} is outside of the model's vocabulary of {}", where, id, config.vocab_size);
        if (int64_t(p.ids.size()) >= config.max_position_embeddings)
            fail("{}: the prompt has {} tokens, but the model allows {} with what follows", where, p.ids.size(),
                 config.max_position_embeddings);
        prompts.push_back(std::move(p));
    });
    if (prompts.empty()) fail("{}: has no prompts", file.string());
    return prompts;
}

std::vector<bool> answered(const fs::path& out, const std::vector<Prompt>& prompts) {
    std::vector<bool> done(prompts.size(), false);
    if (!has_file(out)) return done;
    std::string text = read_text_file(out);
    if (const size_t whole = text.rfind('\n') + 1; whole < text.size()) {  // a run was ended in the middle of a line
        text.resize(whole);
        fs::resize_file(out, whole);
    }
    for_each_line(text, [&](int64_t number, std::string_view line) {
        const std::string where = fmt::format("{}, line {}", out.string(), number);
        const nlohmann::json result = parse_json(line, where);
        const bool fits = result.is_object() && result.contains("index") && result["index"].is_number_unsigned() &&
                          result["index"].get<uint64_t>() < prompts.size() && result.contains("prompt_ids");
        const uint64_t index = fits ? result["index"].get<uint64_t>() : 0;
        if (!fits || result["prompt_ids"] != nlohmann::json(prompts[index].ids))
            fail("{}: is not a result of these prompts; choose another file for --out, or remove it", where);
        done[index] = true;
    });
    return done;
}

void generate_many(const std::string& model, const ManyOptions& o, const SamplingOptions& sampling_options,
                   const std::string& device) {
    const fs::path directory = model;
    const LlamaConfig config = read_llama_config(directory);
    const GenerationConfig generation = read_generation_config(directory);
    const SamplingOptions::Result sampling = sampling_options.resolve(generation);
    const std::optional<Tokenizer> tokenizer = find_tokenizer(directory, config);
    const std::vector<Prompt> prompts = read_prompts(o.prompts, tokenizer, config);
    const std::vector<bool> done = answered(o.out, prompts);
    const auto skipped = int64_t(std::count(done.begin(), done.end(), true));
    if (skipped == int64_t(prompts.size())) {
        std::fprintf(stderr, "%s answers all %zu prompts already\n", o.out.string().c_str(), prompts.size());
        return;
    }
    const std::vector<int32_t> ends = o.ignore_end ? std::vector<int32_t>() : end_ids(generation, tokenizer);
    auto max_tokens = [&](const Prompt& p) { return p.max_tokens.value_or(o.max_tokens); };
    int64_t context = 0, left = 0;
    for (size_t i = 0; i < prompts.size(); i++)
        if (!done[i]) {
            left++;
            const auto length = int64_t(prompts[i].ids.size());
            context = std::max(context, length + std::min(max_tokens(prompts[i]), config.max_position_embeddings - length));
        }
    std::ofstream out(o.out, std::ios::app | std::ios::binary);
    if (!out) fail("{}: cannot be written", o.out.string());

    Gpu gpu(device);
    announce_cpu(gpu);
    const bool cpu = gpu.device.capabilities().kind == DeviceKind::cpu;
    const SessionOptions session = o.cache.session(gpu.device, context);
    const int64_t slots = std::min<int64_t>(o.batch ? o.batch : cpu ? 4 : 16, left);
    LlamaWeights weights = load_weights(gpu, directory, sequences_options(session, slots));
    BatchSession batch(weights,
                       {.slots = slots, .context = context, .prefill_rows = session.prefill_rows, .cache = session.cache});
    std::vector<size_t> index;  // of each request's prompt
    for (size_t i = 0; i < prompts.size(); i++) {
        if (done[i]) continue;
        GenerationRequest r{prompts[i].ids, sampling.parameters, ends, max_tokens(prompts[i])};
        const uint64_t seed = prompts[i].seed.value_or(sampling.seed + i);
        r.sampler.seed_low = uint32_t(seed);
        r.sampler.seed_high = uint32_t(seed >> 32);
        batch.add(std::move(r));
        index.push_back(i);
    }
    Stopwatch time;
    ProgressLine progress;
    int64_t finished = 0;
    while (batch.unfinished() > 0) {
        for (const GenerationResult& r : batch.step()) {
            const size_t i = index[size_t(r.id)];
            nlohmann::ordered_json line{{"index", i}, {"line", prompts[i].line}};
            if (!prompts[i].text.empty()) line["prompt"] = prompts[i].text;
            line["prompt_ids"] = prompts[i].ids;
            line["ids"] = r.tokens;
            if (tokenizer) {
                std::string text;
                for (int32_t id : r.tokens) text += piece_text(*tokenizer, id);
                line["text"] = utf8_lossy(text);
            }
            line["stop"] = stop_name(r.stop);
            line["sampling"] = sampling.description;
            if (sampling.parameters.greedy == 0) line["seed"] = prompts[i].seed.value_or(sampling.seed + i);
            out << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n' << std::flush;
            if (!out) fail("{}: cannot be written: is the disk full?", o.out.string());
            finished++;
        }
        progress.show(fmt::format("{} of {} texts, {} tokens/s", with_commas(skipped + finished),
                                  with_commas(int64_t(prompts.size())), human_rate(double(batch.made()) / time.seconds())),
                      double(finished), double(left));
    }
    progress.clear();
    std::fprintf(stderr, "[%s texts, %s tokens at %s/s, %lld at a time%s; %s; %s]\n", with_commas(finished).c_str(),
                 with_commas(batch.made()).c_str(), human_rate(double(batch.made()) / time.seconds()).c_str(),
                 static_cast<long long>(slots), skipped ? fmt::format("; {} were there", with_commas(skipped)).c_str() : "",
                 sampling.description.c_str(), device_line(gpu.device).c_str());
}

}  // namespace vkqat
