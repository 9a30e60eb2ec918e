// Which form each matrix of a model takes within a budget of bytes: what the model's divergence says to the search of
// bit_budget.h.
#include <algorithm>
#include <cmath>

#include "runtime/support/files.h"
#include "trainer/quantization.h"

namespace vkqat {
namespace fs = std::filesystem;

namespace {

constexpr std::array<std::string_view, 4> product_names = {"qkv", "o", "gate_up", "down"};

}  // namespace

std::vector<int> budget_widths(const QuantizerConfig& config, const std::vector<QuantizedMatrix>& matrices) {
    std::vector<int> all{2, 3, 4, 8};
    if (config.kind == QuantizerKind::nonlinear) all.insert(all.begin(), 1);
    if (config.kind == QuantizerKind::nf) all = {3, 4};
    std::erase_if(all, [&](int bits) {
        return std::any_of(matrices.begin(), matrices.end(),
                           [&](const QuantizedMatrix& m) { return m.in * bits % 8 != 0 || (bits == 3 && m.in % 8 != 0); });
    });
    if (all.empty()) fail("no width packs the rows of every layer into whole bytes");
    return all;
}

std::vector<MatrixForm> budget_forms(const QuantizeOptions& o, const std::vector<int>& widths,
                                     const std::vector<QuantizedMatrix>& matrices) {
    std::vector<int64_t> blocks{o.quantizer.block_dim_2};
    for (int64_t block : o.quantizer.asymmetric() ? std::vector<int64_t>() : o.budget_blocks)
        if (std::find(blocks.begin(), blocks.end(), block) == blocks.end() &&
            std::all_of(matrices.begin(), matrices.end(),
                        [&](const QuantizedMatrix& m) { return block == 0 || m.in % block == 0; }))
            blocks.push_back(block);
    std::vector<MatrixForm> all;
    for (int bits : widths)
        for (int64_t block : blocks) all.push_back({bits, block});
    return all;
}

void Quantization::set_up_parts(bool together) {
    for (size_t i = 0; i < matrices_.size(); i++) {
        const QuantizedMatrix& m = matrices_[i];
        if (!together || parts_.empty() || parts_.back().layer != m.index || parts_.back().product != m.product)
            parts_.push_back({m.index, m.product, {}, {}});
        parts_.back().matrices.push_back(i);
    }
}

uint64_t Quantization::packed_bytes(const QuantizedMatrix& m, const MatrixForm& form) const {
    const BlockLayout layout = block_layout(config(form), m.out, m.in, m.layer);
    const int stored = options_.quantizer.kind == QuantizerKind::ternary  ? 2
                       : options_.quantizer.kind == QuantizerKind::binary ? 1
                                                                          : form.bits;
    // Scales, and zero points or the scales of weights below 0.
    const int of_block = options_.quantizer.kind == QuantizerKind::int_asym ? 3
                         : options_.quantizer.kind == QuantizerKind::nf     ? 4
                                                                            : 2;
    return uint64_t(m.out * packed_row_bytes(m.in, stored)) + uint64_t(m.out * layout.cols * of_block) + (uint64_t(4) << stored);
}

// The divergence of the model with every part in its form (indices of forms_), which it is left in.
double Quantization::divergence_of(const std::vector<size_t>& chosen) {
    if (placed_.empty()) placed_.resize(matrices_.size());
    for (int64_t layer = 0; layer < llama_.layers; layer++)
        for (LayerProduct product : layer_products) {
            bool same = true;
            for (size_t i = 0; i < matrices_.size(); i++)
                if (matrices_[i].index == layer && matrices_[i].product == product) {
                    same &= placed_[i] == forms_[chosen[i]];
                    placed_[i] = forms_[chosen[i]];
                }
            if (!same)
                calibration_->replace(layer, product, product_values(layer, product, [&](size_t i) {
                                          return dequantize(quantized(matrices_[i], placed_[i]));
                                      }));
        }
    calibration_->restart();
    return calibration_->divergence();
}

// What the divergence changes by when one part goes to the next width up or down. A layer's changes are kept in the folder of
// what is measured.
std::vector<std::vector<BudgetModel::Change>> Quantization::changes_of(const std::vector<size_t>& chosen,
                                                                       const std::function<bool()>& stop) {
    const double now = divergence_of(chosen);
    uint64_t hash = 1469598103934665603ull;  // FNV-1a
    for (size_t choice : chosen) hash = (hash ^ choice) * 1099511628211ull;
    auto index = [&](const MatrixForm& form) { return size_t(std::find(forms_.begin(), forms_.end(), form) - forms_.begin()); };
    std::vector<std::vector<BudgetModel::Change>> changes(parts_.size());
    for (int64_t layer = 0; layer < llama_.layers; layer++) {
        if (stop && stop()) fail("stopped in front of layer {} of {}; the same command goes on from there", layer, llama_.layers);
        std::vector<float> values;
        const fs::path file = work_ / fmt::format("changes-{:016x}-{:04}.safetensors", hash, layer);
        const bool known = fs::exists(file);
        if (known) values = read_floats(SafetensorsFile(file).get("changes"));
        size_t at = 0;
        for (size_t p = 0; p < parts_.size(); p++) {
            if (parts_[p].layer != layer) continue;
            const auto width = std::find(widths_.begin(), widths_.end(), forms_[chosen[p]].bits);
            for (int step : {-1, 1}) {
                if (step < 0 ? width == widths_.begin() : width + 1 == widths_.end()) continue;
                const MatrixForm other = base(*(width + step));
                if (!known)
                    values.push_back(
                        float(calibration_->divergence(parts_[p].product, product_values(layer, parts_[p].product,
                                                                                         [&](size_t i) {
                                                                                             return dequantize(quantized(
                                                                                                 matrices_[i],
                                                                                                 i == p ? other : placed_[i]));
                                                                                         })) -
                              now));
                if (at >= values.size()) fail("{}: holds only {} changes", file.string(), values.size());
                changes[p].push_back({index(other), double(values[at++])});
            }
        }
        if (!known) {
            SafetensorsWriter writer(file, {{"changes", DType::f32, {int64_t(values.size())}}});
            writer.write("changes", std::as_bytes(std::span(values)));
            writer.finish();
        }
        calibration_->run_layer();
    }
    return changes;
}

void Quantization::choose(QuantizeResult& result, uint64_t dense_bytes, const std::function<bool()>& stop) {
    if (options_.budget < dense_bytes)
        fail("the budget of {:.1f} MB is less than embeddings, norms and head take: {:.1f} MB", double(options_.budget) / 1e6,
             double(dense_bytes) / 1e6);
    // Measured is each width with the quantizer's block; other blocks lie between by their errors.
    std::vector<std::vector<BitChoice>> parts;
    for (size_t p = 0; p < parts_.size(); p++) {
        const QuantizedMatrix& m = matrices_[p];
        std::vector<ErrorAndLoss> points{{0, 0}};
        for (size_t i = 0; i < widths_.size(); i++)
            points.push_back({m.errors.at(base(widths_[i])), parts_[p].divergences.at(i)});
        parts.emplace_back();
        for (const MatrixForm& form : forms_)
            parts.back().push_back(
                {form.bits, form.block, packed_bytes(m, form), m.errors.at(form), loss_at(points, m.errors.at(form))});
    }
    const BudgetResult found =
        search_bits(parts, options_.budget - dense_bytes,
                    {.loss = [&](const std::vector<size_t>& chosen) { return divergence_of(chosen); },
                     .changes = [&](const std::vector<size_t>& chosen) { return changes_of(chosen, stop); }},
                    options_.budget_rounds, line_);
    for (size_t p = 0; p < parts.size(); p++) chosen_[p] = forms_[found.chosen[p]];
    result.divergence = found.loss;
    if (found.uniform < 0) return;
    result.uniform_divergence = found.uniform_loss;
    result.uniform_bits = forms_[size_t(found.uniform)].bits;
    result.uniform_block = forms_[size_t(found.uniform)].block;
}

std::vector<PartSensitivity> Quantization::measure(const std::function<void(int64_t, int64_t)>& progress) {
    open_model();
    set_up_parts(true);
    std::vector<PartSensitivity> parts;
    for (int64_t layer = 0; layer < llama_.layers; layer++) {
        if (progress) progress(layer, llama_.layers);
        measure_widths(layer, true);
        calibration_->run_layer();
        for (const BudgetPart& part : parts_)
            for (size_t i = 0; i < widths_.size() && part.layer == layer; i++) {
                PartSensitivity one{.part = fmt::format("layers.{}.{}", layer, product_names[size_t(part.product)]),
                                    .bits = widths_[i],
                                    .divergence = part.divergences.at(i)};
                for (size_t m : part.matrices) one.bytes += packed_bytes(matrices_[m], base(widths_[i]));
                parts.push_back(std::move(one));
            }
    }
    return parts;
}

std::vector<PartSensitivity> measure_sensitivity(Device& device, const fs::path& model, const QuantizeOptions& options,
                                                 const Batch& calibration,
                                                 const std::function<void(int64_t, int64_t)>& progress) {
    QuantizeOptions at_all_widths = options;
    at_all_widths.budget = 1;  // any: none is kept to
    at_all_widths.budget_blocks.clear();
    return Quantization(device, model, "", at_all_widths, &calibration, {}).measure(progress);
}

}  // namespace vkqat
