// The weights of a model directory on a device: dense matrices as they are stored, packed layers packed.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/formats/checkpoint.h"
#include "runtime/formats/onebit_packing.h"
#include "runtime/formats/packing.h"
#include "runtime/model/llama.h"
#include "runtime/model/uploader.h"

namespace vkqat {

class LlamaWeights {
public:
    // Called with the bytes uploaded so far and in all.
    using Progress = std::function<void(uint64_t done, uint64_t total)>;
    // Errors name the tensor that is missing, does not fit config.json, or is packed in an unknown way; or say how much memory
    // is missing.
    LlamaWeights(Device& device, const std::filesystem::path& model_directory, const Progress& progress = {});

    // Only how the weights would lie on the device: nothing is read or allocated. Graphs of them can be planned but not run
    // (memory.h). The same errors about tensors.
    struct Planned {};
    LlamaWeights(Device& device, const std::filesystem::path& model_directory, Planned);

    // The same shapes with random contents, made on the device: for benchmarks. bits 0: matrices dense in bf16.
    struct Random {
        int bits = 4;
        int64_t block_size = 64;
        // Tables of centroids; ternary weights with 8-bit inputs (BitNet b1.58), at 2 bits or five to a byte; sign matrices;
        // tables with a zero point for each block, or with scales for what is below 0.
        enum class Form { table, ternary, five_to_a_byte, onebit, int_asym, nf };
        Form form = Form::table;
        uint32_t seed = 1;
        bool planned = false;  // as Planned
    };
    LlamaWeights(Device& device, const LlamaConfig& config, const Random& random);

    Device& device() const { return device_; }
    const LlamaConfig& config() const { return config_; }
    bool planned() const { return planned_; }
    bool packed() const { return packed_; }                  // whether any layer is
    uint64_t bytes() const { return bytes_; }                // of the model
    uint64_t device_bytes() const { return device_bytes_; }  // as it lies on the device, in tiles
    // Bytes that decoding one token reads: all but the embedding (of which it reads a row).
    uint64_t bytes_per_token() const;
    // The model in a graph that lives no longer than this.
    LlamaTensors tensors(Graph& g) const;

private:
    struct Placed {  // a tensor in a buffer
        Buffer buffer;
        Shape shape;
        DType dtype;
        std::string name;
    };
    struct Packed {  // parts of one width and kind, in tiles
        Placed indices, scales, centroids;
        int bits;
        int64_t block_size, in;
        std::vector<int64_t> rows;
        PackedLayer layer(Graph& g) const;
    };
    struct OfBlocks {  // of a Packed: zero points, or scales and a table for what is below 0 and a table for what is above
        std::vector<Placed> zeros, negative_scales, above, below;  // one or none each
        float center = 0;
    };
    struct Onebit {  // sign matrices of one width
        Packed signs;
        std::vector<Placed> input_factors, output_factors;  // by part
        Placed all_output_factors;
        std::vector<Placed> normed;  // one or none: llama.h, onebit_normed
    };
    struct Ternary {  // parts of one width whose inputs are integers
        Placed indices, scales, centroids;
        bool five_to_a_byte;
        int64_t in;
        std::vector<int64_t> rows;
        TernaryLayer layer(Graph& g) const;
    };
    struct Matrix {  // dense, or packed in parts
        std::vector<Placed> dense;
        std::vector<Ternary> ternary;  // then `packed` is empty
        std::vector<Packed> packed;
        std::vector<OfBlocks> of_blocks;  // by Packed, of asymmetric quantizers; else empty
        std::vector<Onebit> onebit;       // one, then the others are empty; or none
    };
    struct Layer {
        Placed attention_norm, mlp_norm;
        Matrix qkv, o, gate_up, down;
    };
    void load(const std::filesystem::path& model_directory);
    Buffer allocate(uint64_t bytes, const std::string& what);
    Placed place(const TensorView& view);
    void add_packed(Matrix& to, const std::vector<PackedLinear>& parts, const std::string& name);
    void add_ternary(Matrix& to, const std::vector<PackedLinear>& parts, const std::string& name);
    Ternary empty_ternary(const std::vector<int64_t>& rows, int64_t in, bool five_to_a_byte, const std::string& name);
    Onebit onebit(const std::vector<OnebitLinear>& parts, const std::string& name, const TensorView* norm);
    Placed place_floats(const std::vector<float>& values, const Shape& shape, const std::string& name);
    Placed place_zeros(const Packed& to, const std::vector<PackedLinear>& parts, const std::string& name);
    Placed dense(const ModelFiles& files, const std::vector<std::string>& names, int64_t cols, const std::vector<int64_t>& rows);
    Placed vector(const ModelFiles& files, const std::string& name, int64_t size);
    // norm: the tensor with the weight of the norm in front, if there is one.
    Matrix matrix(const ModelFiles& files, const std::vector<std::string>& prefixes, const std::vector<int64_t>& rows,
                  int64_t cols, const std::string& norm = "");
    Packed empty_packed(const std::vector<int64_t>& rows, int64_t in, int bits, int64_t block_size, const std::string& name);
    void count(uint64_t bytes);

    Device& device_;
    LlamaConfig config_;
    Progress progress_;
    uint64_t bytes_ = 0, total_ = 0, device_bytes_ = 0;
    bool packed_ = false, planned_ = false, quantize_inputs_ = false;
    BitlinearNorm bitlinear_norm_ = BitlinearNorm::none;
    Buffer ones_;  // weights of those norms
    Placed embedding_, norm_, head_;
    std::vector<Layer> layers_;
    std::unique_ptr<Uploader> uploader_;  // while loading; last, so that it waits before buffers go
};

}  // namespace vkqat
