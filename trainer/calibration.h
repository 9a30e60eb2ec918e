// A full-precision model at work on a text, layer by layer: what the inputs of each matrix product are, and what becomes of the
// model's predictions when a matrix is another one.
#pragma once

#include <array>
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

class Calibration {
public:
    // weights: dense, and outlive this. Keeps hidden states of batch.batch * batch.seq_len tokens on the device.
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

private:
    struct Measurement;
    void run(const Observe& observe);
    Tensor layer_forward(Graph& g, const LlamaLayerTensors& w, Tensor x, std::array<Tensor, 4>* inputs) const;

    const LlamaWeights& weights_;
    int64_t batch_, seq_len_, tokens_, labels_ = 0, layer_ = 0;
    Buffer start_, end_, labels_buffer_, rope_, x_, next_, reference_, factors_, distance_, replacement_;
    std::unique_ptr<Measurement> measurement_;
};

}  // namespace vkqat
