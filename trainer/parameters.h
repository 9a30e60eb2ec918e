// The trained weights of a Llama on the device: master weights, gradients and AdamW's moments in fp32, and the weights in the
// precision of the matrix products, quantized or not.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/formats/checkpoint.h"
#include "runtime/model/llama.h"
#include "trainer/buckets.h"
#include "trainer/communicator.h"
#include "trainer/optimizer.h"
#include "trainer/quantizer.h"
#include "trainer/touched_rows.h"

namespace vkqat {

struct Parameter {
    std::string name;  // as in the Hugging Face directory: model.layers.0.self_attn.q_proj.weight
    Shape shape;
    size_t block = 0;     // which of the flat blocks
    uint64_t offset = 0;  // in elements
    bool quantized = false;
    int64_t layer = -1;
    std::string layer_name() const { return name.substr(0, name.rfind('.')); }  // without .weight
};

// Parameters of the architecture in the order of the forward pass; q, k, v and gate, up stand behind one another so that each
// group is one matrix. `ignore`: a layer whose name contains one of these stays in full precision ("output" means the head).
// onebit: every linear layer of attention and MLP has an input_factor [in] and an output_factor [out] beside its weight.
std::vector<Parameter> llama_parameters(const LlamaConfig& config, bool quantize, const std::vector<std::string>& ignore,
                                        bool onebit = false);

// ZeRO-1 (Rajbhandari et al., 2020): each rank keeps the moments of its part of every bucket only.
struct MomentSharing {
    int rank = 0, size = 1;  // size 1: all moments are here
    uint64_t bucket_bytes = 0;
};

class ParameterStore {
public:
    // compute: type of the weights that matrix products read. Where it is f32 and nothing is quantized they are the master
    // weights themselves. moments: f32, or bf16 for half of AdamW's memory (optimizer.h).
    ParameterStore(Device& device, const LlamaConfig& config, std::vector<Parameter> parameters, DType compute,
                   const MomentSharing& sharing = {}, DType moments = DType::f32);

    const LlamaConfig& config() const { return config_; }
    const std::vector<Parameter>& parameters() const { return parameters_; }
    size_t index(const std::string& name) const;  // Error if there is none
    bool has(const std::string& name) const;

    // Normal values as the published trainer starts (METHODS 1), or those of a Hugging Face directory; vectors of OneBit are left
    // to start_onebit() (onebit.h).
    void initialize(uint64_t seed);
    void load(const ModelFiles& files);
    // Numbers of about the size that training starts from, made on the device at once: for measurements.
    void randomize(uint32_t seed);

    // The arrays of a parameter, for checkpoints and export. [elements]
    // Of shared moments write() keeps this rank's, and read() needs gather_moments().
    enum class Array { weight, gradient, m, v };
    std::vector<float> read(size_t parameter, Array array) const;
    void read(size_t parameter, Array array, std::span<float> values) const;
    void write(size_t parameter, Array array, std::span<const float> values);
    void clear_moments();
    // Brings shared moments together in rank 0's host memory, for a checkpoint; drop_gathered() lets them go. Collective.
    void gather_moments(Communicator& ranks);
    void drop_gathered() { gathered_.clear(); }

    // Tensors in a graph.
    Tensor master(Graph& g, size_t parameter) const;
    Tensor second_moment(Graph& g, size_t parameter) const;
    Tensor gradient(Graph& g, size_t parameter) const;
    Tensor compute(Graph& g, size_t parameter) const;  // what matrix products read
    // Masters and copies, [1, elements], of all that has a copy, as few stretches as possible: vectors that lie between matrices
    // are among them.
    std::vector<std::pair<Tensor, Tensor>> copied_stretches(Graph& g) const;
    std::vector<OptimizerBlock> optimizer_blocks(Graph& g) const;
    // The model for the training graph: each weight is a parameter whose gradient goes to the store.
    LlamaTensors model(Graph& g, bool accumulate) const;
    // Whether this parameter has a copy for the matrix products.
    bool has_copy(size_t parameter) const;

    // The flat blocks, the same for the same model.
    const std::vector<Buffer>& gradient_blocks() const { return gradients_; }
    const std::vector<Buffer>& weight_blocks() const { return weights_; }
    // The embedding, where its gradient is zero but for the rows of tokens that occur: not where the head is the same matrix.
    RowMatrix sparse_embedding() const;
    // How many partial sums the gradient's norm has, over all ranks (optimizer.h).
    int64_t squares() const;
    // Of the first weights of every parameter: equal trainings have equal ones.
    uint32_t sample_checksum() const;

    uint64_t weight_bytes() const, moment_bytes() const, gradient_bytes() const, compute_bytes() const;

private:
    Tensor view(Graph& g, const std::vector<Buffer>& blocks, size_t first, size_t count, DType type,
                const std::string& name) const;
    Tensor trained(Graph& g, size_t first, size_t count, bool accumulate, const std::string& name) const;

    Device& device_;
    LlamaConfig config_;
    std::vector<Parameter> parameters_;
    DType compute_type_;
    std::vector<uint64_t> block_elements_;
    // What this rank updates, and where its moments begin in the block of moments.
    struct Own {
        Stretch stretch;
        uint64_t offset;
    };
    MomentSharing sharing_;
    std::vector<Own> own_;
    std::vector<std::vector<float>> gathered_;  // m of every block, then v
    std::vector<Buffer> weights_, gradients_, m_, v_, compute_;
    DType moment_type_;
    // Moments as floats, whatever their type; `first` in elements.
    void read_moments(const Buffer& block, uint64_t first, std::span<float> values) const;
    void write_moments(const Buffer& block, uint64_t first, std::span<const float> values);
};

}  // namespace vkqat
