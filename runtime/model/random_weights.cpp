// Models of a given shape with random contents, which benchmarks need without files.
#include <cmath>

#include "runtime/graph/executable.h"
#include "runtime/model/weights.h"
#include "runtime/ops/random.h"

namespace vkqat {

LlamaWeights::LlamaWeights(Device& device, const LlamaConfig& config, const Random& random)
    : device_(device), config_(config), planned_(random.planned) {
    const LlamaConfig& c = config_;
    packed_ = random.bits != 0;
    const bool five_to_a_byte = random.form == Random::Form::five_to_a_byte;
    quantize_inputs_ = random.form == Random::Form::ternary || five_to_a_byte;
    uint32_t seed = random.seed;
    auto fill = [&](const Placed& p, float low, float high) {
        if (planned_) return;
        Graph g(device_);
        Tensor t = g.external(p.buffer, 0, p.shape, p.dtype, p.name);
        random_fill(g, t, seed++ * 2654435761u, low, high);
        Executable(g, "random weights").run();
        bytes_ += p.buffer.bytes();
    };
    auto dense = [&](const Shape& shape, DType type, float low, float high, const std::string& name) {
        Placed p{allocate(uint64_t(shape.elements()) * vkqat::bytes(type), name), shape, type, name};
        fill(p, low, high);
        return p;
    };
    auto matrix = [&](const std::vector<int64_t>& rows, int64_t in, const std::string& name) {
        Matrix m;
        const float spread = std::sqrt(3 / float(in));  // outputs as large as inputs
        int64_t out = 0;
        for (int64_t r : rows) out += r;
        if (random.bits == 0) {
            m.dense.push_back(dense({out, in}, DType::bf16, -spread, spread, name));
            return m;
        }
        if (quantize_inputs_) {
            Ternary t = empty_ternary(rows, in, five_to_a_byte, name);
            fill(t.indices, 0, 0);
            fill(t.scales, 0.5f, 1.5f);
            std::vector<float> tables;
            for (size_t part = 0; part < rows.size(); part++) tables.insert(tables.end(), {-spread, 0, spread, spread});
            if (!planned_) device_.upload(t.centroids.buffer, 0, std::as_bytes(std::span(tables)));
            bytes_ += t.centroids.buffer.bytes();
            m.ternary.push_back(std::move(t));
            return m;
        }
        if (random.form == Random::Form::onebit) {
            const auto parts = int64_t(rows.size());
            Onebit o{empty_packed(rows, in, 1, in, name), {}, {}, {}, {}};
            std::vector<float> signs;
            for (int64_t r : rows) {
                o.input_factors.push_back(dense({in}, DType::f16, 0.5f, 1.5f, name + ".input_factor"));
                o.output_factors.push_back(dense({r}, DType::f16, 0.5f, 1.5f, name + ".output_factor"));
                signs.insert(signs.end(), {1, -1});
            }
            o.normed.push_back(
                dense(parts == 1 ? Shape{in} : Shape{parts, in}, DType::f32, 0.5f, 1.5f, name + ".normed_factors"));
            o.all_output_factors = dense({out}, DType::f32, 0.5f, 1.5f, name + ".factors");
            fill(o.signs.indices, 0, 0);
            fill(o.signs.scales, 1, 1);
            if (!planned_) device_.upload(o.signs.centroids.buffer, 0, std::as_bytes(std::span(signs)));
            m.onebit.push_back(std::move(o));
            return m;
        }
        Packed p = empty_packed(rows, in, random.bits, random.block_size, name);
        fill(p.indices, 0, 0);
        fill(p.scales, 0.5f * spread, 1.5f * spread);
        std::vector<float> centroids;
        const int64_t count = int64_t(1) << random.bits;
        for (size_t part = 0; part < rows.size(); part++)
            for (int64_t i = 0; i < count; i++) centroids.push_back(2 * (float(i) + 0.5f) / float(count) - 1);
        if (!planned_) device_.upload(p.centroids.buffer, 0, std::as_bytes(std::span(centroids)));
        bytes_ += p.centroids.buffer.bytes();
        if (random.form == Random::Form::int_asym) {
            const auto zeros = std::vector<std::byte>(size_t(p.scales.shape.elements()), std::byte{1});
            OfBlocks& b = m.of_blocks.emplace_back();
            b.zeros.push_back({allocate(zeros.size(), name + ".zeros"), p.scales.shape, DType::u8, name + ".zeros"});
            b.center = 1.5f;
            if (!planned_) device_.upload(b.zeros[0].buffer, 0, zeros);
            bytes_ += zeros.size();
        }
        if (random.form == Random::Form::nf) {
            OfBlocks& b = m.of_blocks.emplace_back();
            b.negative_scales.push_back(
                dense(p.scales.shape, DType::bf16, 0.5f * spread, 1.5f * spread, name + ".negative_scales"));
            b.above.push_back(dense(p.centroids.shape, DType::f32, 0, 1, name + ".above"));
            b.below.push_back(dense(p.centroids.shape, DType::f32, -1, 0, name + ".below"));
        }
        m.packed.push_back(std::move(p));
        return m;
    };
    auto norm = [&](const std::string& name) { return dense({c.hidden_size}, DType::bf16, 0.9f, 1.1f, name); };
    embedding_ = dense({c.vocab_size, c.hidden_size}, DType::bf16, -1, 1, "embedding");
    for (int64_t i = 0; i < c.layers; i++) {
        std::string p = fmt::format("layers.{}.", i);
        layers_.push_back({norm(p + "attention_norm"), norm(p + "mlp_norm"),
                           matrix({c.q_dim(), c.kv_dim(), c.kv_dim()}, c.hidden_size, p + "qkv"),
                           matrix({c.hidden_size}, c.q_dim(), p + "o"),
                           matrix({c.intermediate_size, c.intermediate_size}, c.hidden_size, p + "gate_up"),
                           matrix({c.hidden_size}, c.intermediate_size, p + "down")});
    }
    norm_ = norm("norm");
    if (!c.tie_word_embeddings) {
        const float spread = std::sqrt(3 / float(c.hidden_size));
        head_ = dense({c.vocab_size, c.hidden_size}, DType::bf16, -spread, spread, "head");
    }
}

}  // namespace vkqat
