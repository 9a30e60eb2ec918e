#include "runtime/formats/onebit_packing.h"

#include <cmath>

#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"

namespace vkqat {

std::optional<OnebitLinear> find_onebit_linear(const ModelFiles& model, std::string_view prefix, int64_t out, int64_t in) {
    OnebitLinear layer{.out = out, .in = in};
    layer.weight = model.find(fmt::format("{}.weight", prefix));
    layer.weight_scale = model.find(fmt::format("{}.weight_scale", prefix));
    layer.input_factor = model.find(fmt::format("{}.input_factor", prefix));
    if (!layer.weight_scale && !layer.input_factor) return std::nullopt;

    const std::string where = fmt::format("{}: layer '{}'", model.directory().string(), printable(prefix));
    if (!layer.weight || !layer.weight_scale || !layer.input_factor)
        fail("{}: a tensor is missing; a sign matrix has weight, weight_scale and input_factor", where);
    if (in % 8) fail("{}: a row of {} signs is no whole number of bytes", where, in);
    if (layer.weight->dtype != DType::i8 && layer.weight->dtype != DType::u8)
        fail("{}: weight: expected i8 or u8 beside weight_scale, found {}", where, name(layer.weight->dtype));
    if (layer.weight->shape != std::vector<int64_t>{out, in / 8})
        fail("{}: weight: expected [{}, {}] (8 signs a byte), found {}", where, out, in / 8, shape_text(layer.weight->shape));
    auto check = [&](const TensorView& tensor, std::string_view part, int64_t size) {
        if (!is_float(tensor.dtype)) fail("{}: {}: expected f32, f16 or bf16, found {}", where, part, name(tensor.dtype));
        if (tensor.shape != std::vector<int64_t>{size})
            fail("{}: {}: expected [{}], found {}", where, part, size, shape_text(tensor.shape));
        for (float value : read_floats(tensor))
            if (!std::isfinite(value)) fail("{}: {}: holds {}, expected finite numbers", where, part, value);
    };
    check(*layer.weight_scale, "weight_scale", out);
    check(*layer.input_factor, "input_factor", in);
    return layer;
}

}  // namespace vkqat
