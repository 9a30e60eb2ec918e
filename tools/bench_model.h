// vkqat bench decode, prefill, load: a whole model, from files or with random weights.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "runtime/model/weights.h"

namespace vkqat {

struct ModelBench {
    std::string model;   // a directory or a .gguf file; or
    std::string flavor;  // of trainer/flavors.h, with random weights of `bits` (16: bf16)
    std::string write;   // with a flavor: its random weights are written to this new directory first, and loaded from there
    int64_t bits = 4;
    std::string quantizer = "nonlinear";  // of the flavor: bench_form()
    int64_t vocabulary = 128256;
    std::vector<int64_t> positions = {0};  // decode: cached positions at which it is measured
    std::vector<int64_t> batches = {1};    // decode: sequences at once
    DType cache = DType::f16;
    double device_seconds = 0;  // that opening the device has taken; part of the time to the first token
    int64_t prompt = 512;       // prefill: tokens
    bool decode = true, prefill = true, load = false;
};

// The random weights that bench's --quantizer and --bits name.
LlamaWeights::Random bench_form(const std::string& quantizer, int64_t bits);

// Calls `add` for each row of results: name, microseconds, fastest, slowest, and what else is known.
void bench_model(Device& device, const ModelBench& options, const std::function<void(const nlohmann::json&)>& add);

}  // namespace vkqat
