// A quantization without training at work: fits of each matrix and what is written (quantize_model.cpp), and which form each
// takes within a budget (model_bits.cpp).
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/formats/checkpoint.h"
#include "runtime/formats/packing.h"
#include "trainer/bit_budget.h"
#include "trainer/calibration.h"
#include "trainer/parameters.h"
#include "trainer/quantize_model.h"

namespace vkqat {

// How a matrix is stored.
struct MatrixForm {
    int bits = 0;
    int64_t block = 0;  // columns of a block; 0: a row
    auto operator<=>(const MatrixForm&) const = default;
};

// What has been found for one matrix in one form.
struct MatrixFit {
    std::vector<float> centroids, bounds;
};

struct QuantizedMatrix {
    std::string layer;       // name without .weight
    int64_t out, in, index;  // index: the layer's number
    LayerProduct product;
    std::map<MatrixForm, MatrixFit> fits;
    std::map<MatrixForm, double> errors;  // squared error of the weights, each weighed by its input's mean square; with a budget
};

// Matrices that get their form together: with a budget one each, else all that have one input.
struct BudgetPart {
    int64_t layer;
    LayerProduct product;
    std::vector<size_t> matrices;
    std::vector<double> divergences;  // at each width, alone
};

// The widths that budgets choose from: those of which a row of every matrix is a whole number of bytes.
std::vector<int> budget_widths(const QuantizerConfig& config, const std::vector<QuantizedMatrix>& matrices);
// Each width with the quantizer's block, which comes first, and the others that divide the rows of every matrix. Neighbours with
// zero points are loaded in blocks of one size.
std::vector<MatrixForm> budget_forms(const QuantizeOptions& o, const std::vector<int>& widths,
                                     const std::vector<QuantizedMatrix>& matrices);

// A model on its way to its quantized form: what quantize_model() is made of.
class Quantization {
public:
    Quantization(Device& device, const std::filesystem::path& model, const std::filesystem::path& out,
                 const QuantizeOptions& options, const Batch* calibration, const std::function<void(const std::string&)>& line)
        : device_(device),
          files_(ModelFiles::open(model)),
          model_(model),
          out_(out),
          work_(out.string() + ".work"),
          options_(options),
          calibration_text_(calibration),
          line_(line) {}
    QuantizeResult run(const std::function<bool()>& stop);
    std::vector<PartSensitivity> measure(const std::function<void(int64_t, int64_t)>& progress);

private:
    QuantizerConfig config(const MatrixForm& form) const {
        QuantizerConfig c = options_.quantizer;
        c.bits = form.bits;
        c.block_dim_2 = form.block;
        return c;
    }
    MatrixForm base(int bits) const { return {bits, options_.quantizer.block_dim_2}; }
    MatrixForm form_of(const std::string& layer) const;
    std::vector<MatrixForm> forms_of(const QuantizedMatrix& m) const {
        return options_.budget ? forms_ : std::vector<MatrixForm>{form_of(m.layer)};
    }
    void set_up_parts(bool together);
    std::vector<float> weight(const QuantizedMatrix& m) const {
        return read_floats(files_.get(m.layer + ".weight", std::vector{m.out, m.in}));
    }
    uint64_t open_model();
    void open_work_folder();
    std::filesystem::path layer_file(int64_t layer) const { return work_ / fmt::format("layer-{:04}.safetensors", layer); }
    bool load_layer(int64_t layer);
    void save_layer(int64_t layer) const;
    void measure_widths(int64_t layer, bool all);  // all: 8 bits too, which otherwise follow from 4
    void fit_layer(int64_t layer);
    void measure_layer(int64_t layer);
    std::vector<float> column_squares(const Buffer& sums, int64_t in) const;
    void fit(QuantizedMatrix& m, const MatrixForm& form, const std::vector<float>& squares, const Buffer* gram);
    std::vector<float> clipped(const QuantizedMatrix& m, const MatrixForm& form) const;
    PackedWeight quantized(const QuantizedMatrix& m, const MatrixForm& form) const;
    std::vector<float> product_values(int64_t layer, LayerProduct product,
                                      const std::function<std::vector<float>(size_t)>& matrix) const;
    uint64_t packed_bytes(const QuantizedMatrix& m, const MatrixForm& form) const;
    double divergence_of(const std::vector<size_t>& chosen);
    std::vector<std::vector<BudgetModel::Change>> changes_of(const std::vector<size_t>& chosen,
                                                             const std::function<bool()>& stop);
    void choose(QuantizeResult& result, uint64_t dense_bytes, const std::function<bool()>& stop);
    void write(QuantizeResult& result);

    Device& device_;
    ModelFiles files_;
    std::filesystem::path model_, out_, work_;
    const QuantizeOptions& options_;
    const Batch* calibration_text_;
    const std::function<void(const std::string&)>& line_;
    LlamaConfig llama_;
    std::vector<Parameter> parameters_;
    std::vector<QuantizedMatrix> matrices_;
    std::vector<int> widths_;         // that a budget chooses from
    std::vector<MatrixForm> forms_;   // likewise
    std::vector<MatrixForm> chosen_;  // by matrix
    std::vector<BudgetPart> parts_;   // in the order of their matrices, if there is a budget
    std::vector<MatrixForm> placed_;  // by matrix: how it is in the model on the device; empty: in full precision
    std::unique_ptr<LlamaWeights> weights_;
    std::unique_ptr<Calibration> calibration_;
    std::array<Buffer, 4> squares_, grams_;  // of the present layer's inputs, by product
};

}  // namespace vkqat
