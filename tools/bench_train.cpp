#include "tools/bench_train.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/support/clock.h"
#include "tools/bench_report.h"
#include "trainer/flavors.h"
#include "trainer/random.h"
#include "trainer/train.h"
#include "trainer/training_step.h"

namespace vkqat {
namespace {

LlamaConfig shape_of(const TrainBench& o) {
    TrainConfig config;
    config.model.flavor = o.flavor;
    if (!o.dimensions.empty()) {
        config.model.hidden_size = o.dimensions[0];
        config.model.num_hidden_layers = o.dimensions[1];
        config.model.num_attention_heads = o.dimensions[2];
        config.model.num_key_value_heads = o.dimensions[3];
        config.model.intermediate_size = o.dimensions[4];
    }
    config.training.seq_len = o.seq_len;
    return model_config(config, o.vocabulary);
}

Batch random_batch(const TrainBench& o) {
    Batch batch(o.batch, o.seq_len);
    for (size_t i = 0; i < batch.ids.size(); i++) {
        batch.ids[i] = int32_t(mix64(i) % uint64_t(o.vocabulary));
        batch.labels[i] = int32_t(mix64(i + 1) % uint64_t(o.vocabulary));
        batch.document_start[i] = 0;
        batch.document_end[i] = int32_t(o.seq_len);
    }
    return batch;
}

}  // namespace

void bench_train(Device& device, const TrainBench& o, const std::function<void(const nlohmann::json&)>& add) {
    const LlamaConfig model = shape_of(o);
    const Precision precision = choose_precision(o.precision, device.capabilities());
    const bool quantize = o.bits < 16;
    ParameterStore parameters(device, model, llama_parameters(model, quantize, {"output"}), weight_type(precision), {},
                              o.moments == "bf16" ? DType::bf16 : DType::f32);
    parameters.randomize(1);
    TrainingStepOptions options{
        .batch = o.batch, .seq_len = o.seq_len, .precision = precision, .recompute = parse_recompute(o.checkpointing)};
    if (quantize)
        options.quantizer = {.kind = QuantizerKind::nonlinear,
                             .bits = int(o.bits),
                             .scale = o.bits >= 3 ? ScaleStatistic::absmax : ScaleStatistic::absmean};
    TrainingStep training(device, parameters, options);
    const Batch batch = random_batch(o);
    auto step = [&] { training.run({&batch, 1}, 1e-5); };
    auto fit = [&] {
        auto start = Clock::now();
        training.fit_centroids(1);
        device.wait_idle();
        return seconds_since(start);
    };
    training.set_quantized(quantize);
    fit();
    const double fit_seconds = fit();
    for (auto warm = Clock::now(); seconds_since(warm) < 0.5; device.wait_idle()) step();
    std::vector<double> seconds;
    const auto begin = Clock::now();
    while (seconds.size() < 5 || (seconds.size() < 30 && seconds_since(begin) < 3)) {
        auto start = Clock::now();
        step();
        device.wait_idle();
        seconds.push_back(seconds_since(start));
    }
    nlohmann::json r = timing(fmt::format("train {}{}, {} x {} tokens, {}{}{}", o.flavor.empty() ? "given shape" : o.flavor,
                                          quantize ? fmt::format(" at {} bits", o.bits) : "", o.batch, o.seq_len,
                                          precision == Precision::f32 ? "fp32" : name(weight_type(precision)),
                                          o.checkpointing == "none" ? "" : ", checkpointing " + o.checkpointing,
                                          o.moments == "fp32" ? "" : ", moments in " + o.moments),
                              seconds);
    const double time = r["microseconds"].get<double>() / 1e6, tokens = double(o.batch * o.seq_len);
    // Every weight but the embedding's is in three products; attention counts the half of the square below the diagonal. (The
    // training log counts the whole square, as PaLM does: llama_training_flops.)
    const double weights =
        double(model.parameters()) - (model.tie_word_embeddings ? 0 : double(model.vocab_size * model.hidden_size));
    const double attention = 6.0 * double(o.seq_len) * double(model.q_dim()) * double(model.layers);
    r["tokens_per_s"] = tokens / time;
    r["TFLOP_per_s"] = tokens * (6 * weights + attention) / time / 1e12;
    r["parameters"] = model.parameters();
    if (quantize) r["kmeans_fit_s"] = fit_seconds;
    r["memory_GB"] = {{"weights", double(parameters.weight_bytes()) / 1e9},
                      {"gradients", double(parameters.gradient_bytes()) / 1e9},
                      {"moments", double(parameters.moment_bytes()) / 1e9},
                      {"weights_for_products", double(parameters.compute_bytes()) / 1e9},
                      {"activations", double(training.activation_bytes()) / 1e9}};
    AdamwState state = training.state();
    r["loss"] = state.loss;
    r["skipped"] = state.skipped;
    r["nodes"] = by_node(training.profile());
    double all = 0, quantizing = 0;
    for (const auto& n : r["nodes"]) {
        all += n["microseconds"].get<double>();
        if (n["node"].get<std::string>().starts_with("quantize")) quantizing += n["microseconds"].get<double>();
    }
    r["quantizer_share"] = quantizing / all;
    add(r);
}

}  // namespace vkqat
