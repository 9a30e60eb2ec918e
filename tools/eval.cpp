// vkqat eval: models side by side: perplexity on a text (METHODS 5) here, tasks in eval_tasks.cpp.
#include <algorithm>
#include <cmath>
#include <future>
#include <nlohmann/json.hpp>
#include <numeric>

#include "evaluation/store.h"
#include "runtime/formats/json_text.h"
#include "runtime/model/scorer.h"
#include "runtime/support/files.h"
#include "runtime/support/hash.h"
#include "tools/console.h"
#include "tools/eval_tasks.h"
#include "tools/model.h"
#include "tools/speed.h"
#include "tools/weights_description.h"
#include "trainer/data.h"
#include "trainer/tokenizer_files.h"

namespace vkqat {
namespace {

using Windows = std::vector<std::vector<int32_t>>;

struct Options {
    std::vector<std::string> models;
    std::string file, separator, documents;
    int64_t context = 0, batch = 0, stride = 0;
    bool as_json = false;
    TaskEvaluation tasks;
    CacheOption cache;  // given: the tokens go through a KV cache of that type
    std::shared_ptr<std::string> device;
};

// What is said of one model.
struct Row {
    std::string path, name, method, device, driver, cache, digest;
    uint64_t weight_bytes = 0, peak_bytes = 0;
    double bits_per_weight = 0;  // of the linear layers of attention and MLP
    int64_t context = 0, stride = 0, batch = 0, windows = 0, tokens = 0;
    double nll = 0;              // mean, nats per token
    double tokens_per_byte = 0;  // of the text; 0: not known
    double seconds = 0;
    Speed speed;
    double perplexity() const { return std::exp(nll); }
    double bits_per_byte() const { return nll * tokens_per_byte / std::log(2.0); }
};

// --documents FIRST:LAST, both included, counted from 0.
void parse_documents(const std::string& text, EvaluationOptions& options) {
    size_t colon = text.find(':'), end = 0;
    bool digits = colon != text.npos && colon > 0 && colon + 1 < text.size() && text.size() < 24 &&
                  text.find_first_not_of("0123456789:") == text.npos && text.find(':', colon + 1) == text.npos;
    uint64_t first = digits ? std::stoull(text, &end) : 1, last = digits ? std::stoull(text.substr(colon + 1)) : 0;
    if (first > last)
        throw UsageError(fmt::format("--documents {}: expected FIRST:LAST, such as 1:40 (counted from 0, both included)",
                                     printable(text, 40)));
    options.first = first;
    options.last = last + 1;
}

// Sum of the negative log-likelihoods. Long windows first; where those that follow are less than half as long, the graph is made
// anew for their length.
double score(const LlamaWeights& weights, EvaluationText& text, int64_t batch, const std::string& what,
             const std::function<void()>& after_each) {
    std::vector<size_t> order(text.windows.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return text.windows[a].size() > text.windows[b].size(); });
    Windows windows;
    for (size_t i : order) windows.push_back(std::move(text.windows[i]));
    double total = 0, work = 0, done = 0;
    for (auto& window : windows) work += double(window.size());
    std::unique_ptr<Scorer> scorer;
    ProgressLine progress;
    for (size_t at = 0; at < windows.size(); at += size_t(batch)) {
        std::span<const std::vector<int32_t>> rows(windows.data() + at, std::min(windows.size() - at, size_t(batch)));
        if (!scorer || int64_t(rows[0].size()) * 2 <= scorer->seq_len())
            scorer = std::make_unique<Scorer>(weights, batch, int64_t(rows[0].size()));
        progress.show(what, done, work);
        Batch b = batch_of_windows(rows, batch, scorer->seq_len());
        for (size_t row = 0; row < rows.size(); row++)
            std::fill_n(b.labels.begin() + ptrdiff_t(row) * scorer->seq_len(), text.known[order[at + row]] - 1, no_label);
        for (float nll : scorer->score(b.ids, b.labels, b.document_start, b.document_end)) total += double(nll);
        after_each();
        for (auto& row : rows) done += double(row.size());
    }
    return total;
}

// The same, window by window through a KV cache.
double score_cached(const LlamaWeights& weights, const EvaluationText& text, const SessionOptions& options,
                    const std::string& what, const std::function<void()>& after_each) {
    double total = 0, done = 0, work = 0;
    for (auto& window : text.windows) work += double(window.size());
    Sequences sequence(weights, sequences_options(options));
    ProgressLine progress;
    for (size_t i = 0; i < text.windows.size(); i++) {
        progress.show(what, done, work);
        const std::vector<float> nats = sequence.score(0, text.windows[i]);  // of ids 1 ..
        for (size_t n = text.known[i] - 1; n < nats.size(); n++) total += double(nats[n]);
        after_each();
        done += double(text.windows[i].size());
    }
    return total;
}

// Error before the weights are loaded if they do not fit into the device's memory with what scoring takes.
void require_scoring_memory(Gpu& gpu, const std::filesystem::path& directory, int64_t batch, int64_t seq_len) {
    const LlamaWeights planned(gpu.device, directory, LlamaWeights::Planned{});
    const uint64_t free = gpu.device.free_memory();
    auto need = [&](int64_t windows) { return planned.device_bytes() + Scorer(planned, windows, seq_len).device_bytes(); };
    if (need(batch) <= free) return;
    int64_t fits = batch;
    while (fits > 0 && need(fits) > free) fits /= 2;
    fail("{}: {} windows of {} tokens at a time take {} with the weights, but {} has about {} free{}", directory.string(), batch,
         seq_len, human_bytes(double(need(batch))), gpu.device.capabilities().name, human_bytes(double(free)),
         fits ? fmt::format("; --batch {} would fit", fits) : "; choose a smaller --context, fewer bits or a smaller model");
}

Row evaluate(Gpu& gpu, const std::string& path, int64_t context, const Options& o) {
    std::filesystem::path directory = path;
    const Capabilities& device = gpu.device.capabilities();
    Row row{.path = path, .name = model_name(directory), .device = device.name, .driver = device.driver};
    LlamaConfig config = read_llama_config(directory);
    const WeightsDescription described = describe_weights(ModelFiles::open(directory), config);
    row.method = described.method;
    row.bits_per_weight = described.bits_per_weight;
    Tokenizer tokenizer = need_tokenizer(directory, config);

    EvaluationOptions options{.context = context};
    options.separator = o.separator;
    options.per_document = !o.separator.empty() || !o.documents.empty();
    if (!o.documents.empty()) parse_documents(o.documents, options);
    TextEncoder encoder = text_encoder(tokenizer, directory);
    options.stride = o.stride;
    EvaluationText text = evaluation_text(o.file, encoder, options);
    row.context = options.context;
    row.stride = o.stride ? o.stride : context;
    row.windows = int64_t(text.windows.size());
    for (size_t i = 0; i < text.windows.size(); i++) row.tokens += int64_t(text.windows[i].size() - text.known[i]);
    if (text.bytes) row.tokens_per_byte = double(text.tokens) / double(text.bytes);
    bool cpu = device.kind == DeviceKind::cpu;
    row.batch = o.cache.type.empty() ? std::min<int64_t>(o.batch ? o.batch : cpu ? 4 : 8, row.windows) : 1;
    row.cache = o.cache.type;

    const SessionOptions session = o.cache.session(gpu.device, context);
    int64_t longest = 0;
    for (auto& window : text.windows) longest = std::max(longest, int64_t(window.size()));
    if (o.cache.type.empty()) require_scoring_memory(gpu, directory, row.batch, longest);
    std::future<std::string> digest = std::async(std::launch::async, [&] { return model_digest(directory); });
    const uint64_t free_before = gpu.device.free_memory();
    LlamaWeights weights =
        o.cache.type.empty() ? load_weights(gpu, directory) : load_weights(gpu, directory, sequences_options(session));
    row.weight_bytes = weights.bytes();
    auto watch_memory = [&] {
        const uint64_t free = gpu.device.free_memory();
        row.peak_bytes = std::max(row.peak_bytes, free_before > free ? free_before - free : 0);
    };
    Stopwatch time;
    row.nll = (o.cache.type.empty() ? score(weights, text, row.batch, row.name, watch_memory)
                                    : score_cached(weights, text, session, row.name, watch_memory)) /
              double(row.tokens);
    row.seconds = time.seconds();
    if (!std::isfinite(row.nll)) std::fprintf(stderr, "vkqat: %s: the likelihood is not a finite number\n", path.c_str());
    row.digest = digest.get();
    row.speed = measure_speed(weights);
    return row;
}

nlohmann::ordered_json to_json(const Row& row, const Row& first) {
    return {{"model", row.path},
            {"model_digest", row.digest},
            {"weights", row.method},
            {"weight_bytes", row.weight_bytes},
            {"linear_bits_per_weight", row.bits_per_weight},
            {"mean_nll", row.nll},
            {"perplexity", row.perplexity()},
            {"bits_per_byte", row.tokens_per_byte > 0 ? nlohmann::ordered_json(row.bits_per_byte()) : nlohmann::ordered_json()},
            {"perplexity_change", row.perplexity() / first.perplexity() - 1},
            {"tokens", row.tokens},
            {"windows", row.windows},
            {"context", row.context},
            {"stride", row.stride},
            {"batch", row.batch},
            {"cache", row.cache.empty() ? "none" : row.cache},
            {"device", row.device},
            {"driver", row.driver},
            {"peak_memory_bytes", row.peak_bytes},
            {"seconds", row.seconds},
            {"tokens_per_second", double(row.tokens) / row.seconds},
            {"prompt_tokens", row.speed.prompt},
            {"first_token_seconds", row.speed.first_token_seconds},
            {"decode_tokens_per_second", row.speed.decode_rate}};
}

void print_json(const std::vector<Row>& rows, const Options& o) {
    nlohmann::ordered_json result{{"file", o.file},
                                  {"file_checksum", fmt::format("{:08x}", checksum(MappedFile(o.file).bytes()))},
                                  {"version", VKQAT_VERSION}};
    if (rows.size() == 1) {
        result.update(to_json(rows[0], rows[0]));
        result.erase("perplexity_change");
    } else {
        for (const Row& row : rows) result["models"].push_back(to_json(row, rows[0]));
    }
    std::printf("%s\n", result.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

void print_table(const std::vector<Row>& rows, const Options& o) {
    std::vector<std::string> headers{"model", "weights", ">size", ">bits/weight", ">perplexity", ">nats/token", ">bits/byte"};
    if (rows.size() > 1) headers.push_back(">change");
    headers.push_back(">decode tokens/s");
    Table table(headers);
    bool same_names = false;
    for (size_t i = 1; i < rows.size(); i++)
        for (size_t j = 0; j < i; j++) same_names |= rows[i].name == rows[j].name;
    for (const Row& row : rows) {
        std::vector<std::string> cells{same_names ? row.path : row.name,
                                       row.method,
                                       human_bytes(double(row.weight_bytes)),
                                       fmt::format("{:.2f}", row.bits_per_weight),
                                       fmt::format("{:.4g}", row.perplexity()),
                                       fmt::format("{:.5f}", row.nll),
                                       row.tokens_per_byte > 0 ? fmt::format("{:.4f}", row.bits_per_byte()) : "-"};
        if (row.perplexity() < 100000) cells[4] = fmt::format("{:.3f}", row.perplexity());
        if (rows.size() > 1)
            cells.push_back(&row == &rows[0] ? ""
                                             : fmt::format("{:+.1f} %", 100 * (row.perplexity() / rows[0].perplexity() - 1)));
        cells.push_back(row.speed.decode_rate > 0 ? human_rate(row.speed.decode_rate) : "-");
        table.add(std::move(cells));
    }
    table.print();
    const Row& row = rows[0];
    bool same_tokens = std::all_of(rows.begin(), rows.end(), [&](const Row& r) { return r.tokens == row.tokens; });
    std::string text = std::filesystem::path(o.file).filename().string();
    std::printf("\n%s: %s tokens in %s %s of up to %lld; %s\n", text.c_str(), with_commas(row.tokens).c_str(),
                with_commas(row.windows).c_str(), o.separator.empty() && o.documents.empty() ? "windows" : "documents",
                static_cast<long long>(row.context), row.device.c_str());
    std::printf("size: all weights on the device; bits/weight: linear layers of attention and MLP%s\n",
                rows.size() > 1 ? "; change: of the perplexity, to the first model" : "");
    if (!same_tokens)
        std::printf("The models' tokenizers differ: perplexities and nats are of different tokens and do not compare.\n");
}

void run(const Options& o) {
    if (o.file.empty() == o.tasks.tasks.empty()) throw UsageError("one of --perplexity and --tasks is needed");
    if (!o.tasks.tasks.empty()) {
        if (!o.cache.type.empty()) throw UsageError("--cache goes with --perplexity");
        TaskEvaluation tasks = o.tasks;
        tasks.models = o.models;
        tasks.as_json = o.as_json;
        for (const std::string& model : o.models) check_model_directory(model);
        Gpu gpu(*o.device);
        announce_cpu(gpu);
        evaluate_tasks(gpu, tasks);
        return;
    }
    if (o.stride && (!o.documents.empty() || !o.separator.empty()))
        throw UsageError("--stride is for joined text, not for documents on their own");
    if (!o.documents.empty()) {
        EvaluationOptions checked;
        parse_documents(o.documents, checked);
    }
    if (!has_file(o.file)) fail("{}: there is no such file", o.file);
    int64_t context = o.context ? o.context : 2048;
    for (const std::string& model : o.models) {
        check_model_directory(model);
        int64_t allowed = read_llama_config(model).max_position_embeddings;
        if (o.context > allowed) fail("{}: --context {}: the model allows {} positions", model, o.context, allowed);
        context = std::min(context, allowed);
    }
    Gpu gpu(*o.device);
    announce_cpu(gpu);
    std::vector<Row> rows;
    for (const std::string& model : o.models) rows.push_back(evaluate(gpu, model, context, o));
    o.as_json ? print_json(rows, o) : print_table(rows, o);
}

}  // namespace

void add_eval_command(CLI::App& app) {
    CLI::App* command =
        app.add_subcommand("eval", "quality of one or more models: perplexity on a text, or tasks with known answers");
    auto o = std::make_shared<Options>();
    command->add_option("MODEL", o->models, "directories of models or .gguf files; the others are compared with the first")
        ->required()
        ->type_name("MODEL...");
    command->add_option("--perplexity", o->file, "the text: .txt or .jsonl, perhaps .gz or .zst")->type_name("FILE");
    command->add_option("--context", o->context, "tokens of a window (2048, or what the model allows)")
        ->check(between(2, int64_t(1) << 24))
        ->type_name("N");
    command->add_option("--stride", o->stride, "a window begins N tokens behind the last one, and only its last N are predicted")
        ->check(between(1, int64_t(1) << 24))
        ->type_name("N");
    command->add_option("--document-separator", o->separator, "each document on its own; this stands between them in plain text")
        ->type_name("TEXT");
    command->add_option("--documents", o->documents, "each document on its own, and only these: counted from 0, both included")
        ->type_name("FIRST:LAST");
    command->add_option("--batch", o->batch, "windows at a time (8; 4 on a CPU)")->check(between(1, 4096))->type_name("N");
    command->add_flag("--json", o->as_json, "print JSON");
    const char* group = "Tasks";
    command
        ->add_option(
            "--tasks", o->tasks.tasks,
            "[NAME=]FILE of hellaswag, winogrande, piqa, boolq, arc_easy, arc_challenge, openbookqa, lambada, mmlu (a folder), "
            "gsm8k (FILE,FILE of examples); FILE.toml; or a folder of such files")
        ->type_name("TASK...")
        ->group(group);
    command->add_option("--limit", o->tasks.options.limit, "only the first N questions of a task")
        ->check(between(1, int64_t(1) << 31))
        ->type_name("N")
        ->group(group);
    command
        ->add_option("--few-shot", o->tasks.options.few_shot,
                     "worked examples in front of a question (mmlu 5, gsm8k 5, others 0)")
        ->check(between(0, 100))
        ->type_name("N")
        ->group(group);
    command
        ->add_option("--save", o->tasks.save, "folder for the scores of each question; a stopped evaluation goes on from there")
        ->type_name("FOLDER")
        ->group(group);
    command->add_option("--batch-tokens", o->tasks.batch_tokens, "tokens at a time (4096; 256 on a CPU)")
        ->check(between(16, 1 << 20))
        ->type_name("N")
        ->group(group);
    o->cache.add(*command, "score through a KV cache of this type, window by window: f32, f16, bf16, i8 (without a cache)");
    o->device = add_device_option(*command);
    command->footer(
        "The text is tokenized in one piece behind one start token and cut into windows without overlap, or with\n"
        "one (--stride), so that each token is predicted from at least context - stride others. With\n"
        "--document-separator or --documents each document begins anew, with a start token, and is cut off\n"
        "behind --context tokens.\n"
        "Tasks are asked and scored as by lm-evaluation-harness 0.4; docs/evaluation.md describes files and formats.\n\n"
        "Examples:\n"
        "  vkqat eval full-model 2-bit-model --perplexity valid.txt --context 512\n"
        "  vkqat eval MODEL --perplexity stories.txt --document-separator '<|endoftext|>' --documents 1:40 --json\n"
        "  vkqat eval full-model 2-bit-model --tasks hellaswag=hellaswag_val.jsonl tasks/ --save scores");
    command->callback([=] { run(*o); });
}

}  // namespace vkqat
