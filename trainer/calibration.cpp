#include "trainer/calibration.h"

#include <algorithm>
#include <numeric>

#include "runtime/ops/add.h"
#include "runtime/ops/attention.h"
#include "runtime/ops/cast.h"
#include "runtime/ops/distillation.h"
#include "runtime/ops/embedding.h"
#include "runtime/ops/rms_norm.h"
#include "runtime/ops/rope.h"
#include "runtime/ops/swiglu.h"
#include "trainer/quantizer.h"

namespace vkqat {
namespace {

template <class T>
Buffer upload(Device& device, const std::vector<T>& values, const char* name) {
    Buffer buffer = device.allocate(values.size() * sizeof(T), name);
    device.upload(buffer, 0, std::as_bytes(std::span(values)));
    return buffer;
}

Linear& product_of(LlamaLayerTensors& layer, LayerProduct product) {
    Linear* all[] = {&layer.qkv, &layer.o, &layer.gate_up, &layer.down};
    return *all[size_t(product)];
}

}  // namespace

// The graph of the last product that was measured; its next weight comes into the same buffer.
struct Calibration::Measurement {
    int64_t layer;
    LayerProduct product;
    DType type;
    std::unique_ptr<Graph> graph;
    std::unique_ptr<Executable> executable;
};

Batch calibration_text(const std::vector<std::filesystem::path>& files, const TextEncoder& encoder, int64_t tokens,
                       int64_t context) {
    if (files.empty()) fail("calibration: no text was given");
    const int64_t each = std::max<int64_t>(1, tokens / context / int64_t(files.size()));
    std::vector<std::vector<int32_t>> windows;
    for (const std::filesystem::path& file : files) {
        const auto all = evaluation_windows(file, encoder, {.context = context, .keep_remainder = false});
        if (all.empty()) fail("{}: less than a window of {} tokens", file.string(), context);
        const int64_t count = std::min(each, int64_t(all.size()));
        for (int64_t i = 0; i < count; i++) windows.push_back(all[size_t(i * int64_t(all.size()) / count)]);
    }
    return batch_of_windows(windows, int64_t(windows.size()), int64_t(windows[0].size()));
}

Calibration::Calibration(const LlamaWeights& weights, const Batch& batch)
    : weights_(weights), batch_(batch.batch), seq_len_(batch.seq_len), tokens_(batch.batch * batch.seq_len) {
    const LlamaConfig& c = weights.config();
    Device& device = weights.device();
    if (weights.packed()) fail("calibration needs a model in full precision; this one is packed");
    for (int32_t id : batch.ids)
        if (id < 0 || id >= c.vocab_size) fail("calibration: token id {} is not in the vocabulary of {}", id, c.vocab_size);
    labels_ = std::count_if(batch.labels.begin(), batch.labels.end(), [](int32_t label) { return label >= 0; });
    if (labels_ == 0) fail("calibration: the text has nothing to predict");
    start_ = upload(device, batch.document_start, "document_start");
    end_ = upload(device, batch.document_end, "document_end");
    labels_buffer_ = upload(device, batch.labels, "labels");
    rope_ = upload_rope_table(device, c, seq_len_);
    factors_ = upload(device, std::vector<float>{1, 0, 0}, "factors");
    const uint64_t bytes = uint64_t(tokens_ * c.hidden_size) * 4;
    for (Buffer* b : {&x_, &next_, &reference_}) *b = device.allocate(bytes, "hidden states of the calibration text");
    distance_ = device.allocate(uint64_t(tokens_) * 4, "divergence of each token");

    ids_ = upload(device, batch.ids, "ids");
    restart();
    Graph g(device);
    LlamaTensors model = weights.tensors(g);
    g.set_precision(inference_precision(device.capabilities(), model));
    const Shape shape{tokens_, c.hidden_size};
    Tensor x = g.external(x_, 0, shape, DType::f32, "x");
    for (const LlamaLayerTensors& layer : model.layers) x = layer_forward(g, layer, x, nullptr);
    copy(g, rms_norm(g, x, model.norm, float(c.rms_norm_eps)), g.external(reference_, 0, shape, DType::f32, "reference"));
    Executable(g, "calibration").run();
}

Calibration::~Calibration() = default;

Tensor Calibration::layer_forward(Graph& g, const LlamaLayerTensors& w, Tensor x, std::array<Tensor, 4>* inputs) const {
    const LlamaConfig& c = weights_.config();
    const auto eps = float(c.rms_norm_eps);
    const AttentionShape shape{uint32_t(batch_), uint32_t(seq_len_), uint32_t(c.heads), uint32_t(c.kv_heads),
                               uint32_t(c.head_dim)};
    Tensor table = g.external(rope_, 0, {seq_len_, c.head_dim}, DType::f32, "rope");
    auto documents = [&](const Buffer& b, const char* name) { return g.external(b, 0, {batch_, seq_len_}, DType::i32, name); };
    Tensor normed = rms_norm(g, x, w.attention_norm, eps);
    Tensor qkv = rope(g, apply(g, normed, w.qkv, "qkv"), table, c.heads + c.kv_heads, {.seq_len = seq_len_});
    Tensor attended = attention(g, qkv, shape, documents(start_, "document_start"), documents(end_, "document_end"));
    x = add(g, x, apply(g, attended, w.o, "o"), "attention.residual");
    Tensor mlp_normed = rms_norm(g, x, w.mlp_norm, eps);
    Tensor gated = swiglu(g, apply(g, mlp_normed, w.gate_up, "gate_up"));
    if (inputs) *inputs = {normed, attended, mlp_normed, gated};
    return add(g, x, apply(g, gated, w.down, "down"), "mlp.residual");
}

void Calibration::run(const Observe& observe) {
    const LlamaConfig& c = weights_.config();
    if (layer_ >= c.layers) fail("calibration: the model has {} layers, all have been run", c.layers);
    Graph g(weights_.device());
    LlamaTensors model = weights_.tensors(g);
    g.set_precision(inference_precision(g.capabilities(), model));
    const Shape shape{tokens_, c.hidden_size};
    std::array<Tensor, 4> inputs;
    Tensor y = layer_forward(g, model.layers[size_t(layer_)], g.external(x_, 0, shape, DType::f32, "x"), &inputs);
    copy(g, y, g.external(next_, 0, shape, DType::f32, "next x"));
    if (observe) observe(g, inputs);
    Executable(g, "calibration").run();
}

void Calibration::observe_layer(const Observe& observe) { run(observe); }

void Calibration::run_layer() {
    run({});
    std::swap(x_, next_);
    layer_++;
    measurement_.reset();
}

void Calibration::restart() {
    Graph g(weights_.device());
    Tensor x = embedding(g, g.external(ids_, 0, {tokens_}, DType::i32, "ids"), weights_.tensors(g).embedding);
    copy(g, x, g.external(x_, 0, {tokens_, weights_.config().hidden_size}, DType::f32, "x"));
    Executable(g, "calibration").run();
    layer_ = 0;
    measurement_.reset();
}

void Calibration::replace(int64_t layer, LayerProduct product, std::span<const float> weight) {
    Device& device = weights_.device();
    Graph g(device);
    LlamaTensors model = weights_.tensors(g);
    Tensor to = product_of(model.layers.at(size_t(layer)), product).dense;
    if (int64_t(weight.size()) != to.elements())
        fail("calibration: {} weights for a product of {}", weight.size(), to.elements());
    const Buffer from = device.allocate(weight.size_bytes(), "weight");
    device.upload(from, 0, std::as_bytes(weight));
    quantize_weights(g, g.external(from, 0, to.shape(), DType::f32, "weight"), to, {}, {}, "weight");
    Executable(g, "weight").run();
}

// From the present layer to the distance of each token.
void Calibration::add_divergence(Graph& g, const LlamaTensors& model) {
    const LlamaConfig& c = weights_.config();
    const Shape shape{tokens_, c.hidden_size};
    Tensor x = g.external(x_, 0, shape, DType::f32, "x");
    for (int64_t i = layer_; i < c.layers; i++) x = layer_forward(g, model.layers[size_t(i)], x, nullptr);
    distillation_head(g, DistillationLoss::forward,
                      {.hidden = rms_norm(g, x, model.norm, float(c.rms_norm_eps)),
                       .head = model.head,
                       .teacher_hidden = g.external(reference_, 0, shape, DType::f32, "reference"),
                       .teacher_head = model.head,
                       .labels = g.external(labels_buffer_, 0, {tokens_}, DType::i32, "labels"),
                       .factors = g.external(factors_, 0, {3}, DType::f32, "factors"),
                       .distance = g.external(distance_, 0, {tokens_}, DType::f32, "distance")});
}

double Calibration::mean_distance() {
    std::vector<float> rows(static_cast<size_t>(tokens_));
    weights_.device().download(distance_, 0, std::as_writable_bytes(std::span(rows)));
    return std::accumulate(rows.begin(), rows.end(), 0.0) / double(labels_);
}

double Calibration::divergence() {
    Graph g(weights_.device());
    LlamaTensors model = weights_.tensors(g);
    g.set_precision(inference_precision(g.capabilities(), model));
    add_divergence(g, model);
    Executable(g, "divergence").run();
    return mean_distance();
}

double Calibration::divergence(LayerProduct product, std::span<const float> weight) {
    Device& device = weights_.device();
    if (!measurement_ || measurement_->layer != layer_ || measurement_->product != product) {
        measurement_.reset();
        auto m =
            std::make_unique<Measurement>(Measurement{layer_, product, DType::f32, std::make_unique<Graph>(device), nullptr});
        Graph& g = *m->graph;
        LlamaTensors model = weights_.tensors(g);
        g.set_precision(inference_precision(device.capabilities(), model));
        Linear& linear = product_of(model.layers.at(size_t(layer_)), product);
        m->type = linear.dense.dtype();
        if (replacement_.bytes() < linear.dense.bytes()) replacement_ = device.allocate(linear.dense.bytes(), "quantized weight");
        linear.dense = g.external(replacement_, 0, linear.dense.shape(), m->type, "quantized weight");
        add_divergence(g, model);
        m->executable = std::make_unique<Executable>(g, "divergence");
        measurement_ = std::move(m);
    }
    const std::vector<std::byte> bytes = to_bytes(weight, measurement_->type);
    if (bytes.size() > replacement_.bytes()) fail("calibration: {} weights are more than the product has", weight.size());
    device.upload(replacement_, 0, bytes);
    measurement_->executable->run();
    return mean_distance();
}

}  // namespace vkqat
