// vkqat inspect: what a model directory holds (needs no device), and with --context the memory that it takes on one.
#include <map>
#include <nlohmann/json.hpp>

#include "runtime/formats/json_text.h"
#include "runtime/formats/onebit_packing.h"
#include "runtime/formats/packing.h"
#include "runtime/model/memory.h"
#include "runtime/text/chat_template.h"
#include "tools/console.h"
#include "tools/model.h"

namespace vkqat {
namespace {

// A part of the model: bytes of its tensors by what they are.
struct Part {
    const char* name;
    const char* key;  // in JSON
    uint64_t dense = 0, indices = 0, scales = 0, centroids = 0;
    int64_t weights = 0;  // numbers that the architecture has there
    uint64_t bytes() const { return dense + indices + scales + centroids; }
};

struct Contents {
    Part parts[6] = {{"embeddings", "embeddings"}, {"attention", "attention"}, {"mlp", "mlp"},
                     {"norms", "norms"},           {"head", "head"},           {"other tensors", "other"}};
    std::map<std::string, int64_t> formats;  // of the linear layers: "bf16", "2 bits in blocks of 64" -> number
    std::map<std::string, int64_t> dtypes;   // of all tensors
    double bits_per_weight() const {         // of the linear layers of attention and MLP
        return 8 * double(parts[1].bytes() + parts[2].bytes()) / double(parts[1].weights + parts[2].weights);
    }
};

// What --context asks for.
struct Memory {
    std::string device;
    SequencesOptions options;
    MemoryNeed need;
    uint64_t free = 0;
    int64_t largest = 0;  // context that would fit
};

// Looks at every tensor that the architecture needs: what is missing or does not fit is an error.
Contents read_contents(const ModelFiles& files, const LlamaConfig& c) {
    Contents contents;
    uint64_t known = 0;
    auto dense = [&](Part& part, const std::string& name, std::initializer_list<int64_t> shape) {
        const TensorView& tensor = files.get(name, shape);
        if (!is_float(tensor.dtype))
            fail("{}: tensor {}: expected f32, f16 or bf16, found {}", files.directory().string(), name,
                 vkqat::name(tensor.dtype));
        part.dense += stored_bytes(tensor);
        part.weights += element_count(tensor);
        known += stored_bytes(tensor);
        return std::string(stored_type(tensor));
    };
    auto linear = [&](Part& part, const std::string& prefix, int64_t out, int64_t in) {
        if (auto signs = find_onebit_linear(files, prefix, out, in)) {
            part.indices += signs->weight->bytes.size();
            part.scales += signs->bytes() - signs->weight->bytes.size();
            part.weights += out * in;
            known += signs->bytes();
            contents.formats["signs between two vectors"]++;
        } else if (auto packed = find_packed_linear(files, prefix, out, in)) {
            part.indices += packed->weight_packed->bytes.size();
            part.scales += packed->scale_bytes();
            part.centroids += packed->centroids->bytes.size();
            part.weights += out * in;
            known += packed->bytes();
            contents.formats[fmt::format("{} bit{} in blocks of {}",
                                         packed->ternary ? std::string("1.6") : std::to_string(packed->bits),
                                         packed->bits == 1 ? "" : "s", packed->block_size)]++;
        } else {
            contents.formats[dense(part, prefix + ".weight", {out, in})]++;
        }
    };
    auto& [embeddings, attention, mlp, norms, head, other] = contents.parts;
    dense(embeddings, "model.embed_tokens.weight", {c.vocab_size, c.hidden_size});
    for (int64_t i = 0; i < c.layers; i++) {
        std::string layer = fmt::format("model.layers.{}.", i);
        linear(attention, layer + "self_attn.q_proj", c.q_dim(), c.hidden_size);
        linear(attention, layer + "self_attn.k_proj", c.kv_dim(), c.hidden_size);
        linear(attention, layer + "self_attn.v_proj", c.kv_dim(), c.hidden_size);
        linear(attention, layer + "self_attn.o_proj", c.hidden_size, c.q_dim());
        linear(mlp, layer + "mlp.gate_proj", c.intermediate_size, c.hidden_size);
        linear(mlp, layer + "mlp.up_proj", c.intermediate_size, c.hidden_size);
        linear(mlp, layer + "mlp.down_proj", c.hidden_size, c.intermediate_size);
        dense(norms, layer + "input_layernorm.weight", {c.hidden_size});
        dense(norms, layer + "post_attention_layernorm.weight", {c.hidden_size});
    }
    dense(norms, "model.norm.weight", {c.hidden_size});
    if (!c.tie_word_embeddings) dense(head, "lm_head.weight", {c.vocab_size, c.hidden_size});
    other.dense = files.stored_bytes() - known;
    for (const std::string& name : files.names()) contents.dtypes[std::string(stored_type(files.get(name)))]++;
    return contents;
}

std::string counted(const std::map<std::string, int64_t>& counts) {
    std::string text;
    for (auto& [name, count] : counts) text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", name, count);
    return text;
}

std::string rope_text(const LlamaConfig& c) {
    std::string text = fmt::format("theta {:.10g}", c.rope_theta);
    if (c.rope_scaling)
        text += fmt::format(", llama3 scaling by {:.4g} from {}", c.rope_scaling->factor,
                            c.rope_scaling->original_max_position_embeddings);
    return text;
}

// Whether a chat template comes with the model.
bool has_chat_template(const std::filesystem::path& directory, const std::optional<Tokenizer>& tokenizer) {
    return tokenizer && !load_chat_template(directory, *tokenizer).source.empty();
}

void print_json(const ModelFiles& files, const LlamaConfig& c, const Contents& contents,
                const std::optional<Tokenizer>& tokenizer, const std::optional<Memory>& memory) {
    using Json = nlohmann::ordered_json;
    Json parts;
    for (const Part& part : contents.parts) {
        parts[part.key] = {{"weights", part.weights}, {"bytes", part.bytes()}, {"dense", part.dense},
                           {"indices", part.indices}, {"scales", part.scales}, {"centroids", part.centroids}};
    }
    Json result{{"model", files.directory().string()},
                {"architecture",
                 {{"hidden_size", c.hidden_size},
                  {"intermediate_size", c.intermediate_size},
                  {"layers", c.layers},
                  {"heads", c.heads},
                  {"kv_heads", c.kv_heads},
                  {"head_dim", c.head_dim},
                  {"vocab_size", c.vocab_size},
                  {"max_position_embeddings", c.max_position_embeddings},
                  {"rope_theta", c.rope_theta},
                  {"tie_word_embeddings", c.tie_word_embeddings}}},
                {"parameters", c.parameters()},
                {"bytes", files.stored_bytes()},
                {"files", files.file_count()},
                {"dtypes", contents.dtypes},
                {"linear_formats", contents.formats},
                {"linear_bits_per_weight", contents.bits_per_weight()},
                {"parts", parts}};
    result["quantization"] = nullptr;
    if (auto& q = files.quantization())
        result["quantization"] = {{"quant_method", q->quant_method},
                                  {"bits", q->bits},
                                  {"block_size", q->block_size},
                                  {"relative_scale", q->relative_scale}};
    result["tokenizer"] = nullptr;
    if (tokenizer)
        result["tokenizer"] = {{"kind", tokenizer->kind()},
                               {"vocab_size", tokenizer->vocab_size()},
                               {"chat_template", has_chat_template(files.directory(), tokenizer)}};
    if (memory)
        result["memory"] = {{"device", memory->device},
                            {"context", memory->options.context},
                            {"batch", memory->options.count},
                            {"cache", name(memory->options.cache)},
                            {"weight_bytes", memory->need.weights},
                            {"cache_bytes", memory->need.cache},
                            {"workspace_bytes", memory->need.workspace},
                            {"other_bytes", memory->need.rest},
                            {"total_bytes", memory->need.total()},
                            {"free_bytes", memory->free},
                            {"largest_context", memory->largest}};
    std::printf("%s\n", result.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

void print_text(const ModelFiles& files, const LlamaConfig& c, const Contents& contents,
                const std::optional<Tokenizer>& tokenizer, const std::optional<Memory>& memory) {
    auto line = [](const char* what, const std::string& text) { std::printf("%-15s%s\n", what, text.c_str()); };
    line("model", model_name(files.directory()));
    line("architecture", fmt::format("Llama, {} layers, hidden size {}, MLP {}", c.layers, c.hidden_size, c.intermediate_size));
    line("attention", fmt::format("{} heads of {}, {} key-value heads", c.heads, c.head_dim, c.kv_heads));
    line("positions", fmt::format("{}, RoPE {}", with_commas(c.max_position_embeddings), rope_text(c)));
    line("vocabulary",
         fmt::format("{}, head {}", with_commas(c.vocab_size), c.tie_word_embeddings ? "tied to the embeddings" : "of its own"));
    line("parameters", with_commas(c.parameters()));
    if (auto& q = files.quantization(); q && !q->quant_method.empty())
        line("quantization",
             fmt::format("{}{}{}", printable(q->quant_method, 40), q->bits ? fmt::format(", {} bits", q->bits) : "",
                         q->relative_scale.empty() ? "" : ", scales " + printable(q->relative_scale, 40)));
    line("linear layers", fmt::format("{}: {:.3f} bits per weight", counted(contents.formats), contents.bits_per_weight()));
    line("tensors",
         fmt::format("{} in {} file{}", counted(contents.dtypes), files.file_count(), files.file_count() == 1 ? "" : "s"));
    if (!tokenizer) {
        line("tokenizer", "none");
    } else {
        line("tokenizer", fmt::format("{}, {} tokens", tokenizer->kind(), with_commas(int64_t(tokenizer->vocab_size()))));
        line("chat template", has_chat_template(files.directory(), tokenizer) ? "of the model" : "none: Llama 3's is used");
    }

    std::printf("\n");
    bool packed = false;
    for (const Part& part : contents.parts) packed |= part.indices > 0;
    Table table(packed ? std::vector<std::string>{"part", ">weights", ">dense", ">indices", ">scales", ">centroids", ">bytes",
                                                  ">share", ">bits/weight"}
                       : std::vector<std::string>{"part", ">weights", ">bytes", ">share", ">bits/weight"});
    Part total{"all", "all"};
    auto cell = [](uint64_t bytes) { return bytes ? human_bytes(double(bytes)) : std::string("-"); };
    auto row = [&](const Part& part) {
        std::vector<std::string> cells{part.name, part.weights ? with_commas(part.weights) : "-"};
        if (packed)
            for (uint64_t bytes : {part.dense, part.indices, part.scales, part.centroids}) cells.push_back(cell(bytes));
        cells.push_back(cell(part.bytes()));
        cells.push_back(
            fmt::format("{:.1f} %", 100 * double(part.bytes()) / double(std::max<uint64_t>(1, files.stored_bytes()))));
        cells.push_back(part.weights ? fmt::format("{:.3f}", 8 * double(part.bytes()) / double(part.weights)) : "-");
        table.add(std::move(cells));
    };
    for (const Part& part : contents.parts) {
        if (part.bytes() == 0) continue;
        row(part);
        total.dense += part.dense, total.indices += part.indices, total.scales += part.scales;
        total.centroids += part.centroids, total.weights += part.weights;
    }
    row(total);
    table.print();
    if (!memory) return;
    std::printf("\nTo run with a context of %s%s and a cache in %s, %s has to hold\n",
                with_commas(memory->options.context).c_str(),
                memory->options.count > 1 ? fmt::format(" for each of {} texts", memory->options.count).c_str() : "",
                std::string(name(memory->options.cache)).c_str(), memory->device.c_str());
    Table need({"  weights", ">cache", ">workspace", ">other", ">together", ">free", ">largest context"});
    auto size = [](uint64_t bytes) { return human_bytes(double(bytes)); };
    need.add({"  " + size(memory->need.weights), size(memory->need.cache), size(memory->need.workspace), size(memory->need.rest),
              size(memory->need.total()), size(memory->free), memory->largest ? with_commas(memory->largest) : "none"});
    need.print();
    if (memory->need.total() > memory->free) std::printf("which it cannot.\n");
}

}  // namespace

void add_inspect_command(CLI::App& app) {
    struct Options {
        std::string model;
        bool as_json = false;
        int64_t context = 0, texts = 1;
        CacheOption cache;
        std::shared_ptr<std::string> device;
    };
    CLI::App* command = app.add_subcommand("inspect", "show a model's architecture, formats and sizes");
    auto o = std::make_shared<Options>();
    command->add_option("MODEL", o->model, "directory of the model, or a .gguf file")->required()->type_name("MODEL");
    command->add_flag("--json", o->as_json, "print JSON");
    command->add_option("--context", o->context, "also the memory that a device needs for so many tokens of prompt and text")
        ->check(between(1, int64_t(1) << 24))
        ->type_name("N");
    command->add_option("--batch", o->texts, "texts at a time, for the memory (1)")->check(between(1, 1024))->type_name("N");
    o->cache.add(*command);
    o->device = add_device_option(*command);
    command->footer(
        "Examples:\n  vkqat inspect MODEL\n  vkqat inspect MODEL --json\n"
        "  vkqat inspect MODEL --context 32768 --cache i8");
    command->callback([=] {
        std::filesystem::path directory = o->model;
        check_model_directory(directory);
        LlamaConfig config = read_llama_config(directory);
        ModelFiles files = ModelFiles::open(directory);
        Contents contents = read_contents(files, config);
        std::optional<Tokenizer> tokenizer = find_tokenizer(directory, config);
        std::optional<Memory> memory;
        if (o->context) {
            Gpu gpu(*o->device);
            const LlamaWeights planned(gpu.device, directory, LlamaWeights::Planned{});
            const SequencesOptions options = sequences_options(o->cache.session(gpu.device, o->context), o->texts);
            const uint64_t free = gpu.device.free_memory();
            memory = Memory{gpu.device.capabilities().name, options, memory_need(planned, options), free,
                            largest_context(planned, options, free)};
        }
        (o->as_json ? print_json : print_text)(files, config, contents, tokenizer, memory);
    });
}

}  // namespace vkqat
