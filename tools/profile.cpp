// vkqat profile: the memory of a model by part, computed beside measured, and the time of its nodes; a scaling law for results.
#include "tools/profile.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "evaluation/results.h"
#include "evaluation/scaling_fit.h"
#include "evaluation/store.h"
#include "runtime/formats/weight_spread.h"
#include "runtime/model/session.h"
#include "tools/bench_report.h"
#include "tools/console.h"
#include "tools/model.h"
#include "tools/speed.h"
#include "tools/sweep.h"
#include "tools/weights_description.h"
#include "trainer/calibration.h"
#include "trainer/quantize_model.h"
#include "trainer/tokenizer_files.h"

namespace vkqat {
namespace {

using nlohmann::ordered_json;

struct Options {
    std::string model;
    int64_t context = 0, position = 0;
    bool as_json = false;
    std::shared_ptr<std::string> device;
};

struct Part {
    std::string name;
    double bytes = 0;
};

// What the weights take on a device, by part: computed from the files' shapes. Dense GGUF blocks count as the device has them.
std::vector<Part> weight_parts(const std::filesystem::path& directory, const LlamaConfig& c) {
    const ModelFiles files = ModelFiles::open(directory);
    Part embedding{"embedding"}, head{"head"}, norms{"norms"}, dense{"dense layers"}, indices{"indices"}, scales{"scales"},
        centroids{"centroids"};
    std::vector<Part> layers;
    auto add = [&](Part& part, const std::string& name) { part.bytes += double(byte_size(files.get(name))); };
    add(embedding, "model.embed_tokens.weight");
    if (!c.tie_word_embeddings) add(head, "lm_head.weight");
    add(norms, "model.norm.weight");
    for (int64_t i = 0; i < c.layers; i++) {
        const std::string prefix = fmt::format("model.layers.{}.", i);
        Part layer{fmt::format("layer {}", i)};
        for (const auto& [name, out, in] : linear_shapes(c)) {
            const std::string tensor = fmt::format("{}{}", prefix, name);
            if (auto signs = find_onebit_linear(files, tensor, out, in)) {
                indices.bytes += double(signs->weight->bytes.size());
                scales.bytes += double(signs->bytes() - signs->weight->bytes.size());
                layer.bytes += double(signs->bytes());
            } else if (auto packed = find_packed_linear(files, tensor, out, in)) {
                indices.bytes += double(packed->weight_packed->bytes.size());
                scales.bytes += double(packed->scale_bytes());
                centroids.bytes += double(packed->centroids->bytes.size());
                layer.bytes += double(packed->bytes());
            } else {
                const double bytes = double(byte_size(files.get(tensor + ".weight")));
                dense.bytes += bytes;
                layer.bytes += bytes;
            }
        }
        for (const char* norm : {"input_layernorm.weight", "post_attention_layernorm.weight"}) {
            const double bytes = double(byte_size(files.get(prefix + norm)));
            norms.bytes += bytes;
            layer.bytes += bytes;
        }
        layers.push_back(layer);
    }
    std::vector<Part> parts{embedding, head, norms, dense, indices, scales, centroids};
    std::erase_if(parts, [](const Part& p) { return p.bytes == 0; });
    parts.insert(parts.end(), layers.begin(), layers.end());
    return parts;
}

void print_nodes(const char* title, const nlohmann::json& nodes, double step_seconds) {
    double sum = 0;
    for (auto& n : nodes) sum += n["microseconds"].get<double>();
    std::vector<nlohmann::json> sorted(nodes.begin(), nodes.end());
    std::stable_sort(sorted.begin(), sorted.end(), [](auto& a, auto& b) { return a["microseconds"] > b["microseconds"]; });
    std::printf("\n%s: %.1f us in all", title, sum);
    if (step_seconds > 0) std::printf("; %.1f us when nodes overlap", 1e6 * step_seconds);
    std::printf("\n");
    Table table({"node", ">times", ">us", ">share", ">GB/s", ">TFLOP/s"});
    for (auto& n : sorted)
        table.add({n["node"], std::to_string(n["count"].get<int>()), fmt::format("{:.1f}", n["microseconds"].get<double>()),
                   fmt::format("{:.1f} %", 100 * n["microseconds"].get<double>() / sum),
                   fmt::format("{:.1f}", n["GB_per_s"].get<double>()), fmt::format("{:.2f}", n["TFLOP_per_s"].get<double>())});
    table.print();
}

void profile_model(const Options& o) {
    check_model_directory(o.model);
    const LlamaConfig c = read_llama_config(o.model);
    const int64_t context = o.context ? o.context : std::min<int64_t>(c.max_position_embeddings, 4096);
    if (context > c.max_position_embeddings)
        fail("{}: --context {}: the model allows {} positions", o.model, context, c.max_position_embeddings);
    const int64_t position = o.position ? o.position : context / 2;
    if (position >= context) fail("--position {}: expected one below the context, {}", position, context);
    std::vector<Part> parts = weight_parts(o.model, c);
    Gpu gpu(*o.device);
    announce_cpu(gpu);
    const uint64_t before = gpu.device.free_memory();
    const LlamaWeights weights = load_weights(gpu, o.model);
    const uint64_t with_weights = gpu.device.free_memory();
    Session session(weights, session_options(gpu.device, context));
    const uint64_t with_session = gpu.device.free_memory();
    session.prefill(std::vector<int32_t>(size_t(std::min<int64_t>(4, context - 1)), 0));
    session.pretend(position);
    const nlohmann::json decode = by_node(session.profile_decode());
    const nlohmann::json prefill = by_node(session.profile_prefill());
    const Speed speed = measure_speed(weights);
    const WeightsDescription described = describe_weights(ModelFiles::open(o.model), c);

    const Part totals[] = {{"weights", double(weights.bytes())},
                           {fmt::format("KV cache of {} positions", context), double(session.cache_bytes())},
                           {"workspace", double(session.workspace_bytes())}};
    auto used = [](uint64_t a, uint64_t b) { return a > b ? double(a - b) : 0.0; };
    // A CPU's free memory is everybody's.
    const bool cpu = gpu.device.capabilities().kind == DeviceKind::cpu;
    const double measured[] = {used(before, with_weights), used(with_weights, with_session)};
    auto measured_text = [&](double bytes) { return cpu ? std::string("-") : human_bytes(bytes); };
    if (o.as_json) {
        ordered_json out{{"version", VKQAT_VERSION},
                         {"model", o.model},
                         {"model_digest", model_digest(o.model)},
                         {"device", gpu.device.capabilities().name},
                         {"driver", gpu.device.capabilities().driver},
                         {"weights", described.method},
                         {"parameters", c.parameters()},
                         {"linear_parameters", described.linear_weights},
                         {"linear_bits_per_weight", described.bits_per_weight},
                         {"context", context},
                         {"memory", ordered_json::array()}};
        for (const Part& p : parts)
            if (!p.name.starts_with("layer ")) out["memory"].push_back({{"part", p.name}, {"bytes", p.bytes}});
        for (const Part& p : {totals[1], totals[2]}) out["memory"].push_back({{"part", p.name}, {"bytes", p.bytes}});
        for (const Part& p : parts)
            if (p.name.starts_with("layer ")) out["memory_by_layer"].push_back({{"part", p.name}, {"bytes", p.bytes}});
        out["weight_bytes"] = weights.bytes();
        if (!cpu) {
            out["measured_weight_bytes"] = measured[0];
            out["measured_session_bytes"] = measured[1];
        }
        out["decode"] = {{"position", position}, {"nodes", decode}};
        out["prefill"] = {{"nodes", prefill}};
        out["prompt_tokens"] = speed.prompt;
        out["first_token_seconds"] = speed.first_token_seconds;
        out["decode_tokens_per_second"] = speed.decode_rate;
        std::printf("%s\n", out.dump(2, ' ', false, ordered_json::error_handler_t::replace).c_str());
        return;
    }
    Table table({"memory", ">computed", ">share", ">measured"});
    double whole = 0;
    for (const Part& p : totals) whole += p.bytes;
    auto share = [&](double bytes) { return fmt::format("{:.1f} %", 100 * bytes / whole); };
    for (const Part& p : parts)
        if (!p.name.starts_with("layer ")) table.add({"  " + p.name, human_bytes(p.bytes), share(p.bytes), ""});
    double lowest = INFINITY, highest = 0;
    for (const Part& p : parts)
        if (p.name.starts_with("layer ")) lowest = std::min(lowest, p.bytes), highest = std::max(highest, p.bytes);
    table.add({fmt::format("  each of {} layers", c.layers),
               lowest == highest ? human_bytes(lowest) : human_bytes(lowest) + " to " + human_bytes(highest), share(highest),
               ""});
    table.add({totals[0].name, human_bytes(totals[0].bytes), share(totals[0].bytes), measured_text(measured[0])});
    table.add({totals[1].name, human_bytes(totals[1].bytes), share(totals[1].bytes), ""});
    table.add({totals[2].name, human_bytes(totals[2].bytes), share(totals[2].bytes), ""});
    table.add({"cache, workspace and what goes with them", human_bytes(totals[1].bytes + totals[2].bytes), "",
               measured_text(measured[1])});
    table.print();
    print_nodes(fmt::format("decoding at position {}", position).c_str(), decode,
                speed.decode_rate > 0 ? 1 / speed.decode_rate : 0);
    print_nodes("a chunk of a prompt", prefill, 0);
    std::printf("\nfirst token behind %lld tokens: %.1f ms; %s tokens/s decoded; %s\n", static_cast<long long>(speed.prompt),
                1e3 * speed.first_token_seconds, human_rate(speed.decode_rate).c_str(), gpu.device.capabilities().name.c_str());
}

struct FitOptions {
    std::vector<std::string> files;
    std::vector<double> budgets;
    double tokens = 0;
    bool as_json = false;
};

void fit_results(const FitOptions& o) {
    std::vector<ResultPoint> used;
    std::vector<ScalingPoint> points;
    for (const std::string& file : o.files)
        for (ResultPoint& p : read_results(file)) {
            if (!(p.parameters > 0) || !(p.training_tokens > 0) || !(p.bits > 0) || !p.metrics.contains("nll")) continue;
            points.push_back({p.parameters, p.training_tokens, p.bits, p.metrics["nll"]});
            used.push_back(std::move(p));
        }
    const ScalingFit fit = fit_scaling(points);
    const ScalingLaw& l = fit.law;
    const double tokens = o.tokens > 0 ? o.tokens : points.back().tokens;
    std::vector<double> candidates;
    for (const ScalingPoint& p : points) candidates.push_back(p.bits);
    std::sort(candidates.begin(), candidates.end());
    candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
    if (o.as_json) {
        ordered_json out{{"A", l.A},
                         {"alpha", l.alpha},
                         {"B", l.B},
                         {"beta", l.beta},
                         {"E", l.E},
                         {"gamma", l.gamma},
                         {"rms", fit.rms},
                         {"bits_vary", fit.bits_vary},
                         {"tokens_vary", fit.tokens_vary},
                         {"beta_known", fit.beta_known}};
        for (size_t i = 0; i < used.size(); i++)
            out["results"].push_back({{"name", used[i].name}, {"loss", points[i].loss}, {"residual", fit.residuals[i]}});
        for (double bytes : o.budgets) {
            BestBits best = best_bits(l, bytes, tokens, candidates, 0);
            out["best"].push_back({{"bytes", bytes}, {"bits", best.bits}, {"parameters", best.parameters}, {"loss", best.loss}});
        }
        std::printf("%s\n", out.dump(2, ' ', false, ordered_json::error_handler_t::replace).c_str());
        return;
    }
    std::printf("loss = %.5g N_eff^-%.4f + %.5g D^-%.4f + %.4f,  N_eff = N (1 - exp(-bits / %.3f))\n", l.A, l.alpha, l.B, l.beta,
                l.E, l.gamma);
    if (!fit.tokens_vary)
        std::printf("All results have the same number of tokens: what they explain is in the constant.\n");
    else if (!fit.beta_known)
        std::printf(
            "Two numbers of tokens do not tell B, beta and E apart: what is said of other numbers of tokens is a guess.\n");
    if (!fit.bits_vary) std::printf("All results have the same bits: the %.3f behind bits says nothing.\n", l.gamma);
    std::printf("\n");
    Table table({"result", ">parameters", ">tokens", ">bits", ">loss", ">fitted", ">residual"});
    for (size_t i = 0; i < used.size(); i++)
        table.add({used[i].name, human_count(points[i].parameters), human_count(points[i].tokens),
                   fmt::format("{:.2f}", points[i].bits), fmt::format("{:.4f}", points[i].loss),
                   fmt::format("{:.4f}", points[i].loss - fit.residuals[i]), fmt::format("{:+.4f}", fit.residuals[i])});
    table.print();
    std::printf("\nroot mean square of the residuals: %.4f nats\n", fit.rms);
    for (double bytes : o.budgets) {
        BestBits best = best_bits(l, bytes, tokens, candidates, 0);
        std::printf("weights of %s, %s tokens: best at %.2f bits with %s parameters, loss %.4f\n", human_bytes(bytes).c_str(),
                    human_count(tokens).c_str(), best.bits, human_count(best.parameters).c_str(), best.loss);
    }
}

struct SensitivityOptions {
    std::string model, calibration, quantizer = "nonlinear";
    int64_t tokens = 4096, context = 512;
    bool as_json = false;
    std::shared_ptr<std::string> device;
};

void sensitivity(const SensitivityOptions& o) {
    check_model_directory(o.model);
    const LlamaConfig c = read_llama_config(o.model);
    QuantizeOptions options{.quantizer = {.kind = parse_quantizer_kind(o.quantizer)}};
    options.quantizer.scale = options.quantizer.kind == QuantizerKind::sym_int ? ScaleStatistic::absmax : ScaleStatistic::absmean;
    Gpu gpu(*o.device);
    announce_cpu(gpu);
    const int64_t context = std::min(o.context, c.max_position_embeddings);
    const Batch batch = calibration_text({o.calibration}, text_encoder(need_tokenizer(o.model, c), o.model), o.tokens, context);
    ProgressLine progress;
    const std::vector<PartSensitivity> parts =
        measure_sensitivity(gpu.device, o.model, options, batch,
                            [&](int64_t done, int64_t layers) { progress.show("layers", double(done), double(layers)); });
    progress.clear();
    if (o.as_json) {
        ordered_json out{{"version", VKQAT_VERSION},
                         {"model", o.model},
                         {"model_digest", model_digest(o.model)},
                         {"device", gpu.device.capabilities().name},
                         {"quantizer", o.quantizer},
                         {"calibration", o.calibration},
                         {"tokens", batch.ids.size()},
                         {"unit", "KL divergence, nats per token"},
                         {"layers", ordered_json::array()}};
        for (const PartSensitivity& p : parts)
            out["layers"].push_back({{"layer", p.part}, {"bits", p.bits}, {"bytes", p.bytes}, {"error", p.divergence}});
        std::printf("%s\n", out.dump(2, ' ', false, ordered_json::error_handler_t::replace).c_str());
        return;
    }
    std::vector<int> widths;
    for (const PartSensitivity& p : parts)
        if (std::find(widths.begin(), widths.end(), p.bits) == widths.end()) widths.push_back(p.bits);
    std::vector<std::string> headers{"layer"};
    for (int bits : widths) headers.push_back(fmt::format(">{} bit{}", bits, bits == 1 ? "" : "s"));
    Table table(headers);
    for (size_t i = 0; i < parts.size(); i += widths.size()) {
        std::vector<std::string> cells{parts[i].part};
        for (size_t w = 0; w < widths.size(); w++) cells.push_back(fmt::format("{:.3g}", parts[i + w].divergence));
        table.add(std::move(cells));
    }
    table.print();
    std::printf(
        "\nKL divergence from the model, nats per token, with this part alone quantized (%s, blocks of %lld, not trained); %s "
        "tokens of %s\n",
        o.quantizer.c_str(), static_cast<long long>(options.quantizer.block_dim_2),
        with_commas(int64_t(batch.ids.size())).c_str(), o.calibration.c_str());
}

void add_sensitivity_command(CLI::App& profile) {
    auto s = std::make_shared<SensitivityOptions>();
    CLI::App* command = profile.add_subcommand("sensitivity", "what each layer's quantization costs by itself, at every width");
    command->add_option("MODEL", s->model, "directory of a model in full precision")->required()->type_name("MODEL");
    command->add_option("--calibration", s->calibration, "the text that it is measured on")->required()->type_name("FILE");
    command->add_option("--quantizer", s->quantizer, "nonlinear is k-means")
        ->check(CLI::IsMember({"nonlinear", "sym_int"}))
        ->capture_default_str();
    command->add_option("--tokens", s->tokens, "of text to use")->check(between(2, 1 << 22))->capture_default_str();
    command->add_option("--context", s->context, "tokens of a window")->check(between(2, 1 << 20))->capture_default_str();
    command->add_flag("--json", s->as_json, "print JSON");
    s->device = add_device_option(*command);
    command->callback([s] { sensitivity(*s); });
    command->footer(
        "Example:\n  vkqat profile sensitivity MODEL --calibration text.txt --json > layers.json; vkqat plot profile layers.json "
        "--out layers.svg");
}

}  // namespace

void add_profile_command(CLI::App& app) {
    CLI::App* command = app.add_subcommand("profile", "memory of a model by part, and time by node; a scaling law for results");
    auto o = std::make_shared<Options>();
    command->add_option("MODEL", o->model, "directory of a model or .gguf file")->type_name("MODEL");
    command->add_option("--context", o->context, "positions of the KV cache (4096, or what the model allows)")
        ->check(between(2, int64_t(1) << 24))
        ->type_name("N");
    command->add_option("--position", o->position, "where decoding is measured (the middle of the context)")
        ->check(between(1, int64_t(1) << 24))
        ->type_name("N");
    command->add_flag("--json", o->as_json, "print JSON");
    o->device = add_device_option(*command);

    add_sweep_commands(*command);
    add_sensitivity_command(*command);

    auto f = std::make_shared<FitOptions>();
    CLI::App* fit =
        command->add_subcommand("fit", "fits loss = A N_eff^-alpha + B D^-beta + E to results of different sizes and bits");
    fit->add_option("RESULTS", f->files, "results.jsonl with parameters, training_tokens, linear_bits_per_weight, mean_nll")
        ->required()
        ->type_name("RESULTS...");
    fit->add_option("--budget", f->budgets, "bytes of weights for which the best bits are told")->type_name("BYTES...");
    fit->add_option("--tokens", f->tokens, "of training, for --budget (those of the last result)")->type_name("N");
    fit->add_flag("--json", f->as_json, "print JSON");
    fit->callback([f] { fit_results(*f); });
    fit->footer("Example:\n  vkqat profile fit results.jsonl --budget 1e8 1e9");

    command->callback([=] {
        if (!command->get_subcommands().empty()) return;
        if (o->model.empty()) throw UsageError("MODEL is needed, or a subcommand");
        profile_model(*o);
    });
    command->footer(
        "Profiled nodes do not overlap and each pays for its timestamps, so their sum exceeds a step.\n\n"
        "Examples:\n"
        "  vkqat profile MODEL --context 8192\n"
        "  vkqat profile MODEL --json > profile.json; vkqat plot profile profile.json --out profile.svg");
}

}  // namespace vkqat
