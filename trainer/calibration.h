// A full-precision model at work on a text, layer by layer: what the inputs of each matrix product are, and what becomes of the
// model's predictions when matrices are others.
#pragma once

#include <array>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/graph/executable.h"
#include "runtime/model/weights.h"
#include "trainer/data.h"

namespace vkqat {

// The matrix products of a layer: q, k and v have one input, and gate and up.
enum class LayerProduct : uint8_t { qkv, o, gate_up, down };
constexpr std::array<LayerProduct, 4> layer_products = {LayerProduct::qkv, LayerProduct::o, LayerProduct::gate_up,
                                                        LayerProduct::down};

// Windows of `context` tokens, about `tokens` in all: of every file equally many, from all of its length. Errors: as
// evaluation_windows(); a file with less than a window.
Batch calibration_text(const std::vector<std::filesystem::path>& files, const TextEncoder& encoder, int64_t tokens,
                       int64_t context);

class Calibration {
public:
    // weights: dense, and outlive this; replace() changes them. Keeps hidden states of batch.batch * batch.seq_len tokens on the
    // device.
    Calibration(const LlamaWeights& weights, const Batch& batch);
    ~Calibration();

    int64_t tokens() const { return tokens_; }
    int64_t layer() const { return layer_; }  // the present one, from 0

    // Adds nodes that read the inputs of the layer's products, f32 [tokens, in], by LayerProduct.
    using Observe = std::function<void(Graph& g, const std::array<Tensor, 4>& inputs)>;
    // Runs the present layer for `observe`; it stays the present one.
    void observe_layer(const Observe& observe);
    // Goes on to the next layer.
    void run_layer();

    // With `weight` [out, in] (q, k, v and gate, up below one another) in the place of the present layer's: the mean of
    // KL(model || changed model) over the labels, in nats. The weight is rounded to the type of the model's.
    double divergence(LayerProduct product, std::span<const float> weight);

    // Puts a weight, as above, into the model itself, in the place of any layer's; what divergences are measured from stays the
    // model as it was at first. Rounded to the type of the model's.
    void replace(int64_t layer, LayerProduct product, std::span<const float> weight);
    // Goes back to the first layer.
    void restart();
    // The divergence of the model as it is now, from the present layer on.
    double divergence();

private:
    struct Measurement;
    void run(const Observe& observe);
    void add_divergence(Graph& g, const LlamaTensors& model);
    double mean_distance();
    Tensor layer_forward(Graph& g, const LlamaLayerTensors& w, Tensor x, std::array<Tensor, 4>* inputs) const;

    const LlamaWeights& weights_;
    int64_t batch_, seq_len_, tokens_, labels_ = 0, layer_ = 0;
    Buffer ids_, start_, end_, labels_buffer_, rope_, x_, next_, reference_, factors_, distance_, replacement_;
    std::unique_ptr<Measurement> measurement_;
};

}  // namespace vkqat
