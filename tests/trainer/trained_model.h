// What is made of a tiny run: a model directory, its dense form, and what it predicts of text that it has not seen.
#pragma once

#include "runtime/formats/checkpoint.h"
#include "runtime/formats/packing.h"
#include "runtime/model/scorer.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/export.h"
#include "trainer/parameters.h"
#include "trainer/tokenizer_files.h"

namespace vkqat::test {

inline ExportResult train_and_export(const TrainConfig& config, const std::filesystem::path& to, DType dtype = DType::f32) {
    run(config);
    return export_model(open_checkpoint(config.job.dump_folder, {}), to, {.dtype = dtype});
}

// At most 16 windows of seq_len tokens of the held-out stories of tiny_config(folder), `each` of them (or all) in a batch.
inline std::vector<Batch> held_out_batches(const ScratchFolder& folder, const TrainConfig& config, size_t each) {
    const int64_t seq_len = config.training.seq_len;
    const Tokenizer tokenizer = load_tokenizer(config.model.tokenizer_path);
    auto windows = evaluation_windows(folder / "valid.txt", text_encoder(tokenizer, config.model.tokenizer_path),
                                      {.context = seq_len, .keep_remainder = false});
    windows.resize(std::min<size_t>(windows.size(), 16));
    each = std::min(each, windows.size());
    std::vector<Batch> batches;
    for (size_t at = 0; at + each <= windows.size(); at += each)
        batches.push_back(
            batch_of_windows({windows.begin() + long(at), windows.begin() + long(at + each)}, int64_t(each), seq_len));
    return batches;
}

// Negative log-likelihood of all tokens, in nats.
inline double loss_of(const std::filesystem::path& model, const std::vector<Batch>& batches) {
    const LlamaWeights weights(device(), model);
    Scorer scorer(weights, batches[0].batch, batches[0].seq_len);
    double sum = 0;
    for (const Batch& b : batches)
        for (float nats : scorer.score(b.ids, b.labels, b.document_start, b.document_end)) sum += double(nats);
    return sum;
}

// A copy of a packed model with the same values in dense fp32.
inline void write_dense_form(const std::filesystem::path& from, const std::filesystem::path& to) {
    const ModelFiles files = ModelFiles::open(from);
    ModelSettings settings{.config = read_llama_config(from)};
    if (files.quantization()->activation_bits)
        settings.quantization = QuantizationConfig{.activation_bits = files.quantization()->activation_bits,
                                                   .bitlinear_norm = files.quantization()->bitlinear_norm};
    std::vector<TensorInfo> tensors;
    for (const Parameter& p : llama_parameters(settings.config, false, {})) {
        TensorInfo info{.name = p.name, .dtype = DType::f32};
        for (int d = 0; d < p.shape.rank(); d++) info.shape.push_back(p.shape[d]);
        tensors.push_back(info);
    }
    write_model_directory(to, settings, tensors, [&](const TensorInfo& tensor, const TensorSink& sink) {
        const std::string layer = tensor.name.substr(0, tensor.name.rfind('.'));
        std::vector<float> values;
        if (files.find(layer + ".weight_packed"))
            values = dequantize(load(*find_packed_linear(files, layer, tensor.shape[0], tensor.shape[1])));
        else
            values = read_floats(files.get(tensor.name));
        sink(std::as_bytes(std::span(values)));
    });
}

}  // namespace vkqat::test
