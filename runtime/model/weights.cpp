#include "runtime/model/weights.h"

#include "runtime/formats/packing.h"

namespace vkqat {

void LlamaWeights::count(uint64_t bytes) {
    bytes_ += bytes;
    if (progress_) progress_(bytes_, total_);
}

Buffer LlamaWeights::allocate(uint64_t bytes, const std::string& what) {
    device_bytes_ += bytes;
    return planned_ ? Buffer() : device_.allocate(bytes, what);
}

LlamaWeights::Placed LlamaWeights::place(const TensorView& view) {
    Shape shape = view.shape.size() == 1 ? Shape{view.shape[0]} : Shape{view.shape.at(0), view.shape.at(1)};
    const uint64_t bytes = uint64_t(shape.elements()) * vkqat::bytes(view.dtype);
    Placed p{allocate(bytes, view.name), shape, view.dtype, view.name};
    if (planned_) return p;
    RawBytes storage;
    uploader_->copy(p.buffer, 0, contents(view, storage));
    count(bytes);
    return p;
}

LlamaWeights::Placed LlamaWeights::vector(const ModelFiles& files, const std::string& name, int64_t size) {
    const TensorView& view = files.get(name, std::vector<int64_t>{size});
    if (!is_float(view.dtype))
        fail("{}: tensor {}: expected a float type, found {}", files.directory().string(), name, vkqat::name(view.dtype));
    return place(view);
}

// Matrices of the same number of columns below one another, in one buffer.
LlamaWeights::Placed LlamaWeights::dense(const ModelFiles& files, const std::vector<std::string>& names, int64_t cols,
                                         const std::vector<int64_t>& rows) {
    int64_t all_rows = 0;
    for (int64_t r : rows) all_rows += r;
    DType type = files.get(names[0]).dtype;
    Placed p{{}, {all_rows, cols}, type, names[0]};
    if (!is_float(type))
        fail("{}: tensor {}: expected a float type, found {}", files.directory().string(), names[0], vkqat::name(type));
    p.buffer = allocate(uint64_t(all_rows * cols) * vkqat::bytes(type), names[0]);
    uint64_t offset = 0;
    for (size_t i = 0; i < names.size(); i++) {
        const TensorView& view = files.get(names[i], std::vector<int64_t>{rows[i], cols});
        if (view.dtype != type)
            fail("{}: tensors {} and {} have different types", files.directory().string(), names[0], names[i]);
        if (planned_) continue;
        RawBytes storage;
        std::span<const std::byte> data = contents(view, storage);
        uploader_->copy(p.buffer, offset, data);
        offset += data.size();
        count(data.size());
    }
    return p;
}

PackedLayer LlamaWeights::Packed::layer(Graph& g) const {
    auto tensor = [&](const Placed& p) { return g.external(p.buffer, 0, p.shape, p.dtype, p.name); };
    return {tensor(indices), tensor(scales), tensor(centroids), bits, block_size, in, rows};
}

LlamaWeights::Packed LlamaWeights::empty_packed(const std::vector<int64_t>& rows, int64_t in, int bits, int64_t block_size,
                                                const std::string& name) {
    PackedExtents extents = packed_extents(rows, in, bits, block_size);
    auto place_empty = [&](const Shape& shape, DType type, const char* what) {
        std::string label = name + what;
        return Placed{allocate(uint64_t(shape.elements()) * vkqat::bytes(type), label), shape, type, label};
    };
    return {place_empty({extents.words}, DType::u32, ".weight_packed"),
            place_empty({extents.scales}, DType::bf16, ".scales"),
            place_empty({int64_t(rows.size()), int64_t(1) << bits}, DType::f32, ".centroids"),
            bits,
            block_size,
            in,
            rows};
}

// Several layers of one width below one another. Their rows go through pinned memory in pieces, and the device puts them into
// tiles.
LlamaWeights::Packed LlamaWeights::packed(const std::vector<PackedLinear>& parts, const std::string& name) {
    std::vector<int64_t> rows;
    for (const PackedLinear& part : parts) rows.push_back(part.out);
    Packed p = empty_packed(rows, parts[0].in, parts[0].bits, parts[0].block_size, name);
    if (planned_) return p;
    PackedExtents extents = packed_extents(p.rows, p.in, p.bits, p.block_size);
    const uint64_t row_bytes = uint64_t(packed_row_bytes(p.in, p.bits)), scale_bytes = uint64_t(extents.blocks) * 2;
    const auto piece_rows = int64_t((uploader_->piece_bytes() - 512) / (row_bytes + scale_bytes) / 32 * 32);
    if (piece_rows == 0) fail("{}: rows of {} bytes are too long", name, row_bytes);
    uint64_t centroid_offset = 0;
    for (size_t i = 0; i < parts.size(); i++) {
        const PackedLinear& part = parts[i];
        for (int64_t row = 0; row < part.out; row += piece_rows) {
            const int64_t n = std::min(piece_rows, part.out - row);
            const std::span<const std::byte> pieces[] = {
                part.weight_packed->bytes.subspan(uint64_t(row) * row_bytes, uint64_t(n) * row_bytes),
                part.scales->bytes.subspan(uint64_t(row) * scale_bytes, uint64_t(n) * scale_bytes)};
            uploader_->run(pieces, [&](Graph& g, const Buffer& piece, std::span<const uint64_t> offsets) {
                PackedLayer layer = p.layer(g);
                tile_packed(g, g.external(piece, offsets[0], {n, int64_t(row_bytes)}, DType::u8, "packed"),
                            g.external(piece, offsets[1], {n, extents.blocks}, DType::bf16, "scales"), layer,
                            packed_parts(layer).first_tile[i] + row / 32);
            });
            count(pieces[0].size() + pieces[1].size());
        }
        uploader_->copy(p.centroids.buffer, centroid_offset, part.centroids->bytes);
        centroid_offset += part.centroids->bytes.size();
        count(part.centroids->bytes.size());
    }
    return p;
}

LlamaWeights::Matrix LlamaWeights::matrix(const ModelFiles& files, const std::vector<std::string>& prefixes,
                                          const std::vector<int64_t>& rows, int64_t cols) {
    Matrix m;
    std::vector<PackedLinear> packed_parts;
    for (size_t i = 0; i < prefixes.size(); i++)
        if (auto part = find_packed_linear(files, prefixes[i], rows[i], cols)) packed_parts.push_back(*part);
    if (packed_parts.empty()) {
        std::vector<std::string> names;
        for (const std::string& prefix : prefixes) names.push_back(prefix + ".weight");
        m.dense.push_back(dense(files, names, cols, rows));
    } else if (packed_parts.size() != prefixes.size()) {
        fail("{}: of {} and its neighbours some are packed and some are not", files.directory().string(), prefixes[0]);
    } else {
        packed_ = true;
        for (size_t i = 0; i < packed_parts.size();) {  // neighbours of one kind become one layer
            std::vector<PackedLinear> same;
            const PackedLinear& first = packed_parts[i];
            std::string name = prefixes[i];
            for (;
                 i < packed_parts.size() && packed_parts[i].bits == first.bits && packed_parts[i].block_size == first.block_size;
                 i++)
                same.push_back(packed_parts[i]);
            m.packed.push_back(packed(same, name));
        }
    }
    return m;
}

LlamaWeights::LlamaWeights(Device& device, const std::filesystem::path& model_directory, const Progress& progress)
    : device_(device), config_(read_llama_config(model_directory)), progress_(progress) {
    load(model_directory);
}

LlamaWeights::LlamaWeights(Device& device, const std::filesystem::path& model_directory, Planned)
    : device_(device), config_(read_llama_config(model_directory)), planned_(true) {
    load(model_directory);
}

void LlamaWeights::load(const std::filesystem::path& model_directory) {
    ModelFiles files = ModelFiles::open(model_directory);
    total_ = files.total_bytes();
    const LlamaConfig& c = config_;
    quantize_inputs_ = files.quantization() && files.quantization()->activation_bits > 0;
    if (!planned_) {
        uint64_t free = device_.free_memory();
        if (total_ > free)
            fail("{}: its weights take {:.1f} GB, but {} has about {:.1f} GB free; choose fewer bits or a smaller model",
                 model_directory.string(), double(total_) / 1e9, device_.capabilities().name, double(free) / 1e9);
        uploader_ = std::make_unique<Uploader>(device_, std::clamp<uint64_t>(total_ / 4, uint64_t(1) << 20, uint64_t(64) << 20));
    }
    in_context(model_directory.string(), [&] {
        embedding_ = dense(files, {"model.embed_tokens.weight"}, c.hidden_size, {c.vocab_size});
        for (int64_t i = 0; i < c.layers; i++) {
            std::string p = fmt::format("model.layers.{}.", i);
            Layer layer{vector(files, p + "input_layernorm.weight", c.hidden_size),
                        vector(files, p + "post_attention_layernorm.weight", c.hidden_size),
                        matrix(files, {p + "self_attn.q_proj", p + "self_attn.k_proj", p + "self_attn.v_proj"},
                               {c.q_dim(), c.kv_dim(), c.kv_dim()}, c.hidden_size),
                        matrix(files, {p + "self_attn.o_proj"}, {c.hidden_size}, c.q_dim()),
                        matrix(files, {p + "mlp.gate_proj", p + "mlp.up_proj"}, {c.intermediate_size, c.intermediate_size},
                               c.hidden_size),
                        matrix(files, {p + "mlp.down_proj"}, {c.hidden_size}, c.intermediate_size)};
            layers_.push_back(std::move(layer));
        }
        norm_ = vector(files, "model.norm.weight", c.hidden_size);
        if (!c.tie_word_embeddings) head_ = dense(files, {"lm_head.weight"}, c.hidden_size, {c.vocab_size});
    });
    if (uploader_) uploader_->finish();
    uploader_.reset();
    progress_ = {};
}

uint64_t LlamaWeights::bytes_per_token() const { return bytes_ - (config_.tie_word_embeddings ? 0 : embedding_.buffer.bytes()); }

LlamaTensors LlamaWeights::tensors(Graph& g) const {
    auto tensor = [&](const Placed& p) { return g.external(p.buffer, 0, p.shape, p.dtype, p.name); };
    auto linear = [&](const Matrix& m) {
        Linear l;
        if (!m.dense.empty()) l.dense = tensor(m.dense[0]);
        for (const Packed& p : m.packed) l.packed.push_back(p.layer(g));
        l.quantize_inputs = quantize_inputs_;
        return l;
    };
    LlamaTensors model;
    model.embedding = tensor(embedding_);
    for (const Layer& layer : layers_)
        model.layers.push_back({tensor(layer.attention_norm), tensor(layer.mlp_norm), linear(layer.qkv), linear(layer.o),
                                linear(layer.gate_up), linear(layer.down)});
    model.norm = tensor(norm_);
    model.head = config_.tie_word_embeddings ? model.embedding : tensor(head_);
    return model;
}

}  // namespace vkqat
