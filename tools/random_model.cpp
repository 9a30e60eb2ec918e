#include "tools/random_model.h"

#include <algorithm>

#include "runtime/formats/checkpoint.h"
#include "runtime/formats/packing.h"
#include "runtime/support/error.h"
#include "trainer/export.h"
#include "trainer/parameters.h"
#include "trainer/random.h"

namespace vkqat {

void write_random_model(const std::filesystem::path& directory, const LlamaConfig& config, int bits) {
    constexpr int64_t block = 64;
    const QuantizerConfig quantizer{.kind = QuantizerKind::nonlinear, .bits = bits};
    ModelSettings settings{.config = config};
    settings.config.torch_dtype = "bfloat16";
    std::vector<float> table;
    for (int i = 0; bits < 16 && i < 1 << bits; i++) table.push_back((2 * float(i) + 1) / float(1 << bits) - 1);
    std::vector<TensorInfo> tensors;
    for (const Parameter& p : llama_parameters(config, bits < 16, {"output"})) {
        if (!p.quantized) {
            TensorInfo& dense = tensors.emplace_back(TensorInfo{.name = p.name, .dtype = DType::bf16});
            for (int d = 0; d < p.shape.rank(); d++) dense.shape.push_back(p.shape[d]);
            continue;
        }
        if (p.shape[1] % block != 0) fail("{}: {} columns do not divide into blocks of {}", p.name, p.shape[1], block);
        for (TensorInfo& info : packed_tensors(p.layer_name(), p.shape[0], packed_row_bytes(p.shape[1], bits), p.shape[1] / block,
                                               int64_t(table.size()), quantizer))
            tensors.push_back(std::move(info));
    }
    if (bits < 16)
        settings.quantization = QuantizationConfig{.quant_method = std::string(name(quantizer.kind)),
                                                   .bits = bits,
                                                   .block_size = block,
                                                   .relative_scale = std::string(name(ScaleStatistic::absmax)),
                                                   .num_centroids = int(table.size()),
                                                   .centroids = table,
                                                   .packing = bits == 3 ? std::string(packing_dense_msb_first) : ""};

    // The same 16 MiB over and over: any bits for indices, bf16 numbers of 2^-7 to 2^-5 for all else.
    std::vector<uint64_t> any(size_t(2) << 20), numbers(any.size());
    for (size_t i = 0; i < any.size(); i++) {
        any[i] = mix64(i);
        numbers[i] = (any[i] & 0x80ff80ff80ff80ffu) | 0x3c003c003c003c00u;
    }
    auto source = [&](const TensorInfo& tensor, const TensorSink& sink) {
        if (tensor.name.ends_with(".centroids")) return sink(std::as_bytes(std::span(table)));
        const auto pattern = std::as_bytes(std::span(tensor.dtype == DType::u8 ? any : numbers));
        for (auto left = uint64_t(byte_size(tensor)); left > 0;) {
            const size_t piece = std::min<uint64_t>(left, pattern.size());
            sink(pattern.first(piece));
            left -= piece;
        }
    };
    write_model_directory(directory, settings, std::move(tensors), source);
}

}  // namespace vkqat
