// vkqat generate-data: a model continues texts, or answers instructions, for another one to learn from (BitDistiller's teacher
// data, METHODS 4).
#include <algorithm>
#include <charconv>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "runtime/formats/gguf.h"
#include "runtime/formats/json_text.h"
#include "runtime/model/batch_session.h"
#include "runtime/support/files.h"
#include "runtime/support/hash.h"
#include "runtime/text/chat_encoder.h"
#include "runtime/text/utf8.h"
#include "tools/console.h"
#include "tools/model.h"
#include "trainer/random.h"
#include "trainer/sft_examples.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;

struct Options {
    std::string model, out, separator;
    std::vector<std::string> prompts;
    bool instructions = false, plain = false;
    int64_t prompt_tokens = 32, samples = 0, max_tokens = 1024, batch = 0;
    double temperature = 0.7, top_p = 1;
    uint64_t seed = 42;
    std::shared_ptr<std::string> device;
    CacheOption cache;
};

// What the model goes on from.
struct Start {
    std::vector<int32_t> ids;
    std::string prompt;                 // of [[prompt, continuation]]
    std::vector<ChatMessage> messages;  // or, with a chat template, a conversation up to the answer
};

// What of a document the model continues: as much text as its first ids hold; nothing of one that has no more than that.
std::optional<std::string> beginning(const std::string& text, const Tokenizer& tokenizer, int64_t tokens) {
    const std::string valid = utf8_lossy(std::string_view(text).substr(0, size_t(tokens + 1) * 512));
    const std::vector<int32_t> ids = tokenizer.encode(valid, {.add_bos = false});
    if (int64_t(ids.size()) <= tokens) return std::nullopt;
    auto count = size_t(tokens);
    std::string prompt = tokenizer.decode(std::span(ids).first(count));
    while (count > 1 && !utf8_valid(prompt))
        prompt = tokenizer.decode(std::span(ids).first(--count));  // a token ends in a character
    if (!utf8_valid(prompt)) return std::nullopt;
    return prompt;
}

// The prompts of all documents, or of `samples` of them, drawn by the seed; in the documents' order.
std::vector<Start> read_starts(const Options& o, const ChatEncoder& chat, bool as_chat) {
    const CorpusKind kind = o.instructions ? CorpusKind::examples : CorpusKind::text;
    DocumentReader reader(corpus_files(o.prompts, kind), {.separator = o.separator, .kind = kind});
    std::map<uint64_t, Start> chosen;  // by number of the document
    std::vector<uint64_t> numbers;
    std::mt19937_64 random(o.seed);
    uint64_t count = 0;
    for (Document document; reader.next(document);) {
        Start start;
        if (!o.instructions) {
            std::optional<std::string> prompt = beginning(document.text, chat.tokenizer(), o.prompt_tokens);
            if (!prompt) continue;
            start.prompt = std::move(*prompt);
        } else {
            in_context(reader.where(document), [&] {
                SftExample example = parse_sft_example(document.text);
                std::vector<ChatMessage>& messages = example.conversation.messages;
                start.prompt = example.prompt;
                if (example.continuation) return;
                const std::vector<bool>& trained = example.conversation.trained;  // the last such answer is written anew
                messages.resize(size_t(std::find(trained.rbegin(), trained.rend(), true).base() - trained.begin()) - 1);
                if (messages.empty()) fail("there is no message in front of the answer");
                if (as_chat)
                    start.messages = std::move(messages);
                else
                    for (const ChatMessage& message : messages)
                        start.prompt += message.content + "\n";  // as published for Alpaca
            });
        }
        const uint64_t number = count++;
        if (o.samples == 0 || numbers.size() < size_t(o.samples)) {
            numbers.push_back(number);
            chosen.emplace(number, std::move(start));
        } else if (const uint64_t place = uniform_below(random, count); place < numbers.size()) {  // reservoir sampling
            chosen.erase(numbers[place]);
            numbers[place] = number;
            chosen.emplace(number, std::move(start));
        }
    }
    std::vector<Start> starts;
    for (auto& [number, start] : chosen) {
        if (start.messages.empty())
            start.ids = chat.tokenizer().encode(start.prompt);
        else
            start.ids = chat.prompt(start.messages);
        starts.push_back(std::move(start));
    }
    if (starts.empty())
        fail("{}: there is no prompt: expected {}", o.prompts[0],
             o.instructions ? "instructions" : fmt::format("documents of more than {} tokens", o.prompt_tokens));
    return starts;
}

std::string line_of(const Start& start, const std::string& text) {
    nlohmann::ordered_json line;
    if (start.messages.empty()) {
        line = nlohmann::ordered_json::array({{start.prompt, text}});
    } else {
        line["messages"] = nlohmann::ordered_json::array();
        for (const ChatMessage& m : start.messages) line["messages"].push_back({{"role", m.role}, {"content", m.content}});
        line["messages"].push_back({{"role", "assistant"}, {"content", text}});
    }
    return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

// Beside the results while they are not complete: what they are made of, and for each prompt that is done where its line ends.
struct Progress {
    fs::path out, file;
    std::string made_of;
    uint64_t done = 0, bytes = 0;
};

// How far an earlier run came. What it left behind its last note is cut off. Error if there are results of something else.
Progress find_progress(const fs::path& out, const std::string& made_of) {
    Progress p{out, out.string() + ".progress", made_of};
    if (!has_file(p.file)) {
        if (has_file(out)) fail("{}: exists already and is complete; choose another name, or remove it", out.string());
        write_text_file(p.file, made_of + "\n");
        return p;
    }
    const std::string text = read_text_file(p.file);
    const size_t head = std::min(text.find('\n'), text.size());
    if (text.substr(0, head) != made_of)
        fail("{}: was begun with another model, other prompts or settings; choose another name, or remove it and {}",
             out.string(), p.file.string());
    for (size_t at = head + 1; at < text.size();) {
        const size_t end = text.find('\n', at);
        if (end == text.npos) break;
        uint64_t bytes = 0;
        const auto [stop, error] = std::from_chars(text.data() + at, text.data() + end, bytes);
        if (error != std::errc() || stop != text.data() + end || bytes < p.bytes)
            fail("{}: is damaged; remove it and {}", p.file.string(), out.string());
        if (std::error_code none; bytes > (has_file(out) ? fs::file_size(out, none) : 0)) break;
        p.done++;
        p.bytes = bytes;
        at = end + 1;
    }
    std::string kept = made_of + "\n";
    size_t at = head + 1;
    for (uint64_t i = 0; i < p.done; i++) {
        const size_t end = text.find('\n', at) + 1;
        kept += text.substr(at, end - at);
        at = end;
    }
    write_text_file(p.file, kept);
    if (has_file(out)) fs::resize_file(out, p.bytes);
    return p;
}

void run(const Options& o) {
    const fs::path directory = o.model;
    check_model_directory(directory);
    const LlamaConfig config = read_llama_config(directory);
    const GenerationConfig generation = read_generation_config(directory);
    const Tokenizer tokenizer = need_tokenizer(directory, config);
    const ChatTemplate chat_template = load_chat_template(directory, tokenizer);
    const bool has_template = !chat_template.source.empty() || tokenizer.id("<|start_header_id|>");
    const bool as_chat = o.instructions && !o.plain && has_template;
    const ChatEncoder chat(tokenizer, chat_template);
    SamplingOptions choice;
    choice.temperature = o.temperature;
    choice.top_p = o.top_p;
    choice.top_k = 0;
    choice.seed = o.seed;
    const SamplingOptions::Result sampling = choice.resolve({});
    std::vector<int32_t> ends = end_ids(generation, tokenizer);
    if (as_chat)
        if (const std::optional<TokenId> end = chat.turn_end(); end && std::find(ends.begin(), ends.end(), *end) == ends.end())
            ends.push_back(*end);

    std::vector<Start> starts = read_starts(o, chat, as_chat);
    const auto too_long = [&](const Start& s) {
        return int64_t(s.ids.size()) >= config.max_position_embeddings || s.ids.empty();
    };
    if (const auto left_out = int64_t(std::erase_if(starts, too_long)))
        std::fprintf(stderr, "%lld prompts leave no room in the model's context of %lld, and are left out\n",
                     static_cast<long long>(left_out), static_cast<long long>(config.max_position_embeddings));
    if (starts.empty()) fail("{}: there is no prompt that leaves room for an answer", o.prompts[0]);
    uint32_t digest = 0;
    int64_t context = 0;
    for (const Start& start : starts) {
        digest = checksum(std::as_bytes(std::span(start.ids)), digest);
        const auto length = int64_t(start.ids.size());
        context = std::max(context, std::min(length + o.max_tokens, config.max_position_embeddings));
    }
    const std::string model =
        is_gguf(directory) ? std::to_string(fs::file_size(directory)) : read_text_file(directory / "config.json");
    Progress progress = find_progress(
        o.out, fmt::format("vkqat generate-data, {} ({:08x}), {} prompts ({:08x}), {}, at most {} tokens", model_name(directory),
                           checksum(std::as_bytes(std::span(model))), starts.size(), digest, sampling.description, o.max_tokens));

    std::ofstream out(progress.out, std::ios::app | std::ios::binary), notes(progress.file, std::ios::app | std::ios::binary);
    if (!out || !notes) fail("{}: cannot be written", o.out);
    uint64_t finished = progress.done;
    const uint64_t before = finished;
    if (finished < starts.size()) {
        Gpu gpu(*o.device);
        announce_cpu(gpu);
        const bool cpu = gpu.device.capabilities().kind == DeviceKind::cpu;
        const SessionOptions session = o.cache.session(gpu.device, context);
        const int64_t slots = std::min<int64_t>(o.batch ? o.batch : cpu ? 4 : 32, int64_t(starts.size()));
        const LlamaWeights weights = load_weights(gpu, directory, sequences_options(session, slots));
        BatchSession batch(weights,
                           {.slots = slots, .context = context, .prefill_rows = session.prefill_rows, .cache = session.cache});
        for (size_t i = finished; i < starts.size(); i++) {
            GenerationRequest r{starts[i].ids, sampling.parameters, ends, o.max_tokens};
            const uint64_t seed = o.seed + i;
            r.sampler.seed_low = uint32_t(seed);
            r.sampler.seed_high = uint32_t(seed >> 32);
            batch.add(std::move(r));
        }
        Stopwatch time;
        ProgressLine line;
        std::map<uint64_t, GenerationResult> early;  // done before those in front of them
        uint64_t cut = 0, empty = 0;
        while (batch.unfinished() > 0) {
            for (GenerationResult& r : batch.step()) early.emplace(before + uint64_t(r.id), std::move(r));
            for (auto next = early.begin(); next != early.end() && next->first == finished; next = early.erase(next)) {
                const GenerationResult& r = next->second;
                std::string text;
                for (int32_t id : r.tokens) text += piece_text(tokenizer, id);
                cut += r.stop != Stop::end;
                empty += text.empty();
                if (!text.empty()) {  // there is nothing to learn from an empty one
                    const std::string written = line_of(starts[finished], utf8_lossy(text));
                    out << written;
                    progress.bytes += written.size();
                }
                out << std::flush;
                notes << progress.bytes << '\n' << std::flush;
                if (!out || !notes) fail("{}: cannot be written: is the disk full?", o.out);
                finished++;
            }
            line.show(fmt::format("{} of {} texts, {} tokens/s", with_commas(int64_t(finished)),
                                  with_commas(int64_t(starts.size())), human_rate(double(batch.made()) / time.seconds())),
                      double(finished - before), double(starts.size() - before));
        }
        line.clear();
        std::fprintf(stderr, "[%s texts, %s tokens at %s/s, %lld at a time%s; %s not ended by the model%s; %s; %s]\n",
                     with_commas(int64_t(finished - before)).c_str(), with_commas(batch.made()).c_str(),
                     human_rate(double(batch.made()) / time.seconds()).c_str(), static_cast<long long>(slots),
                     before ? fmt::format("; {} were there", with_commas(int64_t(before))).c_str() : "",
                     with_commas(int64_t(cut)).c_str(), empty ? fmt::format(", {} empty and left out", empty).c_str() : "",
                     sampling.description.c_str(), device_line(gpu.device).c_str());
    }
    out.close();
    if (!out) fail("{}: cannot be written: is the disk full?", o.out);
    notes.close();
    fs::remove(progress.file);
}

}  // namespace

void add_generate_data_command(CLI::App& app) {
    CLI::App* command = app.add_subcommand("generate-data", "let a model write what another one is to learn from");
    auto o = std::make_shared<Options>();
    command->add_option("MODEL", o->model, "directory of the model, or a .gguf file")->required()->type_name("MODEL");
    command->add_option("PROMPTS", o->prompts, "a corpus: .txt, .jsonl with \"text\", perhaps .gz or .zst; folders, globs")
        ->required()
        ->type_name("PROMPTS...");
    command->add_option("--out", o->out, "where the results go; the same command goes on where it was ended")
        ->required()
        ->type_name("FILE.jsonl");
    command->add_flag("--instructions", o->instructions,
                      "PROMPTS are examples as for fine-tuning (messages, instructions, pairs), whose answers are written anew");
    command->add_flag("--plain", o->plain, "with --instructions: no chat template, but text and [[prompt, continuation]]");
    command->add_option("--prompt-tokens", o->prompt_tokens, "of a text, what is continued (32)")
        ->check(between(1, int64_t(1) << 20))
        ->type_name("N");
    command->add_option("--samples", o->samples, "so many prompts, drawn at random; 0: all (0)")
        ->check(between(0, int64_t(1) << 40))
        ->type_name("N");
    command->add_option("--separator", o->separator, "between documents of plain text (a blank line)")->type_name("TEXT");
    command->add_option("--max-tokens", o->max_tokens, "of a continuation (1024)")
        ->check(between(1, int64_t(1) << 30))
        ->type_name("N");
    command->add_option("--temperature", o->temperature, "0: always the most likely token (0.7)")->type_name("T");
    command->add_option("--top-p", o->top_p, "only the likeliest tokens that make up P together (1)")->type_name("P");
    command->add_option("--seed", o->seed, "of texts and samples (42)")->type_name("N");
    command->add_option("--batch", o->batch, "texts at a time (32; 4 on a CPU)")->check(between(1, 1024))->type_name("N");
    o->device = add_device_option(*command);
    o->cache.add(*command);
    command->footer(
        "A line of the result is [[prompt, continuation]], as BitDistiller has it; of an instruction that was put into the "
        "model's\n"
        "chat template, {\"messages\": [...]}. `vkqat train` reads both with training.dataset_type = \"sft\".\n\n"
        "Examples:\n"
        "  vkqat generate-data MODEL corpus.jsonl.zst --samples 3000 --out teacher.jsonl\n"
        "  vkqat generate-data MODEL alpaca.json --instructions --samples 5000 --out answers.jsonl");
    command->callback([=] { run(*o); });
}

}  // namespace vkqat
