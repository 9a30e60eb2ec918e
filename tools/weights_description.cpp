#include "tools/weights_description.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/formats/json_text.h"
#include "runtime/formats/onebit_packing.h"
#include "runtime/formats/packing.h"

namespace vkqat {

WeightsDescription describe_weights(const ModelFiles& files, const LlamaConfig& c) {
    WeightsDescription d;
    uint64_t bytes = 0;
    std::string dense;
    int bits = 0;
    bool several = false;
    auto add = [&](const std::string& prefix, int64_t out, int64_t in) {
        d.linear_weights += out * in;
        if (auto signs = find_onebit_linear(files, prefix, out, in)) {
            several |= bits > 1;
            bits = 1;
            bytes += signs->bytes();
        } else if (auto packed = find_packed_linear(files, prefix, out, in)) {
            several |= bits && bits != packed->bits;
            bits = packed->bits;
            bytes += packed->bytes();
        } else {
            const TensorView& tensor = files.get(prefix + ".weight");
            dense = name(tensor.dtype);
            if (stored_type(tensor) != dense) dense = fmt::format("{} as {}", stored_type(tensor), dense);
            bytes += uint64_t(byte_size(tensor));  // on the device
        }
    };
    for (int64_t i = 0; i < c.layers; i++) {
        std::string layer = fmt::format("model.layers.{}.", i);
        add(layer + "self_attn.q_proj", c.q_dim(), c.hidden_size);
        add(layer + "self_attn.k_proj", c.kv_dim(), c.hidden_size);
        add(layer + "self_attn.v_proj", c.kv_dim(), c.hidden_size);
        add(layer + "self_attn.o_proj", c.hidden_size, c.q_dim());
        add(layer + "mlp.gate_proj", c.intermediate_size, c.hidden_size);
        add(layer + "mlp.up_proj", c.intermediate_size, c.hidden_size);
        add(layer + "mlp.down_proj", c.hidden_size, c.intermediate_size);
    }
    d.bits_per_weight = 8 * double(bytes) / double(std::max<int64_t>(1, d.linear_weights));
    if (!bits) {
        d.method = dense;
        return d;
    }
    std::string method = files.quantization() ? printable(files.quantization()->quant_method, 20) : "";
    d.method = fmt::format("{}{}{} bit{}", method.empty() ? "packed" : method, several ? " mixed " : " ",
                           several ? "" : std::to_string(bits), bits == 1 ? "" : "s");
    if (!dense.empty()) d.method += " and " + dense;
    return d;
}

}  // namespace vkqat
