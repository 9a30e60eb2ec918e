// The Llama forward pass as a graph, for training and inference alike.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/formats/llama_config.h"
#include "runtime/graph/graph.h"
#include "runtime/ops/onebit_linear.h"
#include "runtime/ops/packed_layers.h"
#include "runtime/ops/packed_linear.h"
#include "runtime/ops/ternary_linear.h"

namespace vkqat {

// A sign matrix between two vectors that stays packed (OneBit).
struct PackedOnebit {
    PackedLayer sign;                    // table -1, 1, scales of 1
    Tensor input_factor, output_factor;  // [in], [out]
};

// A linear layer in one graph: dense, sign matrices, or packed in one or more parts whose outputs stand side by side (q, k, v).
struct Linear {
    Tensor dense;  // [out, in] f32|f16|bf16
    std::vector<PackedLayer> packed;
    // What blocks of `packed` have besides scales, by part of it; empty: nothing. Where that is scales for weights below 0, the
    // tables of the weights above 0 and of those below by themselves are here too, f32 as the layer's centroids.
    std::vector<PackedAsymmetry> of_blocks = {};
    std::vector<Tensor> above = {}, below = {};
    // Sign matrices whose outputs stand side by side, each with a norm of its own: in training, and packed.
    std::vector<OnebitPart> onebit = {};
    std::vector<PackedOnebit> packed_onebit = {};
    Tensor onebit_factors = {};  // f32 [out]: output factors of all of packed_onebit
    // The same sign matrices as parts of one layer, and f32 [parts, in]: input factors times the weight of the norm in front
    // (absent where there is none).
    PackedLayer onebit_signs = {};
    Tensor onebit_normed = {};
    // Ternary parts of a layer with 8-bit inputs, computed in integers where tokens are few; then `packed` is empty.
    std::vector<TernaryLayer> ternary = {};
    // Its inputs are 8-bit integers times a scale of each token (runtime/ops/quantize_activations.h), as strongly as
    // `input_strength` says, f32 [1]; absent: fully.
    bool quantize_inputs = false;
    Tensor input_strength = {};
    // Before that an RMS norm with these weights, f32 [in] (ones), and this eps; absent: none.
    Tensor input_norm = {};
    float input_eps = 0;
};

struct LlamaLayerTensors {
    Tensor attention_norm, mlp_norm;  // [hidden_size]
    Linear qkv;                       // [(heads + 2 * kv_heads) * head_dim, hidden_size]: q, k, v
    Linear o;                         // [hidden_size, heads * head_dim]
    Linear gate_up;                   // [2 * intermediate_size, hidden_size]: gate, up
    Linear down;                      // [hidden_size, intermediate_size]
};

struct LlamaTensors {
    Tensor embedding;  // [vocab_size, hidden_size]
    std::vector<LlamaLayerTensors> layers;
    Tensor norm;  // [hidden_size]
    Tensor head;  // [vocab_size, hidden_size]; the embedding where they are tied
};

// y [tokens, out] = x [tokens, in] W^T with what is folded into it. Differentiable where the weight is dense.
Tensor apply(Graph& g, Tensor x, const Linear& linear, const std::string& name, const LinearFusion& fusion = {});

// What a graph for inference of many tokens at once sets: matrix units of the type that all dense matrices have (activations are
// rounded to it), fp32 where there is an fp32 one or no such units, and on CPUs.
Precision inference_precision(const Capabilities& device, const LlamaTensors& weights);

// Where layers with 8-bit inputs have an RMS norm without weights in front of them (BitNet b1.58): nowhere; where the block has
// none, o and down; everywhere.
enum class BitlinearNorm : uint8_t { none, replace, add };
BitlinearNorm parse_bitlinear_norm(std::string_view name);  // "" is none. Error naming the possible ones
// Makes the inputs of all linear layers 8-bit. ones: f32 [n] of ones; strength as in Linear.
void use_bitlinear(LlamaTensors& model, const LlamaConfig& config, BitlinearNorm norm,
                   const std::function<Tensor(int64_t n)>& ones, Tensor strength = {});

// What attends in layer `layer`: qkv [tokens, (heads + 2 * kv_heads) * head_dim] -> [tokens, heads * head_dim].
using Attend = std::function<Tensor(Graph& g, int64_t layer, Tensor qkv)>;
// Rotates q and k of [tokens, (heads + 2 * kv_heads) * head_dim].
using Rotate = std::function<Tensor(Graph& g, Tensor qkv)>;

// Sees the input of each layer, f32 [tokens, hidden_size], in front of it.
using LayerInput = std::function<void(Graph& g, int64_t layer, Tensor x)>;

// What a layer's backward pass computes again instead of finding it in memory (activation checkpointing, arXiv 1604.06174):
// nothing; what costs only reading and writing (norms, SwiGLU); everything but the layer's input.
enum class Recompute { none, selective, full };

// `attend` gets qkv rotated. embedded [tokens, hidden_size] -> hidden states behind the last norm, [tokens, hidden_size], ready
// for the head.
Tensor llama_hidden(Graph& g, const LlamaConfig& config, const LlamaTensors& weights, Tensor embedded, const Rotate& rotate,
                    const Attend& attend, Recompute recompute = Recompute::none, const LayerInput& layer_input = {});

// What packed_layers() needs of a single sequence beside the weights.
struct DecodeState {
    std::vector<Tensor> cache_k, cache_v;  // by layer, [max_positions, kv_heads * head_dim]
    Tensor rope_table, position;
    int64_t max_positions = 0;
    PackedLayersMemory memory;
};

// The same for few tokens of inference, with norms, residuals and SwiGLU folded into the products (runtime/ops/fusion.h): five
// dispatches a layer on a GPU, one for all layers of one sequence with packed weights where `state` is given and the device can
// run it. `attend` gets qkv not rotated. embedded [sequences, hidden_size] -> logits [sequences, vocab_size], into `logits` if
// given.
Tensor llama_decode(Graph& g, const LlamaConfig& config, const LlamaTensors& weights, Tensor embedded, const Attend& attend,
                    Tensor logits = {}, const DecodeState* state = nullptr);

// cosines and sines for `positions` positions, f32 [positions, head_dim], as config says (runtime/ops/rope.h).
std::vector<float> llama_rope_table(const LlamaConfig& config, int64_t positions);
// The same on the device.
Buffer upload_rope_table(Device& device, const LlamaConfig& config, int64_t positions);

// FLOPs of a token's forward and backward pass through the weights and the attention (PaLM's count: 6 per weight, and
// 12 * layers * heads * head_dim * seq_len for attention over seq_len positions).
double llama_training_flops(const LlamaConfig& config, int64_t seq_len);

}  // namespace vkqat
