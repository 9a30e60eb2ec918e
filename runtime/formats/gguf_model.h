// A Llama in a GGUF file as the rest of the program knows models: the configuration, tensors under Hugging Face's names.
#pragma once

#include <memory>
#include <vector>

#include "runtime/formats/gguf.h"
#include "runtime/formats/llama_config.h"
#include "runtime/formats/safetensors.h"

namespace vkqat {

// From the keys llama.*, tokenizer.ggml.*_token_id and the tensors. RoPE's frequency factors (rope_freqs.weight), in which
// llama.cpp keeps Llama 3's scaling, are turned back into it. Error naming the key or tensor for another architecture, mixtures
// of experts, sizes that differ between layers, a part of a split model, another RoPE scaling, and whatever validate() refuses.
LlamaConfig gguf_llama_config(const GgufFile& file);

// The tensors, [out, in], in the order of the file. Plain numbers are views of the file. Quantized tensors become f16 when
// contents() asks for them; so do the rows of q and k return into Hugging Face's order (runtime/formats/rope_layout.h) only then.
// Each keeps the file alive. Error for a tensor that no Llama has, or whose type is not read.
std::vector<TensorView> gguf_llama_tensors(const std::shared_ptr<const GgufFile>& file, const LlamaConfig& config);

}  // namespace vkqat
