// Quantization of a trained model without training: each matrix by itself, rounded to the nearest level of its quantizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "runtime/formats/llama_config.h"
#include "runtime/vulkan/device.h"
#include "trainer/data.h"
#include "trainer/quantizer.h"

namespace vkqat {

// Bits for the layers whose name contains `pattern` ("layers.0.", "down_proj"), and perhaps the columns of a block; of several
// rules that do, the last one counts.
struct BitsRule {
    std::string pattern;
    int bits = 0;
    int64_t block = 0;  // 0: the quantizer's
};
// Lines of a pattern, a number of bits and perhaps a block; # begins a comment. Error naming file and line.
std::vector<BitsRule> read_bits_table(const std::filesystem::path& file);

struct QuantizeOptions {
    QuantizerConfig quantizer;  // its bits: those of layers that no rule names
    std::vector<BitsRule> rules;
    // k-means: a value weighs as much as its error does in the layer's output, E[x^2] of its input times its block's scale
    // squared.
    bool weighted = false;
    bool clip = false;       // int_asym and nf: search of clipping bounds (clipping.h); query and key projections are not clipped
    bool clip_only = false;  // with clip: weights are clamped and not rounded, as a start for training
    uint64_t budget = 0;     // bytes of all weights; 0: none. Bits are chosen by what each costs; not ternary, binary
    // With a budget: the columns of a block that it chooses from for each matrix, beside the quantizer's; 0: a row. Those that do
    // not divide every row do not count.
    std::vector<int64_t> budget_blocks;
    int budget_rounds = 4;        // of measuring steps among all other quantized parts (bit_budget.h)
    DType dtype = DType::bf16;    // of what is not packed
    bool five_to_a_byte = false;  // ternary: 1.6 bits instead of 2
    bool integer_inputs = false;  // ternary: the inputs of layers are rounded to 8 bits when the model runs (BitNet b1.58)
    uint64_t seed = 0;
};

struct QuantizeResult {
    uint64_t packed_bytes = 0, dense_bytes = 0;
    uint64_t packed_layers = 0;
    std::vector<BitsRule> bits;  // of each layer; a table for the next time
    // With a budget: the KL divergence from the model on the calibration text, nats per token; what is the best choice equal for
    // all layers, and its divergence (0 bits: none fits).
    double divergence = 0, uniform_divergence = 0;
    int uniform_bits = 0;
    int64_t uniform_block = 0;
};

// Reads a model directory in full precision and writes a new one. `calibration`: needed for weighted, clip and budget, otherwise
// null. What has been measured is kept in `out`.work and found there by the next call with the same options after an
// interruption; it is removed at the end. `line`: news, may be empty. Errors: `out` exists; the model is packed; options that do
// not go together; a budget that is too small; `stop` returned true between two layers (what was done stays in `out`.work).
QuantizeResult quantize_model(Device& device, const std::filesystem::path& model, const std::filesystem::path& out,
                              const QuantizeOptions& options, const Batch* calibration,
                              const std::function<void(const std::string&)>& line, const std::function<bool()>& stop = {});

// How much worse a model becomes by one part alone.
struct PartSensitivity {
    std::string part;  // "layers.3.gate_up": the matrices that have one input
    int bits = 0;
    uint64_t bytes = 0;     // of the part at that width
    double divergence = 0;  // KL(model || model with that part quantized), nats per token
};

// Of each product of each layer at every width that `options.quantizer` (nonlinear or sym_int) packs, layer by layer; nothing is
// written. `progress`: layers done and all of them. Errors as quantize_model().
std::vector<PartSensitivity> measure_sensitivity(Device& device, const std::filesystem::path& model,
                                                 const QuantizeOptions& options, const Batch& calibration,
                                                 const std::function<void(int64_t, int64_t)>& progress = {});

}  // namespace vkqat
