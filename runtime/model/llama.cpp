#include "runtime/model/llama.h"

#include <algorithm>
#include <optional>

#include "runtime/ops/add.h"
#include "runtime/ops/block_sums.h"
#include "runtime/ops/dense_matvec.h"
#include "runtime/ops/matmul.h"
#include "runtime/ops/packed_matmul.h"
#include "runtime/ops/quantize_activations.h"
#include "runtime/ops/rms_norm.h"
#include "runtime/ops/rope.h"
#include "runtime/ops/swiglu.h"

namespace vkqat {

namespace {

bool on_matrix_units(const Graph& g, Tensor x, const Linear& w) {
    const Capabilities& device = g.capabilities();
    return device.kind != DeviceKind::cpu && !w.packed.empty() &&
           std::all_of(w.packed.begin(), w.packed.end(), [&](const PackedLayer& part) {
               return x.rows() > packed_linear_tokens && has_packed_matmul(device, part);
           });
}

// residual + x W^T of a weight in several parts, or of many tokens.
Tensor product(Graph& g, Tensor x, const Linear& w, const std::string& name, Tensor residual) {
    const bool units = on_matrix_units(g, x, w);
    if (w.packed.size() == 1 && units) return packed_matmul(g, x, w.packed[0], residual, name);
    int64_t out = 0;
    for (const PackedLayer& part : w.packed) out += part.out();
    Tensor y = g.tensor({x.rows(), out}, DType::f32, name);
    int64_t column = 0;
    for (const PackedLayer& part : w.packed) {
        if (units)
            packed_matmul_into(g, x, part, residual, y, column, name);
        else
            packed_linear_into(g, x, part, y, column, name);
        column += part.out();
    }
    return residual && !units ? add(g, residual, y, name + ".residual") : y;
}

// Few tokens through kernels that fold the norm and the residual into the product.
bool folds(const Graph& g, Tensor x, const PackedLayer& w) {
    return packed_linear_folds(g.capabilities(), w) && x.rows() <= packed_linear_tokens;
}

// Sign matrices with what is in front of and behind them: the products, then their norms. The kernels divide by
// the root mean square of x wherever they multiply by a vector; where the model has no norm, that is undone behind the product.
bool onebit_folds(const Graph& g, Tensor x, const Linear& w, const LinearFusion& fusion) {
    return (!fusion.norm || w.onebit_normed) && std::all_of(w.packed_onebit.begin(), w.packed_onebit.end(),
                                                            [&](const PackedOnebit& part) { return folds(g, x, part.sign); });
}
Tensor onebit_folded(Graph& g, Tensor x, const Linear& w, const std::string& name, const LinearFusion& fusion) {
    constexpr float no_eps = 1e-30f;  // but for inputs of zero
    std::vector<int64_t> rows;
    for (const PackedOnebit& part : w.packed_onebit) rows.push_back(part.sign.out());
    Tensor u;
    if (fusion.norm) {
        u = packed_linear(g, x, w.onebit_signs, name, {.norm = w.onebit_normed, .eps = fusion.eps});
    } else {
        u = g.tensor({x.rows(), w.onebit_factors.elements()}, DType::f32, name);
        int64_t column = 0;
        for (const PackedOnebit& part : w.packed_onebit) {
            packed_linear_into(g, x, part.sign, u, column, name, PackedLinearVariant::automatic, part.input_factor, no_eps);
            column += part.sign.out();
        }
    }
    return onebit_output(
        g, u, w.onebit_factors, rows,
        {.residual = fusion.residual, .swiglu = fusion.swiglu, .x = fusion.norm ? Tensor() : x, .input_eps = no_eps}, name);
}

// residual + x W^T of a weight with a zero point for each block, or with other scales below 0.
Tensor asymmetric_product(Graph& g, Tensor x, const Linear& w, const std::string& name, Tensor residual) {
    Tensor y = residual;
    Linear plain{.dense = {}, .packed = w.packed};
    if (w.of_blocks[0].zeros) {
        Tensor sums = block_sums(g, x, w.packed[0].block_size, name + ".block_sums");
        Tensor offsets = block_offsets(g, w.packed, w.of_blocks, name + ".offsets");
        const Precision precision = g.precision();
        g.set_precision(Precision::f32);  // a small product of two fp32 matrices
        y = dense_linear(g, sums, offsets, name + ".offsets", {.residual = y});
        g.set_precision(precision);
    } else {
        Linear negative = plain;
        for (size_t i = 0; i < w.packed.size(); i++) {
            plain.packed[i].centroids = w.above[i];
            negative.packed[i].centroids = w.below[i];
            negative.packed[i].scales = w.of_blocks[i].negative_scales;
        }
        y = apply(g, x, negative, name + ".negative", {.residual = y});
    }
    return apply(g, x, plain, name, {.residual = y});
}

// residual + LN(((x * input_factor) sign^T) * output_factor) of each part.
Tensor onebit_product(Graph& g, Tensor x, const Linear& w, const std::string& name, Tensor residual) {
    Tensor y;
    if (!w.onebit.empty()) {
        y = onebit_linear(g, x, w.onebit, name);
    } else {
        int64_t out = 0, column = 0;
        for (const PackedOnebit& part : w.packed_onebit) out += part.sign.out();
        y = g.tensor({x.rows(), out}, DType::f32, name);
        for (const PackedOnebit& part : w.packed_onebit) {
            Tensor scaled = scale_columns(g, x, part.input_factor, name + ".input");
            Tensor u = apply(g, scaled, Linear{.dense = {}, .packed = {part.sign}}, name);
            onebit_norm_into(g, u, part.output_factor, y, column, {}, name);
            column += part.sign.out();
        }
    }
    return residual ? add(g, residual, y, name + ".residual") : y;
}

}  // namespace

Precision inference_precision(const Capabilities& device, const LlamaTensors& weights) {
    std::vector<Tensor> dense{weights.head};
    for (const LlamaLayerTensors& layer : weights.layers)
        for (const Linear* w : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down})
            if (w->dense) dense.push_back(w->dense);
    const DType type = weights.head.dtype();
    if (device.kind == DeviceKind::cpu || type == DType::f32) return Precision::f32;
    if (std::any_of(dense.begin(), dense.end(), [&](Tensor w) { return w.dtype() != type; })) return Precision::f32;
    const Precision precision = type == DType::f16 ? Precision::f16 : Precision::bf16;
    return has_matrix_units(device, precision) ? precision : Precision::f32;
}

Tensor apply(Graph& g, Tensor x, const Linear& w, const std::string& name, const LinearFusion& fusion) {
    if (!w.ternary.empty() && !w.quantize_inputs) {
        Linear packed = w;
        packed.ternary.clear();
        for (const TernaryLayer& part : w.ternary) packed.packed.push_back(ternary_as_packed(g, part));
        return apply(g, x, packed, name, fusion);
    }
    if (w.ternary.size() == 1 && x.rows() <= ternary_linear_tokens && !w.input_strength &&
        can_ternary_linear(g.capabilities(), w.ternary[0]))
        return ternary_linear(g, x, w.ternary[0], name, fusion, {.second_norm = bool(w.input_norm), .second_eps = w.input_eps});
    if (w.ternary.size() == 1 && !w.input_strength && g.capabilities().kind != DeviceKind::cpu &&
        has_ternary_matmul(g.capabilities()))
        return unfused(g, x, fusion, name, [&](Tensor normed, Tensor residual) {
            return ternary_matmul(g, normed, w.ternary[0], name, {.residual = residual},
                                  {.second_norm = bool(w.input_norm), .second_eps = w.input_eps});
        });
    if (w.quantize_inputs)
        return unfused(g, x, fusion, name, [&](Tensor normed, Tensor residual) {
            Linear plain = w;
            plain.quantize_inputs = false;
            if (w.input_norm) normed = rms_norm(g, normed, w.input_norm, w.input_eps);
            return apply(g, quantize_activations(g, normed, w.input_strength), plain, name, {.residual = residual});
        });
    if (!w.packed_onebit.empty() && onebit_folds(g, x, w, fusion)) return onebit_folded(g, x, w, name, fusion);
    if (!w.onebit.empty() || !w.packed_onebit.empty())
        return unfused(g, x, fusion, name,
                       [&](Tensor normed, Tensor residual) { return onebit_product(g, normed, w, name, residual); });
    if (w.of_blocks.size() == 1 && folds(g, x, w.packed[0]))
        return packed_asymmetric_linear(g, x, w.packed[0], w.of_blocks[0], name, fusion);
    if (!w.of_blocks.empty())
        return unfused(g, x, fusion, name,
                       [&](Tensor normed, Tensor residual) { return asymmetric_product(g, normed, w, name, residual); });
    if (w.dense && !g.training()) return dense_linear(g, x, w.dense, name, fusion);
    if (w.packed.size() == 1 && !on_matrix_units(g, x, w)) return packed_linear(g, x, w.packed[0], name, fusion);
    return unfused(g, x, fusion, name, [&](Tensor normed, Tensor residual) {
        return w.dense ? linear(g, normed, w.dense, name, residual) : product(g, normed, w, name, residual);
    });
}

BitlinearNorm parse_bitlinear_norm(std::string_view name) {
    if (name == "" || name == "none") return BitlinearNorm::none;
    if (name == "replace") return BitlinearNorm::replace;
    if (name != "add") fail("norm of bitlinear layers: expected none, replace or add, found '{}'", name);
    return BitlinearNorm::add;
}

void use_bitlinear(LlamaTensors& model, const LlamaConfig& config, BitlinearNorm norm,
                   const std::function<Tensor(int64_t n)>& ones, Tensor strength) {
    for (LlamaLayerTensors& layer : model.layers) {
        auto use = [&](Linear& l, int64_t in, bool normed) {
            l.quantize_inputs = true;
            l.input_strength = strength;
            if (normed) l.input_norm = ones(in), l.input_eps = float(config.rms_norm_eps);
        };
        use(layer.qkv, config.hidden_size, norm == BitlinearNorm::add);
        use(layer.o, config.q_dim(), norm != BitlinearNorm::none);
        use(layer.gate_up, config.hidden_size, norm == BitlinearNorm::add);
        use(layer.down, config.intermediate_size, norm != BitlinearNorm::none);
    }
}

Tensor llama_hidden(Graph& g, const LlamaConfig& config, const LlamaTensors& weights, Tensor embedded, const Rotate& rotate,
                    const Attend& attend, Recompute recompute, const LayerInput& layer_input) {
    auto eps = float(config.rms_norm_eps);
    // What only products read is kept as they round it.
    const bool masters =
        !weights.layers.empty() && weights.layers[0].attention_norm.dtype() == DType::f32;  // not a frozen teacher's
    const DType rounded = g.training() && masters ? product_type(g) : DType::f32;
    const bool all_dense = std::all_of(weights.layers.begin(), weights.layers.end(), [](const LlamaLayerTensors& w) {
        return w.qkv.dense && w.o.dense && w.gate_up.dense && w.down.dense && !w.qkv.quantize_inputs;
    });
    const DType layer_rounded = all_dense ? rounded : DType::f32;  // other layers take fp32
    Tensor x = embedded;
    for (int64_t i = 0; i < config.layers; i++) {
        const LlamaLayerTensors& w = weights.layers[size_t(i)];
        g.set_scope(fmt::format("layers.{}", i));
        if (layer_input) layer_input(g, i, x);
        const size_t first = g.tensor_count();
        Tensor normed = rms_norm(g, x, w.attention_norm, eps, layer_rounded);
        Tensor attended = attend(g, i, rotate(g, apply(g, normed, w.qkv, "qkv")));
        x = apply(g, attended, w.o, "o", {.residual = x});
        Tensor mlp_normed = rms_norm(g, x, w.mlp_norm, eps, layer_rounded);
        Tensor gated = swiglu(g, apply(g, mlp_normed, w.gate_up, "gate_up"), layer_rounded);
        x = apply(g, gated, w.down, "down", {.residual = x});
        if (recompute == Recompute::full) g.recompute_since(first, x);
        if (recompute == Recompute::selective)
            for (Tensor t : {normed, mlp_normed, gated}) g.recompute(t);
    }
    g.set_scope("");
    return rms_norm(g, x, weights.norm, eps, rounded);
}

namespace {

// Packed, with nothing beside it.
bool is_plain(const Linear& w) {
    return w.packed.size() == 1 && w.of_blocks.empty() && w.packed_onebit.empty() && w.ternary.empty() && !w.quantize_inputs;
}

// All layers for packed_layers(), if it can run them.
std::optional<PackedLayersModel> packed_model(const Graph& g, const LlamaConfig& config, const LlamaTensors& weights,
                                              const DecodeState& state) {
    PackedLayersModel m{.shape = {uint32_t(config.heads), uint32_t(config.kv_heads), uint32_t(config.head_dim)},
                        .max_positions = state.max_positions,
                        .eps = float(config.rms_norm_eps),
                        .rope_table = state.rope_table,
                        .position = state.position};
    for (size_t i = 0; i < weights.layers.size(); i++) {
        const LlamaLayerTensors& w = weights.layers[i];
        for (const Linear* l : {&w.qkv, &w.o, &w.gate_up, &w.down})
            if (!is_plain(*l)) return {};
        m.layers.push_back({.attention_norm = w.attention_norm,
                            .mlp_norm = w.mlp_norm,
                            .qkv = w.qkv.packed[0],
                            .o = w.o.packed[0],
                            .gate_up = w.gate_up.packed[0],
                            .down = w.down.packed[0],
                            .cache_k = state.cache_k[i],
                            .cache_v = state.cache_v[i]});
    }
    if (!has_packed_layers(g, m)) return {};
    return m;
}

}  // namespace

Tensor llama_decode(Graph& g, const LlamaConfig& config, const LlamaTensors& weights, Tensor embedded, const Attend& attend,
                    Tensor logits, const DecodeState* state) {
    auto eps = float(config.rms_norm_eps);
    Tensor x = embedded;
    const auto in_one = state ? packed_model(g, config, weights, *state) : std::nullopt;
    if (in_one) x = packed_layers(g, x, *in_one, state->memory);
    for (int64_t i = 0; i < config.layers && !in_one; i++) {
        const LlamaLayerTensors& w = weights.layers[size_t(i)];
        g.set_scope(fmt::format("layers.{}", i));
        Tensor attended = attend(g, i, apply(g, x, w.qkv, "qkv", {.norm = w.attention_norm, .eps = eps}));
        x = apply(g, attended, w.o, "o", {.residual = x});
        Tensor gated = apply(g, x, w.gate_up, "gate_up", {.norm = w.mlp_norm, .eps = eps, .swiglu = true});
        x = apply(g, gated, w.down, "down", {.residual = x});
    }
    g.set_scope("");
    return dense_linear(g, x, weights.head, "head", {.norm = weights.norm, .eps = eps}, {}, logits);
}

std::vector<float> llama_rope_table(const LlamaConfig& config, int64_t positions) {
    std::optional<RopeStretch> stretch;
    if (const auto& s = config.rope_scaling)
        stretch = RopeStretch{s->factor, s->low_freq_factor, s->high_freq_factor, s->original_max_position_embeddings};
    return rope_table(rope_frequencies(config.head_dim, config.rope_theta, stretch), positions);
}

Buffer upload_rope_table(Device& device, const LlamaConfig& config, int64_t positions) {
    const std::vector<float> table = llama_rope_table(config, positions);
    Buffer buffer = device.allocate(table.size() * 4, "RoPE table");
    device.upload(buffer, 0, std::as_bytes(std::span(table)));
    return buffer;
}

double llama_training_flops(const LlamaConfig& config, int64_t seq_len) {
    double embedding = double(config.vocab_size) * double(config.hidden_size);
    double weights = double(config.parameters()) - (config.tie_word_embeddings ? 0 : embedding);
    return 6 * weights + 12 * double(config.layers) * double(config.heads * config.head_dim) * double(seq_len);
}

}  // namespace vkqat
