// vkqat generate: continues a text, or those of a file (generate_many.h).
#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/text/utf8.h"
#include "tools/console.h"
#include "tools/generate_many.h"
#include "tools/model.h"

namespace vkqat {
namespace {

struct Options {
    std::string model;
    PromptOptions prompt;
    SamplingOptions sampling;
    std::shared_ptr<std::string> device;
    int64_t max_tokens = 256;
    bool print_ids = false, as_json = false, ignore_end = false;
    std::string prompts, out;
    int64_t batch = 0;
    CacheOption cache;
};

void run(const Options& o) {
    std::filesystem::path directory = o.model;
    check_model_directory(directory);
    if (!o.prompts.empty()) {
        if (o.prompt.text || !o.prompt.ids.empty()) throw UsageError("--prompts excludes --prompt and --ids");
        if (o.out.empty()) throw UsageError("--prompts needs --out FILE.jsonl for the results");
        if (o.print_ids || o.as_json)
            throw UsageError("--prompts writes ids and text to --out: leave out --print-ids and --json");
        generate_many(o.model, {o.prompts, o.out, o.batch, o.max_tokens, o.ignore_end, o.cache}, o.sampling, *o.device);
        return;
    }
    if (!o.out.empty() || o.batch) throw UsageError("--out and --batch go with --prompts FILE");
    LlamaConfig config = read_llama_config(directory);
    GenerationConfig generation = read_generation_config(directory);
    SamplingOptions::Result sampling = o.sampling.resolve(generation);
    bool as_text = !o.print_ids && !o.as_json;
    std::optional<Tokenizer> tokenizer = find_tokenizer(directory, config);
    if (as_text && !tokenizer)
        fail("{}: has no tokenizer, which text needs; --print-ids and --json work without", directory.string());
    std::vector<int32_t> prompt = o.prompt.read(tokenizer, directory, config);
    int64_t room = config.max_position_embeddings - int64_t(prompt.size());
    if (room < 1)
        fail("the prompt has {} tokens, but the model allows {} with what follows", prompt.size(),
             config.max_position_embeddings);
    std::vector<int32_t> ends = o.ignore_end ? std::vector<int32_t>() : end_ids(generation, tokenizer);

    Gpu gpu(*o.device);
    announce_cpu(gpu);
    const SessionOptions options = o.cache.session(gpu.device, int64_t(prompt.size()) + std::min(room, o.max_tokens));
    LlamaWeights weights = load_weights(gpu, directory, sequences_options(options));
    Session session(weights, options);
    session.set_sampler(sampling.parameters);

    std::vector<int32_t> ids;
    std::string stop = o.max_tokens > room ? "context" : "max_tokens";
    Utf8Stream stream;
    auto take = [&](int32_t id) {
        if (std::find(ends.begin(), ends.end(), id) != ends.end()) {
            stop = "end";
            return false;
        }
        ids.push_back(id);
        if (as_text) print(displayable(stream.push(piece_text(*tokenizer, id))));
        if (o.print_ids && !o.as_json) print(fmt::format("{}{}", ids.size() > 1 ? "," : "", id));
        return int64_t(ids.size()) < o.max_tokens;
    };
    if (as_text) print(displayable(utf8_lossy(tokenizer->decode(prompt))));
    Stopwatch prefill_time;
    int32_t first = session.prefill(prompt);
    double prefill_seconds = prefill_time.seconds();
    Stopwatch decode_time;
    int64_t decoded = 0;
    if (take(first)) decoded = session.decode(o.max_tokens - 1, take, o.as_json ? 16 : 1);
    double decode_seconds = decode_time.seconds();
    if (as_text) print(displayable(stream.finish()));

    double prefill_rate = double(prompt.size()) / prefill_seconds, decode_rate = double(decoded) / decode_seconds;
    if (o.as_json) {
        nlohmann::ordered_json result{{"model", o.model},
                                      {"device", gpu.device.capabilities().name},
                                      {"sampling", sampling.description},
                                      {"prompt_ids", prompt},
                                      {"ids", ids}};
        if (tokenizer) {
            std::string text;
            for (int32_t id : ids) text += piece_text(*tokenizer, id);
            result["text"] = utf8_lossy(text);
        }
        result["stop"] = stop;
        result["prefill_seconds"] = prefill_seconds;
        result["prefill_tokens_per_second"] = prefill_rate;
        result["decode_seconds"] = decode_seconds;
        if (decoded > 0) result["decode_tokens_per_second"] = decode_rate;
        std::printf("%s\n", result.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
        return;
    }
    print("\n");
    std::string speed = fmt::format("[prompt {} tokens at {}/s", prompt.size(), human_rate(prefill_rate));
    if (decoded > 0) speed += fmt::format(", then {} at {}/s", ids.size(), human_rate(decode_rate));
    if (stop == "context") speed += fmt::format("; the model's context of {} is full", config.max_position_embeddings);
    std::fprintf(stderr, "%s; %s; %s]\n", speed.c_str(), sampling.description.c_str(), gpu.device.capabilities().name.c_str());
}

}  // namespace

void add_generate_command(CLI::App& app) {
    CLI::App* command = app.add_subcommand("generate", "continue a text");
    auto o = std::make_shared<Options>();
    command->add_option("MODEL", o->model, "directory of the model, or a .gguf file")->required()->type_name("MODEL");
    o->prompt.add(*command);
    command->add_option("--max-tokens", o->max_tokens, "how many tokens at most (256)")
        ->check(between(1, int64_t(1) << 30))
        ->type_name("N");
    command->add_flag("--ignore-end", o->ignore_end, "go on behind tokens that end a text");
    command->add_flag("--print-ids", o->print_ids, "print the new ids instead of the text");
    command->add_flag("--json", o->as_json, "print ids, text and times as JSON at the end");
    const char* many = "Many texts";
    command->add_option("--prompts", o->prompts, "a prompt in each line; .jsonl: objects with prompt or ids, max_tokens, seed")
        ->type_name("FILE")
        ->group(many);
    command->add_option("--out", o->out, "where the results go; prompts that it answers already are left out")
        ->type_name("FILE.jsonl")
        ->group(many);
    command->add_option("--batch", o->batch, "texts at a time (16; 4 on a CPU)")
        ->check(between(1, 1024))
        ->type_name("N")
        ->group(many);
    o->device = add_device_option(*command);
    o->cache.add(*command);
    o->sampling.add(*command);
    command->footer(
        "Examples:\n"
        "  vkqat generate MODEL --prompt \"Once upon a time\" --max-tokens 64\n"
        "  vkqat generate MODEL --prompt \"The little dog\" --temperature 1 --min-p 0.05 --seed 7\n"
        "  vkqat generate MODEL --ids 1,403,407,261 --greedy --print-ids\n"
        "  vkqat generate MODEL --prompts questions.txt --out answers.jsonl --batch 32 --temperature 1\n\n"
        "With --prompts the seed of each text is --seed plus the number of its prompt, counted from 0.");
    command->callback([=] { run(*o); });
}

}  // namespace vkqat
