#include "trainer/quantize_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

#include "runtime/ops/cast.h"
#include "runtime/support/files.h"
#include "shaders/args/kmeans.h"
#include "shaders/args/onebit.h"
#include "trainer/clipping.h"
#include "trainer/export.h"
#include "trainer/kmeans.h"
#include "trainer/quantization.h"
#include "trainer/tokenizer_files.h"

namespace vkqat {
namespace fs = std::filesystem;

namespace {

LayerProduct product_of(const std::string& name) {
    if (name.ends_with("o_proj")) return LayerProduct::o;
    if (name.ends_with("gate_proj") || name.ends_with("up_proj")) return LayerProduct::gate_up;
    return name.ends_with("down_proj") ? LayerProduct::down : LayerProduct::qkv;
}

void check(const QuantizeOptions& o, const Batch* calibration) {
    validate(o.quantizer);
    const QuantizerKind kind = o.quantizer.kind;
    if (kind == QuantizerKind::none || kind == QuantizerKind::onebit)
        fail("quantizer '{}' cannot quantize a model without training", name(kind));
    if (o.weighted && kind != QuantizerKind::nonlinear) fail("only the quantizer nonlinear can be weighted, not {}", name(kind));
    if (o.clip && !o.quantizer.asymmetric()) fail("clipping is for the quantizers int_asym and nf, not {}", name(kind));
    if ((o.five_to_a_byte || o.integer_inputs) && kind != QuantizerKind::ternary)
        fail("five weights to a byte and 8-bit inputs are for ternary weights, not {}", name(kind));
    if (o.clip_only && !o.clip) fail("weights that are only clipped need the text for it");
    if (o.budget && (kind == QuantizerKind::ternary || kind == QuantizerKind::binary))
        fail("a budget chooses bits, and the quantizer {} has one width", name(kind));
    if (o.budget && o.clip_only) fail("a budget is for weights that are rounded, not only clipped");
    if (o.budget && !o.rules.empty()) fail("a budget chooses the bits of every layer: leave the table of bits out");
    if ((o.weighted || o.clip || o.budget) && !calibration)
        fail("calibration text is needed for weighted k-means, clipping and budgets");
}

}  // namespace

MatrixForm Quantization::form_of(const std::string& layer) const {
    MatrixForm form = base(options_.quantizer.bits);
    for (const BitsRule& rule : options_.rules)
        if ((layer + ".").find(rule.pattern) != std::string::npos)
            form = {rule.bits, rule.block ? rule.block : options_.quantizer.block_dim_2};
    return form;
}

// The folder of what is measured; another run's with other options is refused.
void Quantization::open_work_folder() {
    const QuantizerConfig& q = options_.quantizer;
    std::string text = fmt::format("model {}\nquantizer {} {} bits, {} x {}, {}\nweighted {}, clip {}, budget {}, seed {}\n",
                                   fs::absolute(model_).string(), name(q.kind), q.bits, q.block_dim_1, q.block_dim_2,
                                   name(q.scale), options_.weighted, options_.clip, options_.budget > 0, options_.seed);
    for (const BitsRule& rule : options_.rules) text += fmt::format("bits {} {} {}\n", rule.pattern, rule.bits, rule.block);
    for (const MatrixForm& form : forms_) text += fmt::format("form {} {}\n", form.bits, form.block);
    if (calibration_text_) {
        uint64_t hash = 1469598103934665603ull;  // FNV-1a
        for (int32_t id : calibration_text_->ids) hash = (hash ^ uint32_t(id)) * 1099511628211ull;
        text += fmt::format("calibration {} tokens, {:016x}\n", calibration_text_->ids.size(), hash);
    }
    const fs::path settings = work_ / "settings.txt";
    if (fs::exists(work_)) {
        if (!fs::exists(settings) || read_text_file(settings, 1 << 20) != text)
            fail("{}: holds what was measured with other options; remove it, or choose another output", work_.string());
        if (line_) line_(fmt::format("going on with {}", work_.string()));
        return;
    }
    fs::create_directories(work_);
    write_text_file(settings, text);
}

bool Quantization::load_layer(int64_t layer) {
    const fs::path path = layer_file(layer);
    if (!fs::exists(path)) return false;
    const SafetensorsFile file(path);
    for (QuantizedMatrix& m : matrices_) {
        if (m.index != layer) continue;
        for (const MatrixForm& form : forms_of(m)) {
            const std::string prefix = fmt::format("{}.{}.{}.", m.layer, form.bits, form.block);
            MatrixFit& fit = m.fits[form];
            if (const TensorView* t = file.find(prefix + "centroids")) fit.centroids = read_floats(*t);
            if (const TensorView* t = file.find(prefix + "bounds")) fit.bounds = read_floats(*t);
            const size_t levels = options_.quantizer.kind == QuantizerKind::nonlinear ? size_t(1) << form.bits : 0;
            if (fit.centroids.size() != levels)
                fail("{}: {} centroids of {}, expected {}", path.string(), fit.centroids.size(), m.layer, levels);
            if (!fit.bounds.empty() && fit.bounds.size() != 2 * size_t(block_layout(config(form), m.out, m.in, m.layer).blocks()))
                fail("{}: the bounds of {} do not fit it", path.string(), m.layer);
            if (!options_.budget) continue;
            const std::vector<float> error = read_floats(file.get(prefix + "error"));
            if (error.size() != 1) fail("{}: {} errors of {}", path.string(), error.size(), m.layer);
            m.errors[form] = double(error[0]);
        }
    }
    if (options_.budget) {
        const std::vector<float> values = read_floats(file.get("divergence"));
        size_t at = 0;
        for (BudgetPart& part : parts_) {
            if (part.layer != layer) continue;
            if (values.size() < at + widths_.size()) fail("{}: only {} divergences", path.string(), values.size());
            part.divergences.assign(values.begin() + long(at), values.begin() + long(at + widths_.size()));
            at += widths_.size();
        }
        if (values.size() != at) fail("{}: {} divergences, expected {}", path.string(), values.size(), at);
    }
    return true;
}

void Quantization::save_layer(int64_t layer) const {
    std::map<std::string, std::vector<float>> values;
    for (const QuantizedMatrix& m : matrices_)
        if (m.index == layer)
            for (const auto& [form, fit] : m.fits) {
                const std::string prefix = fmt::format("{}.{}.{}.", m.layer, form.bits, form.block);
                if (!fit.centroids.empty()) values[prefix + "centroids"] = fit.centroids;
                if (!fit.bounds.empty()) values[prefix + "bounds"] = fit.bounds;
                if (auto error = m.errors.find(form); error != m.errors.end()) values[prefix + "error"] = {float(error->second)};
            }
    for (const BudgetPart& part : parts_)
        if (part.layer == layer)
            values["divergence"].insert(values["divergence"].end(), part.divergences.begin(), part.divergences.end());
    std::vector<TensorInfo> tensors;
    for (const auto& [name, list] : values) tensors.push_back({name, DType::f32, {int64_t(list.size())}});
    SafetensorsWriter writer(layer_file(layer), tensors);
    for (const auto& [name, list] : values) writer.write(name, std::as_bytes(std::span(list)));
    writer.finish();
}

std::vector<float> Quantization::column_squares(const Buffer& sums, int64_t in) const {
    const int64_t chunks = int64_t(sums.bytes() / 4) / in;
    std::vector<float> parts(size_t(chunks * in)), result(static_cast<size_t>(in), 0.f);
    device_.download(sums, 0, std::as_writable_bytes(std::span(parts)));
    for (size_t i = 0; i < parts.size(); i++) result[i % size_t(in)] += parts[i] / float(calibration_->tokens());
    return result;
}

// Centroids, or bounds, of a matrix in one form.
void Quantization::fit(QuantizedMatrix& m, const MatrixForm& form, const std::vector<float>& squares, const Buffer* gram) {
    const QuantizerConfig c = config(form);
    MatrixFit& result = m.fits[form];
    const bool clipped = gram && !m.layer.ends_with("q_proj") && !m.layer.ends_with("k_proj");
    if (c.kind != QuantizerKind::nonlinear && !clipped) return;
    const std::vector<float> w = weight(m);
    const Shape shape{m.out, m.in};
    Buffer weight_buffer = device_.allocate(w.size() * 4, m.layer);
    device_.upload(weight_buffer, 0, std::as_bytes(std::span(w)));
    Graph g(device_);
    Tensor weight_tensor = g.external(weight_buffer, 0, shape, DType::f32, m.layer);
    if (clipped) {
        const BlockLayout layout = block_layout(c, m.out, m.in, m.layer);
        Buffer bounds = device_.allocate(uint64_t(layout.blocks()) * 8, "bounds"),
               error = device_.allocate(bounds.bytes(), "errors");
        const Shape of_blocks{m.out, layout.cols, 2};
        search_clipping(g, weight_tensor,
                        g.external(*gram, 0, {layout.cols, layout.block_cols, layout.block_cols}, DType::f32, "gram"),
                        g.external(bounds, 0, of_blocks, DType::f32, "bounds"),
                        g.external(error, 0, of_blocks, DType::f32, "errors"), c, m.layer);
        Executable(g, "clipping").run();
        result.bounds.resize(size_t(layout.blocks()) * 2);
        device_.download(bounds, 0, std::as_writable_bytes(std::span(result.bounds)));
        std::vector<float> errors(result.bounds.size());
        device_.download(error, 0, std::as_writable_bytes(std::span(errors)));
        double before = 0, after = 0;
        for (size_t i = 0; i < errors.size(); i += 2) before += double(errors[i]), after += double(errors[i + 1]);
        if (line_)
            line_(
                fmt::format("{}: clipping leaves {:.1f} % of the squared error", m.layer, 100 * after / std::max(before, 1e-30)));
        return;
    }
    Buffer importance;
    if (!squares.empty()) {
        std::vector<float> values(w.size());
        const BlockLayout layout = block_layout(c, m.out, m.in, m.layer);
        if (layout.block_rows != 1) fail("{}: weighted k-means takes blocks of one row", m.layer);
        const std::vector<float> scales = block_scales(w, m.in, layout.block_cols, c.scale);
        for (size_t i = 0; i < values.size(); i++) {
            const float scale = scales[i / size_t(layout.block_cols)];
            values[i] = squares[i % size_t(m.in)] * scale * scale;
        }
        importance = device_.allocate(values.size() * 4, "importance");
        device_.upload(importance, 0, std::as_bytes(std::span(values)));
    }
    const auto levels = size_t(c.centroids());
    result.centroids.assign(levels, 0.f);
    for (size_t i = 0; i < levels; i++) result.centroids[i] = -2.f + 4.f * float(i) / float(levels - 1);
    Buffer centroids = device_.allocate(levels * 4, "centroids"), scalars = device_.allocate(sizeof(KmeansScalars), "scalars");
    device_.upload(centroids, 0, std::as_bytes(std::span(result.centroids)));
    KmeansScalars settings{};
    settings.second_moment_correction = 1;
    settings.seed = uint32_t(options_.seed);
    device_.upload(scalars, 0, std::as_bytes(std::span(&settings, 1)));
    fit_centroids(g, weight_tensor, c, g.external(centroids, 0, {int64_t(levels)}, DType::f32, "centroids"),
                  importance ? g.external(importance, 0, shape, DType::f32, "importance") : Tensor(),
                  g.external(scalars, 0, {sizeof(KmeansScalars) / 4}, DType::u32, "scalars"), m.layer);
    Executable(g, "k-means").run();
    device_.download(centroids, 0, std::as_writable_bytes(std::span(result.centroids)));
}

// A matrix within the bounds that were found for it, if any were.
std::vector<float> Quantization::clipped(const QuantizedMatrix& m, const MatrixForm& form) const {
    std::vector<float> w = weight(m);
    if (const MatrixFit& fit = m.fits.at(form); !fit.bounds.empty())
        clip_weights(w, fit.bounds, block_layout(config(form), m.out, m.in, m.layer).block_cols);
    return w;
}

// A matrix as it will be in the written model.
PackedWeight Quantization::quantized(const QuantizedMatrix& m, const MatrixForm& form) const {
    return pack_layer(clipped(m, form), m.out, m.in, config(form), m.fits.at(form).centroids, m.layer);
}

// The weight of a product: its matrices below one another.
std::vector<float> Quantization::product_values(int64_t layer, LayerProduct product,
                                                const std::function<std::vector<float>(size_t)>& matrix) const {
    std::vector<float> values;
    for (size_t i = 0; i < matrices_.size(); i++)
        if (matrices_[i].index == layer && matrices_[i].product == product) {
            const std::vector<float> one = matrix(i);
            values.insert(values.end(), one.begin(), one.end());
        }
    return values;
}

// Runs the present layer of the calibration text for what fits need: sums of the inputs' squares, Gram matrices.
void Quantization::measure_layer(int64_t layer) {
    calibration_->observe_layer([&](Graph& g, const std::array<Tensor, 4>& inputs) {
        for (size_t p = 0; p < 4; p++) {
            const auto rows = uint32_t(inputs[p].rows()), in_dim = uint32_t(inputs[p].cols());
            if (options_.weighted || options_.budget) {
                const uint32_t chunk_rows = std::max(32u, (rows + 255) / 256), chunks = (rows + chunk_rows - 1) / chunk_rows;
                squares_[p] = device_.allocate(uint64_t(chunks) * in_dim * 4, "squares of inputs");
                constexpr uint32_t width = 64;
                g.dispatch(
                    Kernel{"column_products", {width, g.capabilities().uniform_loads() && in_dim % 8 == 0}},
                    {in(inputs[p]), in(inputs[p]), out(g.external(squares_[p], 0, {chunks, in_dim}, DType::f32, "squares"))},
                    ColumnProductsArgs{.rows = rows, .dim = in_dim, .chunk_rows = chunk_rows},
                    linear_grid(int64_t(chunks) * ((in_dim + width - 1) / width)), "squares");
            }
            if (options_.clip) {
                const int64_t group = options_.quantizer.block_dim_2 ? options_.quantizer.block_dim_2 : in_dim;
                if (in_dim % group) fail("layer {}: inputs of {} columns have no groups of {}", layer, in_dim, group);
                grams_[p] = device_.allocate(uint64_t(in_dim) * uint64_t(group) * 4, "Gram matrices");
                gram_blocks(g, inputs[p], g.external(grams_[p], 0, {int64_t(in_dim) / group, group, group}, DType::f32, "gram"));
            }
        }
    });
}

// Fits of the present layer, and at a budget what each form costs there.
void Quantization::measure_widths(int64_t layer, bool all) {
    if (options_.weighted || options_.clip || options_.budget) measure_layer(layer);
    for (QuantizedMatrix& m : matrices_) {
        if (m.index != layer) continue;
        const auto p = size_t(m.product);
        std::vector<float> squares;
        if (options_.weighted || options_.budget) squares = column_squares(squares_[p], m.in);
        for (const MatrixForm& form : forms_of(m)) {
            fit(m, form, options_.weighted ? squares : std::vector<float>(), options_.clip ? &grams_[p] : nullptr);
            if (!options_.budget) continue;
            const std::vector<float> w = weight(m), q = dequantize(quantized(m, form));
            double error = 0;
            for (int64_t row = 0; row < m.out; row++) {
                float sum = 0;  // of a row
                for (size_t i = 0; i < size_t(m.in); i++) {
                    const float difference = q[size_t(row * m.in) + i] - w[size_t(row * m.in) + i];
                    sum += difference * difference * squares[i];
                }
                error += double(sum);
            }
            m.errors[form] = error;
        }
    }
    if (!options_.budget) return;
    for (BudgetPart& part : parts_) {
        if (part.layer != layer) continue;
        part.divergences.clear();
        for (int bits : widths_) {
            // The divergence goes with the squared error where both are small: 8 bits need no measurement behind 4.
            const QuantizedMatrix& first = matrices_[part.matrices[0]];
            if (bits == 8 && !all && !part.divergences.empty() && first.errors.contains(base(4))) {
                part.divergences.push_back(part.divergences.back() * first.errors.at(base(8)) /
                                           std::max(first.errors.at(base(4)), 1e-30));
                continue;
            }
            part.divergences.push_back(calibration_->divergence(
                part.product, product_values(layer, part.product, [&](size_t i) {
                    const QuantizedMatrix& m = matrices_[i];
                    const bool in_part = std::find(part.matrices.begin(), part.matrices.end(), i) != part.matrices.end();
                    return in_part ? dequantize(quantized(m, base(bits))) : weight(m);
                })));
        }
    }
}

void Quantization::fit_layer(int64_t layer) {
    measure_widths(layer, false);
    if (calibration_) calibration_->run_layer();
    save_layer(layer);
}

void Quantization::write(QuantizeResult& result) {
    ModelSettings settings{.config = llama_};
    const DType dtype = options_.dtype;
    settings.config.torch_dtype = dtype == DType::f32 ? "float32" : dtype == DType::f16 ? "float16" : "bfloat16";
    const bool packed = !options_.clip_only;
    std::vector<TensorInfo> tensors;
    std::map<std::string, size_t> by_layer;
    for (size_t i = 0; i < matrices_.size(); i++) by_layer[matrices_[i].layer] = i;
    bool mixed = false, mixed_blocks = false, three = false;
    for (const Parameter& p : parameters_) {
        const auto found = by_layer.find(p.layer_name());
        if (found == by_layer.end() || !packed) {
            TensorInfo info{.name = p.name, .dtype = dtype};
            for (int d = 0; d < p.shape.rank(); d++) info.shape.push_back(p.shape[d]);
            result.dense_bytes += uint64_t(byte_size(info));
            tensors.push_back(info);
            continue;
        }
        const QuantizedMatrix& m = matrices_[found->second];
        const MatrixForm& form = chosen_[found->second];
        const PackedWeight one = [&] {  // one row says what the layer's tensors look like
            std::vector<float> row(size_t(options_.quantizer.block_dim_1 ? options_.quantizer.block_dim_1 : m.out) * size_t(m.in),
                                   1.f);
            return pack_layer(row, int64_t(row.size()) / m.in, m.in, config(form), m.fits.at(form).centroids, m.layer);
        }();
        mixed |= form.bits != chosen_[0].bits;
        mixed_blocks |= form.block != chosen_[0].block;
        three |= one.bits == 3;
        const int64_t blocks = m.in / one.block_size;
        const int64_t row_bytes = options_.five_to_a_byte ? ternary_row_bytes(m.in) : packed_row_bytes(m.in, one.bits);
        for (const TensorInfo& info :
             packed_tensors(m.layer, m.out, row_bytes, blocks, int64_t(one.centroids.size()), options_.quantizer)) {
            result.packed_bytes += uint64_t(byte_size(info));
            tensors.push_back(info);
        }
        result.packed_layers++;
        if (!settings.quantization)
            settings.quantization = QuantizationConfig{.quant_method = std::string(name(options_.quantizer.kind)),
                                                       .bits = one.bits,
                                                       .block_size = form.block,
                                                       .relative_scale = std::string(name(options_.quantizer.scale)),
                                                       .num_centroids = int(one.centroids.size()),
                                                       .centroids = one.centroids};
    }
    if (settings.quantization && mixed_blocks) settings.quantization->block_size = 0;  // each layer's scales say what it has
    if (settings.quantization && mixed) {                                              // and its centroids
        settings.quantization->bits = settings.quantization->num_centroids = 0;
        settings.quantization->centroids.clear();
    }
    if (settings.quantization && three) settings.quantization->packing = std::string(packing_dense_msb_first);
    if (settings.quantization && options_.five_to_a_byte) settings.quantization->packing = std::string(packing_ternary);
    if (settings.quantization && options_.integer_inputs) settings.quantization->activation_bits = 8;
    if (std::error_code error; fs::exists(model_ / "generation_config.json", error))
        settings.generation = read_generation_config(model_);
    for (const TokenizerFile& file : tokenizer_files(model_)) settings.copies.push_back(file.path);

    auto source = [&](const TensorInfo& tensor, const TensorSink& sink) {
        const std::string layer = tensor.name.substr(0, tensor.name.rfind('.'));
        const auto found = by_layer.find(layer);
        if (found == by_layer.end()) return sink(to_bytes(read_floats(files_.get(tensor.name, tensor.shape)), dtype));
        const QuantizedMatrix& m = matrices_[found->second];
        const MatrixForm& form = chosen_[found->second];
        if (!packed) return sink(to_bytes(clipped(m, form), dtype));
        PackedWeight values = quantized(m, form);
        if (options_.five_to_a_byte) values.packed = pack_ternary(unpack_indices(values.packed, m.in, 2), m.in);
        sink(vkqat::packed_bytes(values, tensor.name));
    };
    write_model_directory(out_, settings, std::move(tensors), source);
}

// Checks the model, lists its matrices, loads it where a text is needed. The bytes of all that stays dense.
uint64_t Quantization::open_model() {
    check(options_, calibration_text_);
    if (files_.quantization()) fail("{}: is quantized already; a model in full precision is needed", model_.string());
    if (!fs::is_directory(model_)) fail("{}: expected a model directory (Hugging Face), not a file", model_.string());
    llama_ = read_llama_config(model_);
    parameters_ = llama_parameters(llama_, true, {"output"});
    uint64_t dense_bytes = 0;
    for (const Parameter& p : parameters_) {
        if (!p.quantized) {
            dense_bytes += uint64_t(p.shape.elements()) * bytes(options_.dtype);
            continue;
        }
        QuantizedMatrix m{p.layer_name(), p.shape[0], p.shape[1], p.layer, product_of(p.layer_name()), {}, {}};
        files_.get(m.layer + ".weight", std::vector{m.out, m.in});
        const MatrixForm form = form_of(m.layer);
        in_context(m.layer, [&] { validate(config(form)); });
        block_layout(config(form), m.out, m.in, m.layer);
        chosen_.push_back(form);
        matrices_.push_back(std::move(m));
    }
    if (options_.budget) {
        widths_ = budget_widths(options_.quantizer, matrices_);
        forms_ = budget_forms(options_, widths_, matrices_);
    }
    if (calibration_text_) {
        weights_ = std::make_unique<LlamaWeights>(device_, model_);
        calibration_ = std::make_unique<Calibration>(*weights_, *calibration_text_);
    }
    return dense_bytes;
}

QuantizeResult Quantization::run(const std::function<bool()>& stop) {
    if (fs::exists(out_)) fail("{}: exists already; choose another name or remove it", out_.string());
    const uint64_t dense_bytes = open_model();
    if (options_.budget) set_up_parts(false);
    open_work_folder();
    for (int64_t layer = 0; layer < llama_.layers; layer++) {
        if (stop && stop()) fail("stopped in front of layer {} of {}; the same command goes on from there", layer, llama_.layers);
        if (load_layer(layer)) {
            if (calibration_) calibration_->run_layer();
            continue;
        }
        fit_layer(layer);
        if (line_) {
            std::string text = fmt::format("layer {} of {}", layer + 1, llama_.layers);
            for (size_t p = 0; p < parts_.size(); p++) {
                if (parts_[p].layer != layer) continue;
                std::vector<std::string> numbers;
                for (double v : parts_[p].divergences) numbers.push_back(fmt::format("{:.2g}", v));
                const std::string& name = matrices_[p].layer;
                text += fmt::format("  {} {}", name.substr(name.rfind('.') + 1), fmt::join(numbers, "/"));
            }
            line_(text);
        }
    }
    QuantizeResult result;
    if (options_.budget) choose(result, dense_bytes, stop);
    write(result);
    for (size_t i = 0; i < matrices_.size(); i++)
        result.bits.push_back({matrices_[i].layer + ".", chosen_[i].bits,
                               chosen_[i].block == options_.quantizer.block_dim_2 ? 0
                               : chosen_[i].block == 0                            ? matrices_[i].in
                                                                                  : chosen_[i].block});
    std::error_code error;
    fs::remove_all(work_, error);
    return result;
}

std::vector<BitsRule> read_bits_table(const fs::path& file) {
    std::istringstream text(read_text_file(file, 1 << 24));
    std::vector<BitsRule> rules;
    std::string line;
    for (int number = 1; std::getline(text, line); number++) {
        line = line.substr(0, line.find('#'));
        std::istringstream words(line);
        BitsRule rule;
        std::string rest;
        if (!(words >> rule.pattern)) continue;
        const bool bits = bool(words >> rule.bits) && is_packed_bits(rule.bits);
        const bool block = bits && words >> rest;
        if (block) rule.block = std::strtoll(rest.c_str(), nullptr, 10);
        if (!bits || (block && (rule.block < 1 || std::to_string(rule.block) != rest)) || words >> rest)
            fail("{}:{}: expected a part of a layer's name, 1, 2, 3, 4 or 8 bits, and perhaps the weights of a block",
                 file.string(), number);
        rules.push_back(rule);
    }
    return rules;
}

QuantizeResult quantize_model(Device& device, const fs::path& model, const fs::path& out, const QuantizeOptions& options,
                              const Batch* calibration, const std::function<void(const std::string&)>& line,
                              const std::function<bool()>& stop) {
    return Quantization(device, model, out, options, calibration, line).run(stop);
}

}  // namespace vkqat
