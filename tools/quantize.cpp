// vkqat quantize: a trained model becomes a quantized one, without training.
#include <map>
#include <optional>

#include "runtime/support/error.h"
#include "tools/console.h"
#include "tools/model.h"
#include "trainer/calibration.h"
#include "trainer/data.h"
#include "trainer/quantize_model.h"
#include "trainer/tokenizer_files.h"

namespace vkqat {
namespace {

struct Arguments {
    std::string from, to, quantizer = "nonlinear", scale, clip, bits_table, budget, dtype = "bf16";
    std::vector<std::filesystem::path> calibration;
    std::vector<int64_t> budget_blocks;
    int64_t bits = 4, block = 64, block_rows = 1, tokens = 4096, context = 512, seed = 0;
    bool weighted = false, clip_only = false, five_to_a_byte = false;
    std::shared_ptr<std::string> device;
};

// "8GB", "700 MB", "1e9": bytes, in powers of 1000.
uint64_t parse_size(const std::string& text) {
    size_t end = 0;
    double value = 0;
    try {
        value = std::stod(text, &end);
    } catch (const std::exception&) {
        end = 0;
    }
    std::string unit = text.substr(end);
    std::erase(unit, ' ');
    const std::map<std::string, double> units = {{"", 1}, {"B", 1}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}};
    if (end == 0 || !units.contains(unit) || !(value > 0) || value * units.at(unit) > 1e15)
        throw UsageError(fmt::format("--budget {}: expected a size such as 8GB or 700MB", text));
    return uint64_t(value * units.at(unit));
}

Batch calibration_batch(const Arguments& a, const LlamaConfig& config) {
    const Tokenizer tokenizer = need_tokenizer(a.from, config);
    const int64_t context = std::min(a.context, config.max_position_embeddings > 0 ? config.max_position_embeddings : a.context);
    return calibration_text(a.calibration.empty() ? std::vector<std::filesystem::path>{a.clip} : a.calibration,
                            text_encoder(tokenizer, a.from), a.tokens, context);
}

void run(const Arguments& a) {
    check_model_directory(a.from);
    // BitNet b1.58: ternary with one scale for a matrix, and 8-bit inputs of layers when the model runs.
    const bool bitnet = a.quantizer == "bitnet158";
    QuantizeOptions options{.quantizer = {.kind = bitnet ? QuantizerKind::ternary : parse_quantizer_kind(a.quantizer),
                                          .bits = int(a.bits),
                                          .block_dim_1 = bitnet ? 0 : a.block_rows,
                                          .block_dim_2 = bitnet ? 0 : a.block},
                            .weighted = a.weighted,
                            .clip = !a.clip.empty(),
                            .clip_only = a.clip_only,
                            .budget_blocks = a.budget_blocks,
                            .five_to_a_byte = a.five_to_a_byte,
                            .integer_inputs = bitnet,
                            .seed = uint64_t(a.seed)};
    if (a.budget_blocks.empty() && a.block > 1)
        for (int64_t block : {2 * a.block, 4 * a.block, int64_t(0)}) options.budget_blocks.push_back(block);
    // Where nothing is trained, an outlier must not set the step of all others at few bits; sym_int needs its range.
    const bool integers = options.quantizer.kind == QuantizerKind::sym_int;
    options.quantizer.scale =
        a.scale.empty() ? integers ? ScaleStatistic::absmax : ScaleStatistic::absmean : parse_scale_statistic(a.scale);
    const std::map<std::string, DType> dtypes = {{"bf16", DType::bf16}, {"f16", DType::f16}, {"f32", DType::f32}};
    options.dtype = dtypes.at(a.dtype);
    if (!a.bits_table.empty()) options.rules = read_bits_table(a.bits_table);
    if (!a.budget.empty()) options.budget = parse_size(a.budget);

    Gpu gpu(*a.device);
    announce_cpu(gpu);
    std::optional<Batch> calibration;
    if (!a.calibration.empty() || !a.clip.empty()) {
        calibration = calibration_batch(a, read_llama_config(a.from));
        std::fprintf(stderr, "calibration on %s tokens\n", with_commas(int64_t(calibration->ids.size())).c_str());
    }
    Stopwatch time;
    const QuantizeResult result = quantize_model(gpu.device, a.from, a.to, options, calibration ? &*calibration : nullptr,
                                                 [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); });
    if (options.budget || !options.rules.empty()) {
        std::map<int, int> counts;
        for (const BitsRule& rule : result.bits) counts[rule.bits]++;
        std::printf("# bits of each layer and, where others than %lld, weights of a block, as --bits-per-layer reads them\n",
                    static_cast<long long>(a.block));
        for (const BitsRule& rule : result.bits)
            std::printf("%s %d%s\n", rule.pattern.c_str(), rule.bits, rule.block ? fmt::format(" {}", rule.block).c_str() : "");
        for (auto [bits, count] : counts) std::printf("# %d layers of %d bits\n", count, bits);
    }
    if (options.budget) {
        std::printf("# KL divergence from the model on the calibration text: %.5f nats per token\n", result.divergence);
        if (result.uniform_bits)
            std::printf("# with %d bits and %s for all layers, the best of these that fits: %.5f\n", result.uniform_bits,
                        result.uniform_block ? fmt::format("blocks of {}", result.uniform_block).c_str() : "rows as blocks",
                        result.uniform_divergence);
    }
    std::printf("%s -> %s in %s: ", a.from.c_str(), a.to.c_str(), human_duration(time.seconds()).c_str());
    if (options.clip_only)
        std::printf("clipped for %s and written as dense %s, %s\n", a.quantizer.c_str(), a.dtype.c_str(),
                    human_bytes(double(result.dense_bytes)).c_str());
    else
        std::printf("%llu packed layers (%s): %s, all else in %s: %s\n", static_cast<unsigned long long>(result.packed_layers),
                    a.quantizer.c_str(), human_bytes(double(result.packed_bytes)).c_str(), a.dtype.c_str(),
                    human_bytes(double(result.dense_bytes)).c_str());
}

}  // namespace

void add_quantize_command(CLI::App& app) {
    auto a = std::make_shared<Arguments>();
    CLI::App* command = app.add_subcommand("quantize", "quantize a trained model without training it");
    command->add_option("model", a->from, "a model directory in full precision")->required();
    command->add_option("out", a->to, "the new directory")->required();
    command->add_option("--quantizer", a->quantizer, "nonlinear is k-means")
        ->check(CLI::IsMember({"nonlinear", "sym_int", "ternary", "binary", "bitnet158", "int_asym", "nf"}))
        ->capture_default_str();
    command->add_option("--bits", a->bits, "bits per weight")->check(CLI::IsMember({1, 2, 3, 4, 8}))->capture_default_str();
    command->add_option("--block", a->block, "weights that share a scale, along the inputs; 0: a row")
        ->check(between(0, 1 << 24))
        ->capture_default_str();
    command->add_option("--block-rows", a->block_rows, "rows of a block; 0: all")
        ->check(between(0, 1 << 24))
        ->capture_default_str();
    command->add_option("--scale", a->scale, "a block's scale; without it absmax for sym_int, else absmean")
        ->check(CLI::IsMember({"absmax", "absmean", "rms", "none"}));
    command->add_option("--bits-per-layer", a->bits_table, "file of lines: part of a layer's name, bits, and perhaps a block");
    command->add_option("--budget", a->budget,
                        "size of all weights, such as 8GB: bits are chosen for each layer; needs --calibration");
    command
        ->add_option("--budget-blocks", a->budget_blocks,
                     "weights that share a scale, to choose from beside --block; 0: a row (double, fourfold and a row)")
        ->check(between(0, 1 << 24));
    command->add_option("--calibration", a->calibration, "text that weighs layers and inputs; of several, equal parts")
        ->type_name("FILE...");
    command->add_flag("--weighted", a->weighted, "k-means weighted by the squares of the inputs; needs --calibration");
    command->add_option("--clip", a->clip, "text on which int_asym and nf search their clipping bounds");
    command->add_flag("--clip-only", a->clip_only, "with --clip: weights are clamped and not rounded, as a start for training");
    command->add_flag("--five-to-a-byte", a->five_to_a_byte,
                      "ternary weights (bitnet158, ternary): five to a byte, 1.6 bits instead of 2");
    command->add_option("--tokens", a->tokens, "tokens of text to use")->check(between(2, 1 << 22))->capture_default_str();
    command->add_option("--context", a->context, "tokens of a window")->check(between(2, 1 << 20))->capture_default_str();
    command->add_option("--seed", a->seed, "of k-means")->capture_default_str();
    command->add_option("--dtype", a->dtype, "type of what is not packed")
        ->check(CLI::IsMember({"bf16", "f16", "f32"}))
        ->capture_default_str();
    a->device = add_device_option(*command);
    command->footer(
        "Examples:\n"
        "  vkqat quantize llama llama-4bit\n"
        "  vkqat quantize llama llama-2bit --bits 2 --weighted --calibration text.txt\n"
        "  vkqat quantize llama llama-int2 --quantizer int_asym --bits 2 --block 128 --clip text.txt\n"
        "  vkqat quantize llama llama-8gb --budget 8GB --calibration text.txt\n"
        "An interrupted command, given again, goes on behind the last layer that was done (OUT.work).");
    command->callback([a] { run(*a); });
}

}  // namespace vkqat
