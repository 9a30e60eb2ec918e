#include "trainer/parameters.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <thread>

#include "runtime/graph/executable.h"
#include "runtime/ops/fill.h"
#include "runtime/ops/random.h"
#include "runtime/support/hash.h"
#include "trainer/random.h"

namespace vkqat {
namespace {

// A block is one allocation for each of its arrays.
constexpr uint64_t max_block_elements = uint64_t(1) << 28;  // 1 GiB of fp32

double normal_value(uint64_t seed, uint64_t i) {
    auto unit = [](uint64_t bits) { return (double(bits >> 11) + 0.5) * 0x1p-53; };
    double u1 = unit(mix64(seed + 2 * i + 1)), u2 = unit(mix64(seed + 2 * i + 2));
    return std::sqrt(-2 * std::log(u1)) * std::cos(2 * std::numbers::pi * u2);
}

// Normal values of this deviation, those beyond `cut` deviations drawn again.
std::vector<float> truncated_normal(uint64_t seed, uint64_t count, double deviation, double cut) {
    std::vector<float> values(count);
    unsigned threads = std::max(1u, std::thread::hardware_concurrency());
    std::vector<std::jthread> workers;
    for (unsigned t = 0; t < threads; t++)
        workers.emplace_back([&, t] {
            for (uint64_t i = count * t / threads; i < count * (t + 1) / threads; i++) {
                double x = normal_value(seed, i);
                for (uint64_t again = 1; std::abs(x) > cut; again++) x = normal_value(mix64(seed ^ again), i);
                values[i] = float(x * deviation);
            }
        });
    workers.clear();
    return values;
}

}  // namespace

std::vector<Parameter> llama_parameters(const LlamaConfig& c, bool quantize, const std::vector<std::string>& ignore,
                                        bool onebit) {
    std::vector<Parameter> list;
    auto ignored = [&](const std::string& name) {
        return std::any_of(ignore.begin(), ignore.end(), [&](const std::string& part) {
            return !part.empty() && (name.find(part) != std::string::npos || (part == "output" && name == "lm_head.weight"));
        });
    };
    auto add = [&](std::string name, Shape shape, int64_t layer, bool linear) {
        bool quantized = quantize && linear && !ignored(name);
        list.push_back({std::move(name), shape, 0, 0, quantized, layer});
    };
    add("model.embed_tokens.weight", {c.vocab_size, c.hidden_size}, -1, false);
    for (int64_t i = 0; i < c.layers; i++) {
        std::string p = fmt::format("model.layers.{}.", i);
        add(p + "input_layernorm.weight", {c.hidden_size}, i, false);
        add(p + "self_attn.q_proj.weight", {c.q_dim(), c.hidden_size}, i, true);
        add(p + "self_attn.k_proj.weight", {c.kv_dim(), c.hidden_size}, i, true);
        add(p + "self_attn.v_proj.weight", {c.kv_dim(), c.hidden_size}, i, true);
        add(p + "self_attn.o_proj.weight", {c.hidden_size, c.q_dim()}, i, true);
        add(p + "post_attention_layernorm.weight", {c.hidden_size}, i, false);
        add(p + "mlp.gate_proj.weight", {c.intermediate_size, c.hidden_size}, i, true);
        add(p + "mlp.up_proj.weight", {c.intermediate_size, c.hidden_size}, i, true);
        add(p + "mlp.down_proj.weight", {c.hidden_size, c.intermediate_size}, i, true);
        if (!onebit) continue;
        const size_t end = list.size();
        for (size_t m = end - 9; m < end; m++) {
            const Parameter matrix = list[m];
            if (matrix.shape.rank() != 2) continue;
            add(matrix.layer_name() + ".input_factor", {matrix.shape[1]}, i, false);
            add(matrix.layer_name() + ".output_factor", {matrix.shape[0]}, i, false);
        }
    }
    add("model.norm.weight", {c.hidden_size}, -1, false);
    // A tied head is the embedding, which is never quantized.
    if (!c.tie_word_embeddings) add("lm_head.weight", {c.vocab_size, c.hidden_size}, -1, true);
    return list;
}

ParameterStore::ParameterStore(Device& device, const LlamaConfig& config, std::vector<Parameter> parameters, DType compute,
                               const MomentSharing& sharing, DType moments)
    : device_(device),
      config_(config),
      parameters_(std::move(parameters)),
      compute_type_(compute),
      sharing_(sharing),
      moment_type_(moments) {
    if (moments != DType::f32 && moments != DType::bf16) fail("moments in {}; possible are f32 and bf16", name(moments));
    // A block begins with a layer, so that the groups of a layer are never divided.
    int64_t last_layer = -2;
    for (size_t i = 0; i < parameters_.size(); i++) {
        Parameter& p = parameters_[i];
        if (p.layer != last_layer || p.layer < 0) {
            uint64_t run = 0;
            for (size_t j = i; j < parameters_.size() && parameters_[j].layer == p.layer && (p.layer >= 0 || j == i); j++)
                run += uint64_t(parameters_[j].shape.elements());
            if (block_elements_.empty() || block_elements_.back() + run > max_block_elements) block_elements_.push_back(0);
        }
        last_layer = p.layer;
        p.block = block_elements_.size() - 1;
        p.offset = block_elements_.back();
        block_elements_.back() += uint64_t(p.shape.elements());
    }
    bool copies = false;
    for (size_t i = 0; i < parameters_.size(); i++) copies |= has_copy(i);
    std::vector<uint64_t> own_elements(block_elements_.size());
    for (const Stretch& bucket : cut_into_buckets(block_elements_, sharing.size > 1 ? sharing.bucket_bytes : UINT64_MAX)) {
        const Stretch part = part_of(bucket, sharing.size > 1 ? sharing.rank : 0, sharing.size);
        if (part.count == 0) continue;
        own_.push_back({part, own_elements[part.block]});
        own_elements[part.block] += part.count;
    }
    for (size_t block = 0; block < block_elements_.size(); block++) {
        const uint64_t n = block_elements_[block];
        weights_.push_back(device.allocate(n * 4, "weights"));
        gradients_.push_back(device.allocate(n * 4, "gradients"));
        const uint64_t moment_bytes = (own_elements[block] * bytes(moment_type_) + 3) / 4 * 4;
        m_.push_back(device.allocate(moment_bytes, "first moments"));
        v_.push_back(device.allocate(moment_bytes, "second moments"));
        if (copies) compute_.push_back(device.allocate(n * bytes(compute_type_), "weights for the matrix products"));
    }
    clear_moments();
}

bool ParameterStore::has_copy(size_t i) const {
    const Parameter& p = parameters_[i];
    bool matrix = p.shape.rank() == 2;
    return p.quantized || (matrix && compute_type_ != DType::f32 && p.name != "model.embed_tokens.weight") ||
           (compute_type_ != DType::f32 && config_.tie_word_embeddings && p.name == "model.embed_tokens.weight");
}

void ParameterStore::read_moments(const Buffer& block, uint64_t first, std::span<float> values) const {
    if (moment_type_ == DType::f32) return device_.download(block, first * 4, std::as_writable_bytes(values));
    std::vector<uint16_t> rounded(values.size());
    device_.download(block, first * 2, std::as_writable_bytes(std::span(rounded)));
    std::transform(rounded.begin(), rounded.end(), values.begin(), bf16_to_f32);
}

void ParameterStore::write_moments(const Buffer& block, uint64_t first, std::span<const float> values) {
    if (moment_type_ == DType::f32) return device_.upload(block, first * 4, std::as_bytes(values));
    std::vector<uint16_t> rounded(values.size());
    std::transform(values.begin(), values.end(), rounded.begin(), f32_to_bf16);
    device_.upload(block, first * 2, std::as_bytes(std::span(rounded)));
}

void ParameterStore::clear_moments() {
    Graph g(device_);
    for (const std::vector<Buffer>* list : {&m_, &v_})
        for (const Buffer& b : *list)
            if (b.bytes() > 0) fill(g, g.external(b, 0, {int64_t(b.bytes() / 4)}, DType::f32, "moments"), 0.f);
    Executable(g, "moments").run();
}

uint32_t ParameterStore::sample_checksum() const {
    uint32_t sum = 0;
    std::vector<float> values;
    for (const Parameter& p : parameters_) {
        values.resize(size_t(std::min<int64_t>(p.shape.elements(), 4096)));
        const auto bytes = std::as_writable_bytes(std::span(values));
        device_.download(weights_[p.block], p.offset * 4, bytes);
        sum = checksum(bytes, sum);
    }
    return sum;
}

void ParameterStore::gather_moments(Communicator& ranks) {
    if (sharing_.size == 1) return;
    if (ranks.first())
        for (int array = 0; array < 2; array++)
            for (uint64_t n : block_elements_) gathered_.emplace_back(n);
    std::vector<float> mine;
    for (size_t array = 0; array < 2; array++) {
        auto own = own_.begin();
        for (const Stretch& bucket : cut_into_buckets(block_elements_, sharing_.bucket_bytes)) {
            uint64_t most = 0;  // all_gather() takes equally many of each
            for (int r = 0; r < sharing_.size; r++) most = std::max(most, part_of(bucket, r, sharing_.size).count);
            mine.assign(most, 0);
            if (const Stretch part = part_of(bucket, sharing_.rank, sharing_.size); part.count > 0) {
                read_moments((array == 0 ? m_ : v_)[part.block], own->offset, std::span(mine).first(part.count));
                ++own;
            }
            const std::vector<std::byte> all = ranks.all_gather(std::as_bytes(std::span(mine)));
            if (!ranks.first()) continue;
            for (int r = 0; r < sharing_.size; r++) {
                const Stretch part = part_of(bucket, r, sharing_.size);
                std::memcpy(gathered_[part.block + array * block_elements_.size()].data() + part.first,
                            all.data() + uint64_t(r) * most * 4, part.count * 4);
            }
        }
    }
}

int64_t ParameterStore::squares() const {
    uint64_t count = 0;
    for (uint64_t n : block_elements_) count += (n + bucket_grain - 1) / bucket_grain;
    return int64_t(count);
}

bool ParameterStore::has(const std::string& name) const {
    return std::any_of(parameters_.begin(), parameters_.end(), [&](const Parameter& p) { return p.name == name; });
}

size_t ParameterStore::index(const std::string& name) const {
    for (size_t i = 0; i < parameters_.size(); i++)
        if (parameters_[i].name == name) return i;
    fail("the model has no parameter '{}'", name);
}

void ParameterStore::initialize(uint64_t seed) {
    for (size_t i = 0; i < parameters_.size(); i++) {
        const Parameter& p = parameters_[i];
        auto count = uint64_t(p.shape.elements());
        auto ends_with = [&](std::string_view end) { return p.name.ends_with(end); };
        uint64_t stream = mix64(seed * 0x9e3779b97f4a7c15ull + i);
        double depth = 0.02 / std::sqrt(2.0 * double(p.layer + 1));
        std::vector<float> values;
        if (p.shape.rank() == 1)
            values.assign(count, 1.f);
        else if (p.name == "model.embed_tokens.weight")
            values = truncated_normal(stream, count, config_.tie_word_embeddings ? 0.02 : 1, 8);
        else if (p.name == "lm_head.weight")
            values = truncated_normal(stream, count, 1 / std::sqrt(double(config_.hidden_size)), 3);
        else if (ends_with("o_proj.weight") || ends_with("up_proj.weight") || ends_with("down_proj.weight"))
            values = truncated_normal(stream, count, depth, 2 / depth);
        else
            values = truncated_normal(stream, count, 0.02, 2 / 0.02);
        write(i, Array::weight, values);
    }
}

void ParameterStore::randomize(uint32_t seed) {
    Graph g(device_);
    for (size_t i = 0; i < parameters_.size(); i++) {
        Tensor w = master(g, i);
        if (w.shape().rank() == 1)
            fill(g, w, 1.f);
        else
            random_fill(g, w, seed + uint32_t(i), -0.035f, 0.035f);
    }
    Executable(g, "random weights").run();
}

void ParameterStore::load(const ModelFiles& files) {
    for (size_t i = 0; i < parameters_.size(); i++) {
        const Parameter& p = parameters_[i];
        if (p.name.ends_with("_factor")) continue;
        std::vector<int64_t> shape;
        for (int d = 0; d < p.shape.rank(); d++) shape.push_back(p.shape[d]);
        write(i, Array::weight, read_floats(files.get(p.name, shape)));
    }
}

static const std::vector<Buffer>& choose(ParameterStore::Array array, const std::vector<Buffer>& w, const std::vector<Buffer>& g,
                                         const std::vector<Buffer>& m, const std::vector<Buffer>& v) {
    switch (array) {
        case ParameterStore::Array::weight: return w;
        case ParameterStore::Array::gradient: return g;
        case ParameterStore::Array::m: return m;
        case ParameterStore::Array::v: return v;
    }
    fail("no such array");
}

void ParameterStore::read(size_t i, Array array, std::span<float> values) const {
    const Parameter& p = parameters_[i];
    if (values.size() != size_t(p.shape.elements()))
        fail("parameter {}: expected room for {} values, found {}", p.name, p.shape.elements(), values.size());
    if (sharing_.size > 1 && (array == Array::m || array == Array::v)) {
        if (gathered_.empty()) fail("parameter {}: its moments are spread over the ranks and were not gathered", p.name);
        const std::vector<float>& block = gathered_[p.block + (array == Array::v ? block_elements_.size() : 0)];
        std::copy_n(block.begin() + ptrdiff_t(p.offset), values.size(), values.begin());
        return;
    }
    const Buffer& block = choose(array, weights_, gradients_, m_, v_)[p.block];
    if (array == Array::m || array == Array::v) return read_moments(block, p.offset, values);
    device_.download(block, p.offset * 4, std::as_writable_bytes(values));
}

std::vector<float> ParameterStore::read(size_t i, Array array) const {
    std::vector<float> values(size_t(parameters_[i].shape.elements()));
    read(i, array, values);
    return values;
}

void ParameterStore::write(size_t i, Array array, std::span<const float> values) {
    const Parameter& p = parameters_[i];
    if (values.size() != size_t(p.shape.elements()))
        fail("parameter {}: expected {} values, found {}", p.name, p.shape.elements(), values.size());
    if (sharing_.size > 1 && (array == Array::m || array == Array::v)) {
        for (const Own& own : own_) {
            const uint64_t begin = std::max(own.stretch.first, p.offset);
            const uint64_t end = std::min(own.stretch.first + own.stretch.count, p.offset + values.size());
            if (own.stretch.block != p.block || begin >= end) continue;
            write_moments((array == Array::m ? m_ : v_)[p.block], own.offset + begin - own.stretch.first,
                          values.subspan(begin - p.offset, end - begin));
        }
        return;
    }
    const Buffer& block = choose(array, weights_, gradients_, m_, v_)[p.block];
    if (array == Array::m || array == Array::v) return write_moments(block, p.offset, values);
    device_.upload(block, p.offset * 4, std::as_bytes(values));
}

// Parameters first .. first + count - 1, which stand behind one another, as one tensor: rows added up.
Tensor ParameterStore::view(Graph& g, const std::vector<Buffer>& blocks, size_t first, size_t count, DType type,
                            const std::string& name) const {
    const Parameter& p = parameters_[first];
    Shape shape = p.shape;
    if (count > 1) {
        int64_t rows = 0;
        for (size_t i = first; i < first + count; i++) rows += parameters_[i].shape[0];
        shape = {rows, p.shape[1]};
    }
    return g.external(blocks[p.block], p.offset * bytes(type), shape, type, name);
}

Tensor ParameterStore::master(Graph& g, size_t i) const { return view(g, weights_, i, 1, DType::f32, parameters_[i].name); }
Tensor ParameterStore::second_moment(Graph& g, size_t i) const {
    if (sharing_.size > 1) fail("second moments are spread over the ranks (distributed.zero1): none can be read as a whole");
    if (moment_type_ != DType::f32)
        fail("fischer_kmeans takes second moments in fp32: optimizer.moments = \"{}\"", name(moment_type_));
    return view(g, v_, i, 1, DType::f32, parameters_[i].name + ".v");
}
Tensor ParameterStore::gradient(Graph& g, size_t i) const {
    return view(g, gradients_, i, 1, DType::f32, "d." + parameters_[i].name);
}
Tensor ParameterStore::compute(Graph& g, size_t i) const {
    if (!has_copy(i)) return master(g, i);
    return view(g, compute_, i, 1, compute_type_, parameters_[i].name + ".compute");
}

std::vector<std::pair<Tensor, Tensor>> ParameterStore::copied_stretches(Graph& g) const {
    std::vector<Stretch> stretches;
    bool open = false;  // the last one goes on
    uint64_t between = 0;
    for (size_t i = 0; i < parameters_.size(); i++) {
        const Parameter& p = parameters_[i];
        const auto count = uint64_t(p.shape.elements());
        open = open && stretches.back().block == p.block && (has_copy(i) || p.shape.rank() == 1);
        if (!has_copy(i)) {
            between += count;
        } else if (open) {
            stretches.back().count += between + count;
            between = 0;
        } else {
            stretches.push_back({p.block, p.offset, count});
            open = true;
            between = 0;
        }
    }
    std::vector<std::pair<Tensor, Tensor>> tensors;
    for (const Stretch& s : stretches) {
        const Shape shape{1, int64_t(s.count)};
        tensors.emplace_back(
            g.external(weights_[s.block], s.first * 4, shape, DType::f32, "weights"),
            g.external(compute_[s.block], s.first * bytes(compute_type_), shape, compute_type_, "weights.compute"));
    }
    return tensors;
}

RowMatrix ParameterStore::sparse_embedding() const {
    if (config_.tie_word_embeddings) return {};
    for (const Parameter& p : parameters_)
        if (p.name == "model.embed_tokens.weight") return {p.block, p.offset, uint64_t(p.shape[0]), uint64_t(p.shape[1])};
    return {};
}

std::vector<OptimizerBlock> ParameterStore::optimizer_blocks(Graph& g) const {
    std::vector<int64_t> squares;  // of the blocks before
    int64_t count = 0;
    for (uint64_t n : block_elements_) {
        squares.push_back(count);
        count += int64_t((n + bucket_grain - 1) / bucket_grain);
    }
    std::vector<OptimizerBlock> blocks;
    for (const auto& [s, offset] : own_) {
        auto stretch = [&](const std::vector<Buffer>& list, uint64_t first, const char* name, DType type = DType::f32) {
            return g.external(list[s.block], first * bytes(type), {int64_t(s.count)}, type, fmt::format("{}.{}", name, s.block));
        };
        blocks.push_back({stretch(weights_, s.first, "weights"), stretch(gradients_, s.first, "gradients"),
                          stretch(m_, offset, "m", moment_type_), stretch(v_, offset, "v", moment_type_),
                          squares[s.block] + int64_t(s.first / bucket_grain)});
    }
    return blocks;
}

Tensor ParameterStore::trained(Graph& g, size_t first, size_t count, bool accumulate, const std::string& name) const {
    bool copy = has_copy(first);
    for (size_t i = first; i < first + count; i++)
        if (has_copy(i) != copy)
            fail("{} and {} are used as one matrix: quantize both or neither (ignore_names)", parameters_[first].name,
                 parameters_[i].name);
    Tensor weight = view(g, copy ? compute_ : weights_, first, count, copy ? compute_type_ : DType::f32, name);
    g.set_parameter(weight, view(g, gradients_, first, count, DType::f32, "d." + name), accumulate);
    return weight;
}

LlamaTensors ParameterStore::model(Graph& g, bool accumulate) const {
    LlamaTensors model;
    auto one = [&](const std::string& name) { return trained(g, index(name), 1, accumulate, name); };
    size_t embedding = index("model.embed_tokens.weight");
    model.embedding = trained(g, embedding, 1, accumulate, parameters_[embedding].name);
    for (int64_t i = 0; i < config_.layers; i++) {
        std::string p = fmt::format("model.layers.{}.", i);
        LlamaLayerTensors layer;
        layer.attention_norm = one(p + "input_layernorm.weight");
        layer.mlp_norm = one(p + "post_attention_layernorm.weight");
        auto linear = [&](Linear& to, const std::vector<const char*>& names, const std::string& label) {
            const std::string first = p + names[0];
            if (!has(first + ".input_factor")) {
                to.dense = trained(g, index(first + ".weight"), names.size(), accumulate, label);
                return;
            }
            for (const char* name : names)
                to.onebit.push_back(
                    {one(p + name + ".weight"), one(p + name + ".input_factor"), one(p + name + ".output_factor")});
        };
        linear(layer.qkv, {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, p + "qkv");
        linear(layer.o, {"self_attn.o_proj"}, p + "self_attn.o_proj.weight");
        linear(layer.gate_up, {"mlp.gate_proj", "mlp.up_proj"}, p + "gate_up");
        linear(layer.down, {"mlp.down_proj"}, p + "mlp.down_proj.weight");
        model.layers.push_back(layer);
    }
    model.norm = one("model.norm.weight");
    model.head = config_.tie_word_embeddings ? model.embedding : one("lm_head.weight");
    return model;
}

static uint64_t sum(const std::vector<Buffer>& list) {
    uint64_t bytes = 0;
    for (const Buffer& b : list) bytes += b.bytes();
    return bytes;
}
uint64_t ParameterStore::weight_bytes() const { return sum(weights_); }
uint64_t ParameterStore::moment_bytes() const { return sum(m_) + sum(v_); }
uint64_t ParameterStore::gradient_bytes() const { return sum(gradients_); }
uint64_t ParameterStore::compute_bytes() const { return sum(compute_); }

}  // namespace vkqat
